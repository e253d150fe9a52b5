//! Ctrl-C in a console. These are programs of Linux, because wine makes a console of a terminal, which no Windows program has.
//! `scripts/test --windows` builds the programs for Windows and sets [`RUNNER`] and [`PROGRAMS`].

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "the tests do what other programs do")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The environment variable with the path of wine's runner.
const RUNNER: &str = "TENURE_TEST_WINE";
/// The environment variable with the folder of the programs for Windows.
const PROGRAMS: &str = "TENURE_TEST_WINDOWS_PROGRAMS";
/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
const CTRL_C: &str = "\x03";

fn variable(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("`scripts/test --windows` sets {name}")).into()
}

fn actor() -> String {
    // Wine shows the root folder as a drive.
    format!("Z:{}", variable(PROGRAMS).join("windows-actor.exe").display()).replace('/', "\\")
}

/// A program in a terminal of its own.
struct Console {
    keys: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    program: Child,
}

impl Console {
    fn start(dir: &Path, program: &str, words: &[&str]) -> Console {
        // As wide as a path is long, so that wine breaks no line.
        let size = libc::winsize { ws_row: 50, ws_col: 500, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut master, mut slave) = (0, 0);
        // SAFETY: `openpty` writes the two descriptors and reads the size; the other arguments may be null.
        let opened = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(opened, 0);
        // SAFETY: both were opened above and have no other owner.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        for descriptor in [master.as_raw_fd(), slave.as_raw_fd()] {
            // SAFETY: `fcntl` requires an open descriptor. Not inherited, so that the terminal closes with its programs.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        let mut command = Command::new(variable(RUNNER));
        command.arg(variable(PROGRAMS).join(program)).args(words).current_dir(dir).env("TERM", "xterm");
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(Stdio::from(slave));
        // SAFETY: two system calls, safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let program = command.spawn().unwrap();
        // The command object keeps the terminal's other end open.
        drop(command);
        let (sender, screen) = channel();
        let mut output = master.try_clone().unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Console { keys: master, screen, seen: String::new(), program }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown.
    fn see(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let bytes = self.screen.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.seen));
            self.seen += &String::from_utf8_lossy(&bytes);
        }
    }

    /// Waits for the program's end, and returns its exit code.
    fn code(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                return status.code();
            }
            // The terminal must be read, so that no program waits to write to it.
            if let Ok(bytes) = self.screen.recv_timeout(Duration::from_millis(10)) {
                self.seen += &String::from_utf8_lossy(&bytes);
            }
            assert!(Instant::now() < end, "it does not end: {:?}", self.seen);
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
#[ignore = "needs wine and the programs for Windows: scripts/test --windows"]
fn ctrl_c_reaches_the_command_which_ends_while_it_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Console::start(dir.path(), "tenure.exe", &["run", "q", "--", &actor(), "x", "console", "q.lock"]);
    run.see("ready");
    assert!(dir.path().join("q.lock").exists());
    run.press(CTRL_C);
    run.see("event 0, locked true");
    assert_eq!(run.code(), Some(9), "the command's own: {:?}", run.seen);
    assert!(!dir.path().join("q.lock").exists());
}

#[test]
#[ignore = "needs wine and the programs for Windows: scripts/test --windows"]
fn ctrl_c_before_the_command_starts_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Console::start(dir.path(), "tenure.exe", &["run", "-v", "q", "--", &actor(), "x", "pid"]);
    // The command starts after this.
    run.see("holding q");
    run.press(CTRL_C);
    run.code();
    assert!(!dir.path().join("q.lock").exists(), "{:?}", run.seen);
}

#[test]
#[ignore = "needs wine and the programs for Windows: scripts/test --windows"]
fn ctrl_c_ends_a_hold_and_its_waiters() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = Console::start(dir.path(), "tenure.exe", &["hold", "-v", "q"]);
    holder.see("until Ctrl-Z and Enter");
    for words in [&["run", "q", "--", "no-such-program"][..], &["hold", "q"]] {
        let mut waiter = Console::start(dir.path(), "tenure.exe", words);
        waiter.see("waiting");
        waiter.press(CTRL_C);
        assert_eq!(waiter.code(), Some(130), "{words:?}: {:?}", waiter.seen);
        assert!(dir.path().join("q.lock").exists(), "{words:?}");
    }
    holder.press(CTRL_C);
    assert_eq!(holder.code(), Some(130), "{:?}", holder.seen);
    assert!(holder.seen.contains("released q"), "{:?}", holder.seen);
    assert!(!dir.path().join("q.lock").exists());
}

#[test]
#[ignore = "needs wine and the programs for Windows: scripts/test --windows"]
fn ctrl_c_removes_the_lock_file_of_a_program_with_the_cleanup() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = Console::start(dir.path(), "windows-actor.exe", &["x", "cleanup"]);
    holder.see("ready");
    assert!(dir.path().join("target.lock").exists());
    holder.press(CTRL_C);
    holder.code();
    assert!(!dir.path().join("target.lock").exists());
}
