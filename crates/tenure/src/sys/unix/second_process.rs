//! A second process that locks a file as this one does, for a trial of a folder.
//!
//! It is a fork without an exec, because a library has no program of its own to run. So the child only makes calls that
//! are async-signal-safe (`signal-safety(7)`, `sigaction(2)`): the threads that this process had at the fork do not exist
//! there, and may have had any mutex. It closes all descriptors but its own, so that it keeps no lock and no pipe of the
//! program open.

use std::ffi::c_char;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::retry_on_intr;

use super::dir::Dir;
use super::name::Name;
use super::this_unix;
use super::thread::with_signals_blocked;

const TRY_LOCK: u8 = b'l';
const OPEN: u8 = b'o';
const YES: u8 = b'y';
const NO: u8 = b'n';
const FAILED: u8 = b'f';

/// The longest time for an answer. The child makes two system calls for one.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the child looks whether its parent lives, in milliseconds. The end of the pipe is not enough: another child of
/// the program may have a copy of it.
const LOOK_INTERVAL: libc::c_int = 1000;

/// A second process. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct SecondProcess {
    pid: libc::pid_t,
    orders: PipeWriter,
    /// The child's end, too: a write for a child that ended must not raise SIGPIPE, which may end the program (`pipe(7)`).
    _orders_end: PipeReader,
    answers: PipeReader,
    ended: bool,
}

impl SecondProcess {
    /// Starts a process that can lock the file `locked` and open the file `opened`, both in `dir` (`fork(2)`, `pipe(2)`).
    pub(crate) fn start(dir: &Dir, locked: &Name, opened: &Name) -> io::Result<SecondProcess> {
        let (orders, to_child) = io::pipe()?;
        let (from_child, answers) = io::pipe()?;
        let child = Child {
            parent: own_pid(),
            dir: dir.raw(),
            locked: locked.as_c_str().as_ptr(),
            opened: opened.as_c_str().as_ptr(),
            orders: orders.as_raw_fd(),
            answers: answers.as_raw_fd(),
            highest: highest_descriptor(),
        };
        // A signal of the terminal must not run the program's handlers in the child.
        let pid = with_signals_blocked(|| {
            // SAFETY: fork(2) requires that a child of a process with threads make async-signal-safe calls only, until it
            // ends: `Child::run` does, and does not return.
            match unsafe { libc::fork() } {
                0 => child.run(),
                pid => pid,
            }
        });
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(SecondProcess { pid, orders: to_child, _orders_end: orders, answers: from_child, ended: false })
    }

    /// Returns its pid.
    pub(crate) fn pid(&self) -> i64 {
        self.pid.into()
    }

    /// Has it acquire the kernel lock of the first file, if it is free (`flock(2)`, `LOCK_NB`). Returns `false` if it is
    /// not.
    pub(crate) fn try_lock(&mut self) -> io::Result<bool> {
        self.ask(TRY_LOCK)
    }

    /// Has it open the second file for writing, and keep it open (`openat(2)`).
    pub(crate) fn open(&mut self) -> io::Result<()> {
        self.ask(OPEN).map(drop)
    }

    fn ask(&mut self, order: u8) -> io::Result<bool> {
        self.orders.write_all(&[order])?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a second process did not answer"));
            }
            let mut fds = [PollFd::from_borrowed_fd(self.answers.as_fd(), PollFlags::IN)];
            if retry_on_intr(|| rustix::event::poll(&mut fds, Timespec::try_from(left).ok().as_ref()))? > 0 {
                break;
            }
        }
        let mut answer = [0; 1];
        self.answers.read_exact(&mut answer)?;
        match answer[0] {
            YES => Ok(true),
            NO => Ok(false),
            _ => {
                let mut code = [0; 4];
                self.answers.read_exact(&mut code)?;
                Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code)))
            }
        }
    }

    /// Kills it, and waits for its end (`kill(2)`, `SIGKILL`; `waitpid(2)`). No other process has its pid before that.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        // SAFETY: kill(2) and waitpid(2) take numbers, and the pid must be the child's: it is until waitpid(2), because the
        // child does not end by itself while this process has its pipe. A null pointer requests no status.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            while libc::waitpid(self.pid, std::ptr::null_mut(), 0) < 0 {
                match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    // The program ignores SIGCHLD, or waits for every child: this one has ended all the same.
                    error if error.raw_os_error() == Some(libc::ECHILD) => break,
                    error => return Err(error),
                }
            }
        }
        Ok(())
    }
}

impl Drop for SecondProcess {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// The child's descriptors, and names that live on the parent's stack.
struct Child {
    parent: libc::pid_t,
    dir: RawFd,
    locked: *const c_char,
    opened: *const c_char,
    orders: RawFd,
    answers: RawFd,
    /// No descriptor above this is open.
    highest: RawFd,
}

impl Child {
    /// Does what the parent orders, until the parent ends. Makes async-signal-safe calls only, and allocates nothing.
    fn run(&self) -> ! {
        let mut first = 0;
        let mut kept = [self.dir, self.orders, self.answers];
        kept.sort_unstable();
        for fd in kept.into_iter().chain([RawFd::MAX]) {
            if first < fd {
                // SAFETY: the precondition is that nothing owns the descriptors: this process runs nothing but this function.
                unsafe { this_unix::close::close_range(first, fd - 1, self.highest) };
            }
            first = fd.saturating_add(1);
        }
        let mut lock = -1;
        loop {
            let mut order = 0_u8;
            let mut ready = libc::pollfd { fd: self.orders, events: libc::POLLIN, revents: 0 };
            // SAFETY: poll(2) and read(2) require writable memory for one `pollfd` and one byte: both are on this stack.
            // getppid(2) and _exit(2) have no precondition.
            unsafe {
                if libc::poll(&raw mut ready, 1, LOOK_INTERVAL) <= 0 {
                    if libc::getppid() != self.parent {
                        libc::_exit(0);
                    }
                    continue;
                }
                if libc::read(self.orders, (&raw mut order).cast(), 1) != 1 {
                    libc::_exit(0);
                }
            }
            match order {
                TRY_LOCK => {
                    if lock < 0 {
                        lock = self.open(self.locked, libc::O_RDWR);
                    }
                    // SAFETY: flock(2) takes numbers only.
                    let locked = lock >= 0 && unsafe { libc::flock(lock, libc::LOCK_EX | libc::LOCK_NB) } == 0;
                    self.answer(locked, lock >= 0);
                }
                _ => {
                    let opened = self.open(self.opened, libc::O_WRONLY) >= 0;
                    self.answer(opened, false);
                }
            }
        }
    }

    fn open(&self, name: *const c_char, access: libc::c_int) -> RawFd {
        // SAFETY: openat(2) requires a path that ends in a zero byte: the names are of the caller of `start`, and this
        // process has a copy of that memory.
        unsafe {
            let flags = access | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
            libc::openat(self.dir, name, flags)
        }
    }

    /// Writes the answer. A refusal is one where the lock is another's (EWOULDBLOCK), and may be one at all.
    fn answer(&self, done: bool, may_refuse: bool) {
        let error = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        let mut message = [FAILED; 5];
        let length = match done {
            true => {
                message[0] = YES;
                1
            }
            false if may_refuse && error == libc::EWOULDBLOCK => {
                message[0] = NO;
                1
            }
            false => {
                message[1..].copy_from_slice(&error.to_ne_bytes());
                message.len()
            }
        };
        // SAFETY: write(2) requires readable bytes: they are on this stack. A pipe takes so few at once.
        unsafe { libc::write(self.answers, message.as_ptr().cast(), length) };
    }
}

/// Returns a number that no open descriptor has, or few (`sysconf(3)`, `_SC_OPEN_MAX`).
fn highest_descriptor() -> RawFd {
    // SAFETY: sysconf(3) has no precondition.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    RawFd::try_from(most).unwrap_or(RawFd::MAX).clamp(256, 1 << 16)
}

fn own_pid() -> libc::pid_t {
    // SAFETY: getpid(2) has no precondition.
    unsafe { libc::getpid() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::types::{Access, LockKind};

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn it_locks_and_loses_the_lock_with_its_life() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let [locked, opened] = ["locked", "opened"].map(|name| Name::new(name.as_ref()).unwrap());
        let own = dir.create_new(&locked, 0o600).unwrap();
        let mut other = SecondProcess::start(&dir, &locked, &opened).unwrap();
        assert_eq!(other.open().unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(dir.create_new(&opened, 0o600).unwrap());
        other.open().unwrap();
        assert!(own.try_lock(LockKind::Exclusive).unwrap());
        assert!(!other.try_lock().unwrap());
        own.unlock().unwrap();
        assert!(other.try_lock().unwrap());
        assert!(!own.try_lock(LockKind::Exclusive).unwrap());
        let pid = other.pid();
        other.kill().unwrap();
        assert!(own.try_lock(LockKind::Exclusive).unwrap());
        assert!(crate::sys::unix::is_no_such_process(&crate::sys::unix::signal_zero(pid).unwrap_err()));
        // A child that another program ended gives no answer. A write without a reader would be BrokenPipe, after SIGPIPE.
        let mut ended = SecondProcess::start(&dir, &locked, &opened).unwrap();
        // SAFETY: kill(2) takes numbers, and the pid is the child's until `ended` is dropped. waitid(2) requires memory for a
        // `siginfo_t`, of which all bytes may be zero; it leaves the child to be waited for again.
        unsafe {
            libc::kill(ended.pid, libc::SIGKILL);
            let mut info = std::mem::zeroed();
            let id = libc::id_t::try_from(ended.pid).unwrap();
            assert_eq!(libc::waitid(libc::P_PID, id, &raw mut info, libc::WEXITED | libc::WNOWAIT), 0);
        }
        assert_eq!(ended.open().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        drop(ended);
        // Dropped without an end: it ends all the same.
        let third = SecondProcess::start(&dir, &locked, &opened).unwrap();
        let pid = third.pid();
        drop(third);
        assert!(crate::sys::unix::signal_zero(pid).is_err());
        drop(dir.open_at(&opened, Access::Read).unwrap());
    }
}
