//! Users' rights to a folder, copied to a new folder in it.
//!
//! The group bits of a folder with an access ACL are the ACL's mask, the most that any user but the owner may have, and
//! not the rights of the group (`acl(5)`). So the ACL is read, its mask is applied to each entry, and what mode bits
//! cannot express becomes an ACL of the new folder. Where the file system or a user namespace cannot express it, the new
//! folder grants less: never more than the folder around it.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

use rustix::fs::{Gid, Uid, XattrFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::sys::unix::mode::{cannot_be_given, set_mode};

const ACCESS_ACL: &CStr = c"system.posix_acl_access";

/// The version of `linux/posix_acl_xattr.h`.
const VERSION: u32 = 2;
/// The number in entries without a user or group.
const NOBODY: u32 = u32::MAX;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Three bits: read, write, search.
type Bits = u32;

/// All rights to a folder, after the mask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rights {
    owner: Bits,
    group: Bits,
    other: Bits,
    users: Vec<(u32, Bits)>,
    groups: Vec<(u32, Bits)>,
}

impl Rights {
    fn of_mode(mode: u32) -> Rights {
        let bits = |shift: u32| mode >> shift & 7;
        Rights { owner: bits(6), group: bits(3), other: bits(0), users: Vec::new(), groups: Vec::new() }
    }

    /// Reads an access ACL from the kernel's format (`acl(5)`). `None` for other bytes.
    fn parse(acl: &[u8]) -> Option<Rights> {
        let (version, entries) = acl.split_first_chunk::<4>()?;
        let (entries, rest) = entries.as_chunks::<8>();
        if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
            return None;
        }
        let mut rights = Rights::of_mode(0);
        let mut mask = 7;
        for &[t0, t1, p0, p1, i0, i1, i2, i3] in entries {
            let bits = Bits::from(u16::from_le_bytes([p0, p1]) & 7);
            let id = u32::from_le_bytes([i0, i1, i2, i3]);
            match u16::from_le_bytes([t0, t1]) {
                USER_OBJ => rights.owner = bits,
                GROUP_OBJ => rights.group = bits,
                OTHER => rights.other = bits,
                USER => rights.users.push((id, bits)),
                GROUP => rights.groups.push((id, bits)),
                MASK => mask = bits,
                _ => return None,
            }
        }
        rights.group &= mask;
        rights.users.iter_mut().chain(&mut rights.groups).for_each(|(_, bits)| *bits &= mask);
        Some(rights)
    }

    /// Returns the mask: the most rights that a named user or any group has.
    fn mask(&self) -> Bits {
        self.users.iter().chain(&self.groups).fold(self.group, |mask, (_, bits)| mask | bits)
    }

    /// Returns the permission bits. With an ACL, its mask is among them.
    fn mode(&self) -> u32 {
        self.owner << 6 | self.mask() << 3 | self.other
    }

    /// Returns whether mode bits alone express these rights.
    fn is_mode(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// Returns the ACL in the kernel's format and order, for `fsetxattr(2)`.
    fn acl(&self) -> Vec<u8> {
        let mut acl = VERSION.to_le_bytes().to_vec();
        let mut put = |tag: u16, bits: Bits, id: u32| {
            acl.extend(tag.to_le_bytes());
            acl.extend((bits as u16).to_le_bytes());
            acl.extend(id.to_le_bytes());
        };
        put(USER_OBJ, self.owner, NOBODY);
        self.users.iter().for_each(|&(id, bits)| put(USER, bits, id));
        put(GROUP_OBJ, self.group, NOBODY);
        self.groups.iter().for_each(|&(id, bits)| put(GROUP, bits, id));
        put(MASK, self.mask(), NOBODY);
        put(OTHER, self.other, NOBODY);
        acl
    }

    /// Returns the same rights for a folder with another group than these rights have, which is `group`. Members of the
    /// other group get the rights of other users, but no more than any group that they may be in as well.
    fn for_another_group(mut self, group: u32) -> Rights {
        let shared = self.groups.iter().fold(self.group & self.other, |shared, (_, bits)| shared & bits);
        self.groups.push((group, self.group));
        self.group = shared;
        self.simplified()
    }

    /// Removes named groups that have the same rights as the folder's group and other users.
    fn simplified(mut self) -> Rights {
        let (group, other) = (self.group, self.other);
        if self.users.is_empty() && group == other && self.groups.iter().all(|(_, bits)| *bits == other) {
            self.groups.clear();
        }
        self
    }

    /// Returns the most rights that mode bits can express without adding a right.
    fn narrowed(&self) -> Rights {
        let named = self.users.iter().chain(&self.groups);
        let common = named.fold(self.group & self.other, |common, (_, bits)| common & bits);
        Rights { group: common, other: common, ..Rights::of_mode(self.owner << 6) }
    }
}

/// Gives the new folder, which belongs to this process's user, the rights of `parent`: owner (where this is root),
/// group, mode and access ACL (`fchown(2)`, `fchmod(2)`, `fsetxattr(2)`). The kernel has given it the default ACL.
///
/// # Errors
///
/// Where the folder would grant more than `parent` does. A right that cannot be granted is left out.
pub(crate) fn take_rights_of(folder: BorrowedFd<'_>, parent: BorrowedFd<'_>) -> io::Result<()> {
    let (above, acl) = (rustix::fs::fstat(parent)?, access_acl(parent));
    let special = above.st_mode & 0o7000;
    let mut rights = match &acl {
        Ok(Some(acl)) => acl.clone(),
        Ok(None) => Rights::of_mode(above.st_mode),
        // The group bits may be a mask.
        Err(_) => Rights { group: above.st_mode >> 3 & above.st_mode & 7, ..Rights::of_mode(above.st_mode) },
    };
    let mut own = rustix::fs::fstat(folder)?;
    if own.st_uid != above.st_uid && !is_unmapped(above.st_uid, "uid") {
        // A folder of root's would be closed to the parent's owner. Only root can give a folder away.
        let given = || rustix::fs::fchown(folder, Some(Uid::from_raw(above.st_uid)), None);
        match retry_on_intr(given) {
            Err(error) if !cannot_be_given(error) => return Err(error.into()),
            _ => own = rustix::fs::fstat(folder)?,
        }
    }
    let mut expressible = true;
    if let Ok(Some(_)) = acl
        && above.st_uid != own.st_uid
    {
        // The parent's owner is a named user of the new folder.
        expressible &= !is_unmapped(above.st_uid, "uid");
        rights.users.retain(|(user, _)| *user != above.st_uid);
        rights.users.push((above.st_uid, rights.owner));
    }
    if !copy_group_from(folder, parent)? {
        expressible &= !is_unmapped(above.st_gid, "gid");
        rights = rights.for_another_group(above.st_gid);
    }
    rights.users.sort_unstable();
    rights.groups.sort_unstable();
    if !rights.is_mode() {
        let acl = rights.acl();
        let set = || rustix::fs::fsetxattr(folder, ACCESS_ACL, &acl, XattrFlags::empty());
        match if expressible { retry_on_intr(set) } else { Err(Errno::INVAL) } {
            Ok(()) => return set_mode(folder, special | rights.mode()),
            Err(error) if cannot_be_given(error) => rights = rights.narrowed(),
            Err(error) => return Err(error.into()),
        }
    }
    // An ACL that came from the default ACL has other entries than the parent's own rights.
    if matches!(access_acl(folder), Ok(Some(_))) {
        rustix::fs::fremovexattr(folder, ACCESS_ACL)?;
    }
    set_mode(folder, special | rights.mode())
}

/// Gives the folder the group of `parent` (`fchown(2)`). Returns `false` if the folder still has another group, or may
/// have.
fn copy_group_from(folder: BorrowedFd<'_>, parent: BorrowedFd<'_>) -> io::Result<bool> {
    let above = rustix::fs::fstat(parent)?;
    let same = || Ok::<_, io::Error>(rustix::fs::fstat(folder)?.st_gid == above.st_gid);
    if is_unmapped(above.st_gid, "gid") {
        // The group has no number here. With the set-group-id bit, the kernel has given it to the new folder.
        return Ok(above.st_mode & 0o2000 != 0 && same()?);
    }
    if same()? {
        return Ok(true);
    }
    match retry_on_intr(|| rustix::fs::fchown(folder, None, Some(Gid::from_raw(above.st_gid)))) {
        // Some file systems report success and change nothing.
        Ok(()) => same(),
        Err(error) if cannot_be_given(error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads the access ACL of a folder (`fgetxattr(2)`). `None` where it has none, or its file system does not support ACLs.
fn access_acl(folder: BorrowedFd<'_>) -> io::Result<Option<Rights>> {
    // The kernel's limit (`XATTR_SIZE_MAX`): 8191 entries fit.
    let mut buffer = vec![0; 1 << 16];
    let read = retry_on_intr(|| match rustix::fs::fgetxattr(folder, ACCESS_ACL, &mut buffer[..]) {
        // A descriptor opened with `O_PATH`.
        Err(Errno::BADF) => {
            let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
            rustix::fs::getxattr(&path, ACCESS_ACL, &mut buffer[..])
        }
        other => other,
    });
    match read {
        Ok(length) => Rights::parse(&buffer[..length]).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether this id may be one without a number in this user namespace (`user_namespaces(7)`). The kernel shows
/// all of them as one number (`/proc/sys/kernel/overflowuid`), which may also be a user's own.
fn is_unmapped(id: u32, which: &str) -> bool {
    let shown = fs::read_to_string(format!("/proc/sys/kernel/overflow{which}"));
    let shown = shown.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(65_534);
    if id != shown {
        return false;
    }
    // The first user namespace has a number for every id.
    let map = fs::read_to_string(format!("/proc/self/{which}_map")).unwrap_or_default();
    !map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(group: Bits, other: Bits, users: &[(u32, Bits)], groups: &[(u32, Bits)]) -> Rights {
        Rights { owner: 7, group, other, users: users.to_vec(), groups: groups.to_vec() }
    }

    #[test]
    fn an_acl_is_read_with_its_mask_applied() {
        let full = rights(7, 0, &[(1, 7), (2, 4)], &[(3, 5)]);
        assert_eq!(Rights::parse(&full.acl()), Some(full.clone()));
        let mut masked = full.acl();
        // The mask's bits: the last entry but one.
        let at = masked.len() - 16 + 2;
        assert_eq!(masked[at - 2..=at], [0x10, 0, 7]);
        masked[at] = 4;
        assert_eq!(Rights::parse(&masked), Some(rights(4, 0, &[(1, 4), (2, 4)], &[(3, 4)])));
        for length in [0, 3, 5, masked.len() - 1] {
            assert_eq!(Rights::parse(&masked[..length]), None, "{length}");
        }
        masked[0] = 3;
        assert_eq!(Rights::parse(&masked), None, "another version");
    }

    #[test]
    fn another_group_grants_no_user_more() {
        for (mode, expected) in [
            // All users have the same rights.
            (0o777, rights(7, 7, &[], &[])),
            (0o775, rights(5, 5, &[], &[(9, 7)])),
            (0o770, rights(0, 0, &[], &[(9, 7)])),
            // Members of both groups may not write.
            (0o757, rights(5, 7, &[], &[(9, 5)])),
        ] {
            let found = Rights::of_mode(mode).for_another_group(9);
            assert_eq!(found, expected, "{mode:o}");
            assert_eq!(found.mode(), mode);
            assert_eq!(found.narrowed().mode() & 0o070, found.narrowed().mode() << 3 & 0o070);
        }
        assert_eq!(Rights::of_mode(0o757).for_another_group(9).narrowed().mode(), 0o755);
        assert_eq!(rights(7, 5, &[(1, 4)], &[]).narrowed(), rights(4, 4, &[], &[]));
    }
}
