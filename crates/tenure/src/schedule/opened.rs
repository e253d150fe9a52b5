//! The lock that a [`Lock`](crate::Lock) has opened.

use std::sync::Arc;

use crate::model::error::Result;
use crate::model::options::Wait;
use crate::model::tenure::{Backend, Tenure};
use crate::sys::LockKind;
use crate::wait::file_lock::FileLock;

/// The lock that a [`Lock`](crate::Lock) has opened. Most are plain locks of paths, which need no allocation: a process may have
/// very many of them.
#[derive(Clone, Debug)]
pub(crate) enum Opened {
    File(FileLock),
    Other(Arc<Other>),
}

/// Any other lock. One pointer leads to it, so that an [`Opened`] is no larger than a [`FileLock`].
#[derive(Debug)]
pub(crate) struct Other(Arc<dyn Backend>);

impl Opened {
    pub(crate) fn other(backend: Arc<dyn Backend>) -> Opened {
        Opened::Other(Arc::new(Other(backend)))
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        match self {
            Opened::File(file) => file,
            Opened::Other(other) => &*other.0,
        }
    }

    /// As [`Backend::acquire`].
    #[inline]
    pub(crate) fn acquire(&self, kind: LockKind, wait: Wait) -> Result<Arc<dyn Tenure>> {
        match self {
            Opened::File(file) => file.acquire(kind, wait),
            Opened::Other(other) => other.0.acquire(kind, wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_small_as_a_plain_lock() {
        assert_eq!(size_of::<Opened>(), 2 * size_of::<usize>());
    }
}
