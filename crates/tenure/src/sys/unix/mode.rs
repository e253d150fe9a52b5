//! Setting a new folder's mode.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, fchmod, fstat};
use rustix::io::{Errno, retry_on_intr};

/// Sets the mode (`fchmod(2)`): the umask removed bits, and a file system may keep other bits than it was given. Fewer
/// rights are accepted, more are an error.
#[allow(clippy::unnecessary_cast, reason = "the width of a mode differs between systems")]
pub(crate) fn set_mode(folder: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    let found = || Ok::<_, io::Error>(fstat(folder)?.st_mode as u32 & 0o7777);
    if found()? == mode {
        return Ok(());
    }
    let changed = retry_on_intr(|| fchmod(folder, Mode::from_raw_mode(mode as _)));
    if let Err(error) = changed
        && !cannot_be_given(error)
    {
        return Err(error.into());
    }
    let found = found()?;
    let more = found & 0o777 & !mode != 0;
    // Without the bit, every user who may write here may remove other users' files.
    let sticky = mode & !found & 0o1000 != 0 && found & 0o022 != 0;
    match more || sticky {
        true => Err(changed.err().unwrap_or(Errno::OPNOTSUPP).into()),
        false => Ok(()),
    }
}

/// Returns whether this user, or this file system, cannot set a group, a mode or an ACL. EINVAL is the answer for an id
/// without a number in a user namespace (`user_namespaces(7)`).
pub(crate) fn cannot_be_given(error: Errno) -> bool {
    matches!(error, Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOSYS | Errno::ROFS)
        || error == Errno::OPNOTSUPP
        || error == Errno::NOTSUP
}
