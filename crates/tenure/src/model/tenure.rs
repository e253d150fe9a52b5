//! The trait by which a guard uses a grant, whatever keeps the lock: files implement it in `wait/`, servers in `server/`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::{Holder, Previous};
use crate::record::Record;
use crate::sys::Inherited;

/// One grant, from its beginning to its end. Its guards share it.
pub(crate) trait Tenure: fmt::Debug + Send + Sync {
    /// Returns what does not change while the tenure lasts.
    fn facts(&self) -> Facts<'_>;

    /// Returns this holder, as other programs see it.
    fn holder(&self) -> Holder;

    /// Returns the record as other programs can read it; `None` where the lock keeps none.
    fn record(&self) -> Option<Record>;

    /// Changes the record. Other programs may see the change a moment later.
    ///
    /// # Errors
    ///
    /// [`is_lost`](crate::Error::is_lost) where the lock is no longer held.
    fn change(&self, change: &mut dyn FnMut(&mut Record)) -> Result<()>;

    /// Records that the work of this tenure succeeded.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](crate::Error::is_unsupported) where the lock's options do not keep that.
    fn mark_successful(&self) -> Result<()> {
        let error = Error::new(ErrorKind::Unsupported, self.facts().target, "no success is recorded for this lock");
        Err(error.with_hint("open the lock with not_more_often_than"))
    }

    /// Updates the date by which foreign programs detect stale locks. Does nothing where there is none.
    fn refresh(&self) -> Result<()> {
        Ok(())
    }

    /// Notes the exit code of the work under the lock, for the history. Does nothing where there is none.
    fn note_exit_code(&self, code: i32);

    /// Checks that the lock is still held, and that other programs can see so.
    ///
    /// # Errors
    ///
    /// [`is_lost`](crate::Error::is_lost) where it is not.
    fn check(&self) -> Result<()>;

    /// Checks that natives are still excluded, whether or not foreign programs are.
    fn check_natives(&self) -> Result<()> {
        self.check()
    }

    /// Returns what is left of the lease; `None` where the lock needs no lease.
    fn lease(&self) -> Option<LeaseLeft> {
        None
    }

    /// Duplicates the descriptors that carry the lock, for a child to inherit.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](crate::Error::is_unsupported) where no descriptor carries it.
    fn descriptors(&self) -> Result<Vec<Inherited>>;

    /// Returns whether the tenure was lost or revoked; if not, `waker` is woken when it is.
    fn poll_loss(self: Arc<Self>, waker: &Waker) -> bool;

    /// Drops one guard, and with the last one the lock.
    fn release(self: Arc<Self>) -> Result<()>;

    /// Drops one guard, as [`release`](Tenure::release), without blocking where that waits for a server. Returns `None` if
    /// the result has to be polled for.
    fn start_release(self: Arc<Self>) -> Option<Result<()>> {
        Some(self.release())
    }

    /// Returns the result of a release that [`start_release`](Tenure::start_release) started; if there is none yet, `waker`
    /// is woken when there is.
    fn poll_release(&self, waker: &Waker) -> Option<Result<()>> {
        let _ = waker;
        Some(Ok(()))
    }

    /// Releases a grant that its caller never received: the next holder gets its crash report. Does not block.
    fn abandon(self: Arc<Self>);
}

/// The facts that do not change while a tenure lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// The path that the lock protects, or the name on a server.
    pub(crate) target: &'a Path,
    /// `<target>.lock`; on a server, the server's name for the lock.
    pub(crate) lock_file: &'a Path,
    /// `None` for a shared lock and for one without a record.
    pub(crate) fence: Option<u64>,
    pub(crate) shared: bool,
    /// The number of the slot, from 0; `None` for a lock without slots.
    pub(crate) slot: Option<u32>,
    /// How the tenure before this one ended.
    pub(crate) previous: &'a Previous,
}

/// The rest of a tenure on a server, if its lease is not renewed: [`Guard::lease`](crate::Guard::lease).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseLeft {
    /// The time until [`check`](crate::Guard::check) fails; zero once it fails.
    pub lost_in: Duration,
    /// The time until the server may grant the lock to another holder. Work under the lock must have stopped by then.
    pub free_in: Duration,
}
