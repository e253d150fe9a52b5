//! Waiting for a foreign holder: its lock file's events (`ReadDirectoryChangesW`), its process's end (a process's handle),
//! and a wake-up by another thread (`CreateEventW`).

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::time::{Duration, Instant};

use windows_sys::Wdk::Storage::FileSystem::FILE_DIRECTORY_FILE;
use windows_sys::Win32::Foundation::{HANDLE, WAIT_FAILED, WAIT_OBJECT_0};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_LIST_DIRECTORY, FILE_NOTIFY_CHANGE_ATTRIBUTES, FILE_NOTIFY_CHANGE_FILE_NAME, FILE_NOTIFY_CHANGE_LAST_WRITE,
    FILE_NOTIFY_CHANGE_SIZE, FILE_NOTIFY_INFORMATION, ReadDirectoryChangesW,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects};

use super::dir::open;
use super::file::File;
use super::name::folded;
use super::nt::{self, Open};
use super::process_handle::ProcessHandle;

/// Wakes one waiting thread from another.
#[derive(Debug)]
pub(crate) struct Wakeup(Event);

impl Wakeup {
    /// Makes a wake-up (`CreateEventW`).
    pub(crate) fn new() -> io::Result<Wakeup> {
        Event::new().map(Wakeup)
    }

    /// Ends the present or the next [`wait_any`] with this wake-up (`SetEvent`).
    pub(crate) fn wake(&self) {
        // SAFETY: SetEvent requires an event's handle, which `self` has.
        unsafe { SetEvent(self.0.raw()) };
    }
}

/// An event that one wait resets.
#[derive(Debug)]
struct Event(OwnedHandle);

impl Event {
    fn new() -> io::Result<Event> {
        // SAFETY: CreateEventW has no precondition: attributes and name may be null.
        let handle = unsafe { CreateEventW(ptr::null(), 0, 0, ptr::null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `from_raw_handle` requires a handle that nothing else closes: the successful call has just made it.
        Ok(Event(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    fn raw(&self) -> HANDLE {
        self.0.as_raw_handle()
    }
}

/// Reports events of a file: it is removed, renamed or written (`ReadDirectoryChangesW` on its folder). Events of other
/// files are passed over.
pub(crate) struct FileWatch(RefCell<Watched>);

struct Watched {
    folder: OwnedHandle,
    event: Event,
    name: Vec<u16>,
    /// The request, and the buffer that it fills. The system writes to both until the request is over.
    request: Box<Request>,
}

#[repr(C)]
struct Request {
    overlapped: OVERLAPPED,
    /// Words, so that the structures in it are aligned.
    buffer: [u32; 4096],
    pending: bool,
}

impl fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWatch").finish_non_exhaustive()
    }
}

impl FileWatch {
    /// Whether a wait with one watch also ends at an event of the thread's other watches.
    pub(crate) const SHARES_EVENTS: bool = false;

    /// Watches a file, by the name at which it was opened (`ReadDirectoryChangesW`).
    pub(crate) fn new(file: &File) -> io::Result<FileWatch> {
        let (folder, path) = file.place();
        // The last part of the name, and the folder before it: wine reports no events of a folder's folders.
        let separator = path.iter().rposition(|unit| *unit == u16::from(b'\\'));
        let (within, name) = separator.map_or((&[][..], path), |at| (&path[..at], &path[at + 1..]));
        let how = Open { options: FILE_DIRECTORY_FILE, asynchronous: true, ..open(FILE_LIST_DIRECTORY) };
        let mut watched = Watched {
            folder: nt::open(folder, within, how)?,
            event: Event::new()?,
            name: folded(name.iter().copied()),
            request: Box::new(Request { overlapped: OVERLAPPED::default(), buffer: [0; 4096], pending: false }),
        };
        watched.start()?;
        Ok(FileWatch(RefCell::new(watched)))
    }

    /// Waits for an event, and returns whether there is one (`WaitForMultipleObjects`).
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + timeout;
        let mut watched = self.0.borrow_mut();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if wait_for(&[watched.event.raw()], left)?.is_none() {
                return Ok(false);
            }
            if watched.take()? {
                return Ok(true);
            }
        }
    }
}

impl Watched {
    /// Starts the request for the next events. Those in between are kept by the system.
    fn start(&mut self) -> io::Result<()> {
        let request = &mut *self.request;
        request.overlapped = OVERLAPPED { hEvent: self.event.raw(), ..OVERLAPPED::default() };
        let events = FILE_NOTIFY_CHANGE_FILE_NAME
            | FILE_NOTIFY_CHANGE_LAST_WRITE
            | FILE_NOTIFY_CHANGE_SIZE
            | FILE_NOTIFY_CHANGE_ATTRIBUTES;
        // SAFETY: ReadDirectoryChangesW requires an asynchronous folder's handle, and an aligned buffer and an `OVERLAPPED`
        // that stay in place until the request is over: they are boxed, and `drop` waits for that.
        let started = unsafe {
            ReadDirectoryChangesW(
                self.folder.as_raw_handle(),
                request.buffer.as_mut_ptr().cast(),
                size_of_val(&request.buffer) as u32,
                0,
                events,
                ptr::null_mut(),
                &raw mut request.overlapped,
                None,
            )
        };
        if started == 0 {
            return Err(io::Error::last_os_error());
        }
        request.pending = true;
        Ok(())
    }

    /// Takes the events of a request that is over, and starts the next. Returns whether one is of the watched file.
    fn take(&mut self) -> io::Result<bool> {
        self.request.pending = false;
        let mut bytes = 0;
        // SAFETY: GetOverlappedResult requires the handle and the `OVERLAPPED` of a request: they are this watch's. It does
        // not wait.
        let done = unsafe {
            GetOverlappedResult(self.folder.as_raw_handle(), &raw const self.request.overlapped, &raw mut bytes, 0)
        };
        // Too many events for the buffer, or a folder that is gone: any of them may be of this file.
        let found = done == 0 || bytes == 0 || self.names_it();
        self.start()?;
        Ok(found)
    }

    /// Returns whether an event in the buffer has the file's name.
    fn names_it(&self) -> bool {
        let head = std::mem::offset_of!(FILE_NOTIFY_INFORMATION, FileName);
        let mut at = 0;
        loop {
            let event = self.request.buffer.as_ptr().cast::<u8>().wrapping_add(at).cast::<FILE_NOTIFY_INFORMATION>();
            // SAFETY: reading through `event` requires a complete event in the buffer, followed by its name: the system has
            // written events, each with the aligned offset of the next, and the last one has the offset 0.
            let (next, name) = unsafe {
                let units = (*event).FileNameLength as usize / 2;
                let name = std::slice::from_raw_parts(event.cast::<u8>().add(head).cast::<u16>(), units);
                ((*event).NextEntryOffset as usize, folded(name.iter().copied()))
            };
            if name == self.name {
                return true;
            }
            if next == 0 {
                return false;
            }
            at += next;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.request.pending {
            return;
        }
        let mut bytes = 0;
        // SAFETY: both calls require the handle and the `OVERLAPPED` of a request: they are this watch's. The second waits
        // until the system writes to them no more.
        unsafe {
            CancelIoEx(self.folder.as_raw_handle(), &raw const self.request.overlapped);
            GetOverlappedResult(self.folder.as_raw_handle(), &raw const self.request.overlapped, &raw mut bytes, 1);
        }
    }
}

/// Waits until there is an event, the process ends, the thread is woken, or the timeout elapses
/// (`WaitForMultipleObjects`).
pub(crate) fn wait_any(
    watch: Option<&FileWatch>,
    process: Option<&ProcessHandle>,
    wakeup: &Wakeup,
    timeout: Duration,
) -> io::Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let mut handles = vec![wakeup.0.raw()];
        handles.extend(process.map(ProcessHandle::raw));
        handles.extend(watch.map(|watch| watch.0.borrow().event.raw()));
        let left = deadline.saturating_duration_since(Instant::now());
        let found = wait_for(&handles, left)?;
        let is_watch = watch.is_some() && found == Some(handles.len() - 1);
        match watch.filter(|_| is_watch) {
            // An event of another file in the folder.
            Some(watch) if !watch.0.borrow_mut().take()? => {}
            _ => return Ok(()),
        }
    }
}

/// Waits for the first of these handles, and returns its index (`WaitForMultipleObjects`). `None` once the timeout has
/// elapsed.
fn wait_for(handles: &[HANDLE], timeout: Duration) -> io::Result<Option<usize>> {
    // Rounded up, so that a wait for less than a millisecond is one.
    let timeout = u32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(INFINITE).min(INFINITE - 1);
    // SAFETY: WaitForMultipleObjects requires an array of at most 64 open handles: the callers borrow their owners.
    let found = unsafe { WaitForMultipleObjects(handles.len() as u32, handles.as_ptr(), 0, timeout) };
    if found == WAIT_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(found - WAIT_OBJECT_0).ok().filter(|index| *index < handles.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::windows::dir::Dir;
    use crate::sys::windows::name::Name;

    #[test]
    fn events_of_the_file_alone_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Dir::open(dir.path()).unwrap();
        let name = Name::new("a.lock".as_ref()).unwrap();
        let file = folder.create_new(&name, 0o644).unwrap();
        let watch = FileWatch::new(&file).unwrap();
        drop(folder.create_new(&Name::new("b.lock".as_ref()).unwrap(), 0o644).unwrap());
        assert!(!watch.wait(Duration::from_millis(100)).unwrap(), "of another file");
        folder.unlink(&name).unwrap();
        assert!(watch.wait(Duration::from_secs(10)).unwrap(), "removed");
    }

    #[test]
    fn a_wake_up_ends_a_wait() {
        let wakeup = Wakeup::new().unwrap();
        wakeup.wake();
        let begun = Instant::now();
        wait_any(None, None, &wakeup, Duration::from_secs(60)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30));
        wait_any(None, None, &wakeup, Duration::from_millis(1)).unwrap();
    }
}
