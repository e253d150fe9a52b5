//! Folders, by their handles.
//!
//! Every call is relative to a folder's handle and never follows a link at the last component. Children inherit no
//! handle.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::mem::offset_of;
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, OwnedHandle};
use std::path::Path;
use std::sync::Arc;

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_CREATE, FILE_DIRECTORY_FILE, FILE_OPEN, FileCaseSensitiveInformation, FileFsFullSizeInformation,
};
use windows_sys::Wdk::System::SystemServices::FILE_FS_FULL_SIZE_INFORMATION;
use windows_sys::Win32::Foundation::{
    ERROR_NO_MORE_FILES, STATUS_NO_SUCH_FILE, STATUS_OBJECT_NAME_COLLISION, STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_PATH_NOT_FOUND, STATUS_SHARING_VIOLATION,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ADD_FILE, FILE_APPEND_DATA, FILE_ATTRIBUTE_HIDDEN, FILE_ATTRIBUTE_NORMAL, FILE_CASE_SENSITIVE_INFO,
    FILE_FLAG_BACKUP_SEMANTICS, FILE_GENERIC_READ, FILE_GENERIC_WRITE, FILE_ID_BOTH_DIR_INFO, FILE_LIST_DIRECTORY,
    FILE_READ_ATTRIBUTES, FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_TRAVERSE, FileIdBothDirectoryInfo,
    GetFileInformationByHandleEx, SYNCHRONIZE,
};

use super::file::{File, Keeper};
use super::file_system::file_system;
use super::ident::{Volume, kind, stat};
use super::name::{Name, folded};
use super::nt::{self, Open, SHARE_ALL, Status};
use super::range_lock::Range;
use super::remove::{self, OPEN_TO_REMOVE};
use super::rename::rename;
use crate::sys::types::{Access, FileId, FileIdent, FileKind, FileSystem, Stat};

/// The rights by which a file is described.
pub(super) const FOR_ATTRIBUTES: u32 = FILE_READ_ATTRIBUTES | SYNCHRONIZE;

/// An open folder.
#[derive(Debug)]
pub(crate) struct Dir {
    handle: Arc<OwnedHandle>,
    volume: Volume,
    ignores_case: bool,
}

impl Dir {
    /// Opens a folder, following links (`CreateFileW`): its owner may have moved it.
    pub(crate) fn open(path: &Path) -> io::Result<Dir> {
        let open = |access: u32| {
            OpenOptions::new()
                .access_mode(access | FILE_TRAVERSE | FILE_READ_ATTRIBUTES | SYNCHRONIZE)
                .share_mode(SHARE_ALL)
                .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
                .open(path)
        };
        let opened = match open(FILE_LIST_DIRECTORY) {
            // A folder that may be passed through but not listed serves as well.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open(0)?,
            other => other?,
        };
        let dir = Dir::of_handle(opened.into());
        if dir.stat()?.kind == FileKind::Regular {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(dir)
    }

    fn of_handle(handle: OwnedHandle) -> Dir {
        // Windows 10 can mark a folder so that `a` and `A` are two files in it. An older version rejects the query.
        // SAFETY: `query` requires the class's type: it is the class's structure, with one number.
        let found = unsafe { nt::query::<FILE_CASE_SENSITIVE_INFO>(handle.as_handle(), FileCaseSensitiveInformation) };
        Dir {
            volume: Volume::of(handle.as_handle()),
            handle: Arc::new(handle),
            ignores_case: !found.is_ok_and(|found| found.Flags & 1 != 0),
        }
    }

    /// Creates a folder and its missing parents (`CreateDirectoryW`).
    pub(crate) fn create_all(path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    /// Opens a folder in this one (`NtCreateFile`). Refuses a link.
    pub(crate) fn open_dir(&self, name: &Name) -> io::Result<Dir> {
        let access = FILE_LIST_DIRECTORY | FILE_TRAVERSE | FILE_READ_ATTRIBUTES | SYNCHRONIZE;
        let handle = self.open_with(name, Open { options: FILE_DIRECTORY_FILE, ..open(access) })?;
        if stat(handle.as_handle(), self.volume)?.kind != FileKind::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Dir::of_handle(handle))
    }

    /// Describes this folder (`NtQueryInformationFile`).
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        stat(self.handle(), self.volume)
    }

    /// Describes the file of that name, not a link's target (`NtCreateFile`, `NtQueryInformationFile`). `None` where
    /// there is none.
    pub(crate) fn stat_at(&self, name: &Name) -> io::Result<Option<Stat>> {
        // A handle for attributes alone disturbs no program's sharing.
        match self.open_with(name, open(FOR_ATTRIBUTES)) {
            Ok(handle) => stat(handle.as_handle(), self.volume).map(Some),
            Err(status) if is_not_found(status) => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// Identifies the file of that name, not a link's target.
    pub(crate) fn ident_at(&self, name: &Name) -> io::Result<Option<FileIdent>> {
        Ok(self.stat_at(name)?.map(|stat| stat.ident()))
    }

    /// Identifies the volume that this folder is on.
    pub(crate) fn mount(&self) -> io::Result<u64> {
        Ok(self.volume.serial)
    }

    /// Returns whether this user may make files here, by opening the folder for that (`NtCreateFile`).
    pub(crate) fn may_write(&self) -> bool {
        let access = FILE_ADD_FILE | FILE_TRAVERSE | SYNCHRONIZE;
        nt::reopen(self.handle(), Open { options: FILE_DIRECTORY_FILE, ..open(access) }).is_ok()
    }

    /// Describes the file system that this folder is on.
    pub(crate) fn file_system(&self) -> FileSystem {
        file_system(self.handle())
    }

    /// Returns the number of bytes that this user may still write on this volume (`NtQueryVolumeInformationFile`).
    pub(crate) fn free(&self) -> Option<u64> {
        // SAFETY: `query_volume` requires the class's type: it is the class's structure, which has numbers only.
        let found =
            unsafe { nt::query_volume::<FILE_FS_FULL_SIZE_INFORMATION>(self.handle(), FileFsFullSizeInformation) };
        let found = found.ok()?;
        let units = u64::try_from(found.CallerAvailableAllocationUnits).ok()?;
        units.checked_mul(u64::from(found.SectorsPerAllocationUnit))?.checked_mul(u64::from(found.BytesPerSector))
    }

    /// Returns what is equal for two names exactly if they are one file's in this folder (`RtlUpcaseUnicodeChar`).
    pub(crate) fn name_key<'a>(&self, name: &'a OsStr) -> Cow<'a, OsStr> {
        match self.ignores_case {
            true => Cow::Owned(OsString::from_wide(&folded(name.encode_wide()))),
            false => Cow::Borrowed(name),
        }
    }

    /// Opens a file that exists (`NtCreateFile`).
    ///
    /// While another process looks whether the file is open for writing ([`File::read_lease`]), the kernel refuses to open
    /// it for that. The call retries for a second at most.
    pub(crate) fn open_at(&self, name: &Name, access: Access) -> io::Result<File> {
        self.open_file(name, access, Range::FAR)
    }

    /// Opens the target, whose kernel lock is the one that the standard library's `File::lock` takes (`NtCreateFile`).
    pub(crate) fn open_target(&self, name: &Name, access: Access) -> io::Result<File> {
        let file = self.open_file(name, access, Range::WHOLE)?;
        match file.stat()?.kind {
            FileKind::Directory => Err(io::Error::new(io::ErrorKind::Unsupported, "Windows cannot lock a folder")),
            _ => Ok(file),
        }
    }

    fn open_file(&self, name: &Name, access: Access, range: Range) -> io::Result<File> {
        let access = match access {
            Access::Read => FILE_GENERIC_READ,
            Access::ReadWrite => FILE_GENERIC_READ | FILE_GENERIC_WRITE,
        };
        let opened = nt::retry(|| self.open_with(name, open(access)), |status| status.0 == STATUS_SHARING_VIOLATION)?;
        Ok(File::new(opened, Arc::clone(&self.handle), name.as_wide(), self.volume, range))
    }

    /// Opens a file that exists, so that [`File::append`] writes at its end, whatever others write (`NtCreateFile`,
    /// `FILE_APPEND_DATA`).
    pub(crate) fn open_to_append(&self, name: &Name) -> io::Result<File> {
        let access = FILE_GENERIC_READ | FILE_APPEND_DATA;
        let opened = nt::retry(|| self.open_with(name, open(access)), |status| status.0 == STATUS_SHARING_VIOLATION)?;
        Ok(File::new(opened, Arc::clone(&self.handle), name.as_wide(), self.volume, Range::FAR))
    }

    /// Creates a file that must not exist yet (`NtCreateFile`, `FILE_CREATE`).
    pub(crate) fn create_new(&self, name: &Name, _mode: u32) -> io::Result<File> {
        let how = Open {
            disposition: FILE_CREATE,
            attributes: FILE_ATTRIBUTE_NORMAL,
            ..open(FILE_GENERIC_READ | FILE_GENERIC_WRITE)
        };
        let made = nt::retry(|| self.open_with(name, how), Status::is_delete_pending).map_err(taken)?;
        Ok(File::new(made, Arc::clone(&self.handle), name.as_wide(), self.volume, Range::FAR))
    }

    /// Fails as unsupported: the lock file is a file of its own, which its holder keeps open so that no program can remove
    /// it. The name of a file that has another name, at which it is locked, could be removed.
    pub(crate) fn link(&self, _from: &Name, _to: &Name) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a lock file on Windows is no hard link"))
    }

    /// Fails as unsupported, as [`link`](Dir::link) does.
    pub(crate) fn link_open(&self, _file: &File, _to: &Name) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes a name (`NtSetInformationFile`). Retries for a second while a program has the file open without letting
    /// others delete it.
    pub(crate) fn unlink(&self, name: &Name) -> io::Result<()> {
        let removed = nt::retry(
            || {
                let file = self.open_with(name, OPEN_TO_REMOVE)?;
                remove::remove(file.as_handle(), self.handle())
            },
            |status| status.0 == STATUS_SHARING_VIOLATION,
        );
        Ok(removed?)
    }

    /// Removes a name in one step, if it is the file's (`NtSetInformationFile`). Returns `false` where the name is another
    /// file's, or missing.
    ///
    /// The compared file itself is removed, by its handle, whatever file has the name by then. A name that
    /// this process [keeps](Dir::keep_name) is given up first; then a program that has the file open without letting others
    /// delete it has a second to close it.
    ///
    /// # Errors
    ///
    /// [`means_in_use`](super::means_in_use) where a program has the file open in that way.
    pub(crate) fn unlink_same(&self, name: &Name, file: &File) -> io::Result<bool> {
        unlink_same(self.handle(), self.volume, name.as_wide(), file.stat()?.id, file.keeper())
    }

    /// Opens a file once more, so that no program can remove or rename it while `file` is open
    /// (`NtCreateFile`, without `FILE_SHARE_DELETE`). It does not ask for the right to delete, which would shut out programs
    /// that share a file for reading and writing only, as Python and C do.
    ///
    /// # Errors
    ///
    /// `NotFound` where the name is not the file's any more.
    pub(crate) fn keep_name(&self, name: &Name, file: &File) -> io::Result<()> {
        let how = Open { share: FILE_SHARE_READ | FILE_SHARE_WRITE, ..open(FILE_GENERIC_READ) };
        let kept = match self.open_with(name, how) {
            Err(status) if is_not_found(status) => return Err(io::ErrorKind::NotFound.into()),
            other => other?,
        };
        if stat(kept.as_handle(), self.volume)?.id != file.stat()?.id {
            return Err(io::ErrorKind::NotFound.into());
        }
        file.keeper().set(kept);
        Ok(())
    }

    /// Fails as unsupported: Windows cannot swap two names.
    pub(crate) fn exchange(&self, _one: &Name, _other: &Name) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "Windows cannot swap two names in one step"))
    }

    /// Renames a file to a name that must be free (`NtSetInformationFile`).
    pub(crate) fn rename_new(&self, from: &Name, to: &Name) -> io::Result<()> {
        self.rename(from, to, false)
    }

    /// Renames a file, replacing the file of the new name, which no program may have open (`NtSetInformationFile`).
    pub(crate) fn rename_over(&self, from: &Name, to: &Name) -> io::Result<()> {
        self.rename(from, to, true)
    }

    fn rename(&self, from: &Name, to: &Name, replace: bool) -> io::Result<()> {
        let renamed = nt::retry(
            || {
                let file = self.open_with(from, OPEN_TO_REMOVE)?;
                rename(file.as_handle(), self.handle(), to.as_wide(), replace)
            },
            |status| status.0 == STATUS_SHARING_VIOLATION || status.is_delete_pending(),
        );
        renamed.map_err(taken)
    }

    /// Creates a folder (`NtCreateFile`). As on Unix, it is hidden if its name begins with a dot.
    pub(crate) fn make_dir(&self, name: &Name, _mode: u32) -> io::Result<()> {
        let hidden = name.last().first() == Some(&u16::from(b'.'));
        let how = Open {
            disposition: FILE_CREATE,
            options: FILE_DIRECTORY_FILE,
            attributes: if hidden { FILE_ATTRIBUTE_HIDDEN } else { FILE_ATTRIBUTE_NORMAL },
            ..open(FILE_LIST_DIRECTORY | SYNCHRONIZE)
        };
        self.open_with(name, how).map(drop).map_err(taken)
    }

    /// Removes an empty folder (`NtSetInformationFile`).
    pub(crate) fn remove_dir(&self, name: &Name) -> io::Result<()> {
        let folder = self.open_with(name, Open { options: FILE_DIRECTORY_FILE, ..OPEN_TO_REMOVE })?;
        Ok(remove::remove_dir(folder.as_handle())?)
    }

    /// Does nothing: a new folder inherits the access list of its parent.
    pub(crate) fn take_rights_of(&self, _parent: &Dir) -> io::Result<()> {
        Ok(())
    }

    /// Lists the names in this folder, in no order, each with its kind (`GetFileInformationByHandleEx`).
    pub(crate) fn entries(&self) -> io::Result<Vec<(Name, FileKind)>> {
        // Opened again, because the handle counts how far it was listed.
        let access = FILE_LIST_DIRECTORY | SYNCHRONIZE;
        let listed = nt::reopen(self.handle(), Open { options: FILE_DIRECTORY_FILE, ..open(access) })?;
        let mut found = Vec::new();
        // Words, so that the structures in it are aligned.
        let mut buffer = vec![0_u64; 8 * 1024];
        loop {
            let bytes = size_of_val(buffer.as_slice()) as u32;
            // SAFETY: GetFileInformationByHandleEx requires an open handle and a buffer of the given size.
            let done = unsafe {
                GetFileInformationByHandleEx(
                    listed.as_raw_handle(),
                    FileIdBothDirectoryInfo,
                    buffer.as_mut_ptr().cast(),
                    bytes,
                )
            };
            if done == 0 {
                let error = io::Error::last_os_error();
                return match error.raw_os_error() {
                    Some(code) if code == ERROR_NO_MORE_FILES.cast_signed() => Ok(found),
                    _ => Err(error),
                };
            }
            read_entries(&buffer, &mut found);
        }
    }

    fn open_with(&self, name: &Name, how: Open) -> Result<OwnedHandle, Status> {
        nt::open(self.handle(), name.as_wide(), how)
    }

    pub(super) fn handle(&self) -> BorrowedHandle<'_> {
        self.handle.as_handle()
    }

    pub(super) fn volume(&self) -> Volume {
        self.volume
    }

    /// Returns the handle for an owner that may outlive this [`Dir`].
    pub(super) fn shared_handle(&self) -> Arc<OwnedHandle> {
        Arc::clone(&self.handle)
    }
}

/// Removes a name, if it is that of the file with this number: [`Dir::unlink_same`].
pub(super) fn unlink_same(
    folder: BorrowedHandle<'_>,
    volume: Volume,
    name: &[u16],
    id: FileId,
    keeper: &Keeper,
) -> io::Result<bool> {
    let kept = keeper.close();
    let attempt = || {
        let found = match nt::open(folder, name, OPEN_TO_REMOVE) {
            Err(status) if is_not_found(status) => return Ok(false),
            other => other?,
        };
        // A file that cannot be compared counts as another file.
        if !stat(found.as_handle(), volume).is_ok_and(|found| found.id == id) {
            return Ok(false);
        }
        remove::remove(found.as_handle(), folder).map(|()| true)
    };
    let in_use = |status: Status| status.0 == STATUS_SHARING_VIOLATION;
    Ok(if kept { nt::retry(attempt, in_use) } else { attempt() }?)
}

/// Returns the way to open an existing file with these rights.
pub(super) fn open(access: u32) -> Open {
    Open { access, share: SHARE_ALL, disposition: FILE_OPEN, options: 0, attributes: 0, asynchronous: false }
}

pub(super) fn is_not_found(status: Status) -> bool {
    matches!(status.0, STATUS_OBJECT_NAME_NOT_FOUND | STATUS_OBJECT_PATH_NOT_FOUND | STATUS_NO_SUCH_FILE)
        || status.is_delete_pending()
}

/// Returns the error of a new name that is not free. A deleted file that another program has open still keeps its name.
fn taken(status: Status) -> io::Error {
    match status {
        Status(STATUS_OBJECT_NAME_COLLISION) => io::ErrorKind::AlreadyExists.into(),
        status if status.is_delete_pending() => io::ErrorKind::AlreadyExists.into(),
        status => status.into(),
    }
}

/// Reads what one call has listed.
fn read_entries(buffer: &[u64], found: &mut Vec<(Name, FileKind)>) {
    let head = offset_of!(FILE_ID_BOTH_DIR_INFO, FileName);
    let mut at = 0;
    loop {
        let entry = buffer.as_ptr().cast::<u8>().wrapping_add(at).cast::<FILE_ID_BOTH_DIR_INFO>();
        // SAFETY: reading through `entry` requires a complete entry in the buffer, followed by its name: the system has
        // written entries, each with the aligned offset of the next, and the last one has the offset 0.
        let (next, attributes, name) = unsafe {
            let length = (*entry).FileNameLength as usize / 2;
            let name = std::slice::from_raw_parts(entry.cast::<u8>().add(head).cast::<u16>(), length);
            ((*entry).NextEntryOffset as usize, (*entry).FileAttributes, OsString::from_wide(name))
        };
        // A name that Win32 gives another meaning is no file of this library's.
        if name != "."
            && name != ".."
            && let Ok(name) = Name::new(&name)
        {
            found.push((name, kind(attributes)));
        }
        if next == 0 {
            return;
        }
        at += next;
    }
}

/// Returns whether the error is that of a file system without hard links. Windows does not use any.
pub(crate) fn means_no_links(_code: i32) -> bool {
    false
}
