//! Output on terminals of 80 and 40 columns, with NO_COLOR, with TERM=dumb, and in a pipe. Text from other programs must
//! never control the terminal.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, unsafe_code)]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use common::{PATIENCE, Running, Scratch};
use rustix::event::{PollFd, PollFlags, Timespec};

/// Moves the cursor, sets the title, clears the screen, breaks the line, writes from right to left, rings.
const EVIL: &str = "\x1b[2J\x1b]0;owned\x07\r\n\u{9b}1A\u{202e}\u{7}evil";
/// The same, as the name of a file.
const EVIL_NAME: &str = "\x1b[2J\x1b]0;owned\x07\r\n\u{9b}1A\u{202e}evil";

/// A terminal for one call, whose whole output is read.
struct Screen {
    master: File,
    child: Child,
    seen: String,
}

impl Screen {
    fn start(mut command: Command, columns: u16, term: &str) -> Screen {
        let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut master, mut slave) = (0, 0);
        // SAFETY: `openpty` writes the two descriptors and reads the size; the other arguments may be null.
        let opened = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(opened, 0);
        // SAFETY: both were opened above and have no other owner. They are not inherited, so that the terminal closes with the call.
        let (master, slave) = unsafe {
            libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(slave, libc::F_SETFD, libc::FD_CLOEXEC);
            (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
        };
        command.env("TERM", term).env_remove("COLORTERM").env_remove("CLICOLOR_FORCE");
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(Stdio::from(slave));
        // SAFETY: two system calls, safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // The command object keeps the terminal's other end open.
        drop(command);
        Screen { master, child, seen: String::new() }
    }

    /// Reads more output. Returns `false` where the terminal closed.
    fn more(&mut self) -> bool {
        let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let ready = rustix::event::poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&patience)).unwrap();
        assert!(ready > 0, "nothing came: {:?}", self.seen);
        let mut bytes = [0; 4096];
        match self.master.read(&mut bytes) {
            Ok(count @ 1..) => {
                self.seen += &String::from_utf8_lossy(&bytes[..count]);
                true
            }
            _ => false,
        }
    }

    fn until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            assert!(self.more(), "no {text:?} in {:?}", self.seen);
        }
    }

    /// Reads everything up to the end of the call. Returns the exit code and the output.
    fn rest(mut self) -> (Option<i32>, String) {
        while self.more() {}
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asserts that the output has only text, line ends, and the colours and erasing of `tenure` itself.
fn assert_tame(text: &str) {
    let own = text.replace("\x1b[K", "").replace('\r', "");
    let plain = anstream::adapter::strip_str(&own).to_string();
    for c in plain.chars() {
        assert!(!c.is_control() || c == '\n', "{c:?} in {text:?}");
        assert!(c != '\u{202e}', "{text:?}");
    }
    // Only colours may remain of the escape sequences. Stripping above removes an attacker's sequences too.
    for sequence in own.split('\x1b').skip(1) {
        let end = sequence.find(|c: char| c != '[' && c != ';' && !c.is_ascii_digit()).unwrap();
        assert!(sequence.starts_with('[') && sequence[end..].starts_with('m'), "{sequence:?} in {text:?}");
    }
}

/// Asserts that no terminal had to wrap a line after any change.
fn assert_fits(text: &str, columns: usize) {
    for line in text.split(['\r', '\n']) {
        let plain = anstream::adapter::strip_str(line).to_string();
        assert!(plain.chars().count() <= columns, "{columns}: {plain:?}");
    }
}

fn evil_holder(scratch: &Scratch) -> Running {
    let mut running =
        Running::start(scratch.tenure(["run", "--label", EVIL, "a", "--", "sh", "-c", "echo up; read x", EVIL]));
    assert_eq!(running.stdout.next(), "up");
    // A foreign lock file with an evil name, left by a dead holder.
    let name = format!("{EVIL_NAME}.lock");
    fs::write(
        scratch.join(OsStr::from_bytes(name.as_bytes())),
        "{\"pid\": 999999999, \"createdAt\": \"2026-03-02T10:00:00.000Z\"}",
    )
    .unwrap();
    running.command = 0;
    running
}

#[test]
fn values_of_the_environment_cannot_control_the_terminal() {
    let scratch = Scratch::new();
    let mut command = scratch.tenure(["run", "a", "--", "true"]);
    command.env("TENURE_TIMEOUT", format!("5{EVIL}"));
    let (code, text) = Screen::start(command, 80, "xterm").rest();
    assert_eq!(code, Some(64));
    assert_tame(&text);
    assert!(text.contains("5\\u{1b}[2J") && text.contains("environment variable TENURE_TIMEOUT"), "{text:?}");
}

#[test]
fn text_from_other_programs_cannot_control_the_terminal() {
    let scratch = Scratch::new();
    let mut holder = evil_holder(&scratch);
    let calls: [&[&str]; 9] = [
        &["status", "a"],
        &["status", EVIL_NAME],
        &["ls"],
        &["ls", "-r"],
        &["clean", "--dry-run"],
        &["run", "-n", "a", "--", "true"],
        &["run", "--timeout", "1200ms", "a", "--", "true"],
        &["run", EVIL_NAME, "--", EVIL],
        &["status", "a", EVIL_NAME],
    ];
    for words in calls {
        for (columns, term) in [(80, "xterm"), (40, "xterm"), (40, "dumb")] {
            let (_, text) = Screen::start(scratch.tenure(words), columns, term).rest();
            assert!(!text.is_empty(), "{words:?}");
            assert_tame(&text);
            // The text is escaped, where it is not cut away.
            assert!(text.contains("\\u{") || columns == 40, "{words:?} {text:?}");
        }
        let piped = scratch.tenure(words).output().unwrap();
        let text = [piped.stdout, piped.stderr].concat();
        assert_tame(&String::from_utf8(text.clone()).unwrap());
        assert!(!text.contains(&0x1b), "no colours in a pipe: {words:?}");
    }
    holder.finish();
}

#[test]
fn the_waiting_line_fits_is_updated_in_place_and_erased() {
    for columns in [80, 40] {
        let scratch = Scratch::new();
        let mut holder = scratch.hold(["--label", "a label that is longer than any narrow terminal is wide", "a"]);
        let mut screen = Screen::start(scratch.tenure(["run", "a", "--", "echo", "mine"]), columns, "xterm");
        screen.until("waiting for a: held ");
        // The line is drawn again where only the time has changed.
        while screen.seen.matches("waiting for a: held ").count() < 2 {
            assert!(screen.more());
        }
        holder.finish();
        let (code, text) = screen.rest();
        assert_eq!(code, Some(0), "{text:?}");
        assert_fits(&text, usize::from(columns) - 1);
        assert_tame(&text);
        assert!(text.ends_with("\r\x1b[Kmine\r\n"), "{text:?}");
        assert_eq!(text.matches('\n').count(), 1, "no line of it remains: {text:?}");
        assert!(text.contains('…'), "it is cut: {text:?}");
    }
}

#[test]
fn the_waiting_line_is_erased_before_the_error_is_printed() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    // On a busy machine the time may be over before the line is drawn.
    let mut text = String::new();
    for timeout in ["1500ms", "5s", "20s", "60s"] {
        let command = scratch.tenure(["run", "--timeout", timeout, "a", "--", "true"]);
        let (code, shown) = Screen::start(command, 80, "xterm").rest();
        assert_eq!(code, Some(75));
        text = shown;
        if text.contains("waiting for a: held ") {
            break;
        }
    }
    assert!(text.contains("waiting for a: held "), "{text:?}");
    assert!(text.contains("\r\x1b[Ktenure: a: the lock is held by "), "{text:?}");
    let (pid, command) = (holder.pid(), holder.command);
    assert!(text.contains(&format!("held by pid {pid}, command pid {command} \"sh -c ")), "{text:?}");
    assert!(text.contains("`tenure status a`") && text.contains("`tenure break --force a`"), "{text:?}");
    holder.finish();
}

#[test]
fn a_signal_erases_the_waiting_line() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let mut screen = Screen::start(scratch.tenure(["run", "a", "--", "true"]), 80, "xterm");
    screen.until("waiting for a: held ");
    screen.master.write_all(b"\x03").unwrap();
    let (code, text) = screen.rest();
    assert_eq!(code, None, "the signal ended it");
    assert!(text.ends_with("\r\x1b[K"), "{text:?}");
    holder.finish();
}

#[test]
fn a_key_that_is_echoed_after_the_waiting_line_does_not_keep_it() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--label", "a label that is longer than any narrow terminal is wide", "a"]);
    let mut screen = Screen::start(scratch.tenure(["run", "a", "--", "true"]), 40, "xterm");
    screen.until("…\x1b[K");
    screen.master.write_all(b"\x03").unwrap();
    let (_, text) = screen.rest();
    // Where this took a second, the line was drawn once more in between.
    let (before, after) = text.split_once("^C\r").unwrap_or_else(|| panic!("{text:?}"));
    assert!(before.ends_with("…\x1b[K"), "{text:?}");
    assert!(after == "\x1b[K" || after.ends_with("…\x1b[K\r\x1b[K"), "{text:?}");
    // If the key were echoed on the next line, that line would be erased.
    assert_fits(&text, 40 - 1);
    holder.finish();
}

#[test]
fn a_terminal_that_cannot_erase_gets_one_line() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let mut screen = Screen::start(scratch.tenure(["run", "a", "--", "echo", "mine"]), 80, "dumb");
    screen.until("waiting for a: held ");
    // Waits until a live line would have changed.
    let mut live = Screen::start(scratch.tenure(["run", "a", "--", "true"]), 80, "xterm");
    while live.seen.matches("waiting for a").count() < 2 {
        assert!(live.more());
    }
    holder.finish();
    let (_, text) = screen.rest();
    assert_eq!(text.matches("waiting for a").count(), 1, "{text:?}");
    assert!(!text.contains('\x1b') && text.ends_with("alive\r\nmine\r\n"), "{text:?}");
}

#[test]
fn no_color_removes_only_the_colours() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    for (words, coloured) in [(&["ls"][..], "\x1b[33mheld"), (&["status", "a"], "\x1b[33mheld"), (&["run"], "\x1b[1m")]
    {
        let (_, text) = Screen::start(scratch.tenure(words), 80, "xterm").rest();
        assert!(text.contains(coloured), "{text:?}");
        let mut command = scratch.tenure(words);
        command.env("NO_COLOR", "1");
        let (_, text) = Screen::start(command, 80, "xterm").rest();
        assert!(!text.contains('\x1b') && text.contains("a"), "{text:?}");
        // Many libraries assume a terminal with colours where CI is set.
        let mut command = scratch.tenure(words);
        command.env("CI", "true");
        let (_, text) = Screen::start(command, 80, "dumb").rest();
        assert!(!text.contains('\x1b'), "{text:?}");
    }
    let mut command = scratch.tenure(["run", "a", "--", "echo", "mine"]);
    command.env("NO_COLOR", "1");
    let mut screen = Screen::start(command, 80, "xterm");
    screen.until("waiting for a: held ");
    holder.finish();
    assert!(screen.rest().1.ends_with("\r\x1b[Kmine\r\n"), "the line is no colour");
}

#[test]
fn the_table_fits_the_terminal() {
    let scratch = Scratch::new();
    let label = "a label that is longer than there is room for it";
    let mut holder = scratch.hold(["--label", label, "a-rather-long-name-for-a-target.jsonl"]);
    for columns in [80, 40, 20] {
        for words in [&["ls"][..], &["clean", "--dry-run"]] {
            let (_, text) = Screen::start(scratch.tenure(words), columns, "xterm").rest();
            let table: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
            assert_fits(&table, usize::from(columns));
            assert!(table.contains("onl ") && table.contains("held"), "{table:?}");
        }
    }
    let (_, wide) = Screen::start(scratch.tenure(["ls"]), 80, "xterm").rest();
    assert!(wide.contains(&holder.pid().to_string()) && wide.contains("LABEL"), "{wide:?}");
    let (_, narrow) = Screen::start(scratch.tenure(["ls"]), 40, "xterm").rest();
    assert!(narrow.contains("SINCE") && !narrow.contains("LABEL"), "{narrow:?}");
    let piped = scratch.done(["ls"]).stdout;
    assert!(piped.contains("a-rather-long-name-for-a-target.jsonl  held"), "{piped:?}");
    assert!(!piped.contains("./"), "{piped:?}");
    holder.finish();
}

#[test]
fn only_earlier_waiters_are_counted() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let first = Running::start(scratch.tenure(["run", "a", "--", "true"]));
    first.stderr.until("waiting for a");
    let mut second = Screen::start(scratch.tenure(["run", "a", "--", "true"]), 120, "xterm");
    second.until("; 1 waits before you");
    let third = Running::start(scratch.tenure(["run", "a", "--", "true"]));
    assert!(third.stderr.until("waiting for a").ends_with("; 2 wait before you"));
    // The line does not count the third process once it is in the queue.
    let drawn = second.seen.matches("waiting for a").count();
    while second.seen.matches("waiting for a").count() < drawn + 2 {
        assert!(second.more());
    }
    assert!(!second.seen.contains("2 wait"), "{:?}", second.seen);
    holder.finish();
    for mut waiter in [first, third] {
        assert_eq!(waiter.wait().code(), Some(0));
    }
    assert_eq!(second.rest().0, Some(0));
}
