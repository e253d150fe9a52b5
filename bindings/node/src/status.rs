//! The state of a lock, of many, and an operator's way to free one.

use napi::bindgen_prelude::{Either, Result};
use napi_derive::napi;
use tenure::server::{self, Scheme};
use tenure::{BreakOptions, ListOptions};

use crate::convert::{Target, duration, os_string, path_text, style_name};
use crate::failure::Failure;
use crate::holder::Holder;
use crate::work::{Promised, Work};

/// The state of a lock when `status()` read it.
#[napi(object, object_from_js = false)]
pub struct Status {
    /// The path that the lock protects, or the target on a server.
    pub target: String,
    /// The path of the lock file: `<target>.lock`. On a server, the lock's name there.
    pub lock_file: String,
    /// The kind of server that keeps the lock. Undefined for a lock in files.
    #[napi(ts_type = "'etcd' | 'postgres'")]
    pub server: Option<&'static str>,
    /// `stale` means that the holder is dead, and that the next acquire takes over.
    #[napi(ts_type = "'free' | 'held' | 'stale' | 'unknown'")]
    pub state: &'static str,
    /// The style in which the lock is held. `lock-file` for a lock that a server keeps.
    #[napi(ts_type = "'lock-file' | 'flock'")]
    pub style: &'static str,
    /// The reasons for which OpenClaw's protocol would call the lock file stale.
    pub reasons: Vec<&'static str>,
    /// The holder, alive or dead. Undefined for a free lock and for shared locks, whose holders `openBy` lists.
    pub holder: Option<Holder>,
    /// The number of waiters in the kernel's queue, or in the server's. Undefined where that cannot be read.
    pub waiters: Option<u32>,
    /// The process ids of the waiters, in the order of their arrival.
    pub queue: Vec<i64>,
    /// The process ids that have the lock open and are not the holder: shared holders, and heirs of a descriptor.
    pub open_by: Vec<i64>,
    /// The processes that have suspended the lock and mean to resume it, in the order in which they were suspended.
    pub suspended: Vec<SuspendedHolder>,
}

/// A process that has suspended a lock, and means to resume it.
#[napi(object, object_from_js = false)]
pub struct SuspendedHolder {
    /// The process id, in the process's own pid namespace.
    pub pid: i64,
    /// The fencing token of the suspended hold.
    pub fence: i64,
}

impl From<&tenure::SuspendedHolder> for SuspendedHolder {
    fn from(found: &tenure::SuspendedHolder) -> SuspendedHolder {
        SuspendedHolder { pid: found.pid, fence: i64::try_from(found.fence).unwrap_or(i64::MAX) }
    }
}

impl From<&tenure::Status> for Status {
    fn from(found: &tenure::Status) -> Status {
        Status {
            target: path_text(&found.target),
            lock_file: path_text(&found.lock_file),
            server: found.server.map(Scheme::as_str),
            state: found.state.as_str(),
            style: style_name(found.style),
            reasons: found.reasons.iter().map(|reason| reason.as_str()).collect(),
            holder: found.holder.as_ref().map(Holder::from),
            waiters: found.waiters.map(|waiters| u32::try_from(waiters).unwrap_or(u32::MAX)),
            queue: found.queue.clone(),
            open_by: found.open_by.clone(),
            suspended: found.suspended.iter().map(SuspendedHolder::from).collect(),
        }
    }
}

/// Converts what the library found.
pub(crate) fn status_of(found: tenure::Result<tenure::Status>) -> Either<Status, Failure> {
    match found {
        Ok(found) => Either::A(Status::from(&found)),
        Err(error) => Either::B(error.into()),
    }
}

/// Returns the state of the lock of `target`.
#[napi(ts_return_type = "Promise<Status | Failure>")]
pub fn status(#[napi(ts_arg_type = "string | Uint8Array")] target: Target) -> Result<Promised<Status>> {
    let target = os_string(target)?;
    Ok(Work::task(move || status_of(tenure::status(target))))
}

/// Returns the state of the lock of `target`. Blocks until a server has answered.
#[napi]
pub fn status_sync(#[napi(ts_arg_type = "string | Uint8Array")] target: Target) -> Result<Either<Status, Failure>> {
    Ok(status_of(tenure::status(os_string(target)?)))
}

/// Returns the locks in a folder, or below a name on a server.
#[napi(ts_return_type = "Promise<Array<Status> | Failure>")]
pub fn list(
    #[napi(ts_arg_type = "string | Uint8Array")] folder: Target,
    recursive: bool,
) -> Result<Promised<Vec<Status>>> {
    let (folder, options) = (os_string(folder)?, ListOptions::default().recursive(recursive));
    Ok(Work::task(move || match tenure::list(folder, &options) {
        Ok(found) => Either::A(found.iter().map(Status::from).collect()),
        Err(error) => Either::B(error.into()),
    }))
}

/// Returns the slots of `target` that are held or stale.
#[napi(ts_return_type = "Promise<Array<Status> | Failure>")]
pub fn slots(#[napi(ts_arg_type = "string | Uint8Array")] target: Target) -> Result<Promised<Vec<Status>>> {
    let target = os_string(target)?;
    Ok(Work::task(move || match tenure::slots(target) {
        Ok(found) => Either::A(found.iter().map(Status::from).collect()),
        Err(error) => Either::B(error.into()),
    }))
}

/// Breaks the lock of `target`. Returns whether there was a lock to break.
#[napi(ts_return_type = "Promise<boolean | Failure>")]
pub fn break_lock(#[napi(ts_arg_type = "string | Uint8Array")] target: Target, force: bool) -> Result<Promised<bool>> {
    let (target, options) = (os_string(target)?, BreakOptions::default().force(force));
    Ok(Work::task(move || match tenure::break_lock(target, &options) {
        Ok(broken) => Either::A(broken.broken),
        Err(error) if error.is_busy() => Either::B(Failure::with_hint(
            &error,
            match force {
                true => "the holder changed meanwhile: check again with status()",
                false => {
                    "{ force: true } breaks the lock of a live holder, which may then work at the same time as the next"
                }
            },
        )),
        Err(error) => Either::B(error.into()),
    }))
}

/// Returns the kind of server that a target names, or `null` for any other path.
#[napi(ts_return_type = "'etcd' | 'postgres' | null")]
pub fn server_of(target: String) -> Option<&'static str> {
    server::scheme(target).ok().flatten().map(Scheme::as_str)
}

/// Returns this process's places in servers' queues, within `limit` milliseconds.
#[napi]
pub fn give_up_waits(limit: f64) {
    server::give_up_waits(duration(limit));
}
