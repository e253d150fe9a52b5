//! File systems, by the magic numbers of `statfs(2)`.

use std::borrow::Cow;
use std::os::fd::BorrowedFd;

use rustix::io::retry_on_intr;

use crate::sys::types::FileSystem;

/// Describes the file system that a folder is on (`fstatfs(2)`).
pub(crate) fn file_system(folder: BorrowedFd<'_>) -> FileSystem {
    match retry_on_intr(|| rustix::fs::fstatfs(folder)) {
        Ok(found) => of_magic(found.f_type as u64 & 0xffff_ffff),
        // Treated as the more doubtful kind.
        Err(_) => FileSystem { name: "unknown".into(), shared: true, emulates_flock: false },
    }
}

/// Describes a file system by its magic number.
///
/// Only those that one kernel alone can mount count as local. Network and cluster file systems, those that show a host's
/// folder to its guests, and unknown ones may be mounted by two machines.
fn of_magic(magic: u64) -> FileSystem {
    let local = [
        (0xef53, "ext4"),
        (0x0102_1994, "tmpfs"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x794c_7630, "overlayfs"),
        (0x4d44, "vfat"),
        (0x2011_bab0, "exfat"),
        (0xf2f5_2010, "f2fs"),
        (0x2fc1_2fc1, "zfs"),
        (0x8584_58f6, "ramfs"),
        (0xca45_1a4e, "bcachefs"),
        (0x7366_746e, "ntfs3"),
        (0x5346_544e, "ntfs"),
        (0x3153_464a, "jfs"),
        (0x5265_4973, "reiserfs"),
        (0x3434, "nilfs2"),
        (0x482b, "hfsplus"),
        (0x1501_3346, "udf"),
        (0x2405_1905, "ubifs"),
        (0x72b6, "jffs2"),
        (0x7371_7368, "squashfs"),
        (0xe0f5_e1e2, "erofs"),
        (0xf15f, "ecryptfs"),
        (0x9fa0, "proc"),
        (0x6265_6572, "sysfs"),
        (0x2727_2727, "cgroup"),
    ];
    let shared = [
        (0x6969, "nfs"),
        (0xff53_4d42, "cifs"),
        (0xfe53_4d42, "smb2"),
        (0x517b, "smb"),
        (0x0102_1997, "9p"),
        (0x6573_5546, "fuse"),
        (0x00c3_6400, "ceph"),
        (0x5346_414f, "afs"),
        (0x6b41_4653, "afs"),
        (0x7375_7245, "coda"),
        (0x0116_1970, "gfs2"),
        (0x7461_636f, "ocfs2"),
        (0x0bd0_0bd0, "lustre"),
        (0x4750_4653, "gpfs"),
        (0x786f_4256, "vboxsf"),
        (0xbacb_acbc, "vmhgfs"),
        (0x1983_0326, "fhgfs"),
    ];
    let named = |list: &[(u64, &'static str)]| list.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name);
    let (name, shared) = match (named(&local), named(&shared)) {
        (Some(name), _) => (Cow::Borrowed(name), false),
        (None, Some(name)) => (Cow::Borrowed(name), true),
        (None, None) => (Cow::Owned(format!("a file system of type {magic:#x}")), true),
    };
    // `flock(2)`, "NFS details" and "CIFS details".
    let emulates_flock = matches!(&*name, "nfs" | "cifs" | "smb2" | "smb");
    FileSystem { name, shared, emulates_flock }
}
