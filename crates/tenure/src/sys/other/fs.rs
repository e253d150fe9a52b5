//! Files and folders on systems without a port: none can be opened, so no lock can be held.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use crate::sys::lock_table::{LockTable, TableDevice};
use crate::sys::no_interrupts::InterruptHandle;
use crate::sys::types::{
    Access, FileId, FileIdent, FileKind, FileSystem, LeaseOutcome, LockFileKind, LockKind, ReplaceSteps, Stat,
    TakeoverSteps,
};

/// A file's name, relative to a [`Dir`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(OsString);

impl Name {
    pub(crate) fn new(name: &OsStr) -> io::Result<Name> {
        Ok(Name(name.to_owned()))
    }

    pub(crate) fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

/// The longest file name of the common file systems.
pub(crate) const NAME_MAX: usize = 255;

/// Returns the length of a name in the unit of [`NAME_MAX`].
pub(crate) fn name_len(name: &OsStr) -> usize {
    name.len()
}

/// Returns `None`: it is never asked, because no folder can be opened.
pub(crate) fn special_name(_name: &OsStr) -> Option<String> {
    None
}

/// Returns whether the path ends in a separator, `.` or `..`, as no file's path does.
pub(crate) fn ends_without_name(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let last = text.rsplit(std::path::is_separator).next().unwrap_or_default();
    matches!(last, "" | "." | "..")
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "Tenure has no port to this platform yet"))
}

/// An open folder. None can be opened.
#[derive(Debug)]
pub(crate) enum Dir {}

impl Dir {
    pub(crate) fn open(_path: &Path) -> io::Result<Dir> {
        unsupported()
    }

    pub(crate) fn create_all(_path: &Path) -> io::Result<()> {
        unsupported()
    }

    pub(crate) fn open_dir(&self, _name: &Name) -> io::Result<Dir> {
        match *self {}
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        match *self {}
    }

    pub(crate) fn stat_at(&self, _name: &Name) -> io::Result<Option<Stat>> {
        match *self {}
    }

    pub(crate) fn ident_at(&self, _name: &Name) -> io::Result<Option<FileIdent>> {
        match *self {}
    }

    pub(crate) fn mount(&self) -> io::Result<u64> {
        match *self {}
    }

    pub(crate) fn may_write(&self) -> bool {
        match *self {}
    }

    pub(crate) fn file_system(&self) -> FileSystem {
        match *self {}
    }

    pub(crate) fn free(&self) -> Option<u64> {
        match *self {}
    }

    pub(crate) fn open_at(&self, _name: &Name, _access: Access) -> io::Result<File> {
        match *self {}
    }

    pub(crate) fn open_target(&self, _name: &Name, _access: Access) -> io::Result<File> {
        match *self {}
    }

    pub(crate) fn name_key<'a>(&self, _name: &'a OsStr) -> std::borrow::Cow<'a, OsStr> {
        match *self {}
    }

    pub(crate) fn create_new(&self, _name: &Name, _mode: u32) -> io::Result<File> {
        match *self {}
    }

    pub(crate) fn open_to_append(&self, _name: &Name) -> io::Result<File> {
        match *self {}
    }

    pub(crate) fn link(&self, _from: &Name, _to: &Name) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn link_open(&self, _file: &File, _to: &Name) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn unlink(&self, _name: &Name) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn unlink_same(&self, _name: &Name, _file: &File) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn keep_name(&self, _name: &Name, _file: &File) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn exchange(&self, _one: &Name, _other: &Name) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn rename_new(&self, _from: &Name, _to: &Name) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn rename_over(&self, _from: &Name, _to: &Name) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn take_rights_of(&self, _parent: &Dir) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn make_dir(&self, _name: &Name, _mode: u32) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn remove_dir(&self, _name: &Name) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn entries(&self) -> io::Result<Vec<(Name, FileKind)>> {
        match *self {}
    }
}

/// An open file. None can be opened.
#[derive(Debug)]
pub(crate) enum File {}

impl File {
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        match *self {}
    }

    pub(crate) fn ident(&self) -> io::Result<FileIdent> {
        match *self {}
    }

    pub(crate) fn links(&self) -> io::Result<u64> {
        match *self {}
    }

    pub(crate) fn chmod(&self, _mode: u32) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn try_lock(&self, _kind: LockKind) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn lock(&self, _kind: LockKind, _interrupt: Option<&InterruptHandle>) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn mark_waiting(&self) {}

    pub(crate) fn unmark(&self) {}

    pub(crate) fn has_waiters(&self) -> bool {
        false
    }

    pub(crate) fn mark_numbered(&self, _number: u64) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn is_numbered_marked(&self, _number: u64) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn unlock(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn read(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn read_part(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn append(&self, _bytes: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn read_lease(&self) -> LeaseOutcome {
        match *self {}
    }

    pub(crate) fn write_lease(&self) -> LeaseOutcome {
        match *self {}
    }

    pub(crate) fn duplicate(&self) -> io::Result<Inherited> {
        match *self {}
    }
}

/// A second descriptor of a locked file. None can be made.
#[derive(Debug)]
pub(crate) enum Inherited {}

pub(crate) fn inherit_always(fd: &Inherited) -> io::Result<()> {
    match *fd {}
}

pub(crate) fn inherit(_command: &mut std::process::Command, fd: Inherited) {
    match fd {}
}

/// Returns 0: there is no such number.
pub(crate) fn effective_user() -> u32 {
    0
}

/// Returns 0: no file is kept open.
pub(crate) fn open_file_limit() -> usize {
    0
}

/// Returns `None`: the table cannot be read.
pub(crate) fn lock_table() -> Option<LockTable> {
    None
}

pub(crate) fn table_device(dir: &Dir, _file_system: &FileSystem, _device: u64) -> TableDevice {
    match *dir {}
}

pub(crate) fn means_no_links(_code: i32) -> bool {
    false
}

/// Returns steps that nothing takes: no folder can be opened.
pub(crate) const fn takeover_steps() -> TakeoverSteps {
    TakeoverSteps::Exchange
}

pub(crate) const fn lock_file_kind() -> LockFileKind {
    LockFileKind::Link
}

pub(crate) const fn replace_steps() -> ReplaceSteps {
    ReplaceSteps::One
}

pub(crate) const fn keeps_names() -> bool {
    false
}

pub(crate) const fn means_in_use(_error: &io::Error) -> bool {
    false
}

/// A visible lock file's entry in the table of those that a signal removes. None can be made.
pub(crate) enum HeldCell {}

impl HeldCell {
    pub(crate) fn leave(&self) {
        match *self {}
    }

    pub(crate) fn set_state_offset(&self, _offset: u64) {
        match *self {}
    }
}

pub(crate) fn enter_held(
    dir: &Dir,
    _name: &Name,
    _id: FileId,
    _lock_file: &File,
    _anchor: &File,
    _mark: &'static [u8],
    _offset: u64,
) -> Option<HeldCell> {
    match *dir {}
}
