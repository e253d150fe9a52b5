//! The holder of a lock, as a plain object.

use napi_derive::napi;
use tenure::HolderKind;

use crate::convert::{date, milliseconds, number};

/// The process that holds a lock, or held it last. Properties that are not recorded are undefined.
#[napi(object, object_from_js = false)]
pub struct Holder {
    /// `native` for a holder that uses Tenure, `foreign` for a program that only knows lock files.
    #[napi(ts_type = "'native' | 'foreign'")]
    pub kind: &'static str,
    /// The process id.
    pub pid: Option<i64>,
    /// The process id of the command that the holder runs under the lock, as `tenure run` does.
    pub command_pid: Option<i64>,
    /// The start time of the process, in clock ticks since boot.
    pub start_time: Option<i64>,
    /// The command line.
    pub command: Option<String>,
    /// The label that the holder chose for itself.
    pub label: Option<String>,
    /// The name of the machine.
    pub host: Option<String>,
    /// The time at which the lock was acquired, in milliseconds since 1970.
    pub since: Option<f64>,
    /// The time at which the record was created or last refreshed, in milliseconds since 1970.
    pub created_at: Option<f64>,
    /// The recorded maximum hold time, in milliseconds.
    pub max_hold: Option<f64>,
    /// The fencing token.
    pub fence: Option<i64>,
    /// Whether the process lives.
    #[napi(ts_type = "'alive' | 'dead' | 'unknown'")]
    pub liveness: &'static str,
    /// The evidence for `liveness`.
    pub why: String,
    /// A one-line description, escaped for a terminal.
    pub text: String,
}

impl From<&tenure::Holder> for Holder {
    fn from(holder: &tenure::Holder) -> Holder {
        Holder {
            kind: match holder.kind {
                HolderKind::Native => "native",
                HolderKind::Foreign => "foreign",
            },
            pid: holder.pid(),
            command_pid: holder.command_pid(),
            start_time: holder.identity.as_ref().and_then(|identity| identity.start_time).map(number),
            command: holder.command.clone(),
            label: holder.label.clone(),
            host: holder.host.clone(),
            since: holder.acquired_at.or(holder.created_at).map(date),
            created_at: holder.created_at.map(date),
            max_hold: holder.max_hold.map(milliseconds),
            fence: holder.fence.map(number),
            liveness: holder.liveness.name(),
            why: holder.liveness.why().to_owned(),
            text: holder.to_string(),
        }
    }
}
