//! Requesters that wait in the kernel's queue themselves, and are interrupted there.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::path::Path;
use std::time::Duration;

use tenure::{State, status};
use tenure_tests::{Actor, Foreign, folder, opened, signal, until, until_unwanted, until_waiting};

/// Starts an actor that has opened `target` as `l` and waits in its own threads, and returns the signal that interrupts
/// it.
fn direct_waiter(target: &Path, keys: &str) -> (Actor, i32) {
    let mut actor = opened(target, keys);
    let signal = actor.must("interrupts")["signal"].as_i64().unwrap();
    (actor, signal.try_into().unwrap())
}

/// Starts an actor that holds a lock, and another that waits in its own threads; returns the signal that interrupts the
/// waiter.
fn held(keys: &str) -> (tempfile::TempDir, Actor, Actor, i32) {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = opened(&target, keys);
    holder.must("acquire l g never");
    let (waiter, signal) = direct_waiter(&target, keys);
    (dir, holder, waiter, signal)
}

const STYLES: [&str; 3] = ["", "style=flock", "record=0"];

#[test]
fn a_requester_waits_in_its_own_thread_and_is_granted() {
    for style in STYLES {
        let (_dir, mut holder, mut waiter, _) = held(style);
        waiter.must("begin l g forever");
        until_kernel_waits(&waiter);
        // The main thread, the waiting thread and the watchdog: no helper thread.
        assert_eq!(waiter.must("threads")["threads"], 3, "{style}");
        holder.must("release g");
        assert_eq!(waiter.receive()["event"], "granted");
        holder.must_fail("acquire l g never", "busy");
        waiter.must("release g");
        holder.must("acquire l g never");
    }
}

/// Waits until a thread of the process is in `flock(2)`'s queue.
fn until_kernel_waits(actor: &Actor) {
    until("a thread waits in the kernel's queue", || in_the_queue(actor) > 0);
}

/// Begins to wait in the kernel's queue with a deadline of 300 ms, or more where the machine is so slow that the wait ends before
/// it is seen.
fn begin_with_a_deadline(actor: &mut Actor, guard: &str) {
    for attempt in 0.. {
        actor.must(&format!("begin l {guard} {}", 300 << attempt));
        until("it waits, or no longer", || actor.has_answered() || in_the_queue(actor) > 0);
        if !actor.has_answered() {
            return;
        }
        assert_eq!(actor.receive()["event"], "refused");
    }
}

fn in_the_queue(actor: &Actor) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", actor.pid())).unwrap();
    let waits = |task: &std::io::Result<std::fs::DirEntry>| {
        let call = std::fs::read_to_string(task.as_ref().unwrap().path().join("syscall")).unwrap_or_default();
        // The call's number and arguments. A thread that does not wait can be in the middle of the call, too.
        let mut words = call.split(' ');
        let waits =
            |how: &str| i32::from_str_radix(how.trim_start_matches("0x"), 16).is_ok_and(|how| how & libc::LOCK_NB == 0);
        words.next() == Some(&libc::SYS_flock.to_string()) && words.nth(1).is_some_and(waits)
    };
    tasks.filter(waits).count()
}

#[test]
fn a_deadline_calls_back_and_leaves_nothing() {
    for style in STYLES {
        let (_dir, mut holder, mut waiter, signal) = held(style);
        for blocked in [false, true] {
            if blocked {
                waiter.must(&format!("block {signal}"));
            }
            let mask = waiter.must("blocked");
            // Nothing but the deadline ends the wait.
            let refused = waiter.must_fail("acquire l g 150", "busy");
            assert!(refused["waitedMs"].as_u64().unwrap() >= 150, "{refused}");
            assert_eq!(waiter.must("blocked"), mask, "{style}: the signal mask is unchanged, and no signal is pending");
            // No thread of the process waits any more.
            assert_eq!(in_the_queue(&waiter), 0, "{style}");
        }
        holder.must("release g");
        waiter.must("acquire l g never");
    }
}

#[test]
fn the_processs_other_waiters_keep_waiting() {
    let (dir, mut holder, mut waiter, _) = held("");
    let target = dir.path().join("t");
    begin_with_a_deadline(&mut waiter, "first");
    for name in ["second", "third"] {
        waiter.must(&format!("begin l {name} forever"));
    }
    assert_eq!(waiter.receive()["event"], "refused");
    until_kernel_waits(&waiter);
    holder.must("release g");
    let granted = waiter.receive();
    assert_eq!(granted["event"], "granted", "{granted}");
    let first = granted["guard"].as_str().unwrap();
    let (_, granted) = waiter.must_and_receive(&format!("release {first}"));
    assert_eq!(granted["event"], "granted", "{granted}");
    let (last, pair) = (granted["guard"].as_str().unwrap(), ["second", "third"]);
    assert!(first != last && pair.contains(&first) && pair.contains(&last), "{first}, {last}");
    waiter.must(&format!("release {last}"));
    until_unwanted(&target);
}

#[test]
fn a_direct_waiter_continues_after_a_break() {
    for style in ["", "style=flock"] {
        let (dir, mut holder, mut waiter, _) = held(style);
        let target = dir.path().join("t");
        waiter.must("begin l g forever");
        until_kernel_waits(&waiter);
        tenure::break_lock(&target, &tenure::BreakOptions::default().force(true)).unwrap();
        if style.is_empty() {
            assert_eq!(waiter.receive()["event"], "granted", "{style}");
        } else {
            // The broken holder still has the target's own lock, which a break cannot take over.
            holder.must("drop g");
            assert_eq!(waiter.receive()["event"], "granted", "{style}");
        }
        waiter.must("check g");
        waiter.must("release g");
        until_unwanted(&target);
        until("no thread waits on the broken file", || in_the_queue(&waiter) == 0);
    }
}

#[test]
fn a_foreign_holder_is_waited_for_to_its_end_or_to_the_deadline() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut waiter, _) = direct_waiter(&target, "");
    let holder = Foreign::hold("python", &target);
    let refused = waiter.must_fail("acquire l g 150", "busy");
    assert!(refused["waitedMs"].as_u64().unwrap() >= 150, "{refused}");
    // The waiter does not block the anchor's queue any more.
    assert_eq!(status(&target).unwrap().waiters, Some(0));
    waiter.must("begin l g forever");
    until_waiting(&target, 1);
    holder.release();
    assert_eq!(waiter.receive()["event"], "granted");
    waiter.must("release g");
    let holder = Foreign::hold("python", &target);
    waiter.must("begin l g forever");
    until_waiting(&target, 1);
    holder.kill();
    assert_eq!(waiter.receive()["event"], "granted");
}

#[test]
fn a_handler_that_replaced_the_librarys_is_never_called() {
    let (_dir, mut holder, mut waiter, number) = held("");
    begin_with_a_deadline(&mut waiter, "late");
    // Either handler would end the program with code 9: one installed during a wait, and one before.
    waiter.must(&format!("ender {number}"));
    assert_eq!(waiter.receive()["event"], "refused");
    waiter.must(&format!("ender {}", number - 1));
    waiter.must_fail("acquire l g 100", "busy");
    assert_eq!(waiter.must("interrupts")["signal"], number - 2);
    waiter.must("begin l g forever");
    until_kernel_waits(&waiter);
    holder.must("release g");
    assert_eq!(waiter.receive()["event"], "granted");
    signal(waiter.pid(), number);
    assert_eq!(waiter.finish().code(), Some(9));
}

#[test]
fn deadlines_that_race_with_releases_lose_no_waiter() {
    let dir = folder();
    let target = dir.path().join("t");
    let number = dir.path().join("n");
    std::fs::write(&number, "0").unwrap();
    let (mut one, mut other) = (direct_waiter(&target, "").0, direct_waiter(&target, "style=flock").0);
    // Deadlines of a millisecond or two, about as long as the other process holds.
    for round in 0..200 {
        one.must("acquire l g 60000");
        other.send(&format!("acquire l g {}", 1 + round % 3));
        std::thread::sleep(Duration::from_micros(900 + 10 * (round % 100)));
        one.must("release g");
        if other.receive()["ok"] == true {
            one.must_fail("acquire l x never", "busy");
            other.must("check g");
            other.must("release g");
        }
    }
    for actor in [&mut one, &mut other] {
        actor.send(&format!("count l {} 4 100", number.display()));
    }
    for actor in [&mut one, &mut other] {
        assert_eq!(actor.receive()["ok"], true);
    }
    for actor in [&mut one, &mut other] {
        assert_eq!(actor.receive()["doubles"], 0);
    }
    assert_eq!(std::fs::read_to_string(&number).unwrap(), "800");
    assert_eq!(status(&target).unwrap().state, State::Free);
}
