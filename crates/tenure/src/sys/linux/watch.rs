//! Waiting for a foreign holder: its lock file's events (`inotify(7)`), its process's end (`pidfd_open(2)`), and a
//! wake-up by another thread (`eventfd(2)`).

use std::cell::RefCell;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

use super::process_handle::ProcessHandle;
use crate::sys::types::NameChange;
use crate::sys::unix::{Dir, File, Name};

/// Wakes one waiting thread from another.
#[derive(Debug)]
pub(crate) struct Wakeup(OwnedFd);

impl Wakeup {
    /// Makes a wake-up (`eventfd(2)`).
    pub(crate) fn new() -> io::Result<Wakeup> {
        Ok(Wakeup(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Ends the present or the next [`wait_any`] with this wake-up (`write(2)`).
    pub(crate) fn wake(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// Reports events of a file: its links change, it is modified, or a writer closes it, as a process's death does too
/// (`inotify(7)`).
///
/// One inotify instance serves a thread for all its waits, because closing one takes the kernel milliseconds, by which a
/// grant would be late. Removing a watch is cheap.
#[derive(Debug)]
pub(crate) struct FileWatch {
    instance: Rc<OwnedFd>,
    watch: i32,
}

thread_local! {
    static INSTANCE: RefCell<Option<Rc<OwnedFd>>> = const { RefCell::new(None) };
}

impl FileWatch {
    /// Whether a wait with one watch also ends at an event of the thread's other watches.
    pub(crate) const SHARES_EVENTS: bool = true;

    /// Watches a file (`inotify_add_watch(2)`).
    pub(crate) fn new(file: &File) -> io::Result<FileWatch> {
        let instance = INSTANCE.with_borrow_mut(|kept| match kept {
            Some(instance) => Ok(Rc::clone(instance)),
            None => {
                let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
                let instance = Rc::new(inotify::init(flags)?);
                *kept = Some(Rc::clone(&instance));
                Ok::<_, io::Error>(instance)
            }
        })?;
        let events = inotify::WatchFlags::ATTRIB
            | inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::MOVE_SELF
            | inotify::WatchFlags::DELETE_SELF;
        // By the descriptor, because the name may belong to another file by now.
        let path = format!("/proc/self/fd/{}", file.descriptor().as_raw_fd());
        let watch = inotify::add_watch(&*instance, path.as_str(), events)?;
        Ok(FileWatch { instance, watch })
    }

    /// Waits for an event, and returns whether there is one (`poll(2)`).
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(&*self.instance, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        Ok(rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))? > 0)
    }

    fn drain(&self) {
        let mut spare = [0; 4096];
        while rustix::io::read(&*self.instance, &mut spare).is_ok_and(|n| n > 0) {}
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        // Where the file was deleted, the kernel has removed the watch.
        let _ = inotify::remove_watch(&*self.instance, self.watch);
        self.drain();
    }
}

/// Reports what happened to a name in a folder since the watch began (`inotify(7)`). It has an instance of its own, so that it
/// can be read by any thread.
#[derive(Debug)]
pub(crate) struct NameWatch {
    instance: OwnedFd,
    name: Box<CStr>,
}

impl NameWatch {
    /// Watches a name in a folder (`inotify_init1(2)`, `inotify_add_watch(2)`).
    pub(crate) fn new(dir: &Dir, name: &Name) -> io::Result<NameWatch> {
        let instance = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        // With the removals: the kernel merges two equal events in a row.
        let events = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::ONLYDIR;
        let path = format!("/proc/self/fd/{}", dir.descriptor().as_raw_fd());
        inotify::add_watch(&instance, path.as_str(), events)?;
        Ok(NameWatch { instance, name: name.as_c_str().into() })
    }

    /// Returns the changes of the name since the last call, in their order (`read(2)`). Fails where some were lost, or the
    /// folder was removed.
    pub(crate) fn changes(&self) -> io::Result<Vec<NameChange>> {
        use inotify::ReadFlags;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.instance, &mut buffer);
        let mut changes = Vec::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => return Ok(changes),
                Err(error) => return Err(error.into()),
            };
            if event.events().intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED | ReadFlags::UNMOUNT) {
                return Err(io::Error::other("some changes of the folder were not reported"));
            }
            if event.file_name() == Some(&*self.name) {
                let added = event.events().intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                changes.push(if added { NameChange::Added } else { NameChange::Removed });
            }
        }
    }
}

/// Waits until there is an event, the process ends, the thread is woken, or the timeout elapses (`poll(2)`).
pub(crate) fn wait_any(
    watch: Option<&FileWatch>,
    process: Option<&ProcessHandle>,
    wakeup: &Wakeup,
    timeout: Duration,
) -> io::Result<()> {
    let mut fds = vec![PollFd::new(&wakeup.0, PollFlags::IN)];
    if let Some(watch) = watch {
        fds.push(PollFd::new(&*watch.instance, PollFlags::IN));
    }
    let process = process.map(ProcessHandle::as_fd);
    if let Some(process) = &process {
        fds.push(PollFd::new(process, PollFlags::IN));
    }
    let timeout = Timespec::try_from(timeout).ok();
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let _ = rustix::io::read(&wakeup.0, &mut [0; 8]);
    Ok(())
}
