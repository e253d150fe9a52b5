//! Renaming a file by its handle.

use std::mem::offset_of;
use std::os::windows::io::{AsRawHandle, BorrowedHandle};

use windows_sys::Wdk::Storage::FileSystem::{FILE_RENAME_INFORMATION, FileRenameInformation};

use super::nt::{self, Status};

/// Renames the file, which was opened with the right `DELETE`, to a name in `folder` (`NtSetInformationFile`,
/// `FileRenameInformation`). Without `replace` the name must be free. A file that some program has open cannot be
/// replaced.
pub(super) fn rename(
    file: BorrowedHandle<'_>,
    folder: BorrowedHandle<'_>,
    to: &[u16],
    replace: bool,
) -> Result<(), Status> {
    let head = offset_of!(FILE_RENAME_INFORMATION, FileName);
    let size = head + size_of_val(to);
    // Words, so that the structure at its start is aligned.
    let mut buffer = vec![0_u64; size.max(size_of::<FILE_RENAME_INFORMATION>()).div_ceil(8)];
    let information = buffer.as_mut_ptr().cast::<FILE_RENAME_INFORMATION>();
    // SAFETY: writing through `information` requires memory for the structure and, from `head` on, for the name: `buffer`
    // has both, and zeros are valid for every field.
    unsafe {
        (*information).Anonymous.ReplaceIfExists = replace;
        (*information).RootDirectory = folder.as_raw_handle();
        (*information).FileNameLength = size_of_val(to) as u32;
        let name = information.cast::<u8>().add(head).cast::<u16>();
        name.copy_from_nonoverlapping(to.as_ptr(), to.len());
    }
    // SAFETY: `set` requires what the class takes: this is its structure, followed by the name that it counts.
    unsafe { nt::set(file, FileRenameInformation, information.cast(), size) }
}
