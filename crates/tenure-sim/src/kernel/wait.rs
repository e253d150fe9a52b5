//! Waiting: helper threads, wake-ups, a file's events, a process's end.

use std::io;
use std::time::Duration;

use super::call::Call;
use super::fs::{Dir, File, Name};
use super::process::ProcessHandle;
use super::world::{self, Until};
use crate::sys::types::NameChange;

pub(crate) fn install_cleanup() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn clean_up() {}

pub(crate) fn install_cleanup_over(_signals: &[i32]) -> io::Result<()> {
    install_cleanup()
}

pub(crate) fn resets_itself(_signal: i32) -> io::Result<bool> {
    install_cleanup().map(|()| false)
}

/// Returns 1: no fork is simulated.
pub(crate) fn fork_generation() -> u64 {
    1
}

/// Starts a thread of the simulated process, for a helper that waits. The watchdog's thread is refused, because it waits by
/// the real clock. A script does its work where needed.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    if name != "tenure-wait" {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    world::with(|world| {
        let process = world.process();
        world.spawn(process, run);
    });
    Ok(())
}

pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    start()
}

#[derive(Debug)]
pub(crate) struct Wakeup(usize);

impl Wakeup {
    pub(crate) fn new() -> io::Result<Wakeup> {
        Ok(Wakeup(world::new_flag()))
    }

    pub(crate) fn wake(&self) {
        world::set_flag(self.0, true);
    }
}

/// Notices changes of a file's links, mode or bytes, and the close of a writer.
#[derive(Debug)]
pub(crate) struct FileWatch {
    inode: usize,
    seen: u64,
}

impl FileWatch {
    pub(crate) fn new(file: &File) -> io::Result<FileWatch> {
        world::point(Call::Watch).map_err(io::Error::from_raw_os_error)?;
        let inode = file.inode();
        let watch = |world: &mut world::World| {
            world.kernel.pin(inode);
            Ok(world.kernel.events_of(inode) as usize)
        };
        let seen = world::perform(watch, || "watch a file".to_owned()).map_err(io::Error::from_raw_os_error)?;
        Ok(FileWatch { inode, seen: seen as u64 })
    }

    pub(crate) fn wait(&self, _timeout: Duration) -> io::Result<bool> {
        Ok(world::with(|world| world.kernel.events_of(self.inode) != self.seen))
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        world::with(|world| world.kernel.unpin(self.inode));
    }
}

/// Watches no name: what is proven without one is simulated.
#[derive(Debug)]
pub(crate) enum NameWatch {}

impl NameWatch {
    pub(crate) fn new(_dir: &Dir, _name: &Name) -> io::Result<NameWatch> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn changes(&self) -> io::Result<Vec<NameChange>> {
        match *self {}
    }
}

pub(crate) fn wait_any(
    watch: Option<&FileWatch>,
    process: Option<&ProcessHandle>,
    wakeup: &Wakeup,
    timeout: Duration,
) -> io::Result<()> {
    let clock = world::with(|world| world.kernel.clock);
    let until = Until::Event {
        flag: wakeup.0,
        inode: watch.map(|watch| (watch.inode, watch.seen)),
        process: process.map(ProcessHandle::process),
        time: clock + timeout.as_micros() as u64,
    };
    world::wait(Call::Step, until).map_err(io::Error::from_raw_os_error)?;
    world::set_flag(wakeup.0, false);
    world::tell(world::with(|world| world.kernel.clock));
    Ok(())
}
