//! File systems, by the names that `statfs(2)` returns.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sys::types::FileSystem;

/// The file systems that one kernel alone can mount. All others may be mounted by two machines.
const LOCAL: [&str; 14] = [
    "apfs", "hfs", "msdos", "exfat", "ntfs", "udf", "ufs", "zfs", "tmpfs", "msdosfs", "ext2fs", "cd9660", "nullfs",
    "unionfs",
];

/// Describes the file system that a folder is on (`fstatfs(2)`).
#[allow(clippy::unnecessary_cast, reason = "the widths of these fields differ between systems")]
pub(crate) fn file_system(folder: BorrowedFd<'_>) -> FileSystem {
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: fstatfs(2) requires an open descriptor, which is borrowed, and a pointer to a writable `statfs`: `found` is
    // one, on this stack.
    if unsafe { libc::fstatfs(folder.as_raw_fd(), found.as_mut_ptr()) } != 0 {
        // Treated as the more doubtful kind.
        return FileSystem { name: "unknown".into(), shared: true, emulates_flock: false };
    }
    // SAFETY: `assume_init` requires a valid `statfs`: zeros are one, and the call has filled it in.
    let found = unsafe { found.assume_init() };
    let name: Vec<u8> = found.f_fstypename.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
    let name = String::from_utf8_lossy(&name).into_owned();
    // A layer over another file system has the flag of what is below it.
    let is_local = found.f_flags as u64 & libc::MNT_LOCAL as u64 != 0;
    let shared = !(is_local && LOCAL.contains(&name.as_str()));
    let emulates_flock = matches!(name.as_str(), "nfs" | "smbfs");
    FileSystem { name: Cow::Owned(name), shared, emulates_flock }
}
