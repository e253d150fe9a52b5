//! Files and folders of the simulated kernel, with the interface of the library's `sys`.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::answer::{Answer, Bytes};
use super::call::Call;
use super::interrupt::InterruptHandle;
use super::state::{DEVICE, Errno, FOLDER, Face, IN_USE, Rename};
use super::world::{self, Until, perform, point};
use crate::sys::lock_table::{LockTable, TableDevice};
use crate::sys::types::{
    Access, FileId, FileIdent, FileKind, FileSystem, LeaseOutcome, LockFileKind, LockKind, ReplaceSteps, Stat,
    TakeoverSteps,
};

/// A file's path relative to a [`Dir`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(Vec<u8>);

impl Name {
    pub(crate) fn new(name: &OsStr) -> io::Result<Name> {
        match name.as_bytes() {
            bytes if bytes.contains(&0) => Err(io::ErrorKind::InvalidInput.into()),
            bytes => Ok(Name(bytes.to_vec())),
        }
    }

    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

pub(crate) const NAME_MAX: usize = 255;

pub(crate) fn name_len(name: &OsStr) -> usize {
    name.as_bytes().len()
}

pub(crate) fn ends_without_name(path: &Path) -> bool {
    let last = path.as_os_str().as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    matches!(last, b"" | b"." | b"..")
}

pub(crate) fn special_name(_name: &OsStr) -> Option<String> {
    None
}

fn system(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// Stops at a point, then makes the call.
fn call<T: Answer>(
    kind: Call,
    run: impl FnOnce(&mut world::World) -> Result<T, Errno>,
    what: impl FnOnce() -> String,
) -> io::Result<T> {
    point(kind).and_then(|()| perform(run, what)).map_err(system)
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Dir(usize);

impl Dir {
    fn inode_in(&self, world: &world::World) -> usize {
        world.kernel.inode_of(self.0)
    }

    fn inode(&self) -> usize {
        world::with(|world| self.inode_in(world))
    }

    /// Opens the folder of the target, which always exists.
    pub(crate) fn open(_path: &Path) -> io::Result<Dir> {
        Ok(world::with(|world| Dir(world.kernel.open_first_folder(world.process()))))
    }

    pub(crate) fn create_all(_path: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn open_dir(&self, name: &Name) -> io::Result<Dir> {
        let open = |world: &mut world::World| world.kernel.open_folder(world.process(), self.inode_in(world), &name.0);
        call(Call::OpenFolder, open, || format!("open folder {}", name.text())).map(Dir)
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        let folder = self.inode();
        if folder == FOLDER {
            return Ok(world::with(|world| world.kernel.stat(FOLDER)));
        }
        call(Call::Stat, |world| Ok(world.kernel.stat(folder)), || "stat of an open folder".to_owned())
    }

    pub(crate) fn stat_at(&self, name: &Name) -> io::Result<Option<Stat>> {
        let stat = |world: &mut world::World| world.kernel.stat_at(world.process(), self.inode_in(world), &name.0);
        call(Call::StatAt, stat, || format!("stat {}", name.text()))
    }

    pub(crate) fn ident_at(&self, name: &Name) -> io::Result<Option<FileIdent>> {
        Ok(self.stat_at(name)?.as_ref().map(Stat::ident))
    }

    pub(crate) fn mount(&self) -> io::Result<u64> {
        Ok(0)
    }

    pub(crate) fn may_write(&self) -> bool {
        true
    }

    pub(crate) fn file_system(&self) -> FileSystem {
        match world::with(|world| world.kernel.fs.shared) {
            true => FileSystem { name: "nfs".into(), shared: true, emulates_flock: true },
            false => FileSystem { name: "ext4".into(), shared: false, emulates_flock: false },
        }
    }

    pub(crate) fn free(&self) -> Option<u64> {
        None
    }

    /// Opens a file. Waits while a lease of another open file conflicts.
    pub(crate) fn open_at(&self, name: &Name, access: Access) -> io::Result<File> {
        point(Call::Open).map_err(system)?;
        loop {
            let open =
                |world: &mut world::World| world.kernel.open(world.process(), self.inode_in(world), &name.0, access);
            let opened = perform(open, || format!("open {} {access:?}", name.text()));
            let leased = || world::with(|world| world.kernel.is_leased(world.process(), self.inode_in(world), &name.0));
            match opened {
                Err(libc::EAGAIN) => match leased() {
                    Some(inode) => world::wait(Call::Open, Until::Unleased(inode)).map_err(system)?,
                    None => return Err(system(libc::EAGAIN)),
                },
                other => return other.map(File).map_err(system),
            }
        }
    }

    pub(crate) fn open_target(&self, name: &Name, access: Access) -> io::Result<File> {
        self.open_at(name, access)
    }

    pub(crate) fn name_key<'a>(&self, name: &'a OsStr) -> Cow<'a, OsStr> {
        Cow::Borrowed(name)
    }

    pub(crate) fn create_new(&self, name: &Name, mode: u32) -> io::Result<File> {
        let create =
            |world: &mut world::World| world.kernel.create(world.process(), self.inode_in(world), &name.0, mode);
        call(Call::Create, create, || format!("create {}", name.text())).map(File)
    }

    pub(crate) fn open_to_append(&self, name: &Name) -> io::Result<File> {
        self.open_at(name, Access::ReadWrite)
    }

    pub(crate) fn link(&self, from: &Name, to: &Name) -> io::Result<()> {
        let link = |world: &mut world::World| world.kernel.link(world.process(), self.inode_in(world), &from.0, &to.0);
        call(Call::Link, link, || format!("link {} to {}", from.text(), to.text()))
    }

    pub(crate) fn link_open(&self, file: &File, to: &Name) -> io::Result<()> {
        let link =
            |world: &mut world::World| world.kernel.link_open(world.process(), file.0, self.inode_in(world), &to.0);
        call(Call::Link, link, || format!("link an open file to {}", to.text()))
    }

    pub(crate) fn unlink(&self, name: &Name) -> io::Result<()> {
        let unlink = |world: &mut world::World| {
            let before = world.kernel.named(&name.0);
            world.kernel.unlink(world.process(), self.inode_in(world), &name.0)?;
            let (process, folder) = (world.process(), self.inode_in(world));
            world.observer.unlinked(&world.kernel, process, folder, &name.0, before);
            Ok(())
        };
        call(Call::Unlink, unlink, || format!("unlink {}", name.text()))
    }

    /// Removes a name in one step, if it is `file`'s.
    pub(crate) fn unlink_same(&self, name: &Name, file: &File) -> io::Result<bool> {
        let unlink = |world: &mut world::World| {
            let before = world.kernel.named(&name.0);
            let removed = world.kernel.unlink_same(world.process(), self.inode_in(world), &name.0, file.0)?;
            if removed {
                let (process, folder) = (world.process(), self.inode_in(world));
                world.observer.unlinked(&world.kernel, process, folder, &name.0, before);
            }
            Ok(removed)
        };
        call(Call::UnlinkSame, unlink, || format!("unlink {} if it is an open file", name.text()))
    }

    /// Keeps others from removing `file`'s name, on a system that can.
    pub(crate) fn keep_name(&self, name: &Name, file: &File) -> io::Result<()> {
        if !keeps_names() {
            return Ok(());
        }
        let keep =
            |world: &mut world::World| world.kernel.keep_name(world.process(), self.inode_in(world), &name.0, file.0);
        call(Call::KeepName, keep, || format!("keep the name {}", name.text()))
    }

    pub(crate) fn exchange(&self, one: &Name, other: &Name) -> io::Result<()> {
        self.rename(one, other, Rename::Exchange)
    }

    pub(crate) fn rename_new(&self, from: &Name, to: &Name) -> io::Result<()> {
        self.rename(from, to, Rename::New)
    }

    pub(crate) fn rename_over(&self, from: &Name, to: &Name) -> io::Result<()> {
        self.rename(from, to, Rename::Over)
    }

    fn rename(&self, from: &Name, to: &Name, how: Rename) -> io::Result<()> {
        let rename = |world: &mut world::World| {
            world.kernel.rename(world.process(), self.inode_in(world), &from.0, &to.0, how)?;
            world.observer.renamed(world.process(), &to.0);
            Ok(())
        };
        call(Call::Rename, rename, || format!("rename {:?} {} to {}", how, from.text(), to.text()))
    }

    pub(crate) fn make_dir(&self, name: &Name, mode: u32) -> io::Result<()> {
        let make =
            |world: &mut world::World| world.kernel.make_dir(world.process(), self.inode_in(world), &name.0, mode);
        call(Call::MakeDir, make, || format!("make folder {}", name.text()))
    }

    pub(crate) fn remove_dir(&self, name: &Name) -> io::Result<()> {
        let remove = |world: &mut world::World| world.kernel.remove_dir(world.process(), self.inode_in(world), &name.0);
        call(Call::RemoveDir, remove, || format!("remove folder {}", name.text()))
    }

    /// Copies the parent's mode. The simulated kernel has one group, and no ACLs.
    pub(crate) fn take_rights_of(&self, parent: &Dir) -> io::Result<()> {
        let mode = parent.stat()?.mode;
        if self.stat()?.mode == mode {
            return Ok(());
        }
        let chmod = |world: &mut world::World| world.kernel.chmod(world.process(), self.inode_in(world), mode);
        call(Call::Chmod, chmod, || format!("chmod a folder {mode:o}"))
    }

    pub(crate) fn entries(&self) -> io::Result<Vec<(Name, FileKind)>> {
        point(Call::Entries).map_err(system)?;
        let entries = world::with(|world| world.kernel.entries(self.inode_in(world)));
        let listed: Vec<u8> = entries.iter().flat_map(|(name, kind)| [&name[..], &[*kind as u8]].concat()).collect();
        perform(|_| Ok(Bytes(&listed)), || format!("{} names in a folder", entries.len())).map_err(system)?;
        Ok(entries.into_iter().map(|(name, kind)| (Name(name), kind)).collect())
    }

    /// Makes a symbolic link, at once.
    pub(crate) fn make_symlink(&self, name: &Name, target: &str) {
        world::with(|world| world.kernel.make_symlink(self.inode_in(world), &name.0, target.as_bytes()));
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        world::with(|world| world.kernel.close(self.0));
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct File(usize);

impl File {
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        let stat = |world: &mut world::World| Ok(world.kernel.stat(world.kernel.inode_of(self.0)));
        call(Call::Stat, stat, || "stat of an open file".to_owned())
    }

    pub(crate) fn ident(&self) -> io::Result<FileIdent> {
        Ok(self.stat()?.ident())
    }

    pub(crate) fn links(&self) -> io::Result<u64> {
        Ok(self.stat()?.links)
    }

    pub(crate) fn chmod(&self, mode: u32) -> io::Result<()> {
        let chmod = |world: &mut world::World| {
            let inode = world.kernel.inode_of(self.0);
            world.kernel.chmod(world.process(), inode, mode)
        };
        call(Call::Chmod, chmod, || format!("chmod {mode:o}"))
    }

    pub(crate) fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        call(Call::Lock, |world| Ok(world.kernel.try_lock(self.0, kind)), || format!("try to lock {}", self.what(kind)))
    }

    pub(crate) fn lock(&self, kind: LockKind, interrupt: Option<&InterruptHandle>) -> io::Result<bool> {
        let interrupted = || interrupt.is_some_and(InterruptHandle::is_interrupted);
        if interrupted() {
            return Ok(false);
        }
        point(Call::Lock).map_err(system)?;
        let try_lock =
            || perform(|world| Ok(world.kernel.try_lock(self.0, kind)), || format!("lock {}", self.what(kind)));
        if try_lock().map_err(system)? {
            return Ok(true);
        }
        let thread = world::current().expect("a call outside of a run cannot wait");
        world::with(|world| world.kernel.queue_for_lock(thread, self.0, kind));
        loop {
            let woken = world::wait(Call::Lock, Until::Locked(self.0));
            // A signal ends the wait only if the lock is not free: `flock_lock_inode_wait`.
            let its_turn = world::with(|world| world.kernel.is_woken(thread, self.0));
            let locked = its_turn && woken.is_ok() && try_lock().map_err(system)?;
            if woken.is_err() || locked || interrupted() {
                world::with(|world| world.kernel.leave_queue(thread, self.0));
                return woken.map(|()| locked).map_err(system);
            }
        }
    }

    fn what(&self, kind: LockKind) -> String {
        format!("a file {kind:?}")
    }

    /// Does nothing: a mark of waiting only delays the holder.
    pub(crate) fn mark_waiting(&self) {}

    pub(crate) fn unmark(&self) {}

    pub(crate) fn has_waiters(&self) -> bool {
        false
    }

    pub(crate) fn mark_numbered(&self, number: u64) -> io::Result<()> {
        let mark = |world: &mut world::World| {
            world.kernel.mark(self.0, number);
            Ok(())
        };
        call(Call::Step, mark, || format!("mark byte {number}"))
    }

    pub(crate) fn is_numbered_marked(&self, number: u64) -> io::Result<bool> {
        call(Call::Step, |world| Ok(world.kernel.is_marked(self.0, number)), || format!("look at byte {number}"))
    }

    pub(crate) fn unlock(&self) -> io::Result<()> {
        let unlock = |world: &mut world::World| {
            world.kernel.unlock(self.0);
            Ok(())
        };
        call(Call::Unlock, unlock, || "unlock".to_owned())
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        point(Call::Read).map_err(system)?;
        let length = world::with(|world| world.kernel.read(self.0, buffer)).map_err(system)?;
        perform(|_| Ok(Bytes(&buffer[..length])), || "read".to_owned()).map_err(system)?;
        Ok(length)
    }

    pub(crate) fn read_part(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let write = |by, bytes: &[u8], offset| {
            let write = |world: &mut world::World| world.kernel.write(self.0, bytes, offset);
            call(by, write, || format!("write {} bytes at {offset}", bytes.len()))
        };
        if !world::with(|world| world.torn) || bytes.len() < 2 {
            return write(Call::Write, bytes, offset);
        }
        // The kernel does not promise a reader the whole of a write. The writing process makes one call within a page, which
        // a record fits in: no signal kills it in between, and no disk is full.
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        write(Call::Write, first, offset)?;
        write(Call::WriteOn, rest, offset + first.len() as u64)
    }

    pub(crate) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let append = |world: &mut world::World| {
            let end = world.kernel.stat(world.kernel.inode_of(self.0)).size;
            world.kernel.write(self.0, bytes, end)
        };
        call(Call::Write, append, || format!("append {} bytes", bytes.len()))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        call(Call::Sync, |_| Ok(()), || "sync".to_owned())
    }

    /// Takes and returns a read lease, as on Linux. In between, other processes cannot open the file for writing.
    pub(crate) fn read_lease(&self) -> LeaseOutcome {
        self.lease(LockKind::Shared)
    }

    /// Takes and returns a write lease, as on Linux. In between, other processes cannot open the file.
    pub(crate) fn write_lease(&self) -> LeaseOutcome {
        self.lease(LockKind::Exclusive)
    }

    fn lease(&self, kind: LockKind) -> LeaseOutcome {
        let mut lease = LeaseOutcome::Unavailable;
        let take = |world: &mut world::World| {
            lease = world.kernel.take_lease(world.process(), self.0, kind);
            Ok(lease as usize)
        };
        if call(Call::Step, take, || "take a lease".to_owned()).is_err() {
            return LeaseOutcome::Unavailable;
        }
        if lease == LeaseOutcome::Granted {
            let give = |world: &mut world::World| {
                world.kernel.give_lease_back(self.0);
                Ok(())
            };
            let _ = call(Call::Step, give, || "return the lease".to_owned());
        }
        lease
    }

    pub(crate) fn duplicate(&self) -> io::Result<Inherited> {
        world::with(|world| world.kernel.duplicate(self.0));
        Ok(Inherited(File(self.0)))
    }

    pub(super) fn inode(&self) -> usize {
        world::with(|world| world.kernel.inode_of(self.0))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // If another thread of this process may wait for a mutex of this one, the close is part of the previous step.
        let shows = world::with(|world| world.kernel.close_shows(self.0)) && !world::has_other_threads();
        if shows {
            let _ = point(Call::Step);
        }
        let close = |world: &mut world::World| {
            world.kernel.close(self.0);
            Ok(())
        };
        if shows {
            let _ = perform(close, || "close".to_owned());
        } else {
            let _ = world::with(close);
        }
    }
}

/// A second descriptor. No child inherits it in a simulation.
#[derive(Debug)]
pub(crate) struct Inherited(#[expect(dead_code, reason = "it is kept until it is dropped")] File);

pub(crate) fn inherit_always(_fd: &Inherited) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn inherit(_command: &mut std::process::Command, _fd: Inherited) {}

pub(crate) fn effective_user() -> u32 {
    world::with(|world| world.kernel.processes[world.process()].user)
}

/// Returns the usual limit, which no script comes near to.
pub(crate) fn open_file_limit() -> usize {
    1024
}

/// Returns the kernel's table of locks, in one piece.
pub(crate) fn lock_table() -> Option<LockTable> {
    if face() != Face::Linux {
        return None;
    }
    Some(crate::sys::linux::parse_lock_table(&lock_table_text().ok()?))
}

pub(crate) fn table_device(_dir: &Dir, file_system: &FileSystem, device: u64) -> TableDevice {
    TableDevice { device: (0, device as u32), complete: !file_system.shared }
}

fn lock_table_text() -> io::Result<String> {
    point(Call::KernelLocks).map_err(system)?;
    let text = world::with(|world| {
        let mut text = String::new();
        let kernel = &world.kernel;
        for inode in kernel.inodes() {
            let number = kernel.number(inode);
            let mut line = |sign: &str, pid: u32, kind: LockKind| {
                let kind = if kind == LockKind::Shared { "READ" } else { "WRITE" };
                text += &format!("1:{sign} FLOCK  ADVISORY  {kind} {pid} 00:{DEVICE:02x}:{number} 0 EOF\n");
            };
            for (pid, kind) in kernel.locks_of(inode) {
                line("", pid, kind);
            }
            for (pid, kind) in kernel.queue_of(inode) {
                line(" ->", pid, kind);
            }
        }
        text
    });
    perform(|_| Ok(Bytes(text.as_bytes())), || "read /proc/locks".to_owned()).map_err(system)?;
    Ok(text)
}

fn face() -> Face {
    world::with(|world| world.kernel.fs.face)
}

pub(crate) fn takeover_steps() -> TakeoverSteps {
    face().takeover_steps()
}

pub(crate) fn lock_file_kind() -> LockFileKind {
    face().lock_file_kind()
}

pub(crate) fn replace_steps() -> ReplaceSteps {
    face().replace_steps()
}

pub(crate) fn keeps_names() -> bool {
    face().keeps_names()
}

pub(crate) fn means_in_use(error: &io::Error) -> bool {
    keeps_names() && error.raw_os_error() == Some(IN_USE)
}

pub(crate) fn means_no_links(code: i32) -> bool {
    matches!(code, libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS)
}

/// An entry of no table: no signal ends a simulated process, so there are no lock files to remove.
pub(crate) struct HeldCell;

impl HeldCell {
    pub(crate) fn leave(&self) {}

    pub(crate) fn set_state_offset(&self, _offset: u64) {}
}

pub(crate) fn enter_held(
    _dir: &Dir,
    _name: &Name,
    _id: FileId,
    _lock_file: &File,
    _anchor: &File,
    _mark: &'static [u8],
    _offset: u64,
) -> Option<HeldCell> {
    None
}
