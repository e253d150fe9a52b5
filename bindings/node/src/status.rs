//! Looking, cleaning, and what is to be known of processes.

use napi::bindgen_prelude::Either;
use napi_derive::napi;
use tenure::{CleanOptions, Status, StaleReason};

use crate::lock::{Target, os_string};
use crate::report::{Failure, Holder, number, path_text};

/// How a lock stands.
#[napi(object, object_from_js = false)]
pub struct Look {
    /// The path that the lock protects.
    pub target: String,
    /// `<target>.lock`.
    pub lock_file: String,
    /// What an acquire would find.
    #[napi(ts_type = "'free' | 'held' | 'stale' | 'unknown'")]
    pub state: &'static str,
    /// How it is held.
    #[napi(ts_type = "'lock-file' | 'flock'")]
    pub style: &'static str,
    /// The lock-file protocol's reasons for calling it stale.
    pub reasons: Vec<&'static str>,
    /// Who holds, or held and died.
    pub holder: Option<Holder>,
    /// How many processes wait.
    pub waiters: Option<u32>,
}

impl From<&Status> for Look {
    fn from(found: &Status) -> Look {
        Look {
            target: path_text(&found.target),
            lock_file: path_text(&found.lock_file),
            state: found.state.as_str(),
            style: match found.style {
                tenure::Style::LockFile => "lock-file",
                tenure::Style::Flock => "flock",
            },
            reasons: found.reasons.iter().map(|reason| reason.as_str()).collect(),
            holder: found.holder.as_ref().map(Holder::from),
            waiters: found.waiters.map(|waiters| u32::try_from(waiters).unwrap_or(u32::MAX)),
        }
    }
}

/// One lock of a sweep.
#[napi(object, object_from_js = false)]
pub struct Swept {
    /// How it stood.
    pub found: Look,
    /// Was it removed?
    pub removed: bool,
    /// Why it could not be, although it is stale.
    pub failure: Option<Failure>,
}

/// How the lock of `target` stands.
#[napi]
pub fn inspect(#[napi(ts_arg_type = "string | Uint8Array")] target: Target) -> Either<Look, Failure> {
    match tenure::status(os_string(target)) {
        Ok(found) => Either::A(Look::from(&found)),
        Err(error) => Either::B(error.into()),
    }
}

/// Removes what dead holders left in a folder, of targets whose names end so. A lock file that only this process's own pid
/// tells to be left over stays.
#[napi]
pub fn clean(dir: String, suffix: String, dry_run: bool) -> Either<Vec<Swept>, Failure> {
    let options = CleanOptions::default().dry_run(dry_run).suffix(suffix).keep(StaleReason::OrphanSelfPid).aged(true);
    match tenure::clean(dir, &options) {
        Ok(report) => Either::A(
            report
                .locks
                .iter()
                .map(|lock| Swept {
                    found: Look::from(&lock.found),
                    removed: lock.removed,
                    failure: lock.error.as_ref().map(Failure::from),
                })
                .collect(),
        ),
        Err(error) => Either::B(error.into()),
    }
}

/// Is there a process with this pid that has not ended?
#[napi]
pub fn is_alive(pid: i64) -> bool {
    tenure::process::is_alive(pid)
}

/// When it started, in clock ticks since boot.
#[napi]
pub fn start_time(pid: i64) -> Option<i64> {
    tenure::process::start_time(pid).map(number)
}

/// Removes this process's lock files when a signal or `exit(3)` is about to end it. `over`: signals whose present
/// handler is known to end the process; it runs after. `if_reset`: signals whose handler is, if it resets itself.
#[napi]
pub fn install_cleanup(over: Vec<i32>, if_reset: Vec<i32>) -> Option<Failure> {
    let ends = |signal: &i32| tenure::cleanup::resets_itself(*signal).unwrap_or(false);
    let over: Vec<_> = over.into_iter().chain(if_reset.into_iter().filter(ends)).collect();
    tenure::cleanup::install(tenure::cleanup::Handlers::RunAfter(&over)).err().map(Failure::from)
}
