//! `status()`: the state of a lock.

use napi::bindgen_prelude::{Either, Result};
use napi_derive::napi;

use crate::convert::{Target, os_string, path_text, style_name};
use crate::failure::Failure;
use crate::holder::Holder;

/// The state of a lock when `status()` read it.
#[napi(object, object_from_js = false)]
pub struct Status {
    /// The path that the lock protects.
    pub target: String,
    /// The path of the lock file: `<target>.lock`.
    pub lock_file: String,
    /// `stale` means that the holder is dead, and that the next acquire takes over.
    #[napi(ts_type = "'free' | 'held' | 'stale' | 'unknown'")]
    pub state: &'static str,
    /// The style in which the lock is held.
    #[napi(ts_type = "'lock-file' | 'flock'")]
    pub style: &'static str,
    /// The reasons for which OpenClaw's protocol would call the lock file stale.
    pub reasons: Vec<&'static str>,
    /// The holder, alive or dead. Undefined for a free lock and for shared locks, whose holders `openBy` lists.
    pub holder: Option<Holder>,
    /// The number of processes that wait in the kernel's queue. Undefined where that cannot be read.
    pub waiters: Option<u32>,
    /// The process ids of the waiters, in the order of their arrival.
    pub queue: Vec<i64>,
    /// The process ids that have the lock open and are not the holder: shared holders, and heirs of a descriptor.
    pub open_by: Vec<i64>,
}

impl From<&tenure::Status> for Status {
    fn from(found: &tenure::Status) -> Status {
        Status {
            target: path_text(&found.target),
            lock_file: path_text(&found.lock_file),
            state: found.state.as_str(),
            style: style_name(found.style),
            reasons: found.reasons.iter().map(|reason| reason.as_str()).collect(),
            holder: found.holder.as_ref().map(Holder::from),
            waiters: found.waiters.map(|waiters| u32::try_from(waiters).unwrap_or(u32::MAX)),
            queue: found.queue.clone(),
            open_by: found.open_by.clone(),
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
#[napi]
pub fn status(#[napi(ts_arg_type = "string | Uint8Array")] target: Target) -> Result<Either<Status, Failure>> {
    Ok(status_of(tenure::status(os_string(target)?)))
}
