//! Waiting for a foreign holder: its lock file's events (`inotify(7)`), its process's end (`pidfd_open(2)`), and a
//! wake-up by another thread (`eventfd(2)`).

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

use super::process_handle::ProcessHandle;
use crate::sys::unix::File;

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
