//! Removal of the locks of dead holders: in a folder, and of this process when it ends.

use napi::bindgen_prelude::Either;
use napi_derive::napi;
use tenure::{CleanOptions, StaleReason};

use crate::failure::Failure;
use crate::status::Status;

/// One lock that `clean` found.
#[napi(object, object_from_js = false)]
pub struct Swept {
    /// The state of the lock.
    pub found: Status,
    /// Whether the lock was removed.
    pub removed: bool,
    /// The reason why a stale lock could not be removed.
    pub failure: Option<Failure>,
}

/// Removes the locks of dead holders in a folder, for targets whose names end with `suffix`. Keeps a lock file whose only
/// sign of staleness is this process's own pid.
#[napi]
pub fn clean(dir: String, suffix: String, dry_run: bool) -> Either<Vec<Swept>, Failure> {
    let options = CleanOptions::default().dry_run(dry_run).suffix(suffix).keep(StaleReason::OrphanSelfPid).aged(true);
    match tenure::clean(dir, &options) {
        Ok(report) => Either::A(
            report
                .locks
                .iter()
                .map(|lock| Swept {
                    found: Status::from(&lock.found),
                    removed: lock.removed,
                    failure: lock.error.as_ref().map(Failure::from),
                })
                .collect(),
        ),
        Err(error) => Either::B(error.into()),
    }
}

/// Installs the removal of this process's lock files for when a signal or `exit(3)` ends it. The present handlers of the
/// signals in `over` are known to end the process, as are those in `if_reset` if they reset themselves. Such a handler runs
/// after the removal.
#[napi]
pub fn install_cleanup(over: Vec<i32>, if_reset: Vec<i32>) -> Option<Failure> {
    let ends = |signal: &i32| tenure::cleanup::resets_itself(*signal).unwrap_or(false);
    let over: Vec<_> = over.into_iter().chain(if_reset.into_iter().filter(ends)).collect();
    tenure::cleanup::install(tenure::cleanup::Handlers::RunAfter(&over)).err().map(Failure::from)
}
