//! What the library says, as plain objects.

use std::path::Path;
use std::time::{Duration, SystemTime};

use napi_derive::napi;
use tenure::{Advice, Error, HolderKind};

/// Why something failed: the library's error in parts.
#[napi(object, object_from_js = false)]
pub struct Failure {
    /// Which kind: one of the `TENURE_` codes.
    pub code: &'static str,
    /// The library's whole text.
    pub message: String,
    /// The path that it is about.
    pub path: String,
    /// Who holds, where that is known.
    pub holder: Option<Holder>,
    /// What to do about it.
    pub hint: Option<String>,
    /// How long was waited, in milliseconds.
    pub waited: Option<f64>,
    /// The system's error number, where there was one.
    pub errno: Option<i32>,
}

/// Who holds a lock, or held it last.
#[napi(object, object_from_js = false)]
pub struct Holder {
    /// `native` (Tenure's) or `foreign` (of a program that knows only the lock file).
    #[napi(ts_type = "'native' | 'foreign'")]
    pub kind: &'static str,
    /// The recorded process id.
    pub pid: Option<i64>,
    /// Its start, in clock ticks since boot.
    pub start_time: Option<i64>,
    /// Its command line.
    pub command: Option<String>,
    /// What it calls itself.
    pub label: Option<String>,
    /// Its machine.
    pub host: Option<String>,
    /// Since when it holds, in milliseconds since 1970.
    pub since: Option<f64>,
    /// When the record was made or last refreshed, in milliseconds since 1970.
    pub created_at: Option<f64>,
    /// How long it means to hold, in milliseconds.
    pub max_hold: Option<f64>,
    /// Its fence.
    pub fence: Option<i64>,
    /// Does it live?
    #[napi(ts_type = "'alive' | 'dead' | 'unknown'")]
    pub liveness: &'static str,
    /// How that is known.
    pub why: String,
    /// All of it in a line, escaped for a terminal.
    pub text: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        let hint = hint(error);
        let message = match &hint {
            Some(hint) => format!("{}; {hint}", error.without_hint()),
            None => error.without_hint().to_string(),
        };
        Failure {
            code: code(error),
            message,
            path: path_text(error.path()),
            holder: error.holder().map(Holder::from),
            hint,
            waited: error.waited().map(milliseconds),
            errno: error.io_error().and_then(std::io::Error::raw_os_error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::from(&error)
    }
}

/// The library's hint, in Node's words where it has Rust's or the command's.
fn hint(error: &Error) -> Option<String> {
    Some(match error.advice() {
        Some(Advice::LookAtHolder) => format!(
            "inspect(path) says more; to take it by force there is the command tenure, which this package does not \
             contain: `tenure break {}`",
            tenure::escape::word(error.path())
        ),
        Some(Advice::Reenter) => "use the handle that is held, or open both with { reentrant: true }".into(),
        Some(Advice::CreateParents) => "make it, or let { createParents: true } do so".into(),
        Some(Advice::UseFlockStyle) => "flock style needs no lock file: { style: \"flock\" }".into(),
        Some(Advice::MoveOrUseFlockStyle) => {
            "move it, lock another target, or use flock style: { style: \"flock\" }".into()
        }
        Some(Advice::WithoutRecord) => "the lock's files need a folder that this user may write".into(),
        Some(Advice::ShareByMode | Advice::ShareByModeOrWithoutRecord) => {
            "users share a lock whose files all of them may write: have their owner make them so, or remove them".into()
        }
        Some(Advice::BuildWithEngine) => {
            "this package locks files; locks on servers are in the command tenure and in the library for Rust".into()
        }
        _ => return error.hint().map(str::to_owned),
    })
}

type Is = fn(&Error) -> bool;

fn code(error: &Error) -> &'static str {
    let is: [(Is, &'static str); 9] = [
        (Error::is_busy, "TENURE_BUSY"),
        (Error::is_would_deadlock, "TENURE_WOULD_DEADLOCK"),
        (Error::is_lost, "TENURE_LOST"),
        (Error::is_unsupported, "TENURE_UNSUPPORTED"),
        (Error::is_obstructed, "TENURE_IN_THE_WAY"),
        (Error::is_invalid_target, "TENURE_INVALID_TARGET"),
        (Error::is_permission_denied, "TENURE_PERMISSION_DENIED"),
        (Error::is_cannot_create, "TENURE_CANNOT_CREATE"),
        (Error::is_unreachable, "TENURE_UNREACHABLE"),
    ];
    is.iter().find(|(is, _)| is(error)).map_or("TENURE_IO", |(_, code)| code)
}

impl From<&tenure::Holder> for Holder {
    fn from(holder: &tenure::Holder) -> Holder {
        Holder {
            kind: match holder.kind {
                HolderKind::Native => "native",
                HolderKind::Foreign => "foreign",
            },
            pid: holder.pid(),
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

/// What is below 2^53 is exact in JavaScript; the library keeps fences there.
pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn date(time: SystemTime) -> f64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_millis() as f64,
        Err(before) => -(before.duration().as_millis() as f64),
    }
}

pub(crate) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Milliseconds of JavaScript as a duration; none for what no clock reaches. Below zero and NaN are zero.
pub(crate) fn duration(milliseconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(milliseconds.max(0.0) / 1000.0).ok()
}
