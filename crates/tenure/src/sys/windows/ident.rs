//! Files, described and identified by their handles.

use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle};
use std::time::{Duration, SystemTime};

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_ATTRIBUTE_DEVICE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT,
    FILE_ID_INFO, FileIdInfo, GetFileInformationByHandle, GetFileInformationByHandleEx,
};

use crate::sys::types::{FileId, FileKind, Stat};

/// The number of 100-nanosecond steps between 1601, where file times begin, and 1970.
pub(super) const EPOCH: u64 = 116_444_736_000_000_000;

/// Describes an open file (`GetFileInformationByHandle`, and `GetFileInformationByHandleEx` with `FileIdInfo`).
///
/// The number of links is 0, "unknown": a file whose name was removed may keep its old number for as long as it is open. So
/// a holder compares names, and not links.
///
/// `volume` is the folder's, which is the file's too.
///
/// Windows keeps access lists and no mode, so every file has the mode that says "the owner writes, all others read": it
/// distinguishes no users.
pub(super) fn stat(file: BorrowedHandle<'_>, volume: u64) -> io::Result<Stat> {
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: GetFileInformationByHandle requires an open handle, which is borrowed, and a pointer to the structure that
    // it fills in, which is on this stack.
    if unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let kind = kind(found.dwFileAttributes);
    Ok(Stat {
        id: FileId {
            device: volume,
            inode: numbers(file).map_or(join(found.nFileIndexHigh, found.nFileIndexLow), |(_, number)| number),
        },
        kind,
        links: 0,
        size: join(found.nFileSizeHigh, found.nFileSizeLow),
        mode: if kind == FileKind::Directory { 0o755 } else { 0o644 },
        owner: 0,
        modified: time(ticks(found.ftLastWriteTime)),
    })
}

/// Returns the serial number of a folder's volume. 0 where it has none.
pub(super) fn volume(folder: BorrowedHandle<'_>) -> u64 {
    numbers(folder).map_or(0, |(volume, _)| volume)
}

/// Returns the serial number of an open file's volume, and the file's number there (`GetFileInformationByHandleEx` with
/// `FileIdInfo`). FAT has none; there the smaller number of `GetFileInformationByHandle` serves.
fn numbers(file: BorrowedHandle<'_>) -> Option<(u64, u64)> {
    let mut found = FILE_ID_INFO::default();
    let size = size_of::<FILE_ID_INFO>() as u32;
    // SAFETY: GetFileInformationByHandleEx requires an open handle, which is borrowed, and a buffer of the class's type
    // and size, which is on this stack.
    let done =
        unsafe { GetFileInformationByHandleEx(file.as_raw_handle(), FileIdInfo, (&raw mut found).cast(), size) } != 0;
    let number = u128::from_le_bytes(found.FileId.Identifier);
    // NTFS has 64 bits and ReFS 128, of which the upper half numbers the folder.
    let number = (number as u64) ^ ((number >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    done.then_some((found.VolumeSerialNumber, number))
}

/// Converts a file's attributes. A reparse point is a link, or something that only its driver can open.
pub(super) fn kind(attributes: u32) -> FileKind {
    match attributes {
        _ if attributes & FILE_ATTRIBUTE_REPARSE_POINT != 0 => FileKind::Symlink,
        _ if attributes & FILE_ATTRIBUTE_DIRECTORY != 0 => FileKind::Directory,
        _ if attributes & FILE_ATTRIBUTE_DEVICE != 0 => FileKind::CharacterDevice,
        _ => FileKind::Regular,
    }
}

pub(super) fn ticks(time: FILETIME) -> u64 {
    join(time.dwHighDateTime, time.dwLowDateTime)
}

fn join(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn time(ticks: u64) -> SystemTime {
    let since = ticks.saturating_sub(EPOCH);
    let since = Duration::new(since / 10_000_000, (since % 10_000_000) as u32 * 100);
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}
