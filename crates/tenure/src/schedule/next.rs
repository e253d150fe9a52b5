//! The place of the one acquire that waits: a lock of its own, `<target>.next`.
//!
//! Its holder is the waiter, so the kernel decides which of two that arrive at once waits, and a waiter that dies leaves
//! the place free at once. The place is released as soon as the waiter is granted the target's lock, before its work
//! begins. So an acquire that found the place held may leave: a run that covers it has yet to begin.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::file::paths::LockPaths;
use crate::model::backend::{Backend, Begun};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::{Options, Wait};
use crate::model::slots::Part;
use crate::model::tenure::Tenure;
use crate::sys::LockKind;
use crate::wait::file_lock::FileLock;

/// Longer than a process reads a status, also where a busy machine does not run it for some seconds.
const LOOK: Duration = Duration::from_secs(10);

/// Returns the target of the lock that the one waiter holds.
pub(crate) fn place_of(target: &Path) -> PathBuf {
    let mut place = target.as_os_str().to_owned();
    place.push(Part::Next.suffix());
    place.into()
}

/// Returns the waiter's place at its paths.
pub(crate) fn at(paths: &LockPaths, options: &Options) -> FileLock {
    let mut own = Options::default().refresh_interval(Duration::MAX);
    (own.label, own.mode, own.slots) = (options.label.clone(), options.mode, options.slots);
    FileLock::at(paths, own)
}

/// Takes the waiter's place. `None` if another acquire has it.
pub(crate) fn try_take(place: &FileLock) -> Result<Option<Taken>> {
    let began = Instant::now();
    loop {
        let taken = match place.begin(LockKind::Exclusive, Wait::Never, None) {
            Ok(Begun::Granted(tenure)) => Some(Taken(Some(tenure))),
            // An acquire that never waits is not queued.
            Ok(Begun::Pending(pending)) => pending.give_up().transpose()?.map(|tenure| Taken(Some(tenure))),
            Err(error) if error.is_busy() => None,
            Err(error) => return Err(error),
        };
        if taken.is_some() || !names_the_dead(place) || began.elapsed() > LOOK {
            return Ok(taken);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns whether the place's record names a process that has ended. The kernel lock is then that of a process that reads the
/// lock's status, which may have a shared one for a moment, or of another acquire that is about to take the place. No run would
/// cover an acquire that leaves because of the former.
fn names_the_dead(place: &FileLock) -> bool {
    let holder = place.status().ok().and_then(|status| status.holder);
    let identity = holder.and_then(|holder| holder.identity);
    identity.is_some_and(|identity| identity.verify().is_dead())
}

/// Returns the error of an acquire that leaves because another one waits.
pub(crate) fn another_waits(target: &Path, place: &FileLock) -> Error {
    let waiter = place.status().ok().and_then(|status| status.holder);
    let detail = match &waiter {
        Some(waiter) => format!("not needed: {waiter} waits already, and its run is yet to begin"),
        None => "not needed: another acquire waits already, and its run is yet to begin".to_owned(),
    };
    Error::new(ErrorKind::Skipped, target, detail).with_holder(waiter)
}

/// A lock that is held until this is dropped, such as the waiter's place.
pub(crate) struct Taken(Option<Arc<dyn Tenure>>);

impl Taken {
    pub(crate) fn new(tenure: Arc<dyn Tenure>) -> Taken {
        Taken(Some(tenure))
    }

    /// Releases the lock, and returns whether it was held to the end.
    pub(crate) fn release(mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), Tenure::release)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(tenure) = self.0.take() {
            // The kernel lock is free in any case.
            let _ = tenure.release();
        }
    }
}
