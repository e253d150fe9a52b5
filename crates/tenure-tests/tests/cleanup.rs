//! Signals and exits: no lock file stays if a handler can remove it, and the process ends as it would have without one.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use tenure::{Lock, State, Wait, status};
use tenure_tests::{Actor, folder, has_ended, signal, until};

const SIGNALS: [(i32, &str); 5] = [
    (libc::SIGINT, "INT"),
    (libc::SIGTERM, "TERM"),
    (libc::SIGHUP, "HUP"),
    (libc::SIGQUIT, "QUIT"),
    (libc::SIGABRT, "ABRT"),
];

fn opened(target: &Path, keys: &str) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open l {} {keys}", target.display()));
    actor
}

fn holding(target: &Path, keys: &str) -> Actor {
    let mut actor = opened(target, keys);
    actor.must("cleanup");
    actor.must("acquire l g never");
    actor
}

fn assert_crash_is_reported(target: &Path, pid: u32) {
    assert_eq!(opened(target, "").must("acquire l g never")["crashed"]["pid"], pid);
}

#[test]
fn each_signal_ends_the_process_as_before_and_leaves_no_lock_file() {
    for (number, name) in SIGNALS {
        let dir = folder();
        let targets = ["a", "b", "c"].map(|name| dir.path().join(name));
        let mut actor = holding(&targets[0], "");
        for (n, target) in targets.iter().enumerate().skip(1) {
            actor.must(&format!("open l{n} {}", target.display()));
            actor.must(&format!("acquire l{n} g{n} never"));
        }
        assert!(dir.path().join("c.lock").exists());
        let pid = actor.pid();
        signal(pid, number);
        let status = actor.child.wait().unwrap();
        assert_eq!(status.signal(), Some(number), "{name}: {status}");
        for target in &targets {
            let lock_file = target.with_extension("lock");
            assert!(!lock_file.exists(), "{name}");
            assert_crash_is_reported(target, pid);
        }
    }
}

#[test]
fn an_abort_leaves_no_lock_file() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = holding(&target, "");
    let pid = actor.pid();
    actor.send("abort");
    assert_eq!(actor.child.wait().unwrap().signal(), Some(libc::SIGABRT));
    assert!(!dir.path().join("t.lock").exists());
    assert_crash_is_reported(&target, pid);
}

#[test]
fn a_handler_of_the_program_decides_in_either_order_of_installation() {
    for (number, name) in SIGNALS {
        for first in [true, false] {
            let dir = folder();
            let target = dir.path().join("t");
            let mut actor = opened(&target, "");
            if first {
                actor.must(&format!("handler {name}"));
            }
            actor.must("cleanup");
            actor.must("acquire l g never");
            if !first {
                actor.must(&format!("handler {name}"));
            }
            signal(actor.pid(), number);
            assert_eq!(actor.receive()["event"], "handled", "{name}");
            // The program continues, and its lock is held and shown.
            actor.must("check g");
            assert_eq!(status(&target).unwrap().state, State::Held);
            // Another signal still ends it.
            let other = if number == libc::SIGTERM { libc::SIGINT } else { libc::SIGTERM };
            signal(actor.pid(), other);
            assert_eq!(actor.child.wait().unwrap().signal(), Some(other));
            assert!(!dir.path().join("t.lock").exists());
        }
    }
}

#[test]
fn a_handler_that_ends_the_process_runs_after_the_lock_file_is_gone() {
    for (number, name) in SIGNALS {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, "");
        actor.must(&format!("ender {name}"));
        // In any order of installation, and more than once.
        actor.must("cleanup");
        actor.must(&format!("cleanup-over {name}"));
        actor.must(&format!("cleanup-over {name}"));
        actor.must("acquire l g never");
        let pid = actor.pid();
        signal(pid, number);
        assert_eq!(actor.receive()["event"], "handled", "{name}");
        assert_eq!(actor.child.wait().unwrap().code(), Some(9), "{name}");
        assert!(!dir.path().join("t.lock").exists(), "{name}");
        assert_crash_is_reported(&target, pid);
    }
}

#[test]
fn a_handler_installed_later_still_decides() {
    let dir = folder();
    let mut actor = opened(&dir.path().join("t"), "");
    actor.must("ender INT");
    actor.must("cleanup-over INT");
    actor.must("acquire l g never");
    actor.must("handler INT");
    signal(actor.pid(), libc::SIGINT);
    assert_eq!(actor.receive()["event"], "handled");
    actor.must("check g");
    assert!(dir.path().join("t.lock").exists());
}

#[test]
fn a_signal_reset_to_its_default_action_is_handled_after_the_next_call() {
    for (number, name) in SIGNALS {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, "");
        actor.must(&format!("handler {name}"));
        actor.must("cleanup");
        actor.must("acquire l g never");
        signal(actor.pid(), number);
        assert_eq!(actor.receive()["event"], "handled", "{name}");
        assert!(dir.path().join("t.lock").exists(), "{name}");
        // As a runtime does after the removal of its program's last listener.
        actor.must(&format!("default {name}"));
        actor.must("cleanup");
        let pid = actor.pid();
        signal(pid, number);
        assert_eq!(actor.child.wait().unwrap().signal(), Some(number), "{name}");
        assert!(!dir.path().join("t.lock").exists(), "{name}");
        assert_crash_is_reported(&target, pid);
    }
}

#[test]
fn an_ignored_signal_stays_ignored() {
    for (number, name) in SIGNALS {
        for first in [true, false] {
            let dir = folder();
            let mut actor = opened(&dir.path().join("t"), "");
            if first {
                actor.must(&format!("ignore {name}"));
            }
            actor.must("cleanup");
            actor.must("acquire l g never");
            if !first {
                actor.must(&format!("ignore {name}"));
            }
            signal(actor.pid(), number);
            actor.must("check g");
            assert!(dir.path().join("t.lock").exists(), "{name}");
        }
    }
}

#[test]
fn exit_removes_the_lock_file_and_underscore_exit_does_not() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = holding(&target, "");
    let pid = actor.pid();
    actor.send("exit 7");
    assert_eq!(actor.child.wait().unwrap().code(), Some(7));
    assert!(!dir.path().join("t.lock").exists());
    assert_crash_is_reported(&target, pid);

    for end in ["leave", "kill"] {
        let mut actor = holding(&target, "");
        let pid = actor.pid();
        if end == "leave" {
            actor.send("leave");
            assert_eq!(actor.child.wait().unwrap().code(), Some(0));
        } else {
            actor.kill();
        }
        assert!(dir.path().join("t.lock").exists(), "{end}");
        let found = status(&target).unwrap();
        assert_eq!((found.state, found.holder.unwrap().pid()), (State::Stale, Some(pid.into())));
        assert_crash_is_reported(&target, pid);
        assert!(dir.path().join("t.lock").exists(), "the next process was killed");
        Lock::open(&target).unwrap().acquire_with(Wait::Never).unwrap().release().unwrap();
    }
}

#[test]
fn a_handler_installed_twice_removes_nothing_after_a_release() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = holding(&target, "");
    actor.must("cleanup");
    actor.must("release g");
    let mut other = opened(&target, "");
    other.must("acquire l g never");
    signal(actor.pid(), libc::SIGTERM);
    assert_eq!(actor.child.wait().unwrap().signal(), Some(libc::SIGTERM));
    other.must("check g");
    other.must("release g");
}

#[test]
fn a_foreign_successors_lock_file_stays() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = holding(&target, "");
    // The lock file was removed, and a foreign program created its own.
    std::fs::remove_file(dir.path().join("t.lock")).unwrap();
    std::fs::write(dir.path().join("t.lock"), format!("{{\"pid\": {}}}", std::process::id())).unwrap();
    signal(actor.pid(), libc::SIGTERM);
    assert_eq!(actor.child.wait().unwrap().signal(), Some(libc::SIGTERM));
    assert!(dir.path().join("t.lock").exists());
}

#[test]
fn a_signal_always_ends_a_process_whose_threads_acquire() {
    for round in 0..60 {
        let dir = folder();
        let mut actor = Actor::start();
        actor.must("cleanup");
        for n in 0..3 {
            actor.must(&format!("open l{n} {}", dir.path().join(format!("t{n}")).display()));
            actor.must(&format!("hammer l{n} 2"));
        }
        let (number, name) = SIGNALS[round % SIGNALS.len()];
        let enough = 20 * round as u64;
        until("it hammers", || actor.must("hammered")["count"].as_u64().unwrap() > enough);
        signal(actor.pid(), number);
        until("it ends", || actor.child.try_wait().unwrap().is_some());
        assert_eq!(actor.child.wait().unwrap().signal(), Some(number), "{name}");
        for n in 0..3 {
            let target = dir.path().join(format!("t{n}"));
            // A lock file that was just created may remain, which is stale at once.
            assert!(matches!(status(&target).unwrap().state, State::Free | State::Stale));
            Lock::open(&target).unwrap().acquire_with(Wait::Never).unwrap().release().unwrap();
            assert!(!target.with_extension("lock").exists());
        }
    }
}

#[test]
fn a_forked_childs_end_releases_nothing_of_its_parent() {
    for number in [libc::SIGTERM, libc::SIGINT] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = holding(&target, "");
        let child = u32::try_from(actor.must("fork-stay")["pid"].as_u64().unwrap()).unwrap();
        signal(child, number);
        until("the child has ended", || has_ended(child));
        assert!(dir.path().join("t.lock").exists());
        actor.must("check g");
    }
    // A child that exits, and a child that libc does not know.
    for fork in ["fork-on", "raw-fork-on"] {
        let dir = folder();
        let mut actor = holding(&dir.path().join("t"), "");
        actor.must(fork);
        actor.send("exit 3");
        assert_eq!(actor.receive()["event"], "forked");
        actor.must("check g");
    }
}
