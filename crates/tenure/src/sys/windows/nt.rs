//! The calls that open a file relative to a folder's handle, and the errors that they return.
//!
//! The Win32 functions take paths only. `NtCreateFile` takes a folder's handle and a name in it, so a folder that is
//! renamed or replaced meanwhile changes nothing.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::time::Duration;

use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::{
    FILE_OPEN_FOR_BACKUP_INTENT, FILE_OPEN_REPARSE_POINT, FILE_SYNCHRONOUS_IO_NONALERT, NtCreateFile,
    NtQueryInformationFile, NtQueryVolumeInformationFile, NtSetInformationFile,
};
use windows_sys::Win32::Foundation::{
    ERROR_LOCK_VIOLATION, ERROR_SHARING_VIOLATION, HANDLE, NTSTATUS, OBJ_CASE_INSENSITIVE, RtlNtStatusToDosError,
    STATUS_DELETE_PENDING, STATUS_INVALID_INFO_CLASS, STATUS_INVALID_PARAMETER, STATUS_NOT_IMPLEMENTED,
    STATUS_NOT_SUPPORTED, UNICODE_STRING,
};
use windows_sys::Win32::Storage::FileSystem::{FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE};
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;

/// Lets other programs read, write, rename and delete the file while it is open.
pub(super) const SHARE_ALL: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

/// The maximum number of retries of a call that a short operation of another process blocks.
const MAX_RETRIES: u32 = 1000;

/// How a file is opened.
#[derive(Clone, Copy)]
pub(super) struct Open {
    /// The rights (`FILE_GENERIC_READ`, `DELETE`, ..). `SYNCHRONIZE` is among them, unless the handle is asynchronous.
    pub(super) access: u32,
    pub(super) share: u32,
    /// `FILE_OPEN` or `FILE_CREATE`.
    pub(super) disposition: u32,
    /// Further options, such as `FILE_DIRECTORY_FILE`.
    pub(super) options: u32,
    /// The attributes of a new file.
    pub(super) attributes: u32,
    pub(super) asynchronous: bool,
}

/// The status of a call that failed, which says more than the error that Win32 makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) NTSTATUS);

impl Status {
    /// Converts what a call returned.
    pub(super) fn check(status: NTSTATUS) -> Result<(), Status> {
        if status >= 0 { Ok(()) } else { Err(Status(status)) }
    }

    /// Returns whether the file was deleted, and keeps its name until the last program closes it.
    pub(super) fn is_delete_pending(self) -> bool {
        self.0 == STATUS_DELETE_PENDING
    }

    /// Returns whether the file system, or this version of Windows, does not know the request.
    pub(super) fn is_unknown_request(self) -> bool {
        matches!(
            self.0,
            STATUS_INVALID_INFO_CLASS | STATUS_INVALID_PARAMETER | STATUS_NOT_IMPLEMENTED | STATUS_NOT_SUPPORTED
        )
    }
}

impl From<Status> for io::Error {
    fn from(status: Status) -> io::Error {
        if status.is_delete_pending() {
            return io::Error::new(io::ErrorKind::NotFound, "the file was deleted; another program has it open still");
        }
        // SAFETY: RtlNtStatusToDosError has no precondition.
        let code = unsafe { RtlNtStatusToDosError(status.0) };
        // The standard library has no kind for these.
        if matches!(status.0, STATUS_NOT_SUPPORTED | STATUS_NOT_IMPLEMENTED | STATUS_INVALID_INFO_CLASS) {
            return io::Error::new(io::ErrorKind::Unsupported, io::Error::from_raw_os_error(code.cast_signed()));
        }
        io::Error::from_raw_os_error(code.cast_signed())
    }
}

/// Returns whether the error is the one for a file that another program has open without sharing it.
pub(super) fn is_sharing_violation(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ERROR_SHARING_VIOLATION.cast_signed())
}

/// Returns whether the error is the one for a byte that another handle has locked.
pub(super) fn is_lock_violation(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ERROR_LOCK_VIOLATION.cast_signed())
}

/// Opens the file of this name in a folder, not a link's target (`NtCreateFile`). Without a name, it opens the file of
/// `at` again. Children do not inherit the handle.
pub(super) fn open(at: BorrowedHandle<'_>, name: &[u16], how: Open) -> Result<OwnedHandle, Status> {
    let bytes = u16::try_from(name.len() * 2).map_err(|_| Status(STATUS_INVALID_PARAMETER))?;
    let name = UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: name.as_ptr().cast_mut() };
    let attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: at.as_raw_handle(),
        ObjectName: &raw const name,
        Attributes: OBJ_CASE_INSENSITIVE,
        SecurityDescriptor: ptr::null(),
        SecurityQualityOfService: ptr::null(),
    };
    let synchronous = if how.asynchronous { 0 } else { FILE_SYNCHRONOUS_IO_NONALERT };
    let options = how.options | synchronous | FILE_OPEN_REPARSE_POINT | FILE_OPEN_FOR_BACKUP_INTENT;
    let mut handle: HANDLE = ptr::null_mut();
    let mut answer = IO_STATUS_BLOCK::default();
    // SAFETY: NtCreateFile requires pointers to attributes, to a handle and to a status block that outlive the call: all
    // are on this stack. The name's buffer is only read. A null buffer of extended attributes has the length 0.
    let status = unsafe {
        NtCreateFile(
            &raw mut handle,
            how.access,
            &raw const attributes,
            &raw mut answer,
            ptr::null(),
            how.attributes,
            how.share,
            how.disposition,
            options,
            ptr::null(),
            0,
        )
    };
    Status::check(status)?;
    // SAFETY: `from_raw_handle` requires a handle that nothing else closes: the successful call has just made it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Opens the file of `handle` again, with other rights (`NtCreateFile`).
pub(super) fn reopen(handle: BorrowedHandle<'_>, how: Open) -> Result<OwnedHandle, Status> {
    open(handle, &[], how)
}

/// Repeats `call` while a short operation of another process blocks it, for a second at most: a program that checks
/// whether the file is open for writing denies that for a moment ([`super::share`]).
pub(super) fn retry<T>(mut call: impl FnMut() -> Result<T, Status>, passes: fn(Status) -> bool) -> Result<T, Status> {
    let mut tried = 0;
    loop {
        match call() {
            Err(status) if tried < MAX_RETRIES && passes(status) => {
                tried += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

/// Changes a file by its handle (`NtSetInformationFile`).
///
/// # Safety
///
/// `size` bytes at `information` must be what the class requires.
pub(super) unsafe fn set(
    handle: BorrowedHandle<'_>,
    class: i32,
    information: *const c_void,
    size: usize,
) -> Result<(), Status> {
    let mut answer = IO_STATUS_BLOCK::default();
    // SAFETY: NtSetInformationFile requires an open handle, which is borrowed, a status block that outlives the call, and
    // the bytes that the caller promises. The handle is synchronous, so the call is over when it returns.
    let status =
        unsafe { NtSetInformationFile(handle.as_raw_handle(), &raw mut answer, information, size as u32, class) };
    Status::check(status)
}

/// Asks about a file by its handle (`NtQueryInformationFile`).
///
/// # Safety
///
/// `T` must be the class's type, and valid for any bytes that the system writes there.
pub(super) unsafe fn query<T: Default>(handle: BorrowedHandle<'_>, class: i32) -> Result<T, Status> {
    // SAFETY: `ask` requires what the caller promises.
    unsafe { ask(NtQueryInformationFile, handle, class) }
}

/// Asks about the volume of a file (`NtQueryVolumeInformationFile`).
///
/// # Safety
///
/// As for [`query`].
pub(super) unsafe fn query_volume<T: Default>(handle: BorrowedHandle<'_>, class: i32) -> Result<T, Status> {
    // SAFETY: `ask` requires what the caller promises.
    unsafe { ask(NtQueryVolumeInformationFile, handle, class) }
}

/// A call that writes what it knows of a handle to a buffer of the given size, in the form of the class.
type Query = unsafe extern "system" fn(HANDLE, *mut IO_STATUS_BLOCK, *mut c_void, u32, i32) -> NTSTATUS;

/// # Safety
///
/// `T` must be the type of the call's class, and valid for any bytes that the system writes there.
unsafe fn ask<T: Default>(call: Query, handle: BorrowedHandle<'_>, class: i32) -> Result<T, Status> {
    let mut answer = IO_STATUS_BLOCK::default();
    let mut found = T::default();
    let size = size_of::<T>() as u32;
    // SAFETY: a `Query` requires an open handle, which is borrowed, and a buffer of the given size and a status block that
    // outlive the call: both are on this stack.
    let status = unsafe { call(handle.as_raw_handle(), &raw mut answer, (&raw mut found).cast(), size, class) };
    Status::check(status).map(|()| found)
}
