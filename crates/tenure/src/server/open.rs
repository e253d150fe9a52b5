//! Finds the implementation for a target's scheme, again in a forked child.

use std::path::Path;
use std::sync::Arc;

use super::acquire::AcquireServer;
#[cfg(feature = "etcd")]
use super::etcd::Etcd;
#[cfg(feature = "postgres")]
use super::postgres::Postgres;
use super::url::{Url, scheme};
use crate::model::error::{Advice, Error, ErrorKind, Result};
#[cfg(any(feature = "etcd", feature = "postgres"))]
use crate::model::status::Scheme;
use crate::sys;

/// Returns the server that `target` names; `None` for a file.
pub(crate) fn open(target: &Path) -> Result<Option<Arc<dyn AcquireServer>>> {
    let Some(scheme) = scheme(target)? else { return Ok(None) };
    let url = Url::parse(target, scheme)?;
    match scheme {
        #[cfg(feature = "etcd")]
        Scheme::Etcd => Ok(Some(Arc::new(Etcd::open(url)?))),
        #[cfg(feature = "postgres")]
        Scheme::Postgres => Ok(Some(Arc::new(Postgres::open(url)?))),
        #[allow(unreachable_patterns, reason = "where all features are on, no scheme is left")]
        _ => {
            let text = format!("this program was built without the feature `{}`", scheme.as_str());
            let error = Error::new(ErrorKind::Unsupported, url.target, text);
            Err(error
                .with_hint("build it with that feature of the crate `tenure`")
                .with_advice(Advice::BuildWithServer))
        }
    }
}

/// As [`open`], for a target that must name one lock.
pub(crate) fn open_lock(target: &Path) -> Result<Option<Arc<dyn AcquireServer>>> {
    let server = open(target)?;
    if let Some(server) = &server {
        server.url().lock_name()?;
    }
    Ok(server)
}

/// A server as a process opened it.
#[derive(Debug)]
pub(super) struct Opened {
    server: Arc<dyn AcquireServer>,
    /// A forked child must not use its parent's connections.
    generation: u64,
}

impl Opened {
    pub(super) fn new(server: Arc<dyn AcquireServer>) -> Opened {
        Opened { server, generation: sys::fork_generation() }
    }

    /// Returns the target, which is the same in a forked child.
    pub(super) fn url(&self) -> &Url {
        self.server.url()
    }

    /// Returns whether several acquires may share a lock of this server.
    pub(super) fn has_shared_locks(&self) -> bool {
        self.server.has_shared_locks()
    }

    /// Returns this process's connection to the server, which is another one after a fork.
    pub(super) fn here(&self) -> Result<Arc<dyn AcquireServer>> {
        if self.generation == sys::fork_generation() {
            return Ok(Arc::clone(&self.server));
        }
        let target = &self.url().target;
        open(target)?.ok_or_else(|| Error::new(ErrorKind::InvalidTarget, target, "it names no server"))
    }
}
