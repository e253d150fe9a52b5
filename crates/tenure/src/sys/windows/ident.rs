//! Files, described and identified by their handles.

use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle};
use std::time::{Duration, SystemTime};

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_BASIC_INFORMATION, FILE_INTERNAL_INFORMATION, FILE_STANDARD_INFORMATION, FileBasicInformation,
    FileInternalInformation, FileStandardInformation,
};
use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ATTRIBUTE_DEVICE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT, FILE_ID_INFO, FileIdInfo,
    GetFileInformationByHandleEx,
};

use super::file_system;
use super::nt;
use crate::sys::types::{FileId, FileKind, Stat};

/// The number of 100-nanosecond steps between 1601, where file times begin, and 1970.
pub(super) const EPOCH: u64 = 116_444_736_000_000_000;

/// The volume of a folder, which is that of the files in it too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Volume {
    /// The serial number. 0 where the volume has none, as FAT.
    pub(super) serial: u64,
    /// Whether a file's number may have more than 64 bits, as on ReFS.
    wide: bool,
}

impl Volume {
    /// Describes the volume that a folder is on.
    pub(super) fn of(folder: BorrowedHandle<'_>) -> Volume {
        let serial = long_number(folder).map_or(0, |(serial, _)| serial);
        // An unknown file system may have any numbers.
        Volume { serial, wide: file_system::name(folder).is_none_or(|name| name != "ntfs") }
    }
}

/// Describes an open file (`NtQueryInformationFile`), in the volume of its folder.
///
/// `GetFileInformationByHandle` would ask for the volume with every call.
///
/// The number of links is 0, "unknown": a file whose name was removed may keep its old number for as long as it is open. So
/// a holder compares names, and not links.
///
/// Windows keeps access lists and no mode, so every file has the mode that says "the owner writes, all others read": it
/// distinguishes no users.
pub(super) fn stat(file: BorrowedHandle<'_>, volume: Volume) -> io::Result<Stat> {
    // SAFETY: `query` requires the class's type: these are the classes' structures. They have numbers, and two booleans, which
    // the system writes as 0 or 1.
    let basic: FILE_BASIC_INFORMATION = unsafe { nt::query(file, FileBasicInformation)? };
    // SAFETY: as above.
    let standard: FILE_STANDARD_INFORMATION = unsafe { nt::query(file, FileStandardInformation)? };
    let number = match volume.wide.then(|| long_number(file)).flatten() {
        Some((_, number)) => number,
        // SAFETY: as above.
        None => unsafe { nt::query::<FILE_INTERNAL_INFORMATION>(file, FileInternalInformation)? }
            .IndexNumber
            .cast_unsigned(),
    };
    let kind = kind(basic.FileAttributes);
    Ok(Stat {
        id: FileId { device: volume.serial, inode: number },
        kind,
        links: 0,
        size: standard.EndOfFile.cast_unsigned(),
        mode: if kind == FileKind::Directory { 0o755 } else { 0o644 },
        owner: 0,
        modified: time(basic.LastWriteTime.cast_unsigned()),
    })
}

/// Returns the serial number of an open file's volume, and the file's number there, made from 128 bits
/// (`GetFileInformationByHandleEx` with `FileIdInfo`). FAT has none.
fn long_number(file: BorrowedHandle<'_>) -> Option<(u64, u64)> {
    let mut found = FILE_ID_INFO::default();
    let size = size_of::<FILE_ID_INFO>() as u32;
    // SAFETY: GetFileInformationByHandleEx requires an open handle, which is borrowed, and a buffer of the class's type
    // and size, which is on this stack.
    let done =
        unsafe { GetFileInformationByHandleEx(file.as_raw_handle(), FileIdInfo, (&raw mut found).cast(), size) } != 0;
    let number = u128::from_le_bytes(found.FileId.Identifier);
    // ReFS numbers the folder in the upper half.
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
