//! A Landlock sandbox (`landlock(7)`) around a program that a test starts.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// All rights of the first version on files: from EXECUTE to MAKE_SYM.
const FILES: u64 = (1 << 13) - 1;
/// The right to link and rename between folders. Since the second version it is denied unless handled and granted.
const REFER: u64 = 1 << 13;
const RULE_PATH_BENEATH: libc::c_int = 1;

/// `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: libc::c_int,
}

/// Returns whether the kernel supports Landlock with the right to link between folders.
pub fn is_there() -> bool {
    // SAFETY: with this flag (LANDLOCK_CREATE_RULESET_VERSION) nothing is read, and a number comes back.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u64>(), 0, 1) >= 2 }
}

/// Lets `command` do everything to files, but link and rename them between folders only with `refer`.
pub fn confine(command: &mut Command, refer: bool) -> &mut Command {
    let handled = FILES | if refer { REFER } else { 0 };
    // SAFETY: the attribute is one number, `handled_access_fs`, which lives over the call.
    let rules = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size_of::<u64>(), 0) };
    assert!(rules >= 0, "landlock_create_ruleset: {}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor without another owner.
    let rules = unsafe { OwnedFd::from_raw_fd(libc::c_int::try_from(rules).unwrap()) };
    let root = std::fs::File::open("/").unwrap();
    let everywhere = PathBeneath { allowed: handled, parent: root.as_raw_fd() };
    // SAFETY: the rule and both descriptors live over the call.
    let added = unsafe {
        let (rules, rule) = (rules.as_raw_fd(), &raw const everywhere);
        libc::syscall(libc::SYS_landlock_add_rule, rules, RULE_PATH_BENEATH, rule, 0)
    };
    assert_eq!(added, 0, "landlock_add_rule: {}", std::io::Error::last_os_error());
    let enter = move || {
        // SAFETY: plain calls with numbers.
        let entered = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) == 0
        };
        if entered { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: it makes system calls and allocates nothing.
    unsafe { command.pre_exec(enter) }
}
