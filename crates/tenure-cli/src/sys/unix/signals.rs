//! Signals, which the handlers write to a pipe.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, BorrowedFd};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts;

use super::child::Child;
use super::disposition::{is_ignored, set_default};
use super::this_unix;
use crate::sys::types::{Arrival, Note};

pub(crate) use consts::{SIGCHLD, SIGCONT, SIGINT, SIGKILL, SIGTERM, SIGTSTP};

/// The signals that would end this process while it waits for the lock. They are caught before anything is locked.
pub(crate) const ENDING: [i32; 6] =
    [consts::SIGINT, consts::SIGTERM, consts::SIGHUP, consts::SIGQUIT, consts::SIGUSR1, consts::SIGUSR2];
/// The signals that matter only once there is a command. Until then the kernel applies their default.
const FOR_THE_COMMAND: [i32; 4] = [SIGCONT, SIGTSTP, consts::SIGWINCH, SIGCHLD];

/// Both ends of the pipe that the handlers write to. It is never closed, because a handler may run at any time.
static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();

/// One message: signal, `si_code`, `si_pid`, whether the command was forked, and `si_errno` and `si_value` of a queued
/// signal. It is written in one call and so never torn (`PIPE_BUF`).
type Message = [i32; 6];
const MESSAGE_BYTES: usize = size_of::<Message>();

/// The pid of this process. A child between fork and exec still has the handlers, and compares its own pid with this.
static OWN_PID: AtomicI32 = AtomicI32::new(0);
/// Whether the command was forked. Signals from the terminal reach the command too from then on.
static FORKED: AtomicBool = AtomicBool::new(false);

fn pipe() -> io::Result<&'static (OwnedFd, OwnedFd)> {
    if let Some(pipe) = PIPE.get() {
        return Ok(pipe);
    }
    let pipe = this_unix::pipe::pipe()?;
    Ok(PIPE.get_or_init(|| pipe))
}

/// Writes a message to the pipe. Async-signal-safe: one `write`. A full pipe contains thousands of signals already, so one
/// more may be lost.
fn send(fd: i32, message: Message) {
    // SAFETY: `message` is `MESSAGE_BYTES` readable bytes for the whole call, and `fd` is the end of a pipe that is
    // never closed.
    let _ = unsafe { libc::write(fd, message.as_ptr().cast(), MESSAGE_BYTES) };
}

/// Handles a signal. Async-signal-safe: it makes system calls and reads atomics.
fn handle(fd: i32, signal: i32, info: &libc::siginfo_t) {
    // SAFETY: it takes nothing and cannot fail.
    if unsafe { libc::getpid() } != OWN_PID.load(Ordering::Relaxed) {
        // This is the command before its exec, which behaves as without a handler. But it must not stop there, because
        // its parent waits for the exec and cannot stop with it.
        if signal != SIGTSTP {
            set_default(signal);
            let _ = signal_hook::low_level::raise(signal);
        }
        return;
    }
    // SAFETY: a handler's siginfo is initialised; for signals that no process sent the field is 0.
    let sender = unsafe { info.si_pid() };
    let (errno, value) = match info.si_code {
        // SAFETY: a queued signal's siginfo has a value.
        this_unix::origin::SI_QUEUE => (info.si_errno, unsafe { info.si_value() }.sival_ptr as usize as i32),
        _ => (0, 0),
    };
    send(fd, [signal, info.si_code, sender, FORKED.load(Ordering::Relaxed).into(), errno, value]);
}

/// Records that the command was forked. Async-signal-safe: one atomic store.
pub(super) extern "C" fn note_fork() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Wakes the thread that is in [`Signals::wait`].
#[derive(Clone, Copy)]
pub(crate) struct Waker(i32);

impl Waker {
    pub(crate) fn wake(self) {
        send(self.0, [0; 6]);
    }
}

/// The signals that this process catches.
pub(crate) struct Signals {
    read: &'static OwnedFd,
    write: i32,
    children_ignored: bool,
}

impl Signals {
    /// Catches the signals in [`ENDING`].
    pub(crate) fn catch_ending() -> io::Result<Signals> {
        let (read, write) = pipe()?;
        OWN_PID.store(rustix::process::getpid().as_raw_pid(), Ordering::Relaxed);
        let mut signals = Signals { read, write: write.as_raw_fd(), children_ignored: false };
        for signal in ENDING {
            signals.catch(signal)?;
        }
        Ok(signals)
    }

    /// Catches the other signals that are passed on to a command.
    pub(crate) fn catch_for_the_command(&mut self) -> io::Result<()> {
        // An ignored SIGCHLD would discard the command's exit status.
        self.children_ignored = is_ignored(SIGCHLD);
        if self.children_ignored {
            set_default(SIGCHLD);
        }
        FOR_THE_COMMAND.into_iter().try_for_each(|signal| self.catch(signal))
    }

    fn catch(&mut self, signal: i32) -> io::Result<()> {
        // A signal that was inherited as ignored (`nohup`) stays ignored, here and in the command.
        if is_ignored(signal) {
            return Ok(());
        }
        let write = self.write;
        let action = move |info: &libc::siginfo_t| handle(write, signal, info);
        // SAFETY: `handle` is async-signal-safe and cannot panic. `errno` is saved by the registry.
        unsafe { signal_hook_registry::register_sigaction(signal, action) }?;
        Ok(())
    }

    /// Returns whether this process inherited SIGCHLD as ignored.
    pub(super) fn children_ignored(&self) -> bool {
        self.children_ignored
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(self.write)
    }

    /// Returns the descriptor that can be read once there is a note. `None` if no signals are caught.
    #[cfg(target_os = "linux")]
    pub(in crate::sys) fn descriptor() -> Option<BorrowedFd<'static>> {
        PIPE.get().map(|(read, _)| read.as_fd())
    }

    /// Waits for a note, for the end of `child`, or for the timeout. May return early.
    pub(crate) fn wait(&self, child: Option<&Child>, timeout: Option<Duration>) -> io::Result<()> {
        let mut fds = vec![PollFd::new(self.read, PollFlags::IN)];
        fds.extend(child.and_then(Child::handle).map(|handle| PollFd::new(handle, PollFlags::IN)));
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the next note, if there is one.
    pub(crate) fn next(&self) -> Option<Note> {
        let mut bytes = [0; MESSAGE_BYTES];
        match rustix::io::read(self.read, &mut bytes) {
            Ok(MESSAGE_BYTES) => {}
            _ => return None,
        }
        let field = |at: usize| i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (signal, code, sender, forked) = (field(0), field(4), field(8), field(12) != 0);
        if signal == 0 {
            return Some(Note::Woken);
        }
        let from_terminal = this_unix::origin::is_from_terminal(signal, code, sender);
        let sender = if from_terminal { 0 } else { sender };
        let grace = tenure::command::requested_grace(field(16), field(20)).filter(|_| signal == SIGTERM);
        Some(Note::Signal(Arrival { signal, from_terminal, sender, grace, before_the_command: !forked }))
    }
}
