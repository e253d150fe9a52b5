//! Conversions between JavaScript's values and the library's.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, SystemTime};

use napi::bindgen_prelude::{Either, Null, Result, Uint8Array};
use tenure::{Style, Wait};

/// A path from JavaScript: a string, or bytes.
pub(crate) type Target = Either<String, Uint8Array>;

pub(crate) fn os_string(target: Target) -> Result<OsString> {
    match target {
        Either::A(text) => Ok(OsString::from(text)),
        Either::B(bytes) => of_bytes(bytes.to_vec()),
    }
}

#[cfg(unix)]
fn of_bytes(bytes: Vec<u8>) -> Result<OsString> {
    Ok(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

#[cfg(not(unix))]
fn of_bytes(bytes: Vec<u8>) -> Result<OsString> {
    let text = String::from_utf8(bytes);
    text.map(OsString::from).map_err(|_| napi::Error::from_reason("a path of bytes must be UTF-8 on this system"))
}

pub(crate) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Converts a number. JavaScript represents numbers below 2^53 exactly, and the library keeps fences below that.
pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Returns the fence, or `null` where the grant has none: for a shared lock and for one without a record.
pub(crate) fn fence_of(fence: Option<u64>) -> Either<i64, Null> {
    fence.map_or(Either::B(Null), |fence| Either::A(number(fence)))
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Converts milliseconds to a duration. Numbers below zero and NaN become zero, numbers out of range the longest duration.
pub(crate) fn duration(milliseconds: f64) -> Duration {
    Duration::try_from_secs_f64(milliseconds.max(0.0) / 1000.0).unwrap_or(Duration::MAX)
}

/// Converts the timeout of an acquire, in milliseconds. `Infinity` is none, and 0 or less makes one attempt.
pub(crate) fn wait_of(timeout: f64) -> Wait {
    match timeout {
        f64::INFINITY => Wait::Forever,
        _ if timeout > 0.0 => Wait::For(duration(timeout)),
        _ => Wait::Never,
    }
}

/// Converts a time to milliseconds since 1970.
pub(crate) fn date(time: SystemTime) -> f64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_millis() as f64,
        Err(before) => -(before.duration().as_millis() as f64),
    }
}

/// Returns a style's name in JavaScript.
pub(crate) fn style_name(style: Style) -> &'static str {
    match style {
        Style::LockFile => "lock-file",
        Style::Flock => "flock",
    }
}
