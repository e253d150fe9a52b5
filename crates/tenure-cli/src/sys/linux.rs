//! Linux: signals through a pipe, and the command.

// This is the one place where the command's system calls are made.
#![allow(unsafe_code, clippy::disallowed_methods)]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, Timestamps, UTIME_OMIT};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use signal_hook::consts;

use super::{Arrival, Note, inherited};

pub(crate) use consts::{SIGCHLD, SIGCONT, SIGINT, SIGKILL, SIGTERM, SIGTSTP};

/// The signals that would end this process while it waits for the lock. They are caught before anything is locked.
pub(crate) const ENDING: [i32; 6] =
    [consts::SIGINT, consts::SIGTERM, consts::SIGHUP, consts::SIGQUIT, consts::SIGUSR1, consts::SIGUSR2];
/// Those that matter only once there is a command. Until then the kernel does the usual.
const FOR_THE_COMMAND: [i32; 4] = [SIGCONT, SIGTSTP, consts::SIGWINCH, SIGCHLD];

/// Both ends of the pipe that the handlers write to. It lives as long as the process: a handler may run at any time.
static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();

/// One message: signal, `si_code`, `si_pid`, was the command there yet? It is written at once, so it is never torn
/// (`PIPE_BUF`).
type Message = [i32; 4];
const MESSAGE_BYTES: usize = size_of::<Message>();

/// This process, to tell it from a child between fork and exec, which still has the handlers.
static OWN_PID: AtomicI32 = AtomicI32::new(0);
/// Has the command been forked? What the terminal sends from then on reaches it too.
static FORKED: AtomicBool = AtomicBool::new(false);

fn pipe() -> io::Result<&'static (OwnedFd, OwnedFd)> {
    if let Some(pipe) = PIPE.get() {
        return Ok(pipe);
    }
    let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok(PIPE.get_or_init(|| pipe))
}

/// Async-signal-safe: one `write`. A full pipe holds thousands of signals already; one more may be lost.
fn tell(fd: i32, message: Message) {
    // SAFETY: `message` is `MESSAGE_BYTES` readable bytes for the whole call, and `fd` is the end of a pipe that is
    // never closed.
    let _ = unsafe { libc::write(fd, message.as_ptr().cast(), MESSAGE_BYTES) };
}

/// What the handlers do. Async-signal-safe: it makes system calls and reads atomics.
fn arrived(fd: i32, signal: i32, info: &libc::siginfo_t) {
    // SAFETY: it takes nothing and cannot fail.
    if unsafe { libc::getpid() } != OWN_PID.load(Ordering::Relaxed) {
        // The command, before its exec: it does what it would do without a handler. But it must not stop there, where
        // its parent waits for the exec and cannot stop with it.
        if signal != SIGTSTP {
            set_disposition(signal, libc::SIG_DFL);
            let _ = signal_hook::low_level::raise(signal);
        }
        return;
    }
    // SAFETY: a handler's siginfo is initialised; for signals that no process sent the field is 0.
    let sender = unsafe { info.si_pid() };
    tell(fd, [signal, info.si_code, sender, FORKED.load(Ordering::Relaxed).into()]);
}

extern "C" fn forked() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Wakes whoever is in [`Signals::wait`], from another thread.
#[derive(Clone, Copy)]
pub(crate) struct Waker(i32);

impl Waker {
    pub(crate) fn wake(self) {
        tell(self.0, [0; 4]);
    }
}

/// The signals that this process catches.
pub(crate) struct Signals {
    read: &'static OwnedFd,
    write: i32,
    caught: Vec<i32>,
    children_ignored: bool,
}

impl Signals {
    /// Catches [`ENDING`].
    pub(crate) fn catch_ending() -> io::Result<Signals> {
        let (read, write) = pipe()?;
        OWN_PID.store(rustix::process::getpid().as_raw_pid(), Ordering::Relaxed);
        let mut signals = Signals { read, write: write.as_raw_fd(), caught: Vec::new(), children_ignored: false };
        for signal in ENDING {
            signals.catch(signal)?;
        }
        Ok(signals)
    }

    /// Catches the rest of what is passed on to a command.
    pub(crate) fn catch_for_the_command(&mut self) -> io::Result<()> {
        // Inherited as ignored, it would take the command's exit status away.
        self.children_ignored = is_ignored(SIGCHLD);
        if self.children_ignored {
            set_disposition(SIGCHLD, libc::SIG_DFL);
        }
        FOR_THE_COMMAND.into_iter().try_for_each(|signal| self.catch(signal))
    }

    fn catch(&mut self, signal: i32) -> io::Result<()> {
        // Ignored from the start (`nohup`): it stays so, here and in the command.
        if is_ignored(signal) {
            return Ok(());
        }
        let write = self.write;
        let action = move |info: &libc::siginfo_t| arrived(write, signal, info);
        // SAFETY: `arrived` is async-signal-safe and cannot panic. `errno` is saved by the registry.
        unsafe { signal_hook_registry::register_sigaction(signal, action) }?;
        self.caught.push(signal);
        Ok(())
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(self.write)
    }

    /// Waits for a note, for the end of `child`, or for the timeout; may return early.
    pub(crate) fn wait(&self, child: Option<&Child>, timeout: Option<Duration>) -> io::Result<()> {
        let mut fds = vec![PollFd::new(self.read, PollFlags::IN)];
        let pidfd = child.and_then(|child| child.pidfd.as_ref());
        fds.extend(pidfd.map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next note, if there is one.
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
        let from_terminal = code == libc::SI_KERNEL;
        let sender = if from_terminal { 0 } else { sender };
        Some(Note::Signal(Arrival { signal, from_terminal, sender, before_the_command: !forked }))
    }
}

pub(super) fn is_ignored(signal: i32) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action this only writes the present one to `now`, which is large enough and, being
    // zeroed, is a valid `sigaction` even where the call fails.
    unsafe {
        libc::sigaction(signal, ptr::null(), now.as_mut_ptr());
        now.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Async-signal-safe.
fn set_disposition(signal: i32, disposition: libc::sighandler_t) {
    // SAFETY: only called with SIG_DFL and SIG_IGN, which run no code.
    unsafe { libc::signal(signal, disposition) };
}

/// A command that runs. Only this process reaps it, in [`Child::wait`], so its pid names nobody else until then.
pub(crate) struct Child {
    process: std::process::Child,
    /// `None` where the kernel has none or forbids it (an old container profile): then SIGCHLD tells of the end, and a look
    /// once a second.
    pidfd: Option<OwnedFd>,
}

/// Starts `command` with the signals as this process got them; the exec takes the handlers away.
pub(crate) fn spawn(mut command: Command, signals: &Signals) -> io::Result<Child> {
    let ignored = [(SIGCHLD, signals.children_ignored), (consts::SIGPIPE, inherited::pipe_is_ignored())];
    for (signal, _) in ignored.into_iter().filter(|(_, ignored)| *ignored) {
        // SAFETY: between fork and exec this makes one async-signal-safe call and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                set_disposition(signal, libc::SIG_IGN);
                Ok(())
            });
        }
    }
    // Without a closure to run before the exec there is no fork to be told of: the store below comes as soon as the
    // command runs, and a key that is pressed in that instant counts twice.
    // SAFETY: the handler stays valid and only stores to an atomic.
    unsafe { libc::pthread_atfork(None, Some(forked), None) };
    let spawned = command.spawn();
    forked();
    let process = spawned?;
    let pid = Pid::from_raw(process.id().cast_signed());
    let pidfd = pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    Ok(Child { process, pidfd })
}

/// Does the error say that the file is neither a program nor begins with `#!`?
pub(crate) fn is_no_program(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOEXEC)
}

/// The file that is run for a command's name, where there is one.
pub(crate) fn find_program(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(|file| file.is_file());
    }
    let runs = |file: &PathBuf| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file();
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(runs)
}

impl Child {
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal; nothing happens where it has ended.
    pub(crate) fn signal(&self, signal: i32) {
        // It is not reaped yet, so the pid is this process's.
        if let (Some(pid), Some(signal)) = (self.pid(), rustix::process::Signal::from_named_raw(signal)) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Has it ended? It is not reaped yet.
    pub(crate) fn has_ended(&self) -> bool {
        self.changed(WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
    }

    /// Has it stopped since this was last asked, and is it still?
    pub(crate) fn has_stopped(&self) -> bool {
        self.changed(WaitIdOptions::STOPPED | WaitIdOptions::NOHANG)
    }

    /// Is it still in the stop that [`Child::has_stopped`] told of, and in no later one?
    pub(crate) fn is_still_stopped(&self) -> bool {
        let stopped = stat(self.id().cast_signed()).is_some_and(|(state, _)| state == 'T');
        stopped && !self.changed(WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.id().cast_signed())
    }

    /// Has it changed its state so?
    fn changed(&self, options: WaitIdOptions) -> bool {
        self.pid().is_some_and(|pid| matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(Some(_))))
    }

    /// Waits for its end and reaps it.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.process.wait()
    }
}

/// The signal that ended it.
pub(crate) fn ended_by(status: ExitStatus) -> Option<i32> {
    status.signal()
}

pub(crate) fn signal_name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

/// Ends this process as `signal` would have without a handler. `before` runs when the signal is back to its usual
/// disposition. Returns only where the kernel spares the process (pid 1 of a container).
pub(crate) fn die_by(signal: i32, before: impl FnOnce()) {
    set_disposition(signal, libc::SIG_DFL);
    before();
    let _ = signal_hook::low_level::raise(signal);
}

/// Stops this process, until somebody continues it.
pub(crate) fn stop_self() {
    let _ = signal_hook::low_level::raise(consts::SIGSTOP);
}

/// How many columns a terminal has, where it says so.
pub(crate) fn columns(terminal: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(size.ws_col.into()).filter(|columns| *columns > 0)
}

/// Is this process in the foreground of its terminal?
pub(crate) fn in_foreground() -> bool {
    // SAFETY: these calls take and return numbers only.
    unsafe {
        let own = libc::getpgrp();
        (0..=2).any(|fd| libc::tcgetpgrp(fd) == own)
    }
}

/// Is `pid` the process `ancestor` or one that it started, at any depth?
pub(crate) fn descends_from(pid: i32, ancestor: u32) -> bool {
    let mut pid = pid;
    // Deeper than any tree of processes that works on one terminal; a loop cannot be, but /proc is read in steps.
    for _ in 0..64 {
        if pid <= 1 {
            return false;
        }
        if pid.cast_unsigned() == ancestor {
            return true;
        }
        let Some((_, parent)) = stat(pid) else { return false };
        pid = parent;
    }
    false
}

/// State and parent of a process.
pub(super) fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses: the fields begin after the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Device and inode of a folder: its place in the one order in which several targets are locked.
pub(crate) fn place_of(folder: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(folder)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// When a file was read last: seconds and nanoseconds.
pub(crate) type AccessTime = (i64, i64);

/// Makes the access time of a lock file a little older than its text, so that the next read is seen by another one (with
/// `relatime` too). Returns it, and whether the text was read already since it was written. `None` where there is no such
/// file, or it belongs to another user.
pub(crate) fn age_access_time(file: &Path) -> Option<(AccessTime, bool)> {
    const OLDER: i64 = 2;
    let found = fs::symlink_metadata(file).ok()?;
    let (accessed, modified) = ((found.atime(), found.atime_nsec()), (found.mtime(), found.mtime_nsec()));
    // The library's own reads leave no access time, and a new file has that of its birth.
    let made = found.created().ok().and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    let made = made.and_then(|made| Some((i64::try_from(made.as_secs()).ok()?, i64::from(made.subsec_nanos()))));
    let was_read = accessed >= modified && made != Some(accessed);
    let times = Timestamps {
        last_access: Timespec { tv_sec: found.mtime() - OLDER, tv_nsec: 0 },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    rustix::fs::utimensat(CWD, file, &times, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    // As the file system has stored it.
    Some((access_time(file)?, was_read))
}

pub(crate) fn access_time(file: &Path) -> Option<AccessTime> {
    let metadata = fs::symlink_metadata(file).ok()?;
    Some((metadata.atime(), metadata.atime_nsec()))
}

/// What changes whenever a lock file does: a cheap way to ask whether the holder is still the same.
pub(crate) fn stamp(lock_file: &Path) -> Option<(u64, i64, i64)> {
    let metadata = fs::symlink_metadata(lock_file).ok()?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}
