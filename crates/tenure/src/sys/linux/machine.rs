//! The boot and the namespaces that this process runs in.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use super::proc;
use crate::sys::ForkLocal;

/// The inode of the first pid namespace (`PROC_PID_INIT_INO`), the same on every machine.
pub(crate) const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;
/// The inode of the first time namespace (`PROC_TIME_INIT_INO`), the same on every machine.
const FIRST_TIME_NAMESPACE: u64 = 0xefff_fffa;

/// The file that has the boot's id, for messages.
pub(crate) const BOOT_ID_SOURCE: &str = "/proc/sys/kernel/random/boot_id";
/// The file whose inode is the pid namespace, for messages.
pub(crate) const PID_NAMESPACE_SOURCE: &str = "/proc/self/ns/pid";

/// Identifies the machine's boot (`proc_sys_kernel(5)`, `random/boot_id`).
pub(crate) fn boot_id() -> Option<String> {
    static BOOT_ID: ForkLocal<OnceLock<String>> = ForkLocal::new();
    let read = || {
        let text = fs::read_to_string(BOOT_ID_SOURCE).ok()?;
        let id = text.trim();
        (!id.is_empty()).then(|| id.to_owned())
    };
    known_or(&BOOT_ID, read).cloned()
}

/// Identifies the pid namespace that this process's pids are counted in, by its inode (`pid_namespaces(7)`). It stays
/// the same for the life of a process.
pub(crate) fn pid_namespace() -> Option<u64> {
    static OWN: ForkLocal<OnceLock<u64>> = ForkLocal::new();
    known_or(&OWN, || Some(fs::metadata(PID_NAMESPACE_SOURCE).ok()?.ino())).copied()
}

/// Returns a fact that does not change while the process lives, read once. A failure (no descriptor left) is not
/// remembered, because it may pass.
fn known_or<T: Send + Sync>(known: &ForkLocal<OnceLock<T>>, read: impl FnOnce() -> Option<T>) -> Option<&'static T> {
    let known = known.get(OnceLock::new);
    if let Some(value) = known.get() {
        return Some(value);
    }
    let value = read()?;
    Some(known.get_or_init(|| value))
}

/// Identifies the time namespace of a process by its inode (`time_namespaces(7)`), where this user may see it.
fn time_namespace(pid: i64) -> Option<u64> {
    Some(fs::metadata(proc::folder(pid)?.join("ns/time")).ok()?.ino())
}

/// Returns whether the process reads start times as this process does, as far as that can be seen. The kernel shifts
/// them by the clock of the *reader's* time namespace (`time_namespaces(7)`).
pub(crate) fn reads_start_times_alike(pid: i64) -> bool {
    let (ours, theirs) = (time_namespace(i64::from(proc::own_pid())), time_namespace(pid));
    ours.is_none() || theirs.is_none() || ours == theirs
}

/// Returns whether most other programs read this process's start time as this process does: it is in the first time
/// namespace (`time_namespaces(7)`), or the kernel has none.
pub(crate) fn shows_its_start_time() -> bool {
    time_namespace(i64::from(proc::own_pid())).is_none_or(|ours| ours == FIRST_TIME_NAMESPACE)
}
