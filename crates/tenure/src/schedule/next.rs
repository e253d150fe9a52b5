//! The place of the one acquire that waits: a lock of its own, `<target>.next`.
//!
//! Its holder is the waiter, so the kernel decides which of two that arrive at once waits, and a waiter that dies leaves
//! the place free at once. The place is released as soon as the waiter is granted the target's lock, before its work
//! begins. So an acquire that found the place held may leave: a run that covers it has yet to begin.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::patience::Patience;
use crate::file::paths::LockPaths;
use crate::file::status::current_record;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::{Options, Wait};
use crate::model::slots::Part;
use crate::model::tenure::{Backend, Begun, Tenure};
use crate::record::RecordState;
use crate::sys::LockKind;
use crate::wait::file_lock::FileLock;

/// The pauses while a passer-by has the kernel lock.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

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
    match place.begin(LockKind::Exclusive, Wait::Never, None) {
        Ok(Begun::Granted(tenure)) => Ok(Some(Taken(Some(tenure)))),
        // An acquire that never waits is not queued.
        Ok(Begun::Pending(pending)) => Ok(pending.give_up().transpose()?.map(|tenure| Taken(Some(tenure)))),
        Err(error) if error.is_busy() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The outcome of an attempt to be the one that waits.
pub(crate) enum WaiterPlace {
    Taken(Taken),
    AnotherWaits,
    /// The patience has ended.
    Over,
}

/// Takes the place of the one that waits, unless a waiter has it. A passer-by, such as `clean`, has its kernel lock for an instant
/// and is no waiter: no run that is yet to begin would cover the acquire that leaves for it.
pub(crate) fn take_unless_another_waits(
    place: &FileLock,
    paths: &LockPaths,
    patience: &Patience,
) -> Result<WaiterPlace> {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(taken) = try_take(place)? {
            return Ok(WaiterPlace::Taken(taken));
        }
        if has_waiter(paths) {
            return Ok(WaiterPlace::AnotherWaits);
        }
        if patience.is_over() {
            return Ok(WaiterPlace::Over);
        }
        patience.pause(Some(Instant::now() + pause))?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Returns whether the record names a live waiter. It is written before the waiter has the place.
fn has_waiter(paths: &LockPaths) -> bool {
    current_record(paths).is_some_and(|record| {
        record.native.as_ref().is_some_and(|native| native.state == RecordState::Held)
            && record.identity().is_some_and(|identity| !identity.verify().is_dead())
    })
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
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(tenure) = self.0.take() {
            // The kernel lock is free in any case.
            let _ = tenure.release();
        }
    }
}
