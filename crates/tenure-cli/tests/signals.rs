//! Signals to `tenure`: each reaches the command once. Before there is a command, they have their usual effect.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use common::{Running, Scratch};
use rustix::process::Signal;

const SIGNALS: [(&str, Signal); 9] = [
    ("INT", Signal::INT),
    ("TERM", Signal::TERM),
    ("HUP", Signal::HUP),
    ("QUIT", Signal::QUIT),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("CONT", Signal::CONT),
    ("TSTP", Signal::TSTP),
    ("WINCH", Signal::WINCH),
];

/// Prints each signal that it receives and each line that it reads, and exits with 7 at the end of its input. It is written
/// in Python, because bash does not pass WINCH to traps.
const SAYS_SIGNALS: &str = "
import signal, sys
def say(number, frame):
    print(signal.Signals(number).name[3:], flush=True)
for name in 'INT TERM HUP QUIT USR1 USR2 CONT TSTP WINCH'.split():
    signal.signal(getattr(signal, 'SIG' + name), say)
print('ready', flush=True)
for line in iter(sys.stdin.readline, ''):
    print('line', line, end='', flush=True)
sys.exit(7)
";

#[test]
fn each_signal_reaches_the_command_once() {
    let scratch = Scratch::new();
    let mut running = Running::start(scratch.tenure(["run", "a", "--", "python3", "-c", SAYS_SIGNALS]));
    assert_eq!(running.stdout.next(), "ready");
    for (name, signal) in SIGNALS {
        running.signal(signal);
        assert_eq!(running.stdout.next(), name);
        // A second signal would be printed before the line.
        running.say(name);
        assert_eq!(running.stdout.next(), format!("line {name}"));
    }
    assert_eq!(running.finish().code(), Some(7));
    assert_eq!(running.stdout.rest(), [""; 0]);
    assert!(!scratch.names().contains(&"a.lock".to_owned()));
}

#[test]
fn signals_from_the_command_to_its_group_are_not_passed_on_again() {
    let scratch = Scratch::new();
    // An editor signals its group in this way at Ctrl-Z. This signal does not stop. The command has received it already.
    let script = "trap 'echo USR1' USR1; echo ready; read -r line; kill -USR1 0
        while read -r line; do echo \"line $line\"; done; exit 7";
    let mut command = scratch.tenure(["run", "a", "--", "bash", "-c", script]);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut running = Running::start(command);
    assert_eq!(running.stdout.next(), "ready");
    running.say("go");
    assert_eq!(running.stdout.next(), "USR1");
    running.signal(Signal::WINCH);
    running.say("end");
    assert_eq!(running.stdout.next(), "line end");
    assert_eq!(running.finish().code(), Some(7));
}

#[test]
fn inherited_ignored_signals_stay_ignored() {
    let scratch = Scratch::new();
    let words = ["run", "a", "--", "python3", "-c", SAYS_SIGNALS];
    let tenure = scratch.tenure(words);
    let mut command = Command::new("bash");
    command.arg("-c").arg("trap '' HUP INT; exec \"$0\" \"$@\"").arg(tenure.get_program()).args(tenure.get_args());
    command.current_dir(scratch.path());
    let mut running = Running::start(command);
    assert_eq!(running.stdout.next(), "ready");
    running.signal(Signal::HUP);
    running.signal(Signal::INT);
    running.signal(Signal::USR1);
    assert_eq!(running.stdout.next(), "USR1");
    assert_eq!(running.finish().code(), Some(7));
}

#[test]
fn an_ignored_sigchld_does_not_discard_the_exit_code() {
    let scratch = Scratch::new();
    let tenure = scratch.tenure(["run", "a", "--", "sh", "-c", "exit 9"]);
    let mut command = Command::new("bash");
    command.arg("-c").arg("trap '' CHLD; exec \"$0\" \"$@\"").arg(tenure.get_program()).args(tenure.get_args());
    assert_eq!(command.current_dir(scratch.path()).stdin(Stdio::null()).status().unwrap().code(), Some(9));
}

#[test]
fn a_signal_during_a_wait_ends_tenure_and_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1] {
        let scratch = Scratch::new();
        let mut holder = scratch.hold(["b"]);
        // `a` is acquired by then, and is released.
        let mut waiter = Running::start(scratch.tenure(["run", "a", "b", "--", "echo", "ran"]));
        waiter.stderr.until("waiting for b");
        waiter.signal(signal);
        assert_eq!(waiter.wait().signal(), Some(signal.as_raw()), "{signal:?}");
        assert_eq!(waiter.stdout.rest(), [""; 0]);
        for target in ["a", "b"] {
            if target == "b" {
                holder.finish();
            }
            let done = scratch.done(["run", "-n", target, "--", "true"]);
            assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{signal:?}: {done:?}");
        }
    }
}

#[test]
fn stopping_and_continuing_tenure_stops_and_continues_the_command() {
    let scratch = Scratch::new();
    let mut command = scratch.tenure(["run", "a", "--", "sh", "-c", "echo ready; read x; echo \"got $x\""]);
    // The group is not orphaned, because its parent, this test, is in another group of the same session.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut running = Running::start(command);
    assert_eq!(running.stdout.next(), "ready");
    running.signal(Signal::TSTP);
    let pid = rustix::process::Pid::from_raw(running.pid());
    let stopped = rustix::process::waitpid(pid, rustix::process::WaitOptions::UNTRACED).unwrap().unwrap().1;
    assert!(stopped.stopped(), "{stopped:?}");
    running.say("line");
    running.signal(Signal::CONT);
    assert_eq!(running.stdout.next(), "got line");
    assert_eq!(running.finish().code(), Some(0));
}

#[test]
fn the_command_inherits_the_signals_as_under_nice() {
    let scratch = Scratch::new();
    let look = |how: &[&str], by: &[&str]| {
        let mut command = Command::new("env");
        command.args(how).args(by).args(["cat", "/proc/self/status"]).current_dir(scratch.path());
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let lines =
            text.lines().filter(|line| ["SigBlk:", "SigIgn:", "SigCgt:"].iter().any(|name| line.starts_with(name)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let tenure = [env!("CARGO_BIN_EXE_tenure"), "run", "a", "--"];
    // A service of systemd ignores PIPE, nohup ignores HUP, and a background job of a script ignores INT and QUIT.
    for how in [
        &["--default-signal"][..],
        &["--ignore-signal=PIPE"],
        &["--ignore-signal=HUP"],
        &["--ignore-signal=INT,QUIT"],
        &["--ignore-signal=CHLD"],
        &["--ignore-signal=CHLD,PIPE,TSTP,TTOU,USR1,WINCH,URG,ALRM"],
        &["--default-signal", "--block-signal=USR1,PIPE"],
    ] {
        let nice = look(how, &["nice"]);
        assert_eq!(nice.len(), 3, "{nice:?}");
        assert_eq!(look(how, &tenure), nice, "{how:?}");
    }
}
