//! The boot and the jail that this process runs in.

use std::hash::{DefaultHasher, Hash, Hasher};

use rustix::fs::{AtFlags, CWD, statat};

use crate::sys::bsd::sysctl;
use crate::sys::unix::stat::stat;

/// The sources of facts, for messages.
pub(crate) const BOOT_ID_SOURCE: &str = "kern.boot_id";
pub(crate) const PID_NAMESPACE_SOURCE: &str = "security.jail.jailed";

/// The number of the machine outside of every jail, as `jail(8)` has it.
pub(crate) const FIRST_PID_NAMESPACE: u64 = 0;

/// Identifies the machine's boot (`sysctl(3)`, `kern.boot_id`: 16 random bytes). `None` on kernels without it: the date of the
/// boot (`kern.boottime`) moves with the clock, so it is none.
pub(crate) fn boot_id() -> Option<String> {
    // SAFETY: `value` requires that all bytes be a value: they are one of an array of bytes.
    let id = unsafe { sysctl::value::<[u8; 16]>(c"kern.boot_id") }?;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Identifies the jail that this process is in (`jail(8)`): 0 outside of all. A process in a jail cannot ask for its jail's
/// number, so that is computed from what distinguishes jails inside: host name, host id and root folder (`sysctl(3)`,
/// `stat(2)`).
///
/// Pids are the whole machine's, but a process in a jail sees those of its jail only: to it, all others look dead.
pub(crate) fn pid_namespace() -> Option<u64> {
    if !is_jailed()? {
        return Some(FIRST_PID_NAMESPACE);
    }
    let root = stat(&statat(CWD, c"/", AtFlags::empty()).ok()?).id;
    let mut hasher = DefaultHasher::new();
    (sysctl::text(c"kern.hostname"), sysctl::text(c"kern.hostuuid"), root).hash(&mut hasher);
    // A JavaScript number can hold it.
    Some(1 | hasher.finish() >> 12)
}

fn is_jailed() -> Option<bool> {
    flag(c"security.jail.jailed")
}

/// Returns whether this process sees every process of the machine (`jail(8)`; `security(7)`,
/// `security.bsd.see_other_uids` and its like; `mac_seeotheruids(4)`). If not, the kernel answers ESRCH for a process that
/// lives.
pub(super) fn sees_every_process() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let shows = |name| is_root || flag(name) == Some(true);
    // Kernels without this setting show the processes in jails.
    let shows_jails = is_root || flag(c"security.bsd.see_jail_proc") != Some(false);
    // The settings exist while the module is loaded. Its default exempts root.
    let exempts_root = flag(c"security.mac.seeotheruids.suser_privileged") != Some(false);
    let policy_hides = flag(c"security.mac.seeotheruids.enabled") == Some(true) && !(is_root && exempts_root);
    is_jailed() == Some(false)
        && shows(c"security.bsd.see_other_uids")
        && shows(c"security.bsd.see_other_gids")
        && shows_jails
        && !policy_hides
}

fn flag(name: &std::ffi::CStr) -> Option<bool> {
    // SAFETY: `value` requires that all bytes be a value: they are one of an integer.
    unsafe { sysctl::value::<libc::c_int>(name) }.map(|value| value != 0)
}
