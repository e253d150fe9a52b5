//! The options of a lock.

use std::ffi::c_char;
use std::time::Duration;

use tenure::{IfBusy, Options, Overrun, StalePolicy, Style};

use crate::call;
use crate::error::{Failure, TenureCode, TenureError};
use crate::raw;

/// The options of a lock: `tenure_open` copies them. Free them with `tenure_options_free`.
pub struct TenureOptions(pub(crate) Options);

/// The lock file `<target>.lock` exists while the lock is held, and programs that use only lock files are excluded: the
/// default.
pub const TENURE_STYLE_LOCK_FILE: i32 = 0;
/// The target itself is locked with `flock(2)`, which excludes `flock(1)` and similar programs. There are shared locks.
pub const TENURE_STYLE_FLOCK: i32 = 1;

/// After the longest hold, the overrun is reported: the default.
pub const TENURE_OVERRUN_REPORT: i32 = 0;
/// After the longest hold, the lock is released, and `tenure_check` fails.
pub const TENURE_OVERRUN_REVOKE: i32 = 1;

/// An acquire waits for a busy lock: the default.
pub const TENURE_IF_BUSY_WAIT: i32 = 0;
/// It fails at once with `TENURE_BUSY`, whatever its timeout.
pub const TENURE_IF_BUSY_SKIP: i32 = 1;
/// It waits. If another such acquire waits already, it fails at once with `TENURE_SKIPPED`: a run is yet to begin.
pub const TENURE_IF_BUSY_QUEUE_ONE: i32 = 2;
/// It asks the holder to end by SIGTERM, and ends it by SIGKILL after the grace.
pub const TENURE_IF_BUSY_REPLACE: i32 = 3;

/// Returns the default options.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_options_new() -> *mut TenureOptions {
    raw::give(TenureOptions(Options::default()))
}

/// Frees options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_free(options: *mut TenureOptions) {
    // SAFETY: the caller guarantees options that are alive and are used no more.
    drop(unsafe { raw::take(options) });
}

/// Changes the options by `change`.
///
/// # Safety
///
/// `options` is `NULL` or options that have not been freed and that no other thread uses. `error` is `NULL` or valid for a
/// write.
unsafe fn set(
    options: *mut TenureOptions,
    error: *mut *mut TenureError,
    change: impl FnOnce(Options) -> Result<Options, Failure>,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees options that are alive, and that no other thread uses.
        let options = unsafe { options.as_mut() }.ok_or_else(|| Failure::argument("options is NULL"))?;
        options.0 = change(options.0.clone())?;
        Ok(())
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Sets a name for the holder, which appears in the record, in errors and in `tenure status`. At most 1 KiB of it is kept.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_label(
    options: *mut TenureOptions,
    label: *const c_char,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.label(call::text(label, "label")?))) }
}

/// Sets how the lock appears to foreign programs: `TENURE_STYLE_LOCK_FILE` or `TENURE_STYLE_FLOCK`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_style(
    options: *mut TenureOptions,
    style: i32,
    error: *mut *mut TenureError,
) -> TenureCode {
    let change = |options: Options| match style {
        TENURE_STYLE_LOCK_FILE => Ok(options.style(Style::LockFile)),
        TENURE_STYLE_FLOCK => Ok(options.style(Style::Flock)),
        _ => Err(Failure::argument(format!("style is {style}, not one of TENURE_STYLE_"))),
    };
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, change) }
}

/// Sets the intended maximum duration of a tenure, in milliseconds. `tenure_options_set_overrun` sets what happens after it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_max_hold(
    options: *mut TenureOptions,
    milliseconds: u64,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.max_hold(Duration::from_millis(milliseconds)))) }
}

/// Sets what happens after the longest hold: `TENURE_OVERRUN_REPORT` or `TENURE_OVERRUN_REVOKE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_overrun(
    options: *mut TenureOptions,
    overrun: i32,
    error: *mut *mut TenureError,
) -> TenureCode {
    let change = |options: Options| match overrun {
        TENURE_OVERRUN_REPORT => Ok(options.overrun(Overrun::Report)),
        TENURE_OVERRUN_REVOKE => Ok(options.overrun(Overrun::Revoke)),
        _ => Err(Failure::argument(format!("overrun is {overrun}, not one of TENURE_OVERRUN_"))),
    };
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, change) }
}

/// Sets the age, in milliseconds, from which on a live holder's lock may be stolen. By default a lock is never stolen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_steal_after(
    options: *mut TenureOptions,
    milliseconds: u64,
    error: *mut *mut TenureError,
) -> TenureCode {
    let policy = StalePolicy::StealAfter(Duration::from_millis(milliseconds));
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.stale_policy(policy))) }
}

/// Sets how often the date is updated by which programs that know only lock files detect a stale one, in milliseconds. 600000 (10
/// minutes) by default, and at most a third of the longest hold. With `UINT64_MAX` only `tenure_refresh` updates it, which saves
/// a thread of the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_refresh_interval(
    options: *mut TenureOptions,
    milliseconds: u64,
    error: *mut *mut TenureError,
) -> TenureCode {
    let interval = match milliseconds {
        u64::MAX => Duration::MAX,
        milliseconds => Duration::from_millis(milliseconds),
    };
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.refresh_interval(interval))) }
}

/// Sets the age from which on reports call a record `too-old`, in milliseconds. 1800000 (30 minutes) by default. No lock is taken
/// over for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_stale_after(
    options: *mut TenureOptions,
    milliseconds: u64,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.stale_after(Duration::from_millis(milliseconds)))) }
}

/// Sets the age from which on a lock file without a valid pid may be taken over, in milliseconds. 5000 by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_malformed_grace(
    options: *mut TenureOptions,
    milliseconds: u64,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.malformed_grace(Duration::from_millis(milliseconds)))) }
}

/// Sets whether this process may acquire the lock again while it holds it. The tenure then ends with the last guard. Off by
/// default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_reentrant(
    options: *mut TenureOptions,
    value: bool,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.reentrant(value))) }
}

/// Sets whether an acquire that would wait for its own end fails at once with `TENURE_WOULD_DEADLOCK`. On by default. Turn it
/// off where a thread acquires and another one releases.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_deadlock_check(
    options: *mut TenureOptions,
    value: bool,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.deadlock_check(value))) }
}

/// Sets whether the lock keeps a record. On by default. Without a record the lock is the bare kernel lock on the target: it
/// has no fence, names no holder, and writes nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_record(
    options: *mut TenureOptions,
    value: bool,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.record(value))) }
}

/// Sets whether missing parent folders of the target are created. On by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_create_parents(
    options: *mut TenureOptions,
    value: bool,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.create_parents(value))) }
}

/// Sets the permission bits of the lock's files, regardless of the umask: `0666` shares a lock between users in `/tmp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_mode(
    options: *mut TenureOptions,
    mode: u32,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.mode(mode))) }
}

/// Sets how many tenures of this lock are kept in its history, beside as many failed waits: at most 10000. 0, the default, keeps
/// none. `tenure_history` returns them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_history(
    options: *mut TenureOptions,
    tenures: u32,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.history(usize::try_from(tenures).unwrap_or(usize::MAX)))) }
}

/// Sets that up to `slots` may hold the lock at once, from 1 to 1000, each with a slot of its own: `tenure_slot`. At any time, at
/// most as many hold as the smallest number says that any of the holders was opened with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_slots(
    options: *mut TenureOptions,
    slots: u32,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.slots(slots))) }
}

/// Sets what an acquire does where the lock is busy: one of `TENURE_IF_BUSY_`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_if_busy(
    options: *mut TenureOptions,
    if_busy: i32,
    error: *mut *mut TenureError,
) -> TenureCode {
    let change = |options: Options| {
        let action = match if_busy {
            TENURE_IF_BUSY_WAIT => IfBusy::Wait,
            TENURE_IF_BUSY_SKIP => IfBusy::Skip,
            TENURE_IF_BUSY_QUEUE_ONE => IfBusy::QueueOne,
            TENURE_IF_BUSY_REPLACE => IfBusy::Replace,
            _ => return Err(Failure::argument(format!("if_busy is {if_busy}, not one of TENURE_IF_BUSY_"))),
        };
        Ok(options.if_busy(action))
    };
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, change) }
}

/// Sets how long `TENURE_IF_BUSY_REPLACE` leaves the holder to end, in milliseconds. 5000 by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_grace(
    options: *mut TenureOptions,
    milliseconds: u64,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.grace(Duration::from_millis(milliseconds)))) }
}

/// Sets that an acquire fails with `TENURE_SKIPPED` if the last tenure with `tenure_mark_successful` began less than this ago, in
/// milliseconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set_not_more_often_than(
    options: *mut TenureOptions,
    milliseconds: u64,
    error: *mut *mut TenureError,
) -> TenureCode {
    let interval = Duration::from_millis(milliseconds);
    // SAFETY: the contract of the crate.
    unsafe { set(options, error, |options| Ok(options.not_more_often_than(interval))) }
}
