//! `history()`: who held a lock when.

use napi::bindgen_prelude::{Either, Result};
use napi_derive::napi;

use crate::convert::{Target, date, milliseconds, number, os_string};
use crate::work::{Promised, Work};

/// A past tenure of a lock, or a wait that failed. Properties that are not known are undefined. Texts are unescaped, as their
/// writer recorded them, and cut if they are long.
#[napi(object, object_from_js = false)]
pub struct PastTenure {
    /// How it ended. `busy`, `deadlock` or `skipped`: the lock was never held.
    #[napi(ts_type = "'released' | 'crashed' | 'lost' | 'revoked' | 'broken' | 'busy' | 'deadlock' | 'skipped'")]
    pub ended: &'static str,
    /// The process id of the holder, or of the process that waited.
    pub pid: Option<i64>,
    /// The command line.
    pub command: Option<String>,
    /// The label that the holder chose for itself.
    pub label: Option<String>,
    /// The name of the machine.
    pub host: Option<String>,
    /// When the tenure, or the failed wait, began, in milliseconds since 1970.
    pub since: f64,
    /// When it ended, in milliseconds since 1970. After a crash: when the next holder found out.
    pub until: f64,
    /// After a crash: when the holder updated its record last, in milliseconds since 1970.
    pub last_sign: Option<f64>,
    /// How long the holder had waited for the lock, in milliseconds.
    pub waited: Option<f64>,
    /// The exit code of the work under the lock.
    pub exit_code: Option<i32>,
    /// The fencing token.
    pub fence: Option<i64>,
    /// Whether the lock was shared.
    pub shared: bool,
    /// The evidence of a crash.
    pub why: Option<String>,
    /// The process id of the holder that a failed wait waited for.
    pub blocked_by_pid: Option<i64>,
    /// That holder's label, or its command line.
    pub blocked_by: Option<String>,
}

impl From<tenure::PastTenure> for PastTenure {
    fn from(past: tenure::PastTenure) -> PastTenure {
        PastTenure {
            ended: past.ended.as_str(),
            pid: past.pid,
            command: past.command,
            label: past.label,
            host: past.host,
            since: date(past.from),
            until: date(past.until),
            last_sign: past.last_sign.map(date),
            waited: past.waited.map(milliseconds),
            exit_code: past.exit_code,
            fence: past.fence.map(number),
            shared: past.shared,
            why: past.why,
            blocked_by_pid: past.blocked_by_pid,
            blocked_by: past.blocked_by,
        }
    }
}

/// Returns the history of the lock of `target`.
#[napi(ts_return_type = "Promise<Array<PastTenure> | Failure>")]
pub fn history(#[napi(ts_arg_type = "string | Uint8Array")] target: Target) -> Result<Promised<Vec<PastTenure>>> {
    let target = os_string(target)?;
    Ok(Work::task(move || match tenure::history(target) {
        Ok(past) => Either::A(past.into_iter().map(PastTenure::from).collect()),
        Err(error) => Either::B(error.into()),
    }))
}
