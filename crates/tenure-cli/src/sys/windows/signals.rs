//! Events of the console. A handler, which the system runs on a thread of its own, records them (`SetConsoleCtrlHandler`).

use std::collections::VecDeque;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use windows_sys::Win32::Foundation::{HANDLE, WAIT_FAILED};
use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, CTRL_C_EVENT, SetConsoleCtrlHandler};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects};

use super::child::Child;
use super::numbers::{SIGBREAK, SIGINT, SIGTERM};
use crate::sys::types::{Arrival, Note};

/// How long this process has to end once its console was closed: the system ends it when the handler returns.
const LAST_WORDS: Duration = Duration::from_secs(4);

static MAIL: OnceLock<Arc<Mail>> = OnceLock::new();
/// Whether the command has been started, so that the console's events reach it.
static STARTED: AtomicBool = AtomicBool::new(false);

/// The notes that have arrived, and the event by which a thread is woken for them.
struct Mail {
    notes: Mutex<VecDeque<Note>>,
    event: OwnedHandle,
}

impl Mail {
    fn send(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push_back(note);
        // SAFETY: SetEvent requires an event's handle, which `self` has.
        unsafe { SetEvent(self.event.as_raw_handle()) };
    }
}

/// Wakes the thread that is in [`Signals::wait`].
#[derive(Clone)]
pub(crate) struct Waker(Arc<Mail>);

impl Waker {
    pub(crate) fn wake(&self) {
        self.0.send(Note::Woken);
    }
}

/// The events that this process catches.
pub(crate) struct Signals(Arc<Mail>);

impl Signals {
    /// Catches the events in [`ENDING`].
    pub(crate) fn catch_ending() -> io::Result<Signals> {
        if let Some(mail) = MAIL.get() {
            return Ok(Signals(Arc::clone(mail)));
        }
        // SAFETY: CreateEventW has no precondition: attributes and name may be null. One wait resets the event.
        let event = unsafe { CreateEventW(ptr::null(), 0, 0, ptr::null()) };
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `from_raw_handle` requires a handle that nothing else closes: the successful call has just made it.
        let event = unsafe { OwnedHandle::from_raw_handle(event) };
        let mail = MAIL.get_or_init(|| Arc::new(Mail { notes: Mutex::default(), event }));
        // SAFETY: SetConsoleCtrlHandler requires a function that may run on any thread: this one uses statics only.
        if unsafe { SetConsoleCtrlHandler(Some(on_event), 1) } == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Signals(Arc::clone(mail)))
    }

    /// Does nothing: the console sends no further events.
    pub(crate) fn catch_for_the_command(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Records that the command has been started. An event before that has not reached it.
    pub(super) fn command_has_started(&self) {
        STARTED.store(true, Ordering::Release);
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.0))
    }

    /// Waits for a note, for the end of `child`, or for the timeout (`WaitForMultipleObjects`). May return early.
    pub(crate) fn wait(&self, child: Option<&Child>, timeout: Option<Duration>) -> io::Result<()> {
        if !self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Ok(());
        }
        let mut handles: Vec<HANDLE> = vec![self.0.event.as_raw_handle()];
        handles.extend(child.map(Child::raw));
        wait_for(&handles, timeout).map(drop)
    }

    /// Returns the next note, if there is one.
    pub(crate) fn next(&self) -> Option<Note> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Waits for the first of these handles, and returns its index. `None` once the timeout has elapsed.
pub(super) fn wait_for(handles: &[HANDLE], timeout: Option<Duration>) -> io::Result<Option<usize>> {
    // Rounded up, so that a wait for less than a millisecond is one.
    let limit = |timeout: Duration| {
        u32::try_from(timeout.as_micros().div_ceil(1000)).map_or(INFINITE - 1, |it| it.min(INFINITE - 1))
    };
    let timeout = timeout.map_or(INFINITE, limit);
    // SAFETY: WaitForMultipleObjects requires an array of at most 64 open handles: the callers borrow their owners.
    match unsafe { WaitForMultipleObjects(handles.len() as u32, handles.as_ptr(), 0, timeout) } {
        WAIT_FAILED => Err(io::Error::last_os_error()),
        found => Ok(usize::try_from(found).ok().filter(|index| *index < handles.len())),
    }
}

/// Notes an event. It reaches every process of the console, so the command has it too, once it was started.
unsafe extern "system" fn on_event(event: u32) -> windows_sys::core::BOOL {
    let signal = match event {
        CTRL_C_EVENT => SIGINT,
        CTRL_BREAK_EVENT => SIGBREAK,
        _ => SIGTERM,
    };
    if let Some(mail) = MAIL.get() {
        let before_the_command = !STARTED.load(Ordering::Acquire);
        mail.send(Note::Signal(Arrival { signal, from_terminal: true, sender: 0, grace: None, before_the_command }));
    }
    if signal == SIGTERM {
        std::thread::sleep(LAST_WORDS);
    }
    1
}

/// Removes the lock file of an acquire that is under way in another thread. The caller ends this process.
pub(crate) fn die_by(_signal: i32, before: impl FnOnce()) {
    before();
    tenure::cleanup::before_exit();
}

/// Does nothing: a process of Windows is not stopped by its console.
pub(crate) fn stop_self() {}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::spawn::spawn;
    use super::*;

    #[test]
    fn an_event_before_the_command_is_passed_on_to_it() {
        let signals = Signals::catch_ending().unwrap();
        let event = || {
            // SAFETY: the handler requires nothing of its caller.
            unsafe { on_event(CTRL_C_EVENT) };
            match signals.next() {
                Some(Note::Signal(arrival)) => (arrival.signal, arrival.before_the_command),
                _ => panic!("there is no note of it"),
            }
        };
        assert_eq!(event(), (SIGINT, true));
        let mut sleep = Command::new("cmd");
        let child = spawn(
            {
                sleep.args(["/c", "pause"]).stdin(std::process::Stdio::piped());
                sleep
            },
            &signals,
        )
        .unwrap();
        assert_eq!(event(), (SIGINT, false));
        child.signal(SIGINT);
        assert_eq!(super::super::child::ended_by(child.wait().unwrap()), Some(SIGINT));
    }
}
