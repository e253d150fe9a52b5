//! File systems, by the names that Windows gives them.

use std::os::windows::io::{AsRawHandle, BorrowedHandle};
use std::ptr;

use windows_sys::Wdk::Storage::FileSystem::FileFsDeviceInformation;
use windows_sys::Wdk::System::SystemServices::{FILE_FS_DEVICE_INFORMATION, FILE_REMOTE_DEVICE};
use windows_sys::Win32::Storage::FileSystem::GetVolumeInformationByHandleW;

use super::nt;
use crate::sys::types::FileSystem;

/// Describes the file system that a folder is on (`GetVolumeInformationByHandleW`, `NtQueryVolumeInformationFile`).
pub(super) fn file_system(folder: BorrowedHandle<'_>) -> FileSystem {
    let name = name(folder).unwrap_or_else(|| "unknown".to_owned());
    // SAFETY: `query_volume` requires the class's type: it is the class's structure, which has numbers only.
    let device = unsafe { nt::query_volume::<FILE_FS_DEVICE_INFORMATION>(folder, FileFsDeviceInformation) };
    // Treated as the more doubtful kind where it is unknown.
    let shared = device.map_or(true, |device| device.Characteristics & FILE_REMOTE_DEVICE != 0);
    FileSystem { name: name.into(), shared, emulates_flock: false }
}

/// Returns the file system's name in lower case, such as `ntfs` (`GetVolumeInformationByHandleW`).
pub(super) fn name(folder: BorrowedHandle<'_>) -> Option<String> {
    let mut name = [0_u16; 64];
    // SAFETY: GetVolumeInformationByHandleW requires an open handle and buffers of the given sizes. What is not wanted may
    // be null.
    let done = unsafe {
        GetVolumeInformationByHandleW(
            folder.as_raw_handle(),
            ptr::null_mut(),
            0,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            name.as_mut_ptr(),
            name.len() as u32,
        )
    };
    let length = name.iter().position(|unit| *unit == 0).filter(|length| done != 0 && *length > 0)?;
    Some(String::from_utf16_lossy(&name[..length]).to_ascii_lowercase())
}
