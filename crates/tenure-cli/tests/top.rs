//! `tenure top` in a real terminal: what is on its screen, and that the terminal is restored.

#![cfg(all(target_os = "linux", feature = "top"))]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, unsafe_code)]

mod common;

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use common::{PATIENCE, Running, Scratch, ends, kill};
use rustix::process::Signal;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";
const DOWN: &str = "\x1b[B";

/// A terminal, and a program in it.
struct Terminal {
    keys: Option<File>,
    output: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    program: Child,
    local_modes: LocalModes,
}

impl Terminal {
    fn open(mut command: Command) -> Terminal {
        // Neither is inherited, at no time by what another thread starts, so that the terminal closes with the program.
        // SAFETY: the descriptor that it returns has no other owner.
        let master = unsafe {
            let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            assert!(master >= 0, "{}", std::io::Error::last_os_error());
            File::from_raw_fd(master)
        };
        let mut name = [0; 64];
        // SAFETY: the descriptor is open, and the name's buffer has the length that is passed.
        unsafe {
            assert_eq!(libc::grantpt(master.as_raw_fd()), 0);
            assert_eq!(libc::unlockpt(master.as_raw_fd()), 0);
            assert_eq!(libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr(), name.len()), 0);
        }
        // SAFETY: `ptsname_r` ends the name by a zero.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_str().unwrap();
        // `open` sets O_CLOEXEC.
        let slave = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name).unwrap();
        tcsetwinsize(&master, winsize(24, 100)).unwrap();
        let local_modes = tcgetattr(&master).unwrap().local_modes;
        command.env("TERM", "xterm");
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(Stdio::from(slave));
        // SAFETY: system calls only, safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // What runs the tests in the background may ignore these, and the program would, too.
                for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let program = command.spawn().unwrap();
        // The command object keeps the terminal's other end open.
        drop(command);
        let (sender, output) = channel();
        let mut reader = master.try_clone().unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { keys: Some(master), output, parser: vt100::Parser::new(24, 100, 0), program, local_modes }
    }

    fn top(scratch: &Scratch, words: &[&str]) -> Terminal {
        let mut terminal = Terminal::open(scratch.tenure([&["top"], words].concat()));
        terminal.see("the table", |screen| screen.contains("TARGET"));
        assert!(terminal.parser.screen().alternate_screen() && terminal.parser.screen().hide_cursor());
        terminal
    }

    fn press(&mut self, keys: &str) {
        self.keys.as_ref().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        self.parser.screen_mut().set_size(rows, columns);
        tcsetwinsize(self.keys.as_ref().unwrap(), winsize(rows, columns)).unwrap();
    }

    /// Waits until the screen is as described, and returns its text.
    fn see(&mut self, what: &str, is_wanted: impl Fn(&str) -> bool) -> String {
        self.see_screen(what, |screen| is_wanted(&screen.contents()))
    }

    fn see_screen(&mut self, what: &str, is_wanted: impl Fn(&vt100::Screen) -> bool) -> String {
        let began = Instant::now();
        loop {
            let screen = self.parser.screen().contents();
            if is_wanted(self.parser.screen()) {
                return screen;
            }
            // The times on the screen are updated once a second, so there is always more output.
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) if began.elapsed() < PATIENCE => self.parser.process(&bytes),
                _ => panic!("never seen: {what}\n{screen}"),
            }
        }
    }

    /// Returns the lines of locks on the screen, once they are these.
    fn see_rows(&mut self, targets: &[&str]) -> Vec<String> {
        let rows = |screen: &str| -> Vec<String> {
            let lines = screen.lines().skip_while(|line| !line.starts_with("TARGET")).skip(1);
            lines.take_while(|line| !line.is_empty()).map(str::to_owned).collect()
        };
        let screen = self.see(&format!("{targets:?}"), |screen| {
            let names: Vec<String> =
                rows(screen).iter().filter_map(|row| row.split_whitespace().next().map(str::to_owned)).collect();
            names == targets
        });
        rows(&screen)
    }

    /// Waits for the program's end, and checks that the terminal is as it was before.
    fn end(&mut self) -> ExitStatus {
        assert!(ends(self.program.id().cast_signed()), "still running");
        let status = self.program.wait().unwrap();
        while let Ok(bytes) = self.output.recv_timeout(PATIENCE) {
            self.parser.process(&bytes);
        }
        self.is_restored();
        status
    }

    fn is_restored(&self) {
        let screen = self.parser.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "{}", screen.contents());
        assert_eq!(tcgetattr(self.keys.as_ref().unwrap().as_fd()).unwrap().local_modes, self.local_modes);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
fn locks_come_and_go() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--label", "run 8f2c", "a"]);
    let mut terminal = Terminal::top(&scratch, &[]);
    let rows = terminal.see_rows(&["a"]);
    for part in ["held", &holder.pid().to_string(), "run 8f2c"] {
        assert!(rows[0].contains(part), "{part}: {rows:?}");
    }
    let mut waiter = Running::start(scratch.tenure(["run", "a", "--", "sh", "-c", "echo mine; read x"]));
    terminal.see("the waiter", |screen| screen.starts_with("tenure top .: 1 held, 1 waiter\n"));
    holder.finish();
    terminal.see("the next holder", |screen| screen.contains(&waiter.pid().to_string()));
    waiter.finish();
    terminal.see("no lock", |screen| screen.contains("no locks in ."));
    let mut below = scratch.hold(["below/b"]);
    let mut dead = scratch.hold(["c"]);
    terminal.see_rows(&["c"]);
    kill(dead.pid(), Signal::STOP);
    kill(dead.command, Signal::KILL);
    kill(dead.pid(), Signal::KILL);
    dead.wait();
    terminal.see("the crash", |screen| screen.starts_with("tenure top .: 0 held, 1 stale, 1 crash\n"));
    terminal.press("q");
    assert_eq!(terminal.end().code(), Some(0));
    below.finish();
}

#[test]
fn sort_filter_and_help() {
    let scratch = Scratch::new();
    let mut holders = ["build", "backup", "deploy"].map(|target| scratch.hold(["--label", "nightly", target]));
    let mut terminal = Terminal::top(&scratch, &[]);
    terminal.see_rows(&["build", "backup", "deploy"]);
    terminal.press("r");
    terminal.see_rows(&["deploy", "backup", "build"]);
    terminal.press("<<");
    terminal.see("the sorted column", |screen| screen.contains("TARGET▲"));
    terminal.see_rows(&["backup", "build", "deploy"]);
    terminal.press("/BU");
    terminal.see_rows(&["build"]);
    terminal.see("the filter", |screen| screen.contains("filter: BU"));
    terminal.press("\x7f\r");
    terminal.see_rows(&["backup", "build"]);
    terminal.press("\x1b");
    terminal.see_rows(&["backup", "build", "deploy"]);
    terminal.press("?");
    terminal.see("the help", |screen| screen.contains("/ F4") && screen.contains("Ctrl-Z"));
    terminal.press(DOWN);
    terminal.see_rows(&["backup", "build", "deploy"]);
    terminal.press("q");
    assert_eq!(terminal.end().code(), Some(0));
    for holder in &mut holders {
        holder.finish();
    }
}

#[test]
fn a_terminal_that_becomes_small() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--label", "nightly", "sessions.jsonl"]);
    let mut terminal = Terminal::top(&scratch, &[]);
    terminal.see_rows(&["sessions.jsonl"]);
    terminal.resize(3, 24);
    terminal.see("a few columns", |screen| {
        let lines: Vec<&str> = screen.lines().collect();
        lines.len() == 3 && lines[0].contains("HELD▼") && !lines[0].contains("LABEL") && lines[1].contains("jsonl")
    });
    terminal.resize(1, 5);
    terminal.see("the end of the name", |screen| screen.starts_with("…sonl"));
    terminal.resize(24, 100);
    terminal.see("all columns", |screen| screen.contains("LABEL"));
    terminal.press("q");
    assert_eq!(terminal.end().code(), Some(0));
    holder.finish();
}

#[test]
fn signals_and_a_hangup_restore_the_terminal() {
    let scratch = Scratch::new();
    for signal in [Signal::TERM, Signal::HUP, Signal::QUIT] {
        let mut terminal = Terminal::top(&scratch, &[]);
        kill(terminal.program.id().cast_signed(), signal);
        assert_eq!(terminal.end().signal(), Some(signal.as_raw()));
    }
    let mut terminal = Terminal::top(&scratch, &[]);
    terminal.press(CTRL_C);
    assert_eq!(terminal.end().signal(), Some(Signal::INT.as_raw()));
}

#[test]
fn ctrl_z_and_fg() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "--noediting", "-i"]).current_dir(scratch.path());
    // The user's history is left alone, and the words of the shell are English.
    bash.env("PS1", "$ ").env_remove("PROMPT_COMMAND").env("HISTFILE", "/dev/null").env("LC_ALL", "C.UTF-8");
    let program = Path::new(env!("CARGO_BIN_EXE_tenure"));
    bash.env("PATH", format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap()));
    let mut terminal = Terminal::open(bash);
    terminal.press("tenure top\n");
    terminal.see_rows(&["a"]);
    for round in 0..2_usize {
        terminal.press(CTRL_Z);
        terminal.see_screen("the shell", |screen| {
            !screen.alternate_screen() && screen.contents().matches("Stopped").count() == round + 1
        });
        // What is typed is shown, and lines are read as ever.
        terminal.press(&format!("echo rou''nd {round}\n"));
        terminal.see("the shell's answer", |screen| screen.contains(&format!("round {round}\n")));
        terminal.is_restored();
        terminal.press("fg\n");
        terminal.see_screen("the table", |screen| screen.alternate_screen() && screen.contents().contains("TARGET"));
        terminal.see_rows(&["a"]);
        terminal.press("/none");
        terminal.see("the filter", |screen| screen.contains("Esc removes the filter"));
        terminal.press("\x1b");
        terminal.see_rows(&["a"]);
    }
    terminal.press("q");
    terminal.see_screen("the shell", |screen| !screen.alternate_screen());
    terminal.press("echo co''de=$?.; exit\n");
    terminal.see("the exit code", |screen| screen.contains("code=0."));
    terminal.end();
    holder.finish();
}

#[test]
fn without_a_terminal_it_names_other_commands() {
    let scratch = Scratch::new();
    let done = scratch.done(["top", "jobs"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(69), ""));
    assert!(done.stderr.contains("tenure ls jobs") && done.stderr.contains("tenure events jobs"), "{done:?}");
    let mut dumb = scratch.tenure(["top"]);
    dumb.env("TERM", "dumb");
    assert_eq!(dumb.output().unwrap().status.code(), Some(69));
}
