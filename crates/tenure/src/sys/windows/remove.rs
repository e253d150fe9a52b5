//! Removing a file by its handle, so that the examined file is removed, whatever file has its name by now.

use std::os::windows::io::BorrowedHandle;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use windows_sys::Wdk::Storage::FileSystem::{FILE_OPEN, FileDispositionInformation, FileDispositionInformationEx};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_DISPOSITION_FLAG_DELETE, FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE,
    FILE_DISPOSITION_FLAG_POSIX_SEMANTICS, FILE_DISPOSITION_INFO, FILE_DISPOSITION_INFO_EX, FILE_READ_ATTRIBUTES,
    SYNCHRONIZE,
};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};

use super::nt::{self, Open, SHARE_ALL, Status};
use super::rename::rename;

/// The way to open a file that is then removed or renamed.
pub(super) const OPEN_TO_REMOVE: Open = Open {
    access: DELETE | SYNCHRONIZE | FILE_READ_ATTRIBUTES,
    share: SHARE_ALL,
    disposition: FILE_OPEN,
    options: 0,
    attributes: 0,
    asynchronous: false,
};

/// Removes the file, which was [opened to be removed](OPEN_TO_REMOVE), so that its name is free at once
/// (`NtSetInformationFile`, `FileDispositionInformationEx` with POSIX semantics).
///
/// Where the file system or the version of Windows lacks that, a deleted file keeps its name until the last program has
/// closed it. So it is first moved to a name in `folder` that no program looks for, `.tenure`'s where that exists. Wine
/// keeps the name of a file of which a byte is locked, as of every lock file, and reports success.
pub(super) fn remove(file: BorrowedHandle<'_>, folder: BorrowedHandle<'_>) -> Result<(), Status> {
    if !is_wine() {
        match dispose_at_once(file) {
            Err(status) if status.is_unknown_request() => {}
            other => return other,
        }
    }
    let unused = unused_name();
    let in_anchors: Vec<u16> = ".tenure\\".encode_utf16().chain(unused.iter().copied()).collect();
    rename(file, folder, &in_anchors, false).or_else(|_| rename(file, folder, &unused, false))?;
    dispose(file)
}

/// Removes an empty folder (`NtSetInformationFile`).
pub(super) fn remove_dir(folder: BorrowedHandle<'_>) -> Result<(), Status> {
    dispose(folder)
}

fn dispose(file: BorrowedHandle<'_>) -> Result<(), Status> {
    match dispose_at_once(file) {
        Err(status) if status.is_unknown_request() => dispose_at_last_close(file),
        other => other,
    }
}

fn dispose_at_once(file: BorrowedHandle<'_>) -> Result<(), Status> {
    let flags = FILE_DISPOSITION_FLAG_DELETE
        | FILE_DISPOSITION_FLAG_POSIX_SEMANTICS
        | FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE;
    let how = FILE_DISPOSITION_INFO_EX { Flags: flags };
    // SAFETY: `set` requires what the class takes: this is its structure.
    unsafe { nt::set(file, FileDispositionInformationEx, (&raw const how).cast(), size_of_val(&how)) }
}

fn dispose_at_last_close(file: BorrowedHandle<'_>) -> Result<(), Status> {
    let how = FILE_DISPOSITION_INFO { DeleteFile: true };
    // SAFETY: `set` requires what the class takes: this is its structure.
    unsafe { nt::set(file, FileDispositionInformation, (&raw const how).cast(), size_of_val(&how)) }
}

/// Returns whether this is wine (`GetProcAddress`), whose `ntdll` has a function for that question.
fn is_wine() -> bool {
    static IS_WINE: OnceLock<bool> = OnceLock::new();
    *IS_WINE.get_or_init(|| {
        let name: Vec<u16> = "ntdll.dll\0".encode_utf16().collect();
        // SAFETY: GetModuleHandleW and GetProcAddress require names that end in a zero. The DLL is in every process for its whole
        // life. The function is not called.
        unsafe { GetProcAddress(GetModuleHandleW(name.as_ptr()), c"wine_get_version".as_ptr().cast()) }.is_some()
    })
}

/// Returns a name that no file has: the process's pid, the clock, and a count.
fn unused_name() -> Vec<u16> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!(".tenure-{}-{now}-{count}.gone", std::process::id()).encode_utf16().collect()
}
