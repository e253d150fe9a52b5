//! Finds the implementation for a target's scheme.

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
