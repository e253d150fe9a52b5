//! Facts that these systems do not show, or not to every user.

use crate::sys::lock_table::{LockTable, TableDevice};
use crate::sys::types::FileSystem;
use crate::sys::unix::Dir;

/// Returns `None`: the kernel shows no table of `flock(2)` locks to every user.
pub(crate) fn lock_table() -> Option<LockTable> {
    None
}

/// Returns a number that no line of the table has.
pub(crate) fn table_device(_dir: &Dir, _file_system: &FileSystem, _device: u64) -> TableDevice {
    TableDevice { device: (0, 0), complete: false }
}

/// Returns an empty list: a process's open files are shown to its own user only, so an absence would prove nothing.
pub(crate) fn openers(_dev: u64, _ino: u64) -> Vec<i64> {
    Vec::new()
}

/// Returns an empty list: whether an open file carries a lock is not shown.
pub(crate) fn lock_keepers(_dev: u64, _ino: u64) -> Vec<i64> {
    Vec::new()
}

/// Returns `None`: whether a process waits for a child is not shown.
pub(crate) fn awaited_child(_pid: i64) -> Option<i64> {
    None
}

/// Returns an empty list: there are no marks ([`super::mark`]).
pub(crate) fn marked_waiters(_dev: u64, _ino: u64) -> Vec<i64> {
    Vec::new()
}

/// Returns `None`: a thread's number never names a process here.
pub(crate) fn process_of_thread(_id: i64) -> Option<i64> {
    None
}

/// Returns `true`: there are no time namespaces.
pub(crate) fn reads_start_times_alike(_pid: i64) -> bool {
    true
}

/// Returns `true`. OpenClaw compares start times on Linux only. But it takes a lock file with its own pid and *without* a
/// start time for one that it left, and removes the lock of a holder in the same process: any valid number prevents that.
pub(crate) fn shows_its_start_time() -> bool {
    true
}

/// Returns `None`: no call reports whether a time service keeps the clock right.
pub(crate) fn clock_is_steered() -> Option<bool> {
    None
}
