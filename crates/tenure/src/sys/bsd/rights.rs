//! Users' rights to a folder, copied to a new folder in it.
//!
//! A new folder has its parent's group here (`mkdir(2)`). What remains is the mode, the owner where this is root, and the
//! access list, which is copied whole. What cannot be copied is refused, or granted less: never more than the folder around
//! it grants.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Gid, Uid, fchown, fstat};
use rustix::io::retry_on_intr;

use super::acl::Acl;
use crate::sys::unix::mode::{cannot_be_given, set_mode};

/// Gives the new folder, which belongs to this process's user, the rights of `parent`: owner (where this is root), group,
/// mode and access list (`fchown(2)`, `fchmod(2)`, `acl_set_fd_np(3)`).
///
/// # Errors
///
/// Where the folder would grant more than `parent` does.
#[allow(clippy::unnecessary_cast, reason = "the width of a mode differs between systems")]
pub(crate) fn take_rights_of(folder: BorrowedFd<'_>, parent: BorrowedFd<'_>) -> io::Result<()> {
    let above = fstat(parent)?;
    let own = fstat(folder)?;
    let owner = (own.st_uid != above.st_uid).then(|| Uid::from_raw(above.st_uid));
    let group = (own.st_gid != above.st_gid).then(|| Gid::from_raw(above.st_gid));
    for (owner, group) in [(owner, None), (None, group)] {
        if owner.is_some() || group.is_some() {
            match retry_on_intr(|| fchown(folder, owner, group)) {
                Err(error) if !cannot_be_given(error) => return Err(error.into()),
                _ => {}
            }
        }
    }
    let same_group = fstat(folder)?.st_gid == above.st_gid;
    let mode = above.st_mode as u32 & 0o7777;
    set_mode(folder, if same_group { mode } else { narrowed(mode) })?;
    let (theirs, ours) = (Acl::read(parent)?, Acl::read(folder)?);
    match theirs {
        // The list grants rights to the group that the folder does not have.
        Some(_) if !same_group => Err(io::ErrorKind::Unsupported.into()),
        Some(acl) => acl.set(folder),
        // The folder would grant what only its inherited list says.
        None if ours.is_some() => Err(io::ErrorKind::Unsupported.into()),
        None => Ok(()),
    }
}

/// Returns the most rights for a folder with another group that add no right: what group and others have in common.
fn narrowed(mode: u32) -> u32 {
    let common = mode >> 3 & mode & 7;
    mode & 0o7700 | common << 3 | common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_group_gets_what_all_have() {
        for (mode, expected) in [(0o777, 0o777), (0o775, 0o755), (0o770, 0o700), (0o1757, 0o1755)] {
            assert_eq!(narrowed(mode), expected, "{mode:o}");
        }
    }
}
