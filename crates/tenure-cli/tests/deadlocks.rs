//! Deadlocks of commands: a wait that would close a circle fails at once and names it, also through the commands that run under
//! a lock; and `tenure status --deadlocks`.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scratch};
use tenure::{Lock, Requester};

const TENURE: &str = env!("CARGO_BIN_EXE_tenure");

/// Starts a holder of `target` that says so, and runs `next` in the end.
fn hold_and(scratch: &Scratch, target: &[&str], next: &str) -> Running {
    hold_named_and(scratch, target, target[0], next)
}

/// As [`hold_and`], where what is held has a name of its own.
fn hold_named_and(scratch: &Scratch, target: &[&str], named: &str, next: &str) -> Running {
    let script = format!("echo $$; read x; {next}");
    let running = Running::start(scratch.tenure([&["run"], target, &["-c", &script]].concat()));
    let pid: i64 = running.stdout.next().parse().unwrap();
    // The record names the command once the command runs.
    let began = Instant::now();
    while scratch.json(["status", "--json", named])["holder"]["commandPid"] != pid {
        assert!(began.elapsed() < PATIENCE, "no record names the command");
    }
    running
}

/// Waits until a holder of `target`, or a command that runs under it, has said that it waits.
fn until_announced(scratch: &Scratch, target: &str) {
    let note = scratch.join(format!(".tenure/{target}.lock.0.waits"));
    let began = Instant::now();
    while !fs::metadata(&note).is_ok_and(|note| note.len() > 0) {
        assert!(began.elapsed() < PATIENCE, "nobody says that it waits under {target}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a process waits for the lock.
fn until_waiting(scratch: &Scratch, target: &str) {
    let began = Instant::now();
    while scratch.json(["status", "--json", target])["waiters"] != 1 {
        assert!(began.elapsed() < PATIENCE, "no process waits for {target}");
    }
}

fn run(target: &str) -> String {
    format!("{TENURE} run {target} -- touch ran")
}

#[test]
fn a_circle_through_commands_is_named() {
    // The command itself waits.
    for (one, other) in [
        (format!("exec {}", run("y")), format!("exec {}", run("x"))),
        (format!("exec {TENURE} run --label a y -c 'touch ran'"), format!("exec {TENURE} run -w 1h x -- touch ran")),
    ] {
        let scratch = Scratch::new();
        let mut first = hold_and(&scratch, &["x"], &one);
        let mut second = hold_and(&scratch, &["y"], &other);
        first.say("");
        until_announced(&scratch, "x");
        second.say("");
        let says = second.stderr.until("the wait would never end");
        let folder = scratch.path().to_str().unwrap();
        let (first_pid, second_pid) = (first.pid(), second.pid());
        for part in [
            format!("runs under {folder}/x, which pid {first_pid} holds for it, and waits for {folder}/y"),
            format!("runs under {folder}/y, which pid {second_pid} holds for it, and waits for {folder}/x"),
        ] {
            assert!(says.contains(&part), "{one} {other}: {says}");
        }
        assert_eq!(second.wait().code(), Some(75));
        assert!(first.wait().success());
        assert!(scratch.names().contains(&"ran".to_owned()));
        let notes = fs::read_dir(scratch.join(".tenure"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|suffix| suffix == "waits"));
        assert_eq!(notes.count(), 0);
    }
}

/// The commands are scripts that wait for their children, one of them through a further script.
#[test]
fn a_circle_through_scripts_is_named() {
    for deeper in [false, true] {
        let scratch = Scratch::new();
        let script = |target: &str| match deeper {
            false => format!("{}; echo went on", run(target)),
            true => format!("sh -c '{}; echo went on; exit'; exit", run(target)),
        };
        let mut first = hold_and(&scratch, &["x"], &script("y"));
        let mut second = hold_and(&scratch, &["y"], &script("x"));
        first.say("");
        until_announced(&scratch, "x");
        second.say("");
        let says = second.stderr.until("the wait would never end");
        let folder = scratch.path().to_str().unwrap();
        for part in [
            format!("runs under {folder}/x, which pid {} holds for it, and waits for {folder}/y", first.pid()),
            format!("runs under {folder}/y, which pid {} holds for it, and waits for {folder}/x", second.pid()),
        ] {
            assert!(says.contains(&part), "{deeper}: {says}");
        }
        // The script goes on, and so does the other one.
        second.stdout.until("went on");
        assert!(second.wait().success());
        assert!(first.wait().success());
        assert!(scratch.names().contains(&"ran".to_owned()));
    }
}

/// A script with a second child may wait for that one. A job's input is empty, unless it is that of another descriptor.
#[test]
fn a_script_with_two_children_is_part_of_no_circle() {
    let scratch = Scratch::new();
    let mut first = hold_and(&scratch, &["x"], &format!("exec 3<&0; cat <&3 & {}; wait", run("y")));
    let mut second = hold_and(&scratch, &["y"], &format!("{TENURE} run -w 300ms x -- touch never"));
    first.say("");
    until_announced(&scratch, "x");
    second.say("");
    assert_eq!(second.wait().code(), Some(75));
    // A wait that closes a circle ends with the same code.
    let says = second.stderr.rest();
    assert!(says.iter().any(|line| line.contains("held")), "{says:?}");
    assert!(!says.iter().any(|line| line.contains("the wait would never end")), "{says:?}");
    first.close_input();
    assert!(first.wait().success());
    assert!(!scratch.names().contains(&"never".to_owned()));
}

/// Two hold the slots, and wait for what is held by a command that waits for a slot.
#[test]
fn a_circle_through_the_slots_of_commands_is_named() {
    let scratch = Scratch::new();
    let slots = ["t", "--slots", "2"];
    let mut zero = hold_named_and(&scratch, &slots, "t.slot-0", &format!("exec {}", run("x")));
    let mut one = hold_named_and(&scratch, &slots, "t.slot-1", &format!("exec {}", run("x")));
    let mut third = hold_and(&scratch, &["x"], &format!("exec {TENURE} run --slots 2 t -- touch third"));
    for (running, held) in [(&mut zero, "t.slot-0"), (&mut third, "x")] {
        running.say("");
        until_announced(&scratch, held);
    }
    one.say("");
    let says = one.stderr.until("the wait would never end");
    let folder = scratch.path().to_str().unwrap();
    for (held, holder, waits) in [
        ("t.slot-0", &zero, format!("{folder}/x")),
        ("t.slot-1", &one, format!("{folder}/x")),
        ("x", &third, format!("one of 2 slots of {folder}/t")),
    ] {
        let holder = holder.pid();
        let part = format!("runs under {folder}/{held}, which pid {holder} holds for it, and waits for {waits}");
        assert!(says.contains(&part), "{says}");
    }
    assert_eq!(one.wait().code(), Some(75));
    assert!(third.wait().success() && zero.wait().success());
    assert!(["ran", "third"].iter().all(|name| scratch.names().contains(&(*name).to_owned())));
}

/// A task of this process, and a command.
#[test]
fn a_circle_through_a_task_and_a_command_is_named() {
    let scratch = Scratch::new();
    let task = tenure::Task::named("import");
    let begin = |name: &str| task.sync_scope(|| Lock::open(scratch.join(name)).unwrap().begin(Requester::Task));
    let held = begin("x").unwrap().give_up().unwrap();
    let mut running = hold_and(&scratch, &["y"], &format!("exec {}", run("x")));
    running.say("");
    until_announced(&scratch, "y");
    let error = begin("y").unwrap_err();
    let circle = error.circle().unwrap();
    assert_eq!(circle.waits.len(), 2, "{error}");
    assert_eq!(circle.waits[0].holder_pid, Some(running.pid().into()));
    assert_eq!(circle.waits[1].task_name.as_deref(), Some("import"));
    held.release().unwrap();
    assert!(running.wait().success());
}

/// A command may end before its child does, so the child's wait is no wait of the holder.
#[test]
fn a_child_of_the_command_is_part_of_no_circle() {
    for job_is_first in [true, false] {
        let scratch = Scratch::new();
        let job = format!("{TENURE} run y -- touch job & read y");
        let mut first = hold_and(&scratch, &["x"], &job);
        let mut second = hold_and(&scratch, &["y"], &format!("exec {TENURE} run x -- touch ran"));
        let mut jobs_turn = || {
            first.say("");
            until_waiting(&scratch, "y");
        };
        let mut seconds_turn = || {
            second.say("");
            until_announced(&scratch, "y");
            until_waiting(&scratch, "x");
        };
        match job_is_first {
            true => [&mut jobs_turn as &mut dyn FnMut(), &mut seconds_turn].map(|turn| turn()),
            false => [&mut seconds_turn as &mut dyn FnMut(), &mut jobs_turn].map(|turn| turn()),
        };
        // The first command ends, and the others go on, one after the other.
        first.say("");
        assert!(first.wait().success(), "{job_is_first}");
        assert!(second.wait().success(), "{job_is_first}: {:?}", second.stderr.rest());
        let began = Instant::now();
        while !["ran", "job"].iter().all(|name| scratch.names().contains(&(*name).to_owned())) {
            assert!(began.elapsed() < PATIENCE, "the job never ran");
        }
    }
}

#[test]
fn a_command_that_does_not_descend_from_the_holders_waits() {
    let scratch = Scratch::new();
    let mut first = hold_and(&scratch, &["x"], "true");
    let second = hold_and(&scratch, &["y"], &format!("exec {}", run("x")));
    // It says that the first one's lock is held for it, and it is not.
    let mut command = scratch.tenure(["run", "y", "--", "true"]);
    command.env("TENURE_HELD", format!("[\"{}\"]", scratch.join("x").display()));
    let mut liar = Running::start(command);
    let mut second = second;
    second.say("");
    until_announced(&scratch, "y");
    assert!(!scratch.join(".tenure/x.lock.0.waits").exists());
    first.say("");
    assert!(first.wait().success() && second.wait().success() && liar.wait().success());
}

#[test]
fn several_targets_are_held_by_one() {
    let scratch = Scratch::new();
    // It holds a and waits for b.
    let mut nested = hold_and(&scratch, &["b"], &format!("exec {}", run("a")));
    let mut both = Running::start(scratch.tenure(["run", "a", "b", "--", "touch", "both"]));
    until_announced(&scratch, "a");
    nested.say("");
    let says = nested.stderr.until("the wait would never end");
    assert!(says.contains(&format!("pid {} ", both.pid())), "{says}");
    assert_eq!(nested.wait().code(), Some(75));
    assert!(both.wait().success());
}

/// Has two threads hold one lock each and wait for the other's, without the check, during `under`.
fn deadlock(one: &Path, other: &Path, under: impl FnOnce()) {
    let lock = |target: &Path, check| Lock::options().deadlock_check(check).label("a\tb").open(target).unwrap();
    let (held, waits) = (std::sync::Barrier::new(2), std::sync::Barrier::new(3));
    let over = std::sync::Barrier::new(3);
    let wait = |own: &Path, waited: &Path| {
        let guard = lock(own, true).acquire().unwrap();
        held.wait();
        let acquiring = lock(waited, false).begin(Requester::Thread).unwrap();
        waits.wait();
        over.wait();
        drop((acquiring, guard));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| wait(one, other));
        scope.spawn(|| wait(other, one));
        waits.wait();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(under));
        over.wait();
        done.unwrap();
    });
}

#[test]
fn status_shows_circles() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("sub")).unwrap();
    let (one, other) = (scratch.join("x"), scratch.join("sub/y"));
    let none = scratch.done(["status", "--deadlocks", "."]);
    assert_eq!((none.code, &*none.stdout), (Some(0), ""), "{none:?}");
    assert!(none.stderr.contains("no deadlocks in ."), "{none:?}");
    assert_eq!(scratch.json(["status", "--deadlocks", "--json", "."]), serde_json::json!({"deadlocks": []}));
    deadlock(&one, &other, || {
        let json = scratch.json(["status", "--deadlocks", "--json", "."]);
        let waits = json["deadlocks"][0]["waits"].as_array().unwrap();
        assert_eq!((json["deadlocks"].as_array().unwrap().len(), waits.len()), (1, 2), "{json}");
        for (waiting, (holds, waited)) in waits.iter().zip([(&other, &one), (&one, &other)]) {
            assert_eq!(waiting["pid"], std::process::id(), "{json}");
            assert_eq!(waiting["holds"], holds.to_str().unwrap(), "{json}");
            assert_eq!(waiting["waitsFor"], waited.to_str().unwrap(), "{json}");
            assert_eq!(waiting["label"], "a\tb", "{json}");
            assert!(waiting["holderPid"].is_null() && waiting["since"].is_string(), "{json}");
        }
        let text = scratch.done(["status", "--deadlocks", "."]).stdout;
        assert!(text.starts_with("deadlock of 2:\n  pid ") && text.lines().count() == 3, "{text}");
        let machine = scratch.json(["status", "--deadlocks", "--json"]);
        let is_ours = |found: &&serde_json::Value| found["waits"][0]["holds"] == other.to_str().unwrap();
        assert_eq!(machine["deadlocks"].as_array().unwrap().iter().filter(is_ours).count(), 1, "{machine}");
    });
    assert!(scratch.json(["status", "--deadlocks", "--json", "."])["deadlocks"].as_array().unwrap().is_empty());
    for words in [&["--pid", "1"][..], &["--check"], &["a", "b"]] {
        assert_eq!(scratch.done([&["status", "--deadlocks"], words].concat()).code, Some(64), "{words:?}");
    }
    assert_eq!(scratch.done(["status", "--deadlocks", "etcd://localhost/x"]).code, Some(69));
}
