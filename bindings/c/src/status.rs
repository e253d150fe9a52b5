//! Looking at locks without acquiring them, and breaking them.

use std::ffi::c_char;
use std::path::Path;

use tenure::{BreakOptions, ListOptions};

use crate::call;
use crate::error::{Failure, TenureCode, TenureError};
use crate::raw;

/// Writes the status of the lock of `target` to `json`, in the form of `tenure status --json`. Free the text with
/// `tenure_text_free`. No process is disturbed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_status(
    target: *const c_char,
    json: *mut *mut c_char,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { write_json(target, json, error, "target", |target| to_json(&tenure::status(target)?)) }
}

/// Writes the locks below `dir` that are held or stale to `json`: a list, each entry in the form of `tenure status --json`.
/// With `recursive` it also looks into the folders below. Free the text with `tenure_text_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_list(
    dir: *const c_char,
    recursive: bool,
    json: *mut *mut c_char,
    error: *mut *mut TenureError,
) -> TenureCode {
    let listed = |dir: &Path| to_json(&tenure::list(dir, &ListOptions::default().recursive(recursive))?);
    // SAFETY: the contract of the crate.
    unsafe { write_json(dir, json, error, "dir", listed) }
}

/// Writes the slots of `target` that are held or stale to `json`: a list in the order of their numbers, each entry in the form of
/// `tenure status --json`. Free the text with `tenure_text_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_slots(
    target: *const c_char,
    json: *mut *mut c_char,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { write_json(target, json, error, "target", |target| to_json(&tenure::slots(target)?)) }
}

/// Writes the history of the lock of `target` to `json`: a list of who held it when and which waits failed, the oldest first,
/// each entry as in the `history` of `tenure history --json`. It is empty where no holder had `tenure_options_set_history`. Free
/// the text with `tenure_text_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_history(
    target: *const c_char,
    json: *mut *mut c_char,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { write_json(target, json, error, "target", |target| to_json(&tenure::history(target)?)) }
}

/// Writes the circles of waits in which a lock in `dir` has a part to `json`, in the form of `tenure status --deadlocks --json`:
/// each program of a circle holds a lock and waits for the next one's, so that none of them goes on. With `recursive` it also
/// looks into the folders below. Free the text with `tenure_text_free`.
///
/// An acquire that would close a circle fails at once (`tenure_error_circle_json`), so these are of programs that turned that
/// check off. Only what is proven is reported: no acquires of `tenure_begin`, and no programs that only know `flock(2)`. Fails
/// with `TENURE_UNSUPPORTED` for a server.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_deadlocks(
    dir: *const c_char,
    recursive: bool,
    json: *mut *mut c_char,
    error: *mut *mut TenureError,
) -> TenureCode {
    #[derive(serde::Serialize)]
    struct DeadlocksJson {
        deadlocks: Vec<tenure::Circle>,
    }
    let found = |dir: &Path| {
        to_json(&DeadlocksJson { deadlocks: tenure::deadlocks(dir, &ListOptions::default().recursive(recursive))? })
    };
    // SAFETY: the contract of the crate.
    unsafe { write_json(dir, json, error, "dir", found) }
}

/// Writes what `read` makes of the path to `json`.
///
/// # Safety
///
/// As `tenure_status`.
unsafe fn write_json(
    path: *const c_char,
    json: *mut *mut c_char,
    error: *mut *mut TenureError,
    name: &str,
    read: impl FnOnce(&Path) -> Result<String, Failure>,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees that the place is NULL or valid for a write.
        unsafe { call::put(json, std::ptr::null_mut(), "json") }?;
        // SAFETY: the caller guarantees a path that ends with a zero byte.
        let path = unsafe { call::path(path, name) }?;
        let text = read(path.as_ref())?;
        // SAFETY: as above.
        unsafe { call::put(json, raw::give_text(&text), "json") }
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Breaks the lock of `target` on an operator's decision. The lock of a live holder, or of one whose liveness is unknown, is
/// refused with `TENURE_BUSY` without `force`; two processes may then work at once. `broken` may be `NULL`; otherwise it becomes
/// whether there was a lock to break.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_break_lock(
    target: *const c_char,
    force: bool,
    broken: *mut bool,
    error: *mut *mut TenureError,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees a path that ends with a zero byte.
        let target = unsafe { call::path(target, "target") }?;
        let result = tenure::break_lock(target, &BreakOptions::default().force(force))?;
        if !broken.is_null() {
            // SAFETY: the caller guarantees that the place is valid for a write.
            unsafe { broken.write(result.broken) };
        }
        Ok(())
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Removes this process's lock files when a signal such as SIGINT or SIGTERM ends it, and at `exit(3)`. Signals for which the
/// program has its own handlers are left to them. Without this a dead holder's lock is taken over at once all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_install_cleanup(error: *mut *mut TenureError) -> TenureCode {
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, || Ok(tenure::cleanup::install(tenure::cleanup::Handlers::Keep)?)) }
}

fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::internal(format!("the status is no JSON: {error}")))
}
