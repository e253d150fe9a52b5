//! `tenure run --slots`: several holders at once, each with a slot.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Instant;

use common::{PATIENCE, Running, Scratch, ends, kill};
use rustix::process::Signal;

/// A holder of a slot, whose command prints its slot and its pid, and holds until its input ends.
struct Holder {
    running: Running,
    slot: u32,
    command: i32,
}

fn words<'a>(slots: &'a str, more: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["run", "--slots", slots], more, &["s", "-c", script]].concat()
}

fn start(scratch: &Scratch, slots: &str) -> Running {
    Running::start(scratch.tenure(words(slots, &[], "echo $TENURE_SLOT $$; read x")))
}

/// Waits until the call holds.
fn held(running: Running) -> Holder {
    let line = running.stdout.next();
    let (slot, command) = line.split_once(' ').unwrap();
    let (slot, command) = (slot.parse().unwrap(), command.parse().unwrap());
    Holder { running, slot, command }
}

fn hold(scratch: &Scratch, slots: &str) -> Holder {
    held(start(scratch, slots))
}

fn try_it(scratch: &Scratch, slots: &str) -> Option<i32> {
    scratch.done(words(slots, &["-n"], "true")).code
}

/// Waits until process `pid` is the first that waits.
fn until_first(scratch: &Scratch, pid: i32) {
    let began = Instant::now();
    while scratch.json(["status", "--json", "s.next"])["holder"]["pid"] != pid {
        assert!(began.elapsed() < PATIENCE, "{pid} was never the first");
    }
}

/// Waits until `count` processes wait behind the first one.
fn until_queued(scratch: &Scratch, count: usize) {
    until_waiting_for(scratch, "s.next", count);
}

fn until_waiting_for(scratch: &Scratch, target: &str, count: usize) {
    let began = Instant::now();
    while scratch.json(["status", "--json", target])["waiters"] != count {
        assert!(began.elapsed() < PATIENCE, "{count} never waited for {target}");
    }
}

#[test]
fn each_holder_has_a_slot_a_fence_and_a_record() {
    let scratch = Scratch::new();
    let mut holders: Vec<Holder> = (0..3).map(|_| hold(&scratch, "3")).collect();
    assert_eq!(holders.iter().map(|holder| holder.slot).collect::<Vec<_>>(), [0, 1, 2]);
    let busy = scratch.done(words("3", &["-n"], "true"));
    assert_eq!(busy.code, Some(75), "{busy:?}");
    assert!(busy.stderr.contains("no slot of 3 is free"), "{busy:?}");
    assert!(busy.stderr.contains(&holders[0].running.pid().to_string()), "{busy:?}");

    let found = scratch.json(["status", "--json", "s"]);
    assert_eq!(found["state"], "free", "the lock without slots is another");
    let slots = found["slots"].as_array().unwrap();
    for (number, (slot, holder)) in slots.iter().zip(&holders).enumerate() {
        assert_eq!(slot["target"], format!("s.slot-{number}"));
        assert_eq!((&slot["state"], &slot["holder"]["pid"]), (&"held".into(), &holder.running.pid().into()));
        let record: serde_json::Value =
            serde_json::from_slice(&fs::read(scratch.join(format!("s.slot-{number}.lock"))).unwrap()).unwrap();
        assert_eq!((&record["tenure"]["slots"], &record["tenure"]["fence"]), (&3.into(), &slot["holder"]["fence"]));
    }
    assert_eq!(slots.len(), 3);
    let text = scratch.done(["status", "s"]).stdout;
    assert!((0..3).all(|number| text.contains(&format!("s.slot-{number}: held"))), "{text}");
    assert_eq!(scratch.done(["status", "--check", "s"]).code, Some(75));
    // A break of the lock without slots ends no holder of a slot, and says so.
    let broken = scratch.done(["break", "--force", "s"]);
    assert_eq!(broken.code, Some(0), "{broken:?}");
    assert!(
        broken.stdout.contains("3 of its slots are not: break each by its name, as by `tenure break s.slot-0`"),
        "{broken:?}"
    );

    // The lowest free slot is the next one.
    assert_eq!(holders[1].running.finish().code(), Some(1));
    assert_eq!(scratch.done(words("3", &["-n"], "echo $TENURE_SLOT $TENURE_TARGET")).stdout, "1 s\n");
    holders.remove(2).running.finish();
    holders.remove(0).running.finish();
    assert_eq!(scratch.done(["status", "--check", "s"]).code, Some(0));
    assert_eq!(scratch.names(), [".tenure"], "nothing remains");
    // The number of an outer tenure's slot is not passed on.
    let inner = format!("{} run t -c 'echo ${{TENURE_SLOT-unset}}'", env!("CARGO_BIN_EXE_tenure"));
    assert_eq!(scratch.done(words("1", &[], &inner)).stdout, "unset\n");
}

#[test]
fn a_crash_frees_its_slot_and_the_next_holder_of_that_slot_hears_of_it() {
    let scratch = Scratch::new();
    let mut holders: Vec<Holder> = (0..3).map(|_| hold(&scratch, "3")).collect();
    let waiter = start(&scratch, "3");
    until_first(&scratch, waiter.pid());
    let dead = &mut holders[1];
    dead.running.signal(Signal::KILL);
    assert_eq!(dead.running.wait().signal(), Some(9));
    // The slot stays held while the command works.
    assert_eq!(scratch.json(["status", "--json", "s.slot-1"])["state"], "held");
    kill(dead.command, Signal::KILL);
    let mut next = held(waiter);
    assert_eq!(next.slot, 1);
    let heard = next.running.stderr.until("took over");
    assert!(heard.contains(&dead.running.pid().to_string()), "{heard}");
    // Another slot's holder hears nothing.
    assert_eq!(holders[2].running.finish().code(), Some(1));
    let other = scratch.done(words("3", &["-n"], "echo $TENURE_SLOT"));
    assert_eq!((other.stdout.as_str(), other.stderr.as_str()), ("2\n", ""));
    next.running.finish();
}

#[test]
fn a_smaller_number_waits_and_a_larger_one_breaks_no_promise() {
    let scratch = Scratch::new();
    let (mut one, mut two) = (hold(&scratch, "4"), hold(&scratch, "4"));
    assert_eq!(try_it(&scratch, "2"), Some(75), "two hold already");
    assert_eq!(try_it(&scratch, "3"), Some(0));
    let smaller = start(&scratch, "2");
    until_first(&scratch, smaller.pid());
    one.running.finish();
    let mut smaller = held(smaller);
    // Two hold, and one of them agreed to no more.
    assert_eq!(try_it(&scratch, "4"), Some(75));
    assert_eq!(try_it(&scratch, "1000"), Some(75));
    two.running.finish();
    let mut larger = hold(&scratch, "4");
    assert_eq!(try_it(&scratch, "4"), Some(75));
    smaller.running.finish();
    assert_eq!(try_it(&scratch, "4"), Some(0), "its promise ended with it");
    assert_eq!(try_it(&scratch, "1"), Some(75));
    larger.running.finish();
    assert_eq!(try_it(&scratch, "1"), Some(0));
}

#[test]
fn no_slot_is_taken_while_another_process_counts() {
    let scratch = Scratch::new();
    let mut counting = scratch.hold(["s.slots"]);
    let waiter = start(&scratch, "2");
    until_waiting_for(&scratch, "s.slots", 1);
    assert_eq!(scratch.done(["status", "--check", "s"]).code, Some(0));
    counting.finish();
    held(waiter).running.finish();
}

#[test]
fn a_slot_above_a_smaller_number_is_counted() {
    let scratch = Scratch::new();
    let (mut zero, mut one) = (hold(&scratch, "2"), hold(&scratch, "2"));
    zero.running.finish();
    assert_eq!(one.slot, 1);
    assert_eq!(try_it(&scratch, "1"), Some(75), "slot 1 is held, though it needs slot 0 only");
    // A lock on a slot's own name is counted too.
    let mut named = scratch.hold(["s.slot-7"]);
    assert_eq!(try_it(&scratch, "2"), Some(75));
    named.finish();
    assert_eq!(try_it(&scratch, "2"), Some(0));
    one.running.finish();
    // Other files of such names are no slots.
    for name in ["s.slot-01.lock", "s.slot-x.lock", "s.slot-.lock", "s.slot-1000.lock"] {
        fs::write(scratch.join(format!(".tenure/{name}")), "{}").unwrap();
    }
    assert_eq!(try_it(&scratch, "1"), Some(0));
}

#[test]
fn waiters_are_served_in_their_order() {
    let scratch = Scratch::new();
    let (mut one, mut two) = (hold(&scratch, "2"), hold(&scratch, "2"));
    // The first one waits until none holds. The second one would fit before, and queues all the same.
    let first = start(&scratch, "1");
    until_first(&scratch, first.pid());
    one.running.finish();
    let second = start(&scratch, "2");
    until_queued(&scratch, 1);
    assert_eq!(scratch.json(["status", "--json", "s.next"])["holder"]["pid"], first.pid(), "it is not passed over");
    two.running.finish();
    let mut first = held(first);
    until_first(&scratch, second.pid());
    first.running.finish();
    held(second).running.finish();
}

#[test]
fn a_dead_or_stopped_first_waiter_keeps_no_slot_from_the_others() {
    let scratch = Scratch::new();
    let mut holder = hold(&scratch, "1");
    let [dead, stopped] = [(); 2].map(|()| {
        let waiter = start(&scratch, "1");
        let began = Instant::now();
        while scratch.json(["status", "--json", "s.next"])["holder"]["pid"].is_null() {
            assert!(began.elapsed() < PATIENCE);
        }
        waiter
    });
    until_first(&scratch, dead.pid());
    until_queued(&scratch, 1);
    dead.signal(Signal::KILL);
    assert!(ends(dead.pid()));
    until_first(&scratch, stopped.pid());
    let last = start(&scratch, "1");
    until_queued(&scratch, 1);
    stop_between_counts(&scratch, stopped.pid());
    holder.running.finish();
    let mut last = held(last);
    last.running.finish();
    stopped.signal(Signal::CONT);
    held(stopped).running.finish();
}

/// Stops a waiter where it does not count the holders just now: it would keep that right while it is stopped.
fn stop_between_counts(scratch: &Scratch, pid: i32) {
    let began = Instant::now();
    let is_stopped = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ");
    loop {
        kill(pid, Signal::STOP);
        while !is_stopped() {
            assert!(began.elapsed() < PATIENCE);
        }
        if scratch.json(["status", "--json", "s.slots"])["state"] == "free" {
            return;
        }
        kill(pid, Signal::CONT);
        assert!(began.elapsed() < PATIENCE);
    }
}

/// Each command counts the live commands while it holds. No more than its own number may be there.
#[test]
fn no_more_hold_at_once_than_the_smallest_number_says() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("h")).unwrap();
    // A file in `h` exists only within a tenure: it is made after the grant, and removed before the release.
    let script = "mkdir w.$TENURE_SLOT || echo twice; : > h/$$; set -- h/*; [ $# -le $MOST ] || echo \"$# of $MOST\"; \
                  rm h/$$; rmdir w.$TENURE_SLOT; echo $TENURE_SLOT >> ran";
    thread::scope(|scope| {
        for caller in 0..8_usize {
            let scratch = &scratch;
            scope.spawn(move || {
                for round in 0..8 {
                    let most = ["3", "2", "4", "1"][(caller + round) % 4];
                    let mut call = scratch.tenure(words(most, &["-q"], script));
                    let done = common::Done::from(call.env("MOST", most).output().unwrap());
                    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""));
                }
            });
        }
    });
    let ran = fs::read_to_string(scratch.join("ran")).unwrap();
    assert_eq!(ran.lines().count(), 64);
    assert!(ran.lines().all(|slot| slot.parse::<u32>().unwrap() < 4), "{ran}");
}

/// Holders and waiters are killed at any time. Afterwards every slot is free, and no process is stuck.
#[test]
fn kills_at_random_leave_every_slot_free() {
    let scratch = Scratch::new();
    for round in 0..12_usize {
        // A third of the commands end with their `tenure`, which releases nothing.
        let crash = "read x; kill -KILL $PPID $$";
        let scripts = [crash, "read x", "read x"];
        let mut calls: Vec<Running> = (0..6)
            .map(|call| Running::start(scratch.tenure(words("3", &["-q"], scripts[(call + round) % 3]))))
            .collect();
        for call in calls.iter().skip(round % 2).step_by(2) {
            call.signal(Signal::KILL);
        }
        // Those that wait for a slot need the end of those that hold.
        calls.iter_mut().for_each(Running::close_input);
        for call in &mut calls {
            let status = call.wait();
            assert!(matches!((status.code(), status.signal()), (Some(0 | 1), _) | (_, Some(9))), "{status:?}");
        }
    }
    let mut all: Vec<Holder> = (0..3).map(|_| hold(&scratch, "3")).collect();
    // A command whose `tenure` was killed may have kept its slot a little longer.
    let mut slots: Vec<u32> = all.iter().map(|holder| holder.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, [0, 1, 2]);
    for holder in &mut all {
        holder.running.finish();
    }
}

#[test]
fn bad_numbers_and_other_options_are_refused() {
    let scratch = Scratch::new();
    for number in ["0", "-1", "1001", "x", "", "1.5", "99999999999"] {
        assert_eq!(scratch.done(["run", &format!("--slots={number}"), "s", "--", "true"]).code, Some(64), "{number}");
    }
    for options in [
        &["--flock"][..],
        &["--no-record"],
        &["--steal-after", "1h"],
        &["--if-busy", "replace"],
        &["--not-more-often-than", "1h"],
    ] {
        let done = scratch.done(words("2", options, "true"));
        assert_eq!(done.code, Some(69), "{options:?}: {done:?}");
    }
    let long = "n".repeat(245);
    assert_eq!(scratch.done(["run", "--slots", "2", &long, "--", "true"]).code, Some(64), "no room for `.slot-999`");
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn a_nested_call_that_would_wait_for_itself_fails() {
    let scratch = Scratch::new();
    let tenure = env!("CARGO_BIN_EXE_tenure");
    let script = format!("{tenure} run --slots 1 s -- true; echo $?; {tenure} run --slots 2 s -- true; echo $?");
    // The outer one agreed to two, so the inner one with two fits beside it.
    assert_eq!(scratch.done(words("2", &[], &script)).stdout, "75\n0\n");
}

#[test]
fn one_waits_for_a_slot_and_the_next_leaves() {
    let scratch = Scratch::new();
    let mut holder = hold(&scratch, "1");
    let waiter = Running::start(scratch.tenure(words("1", &["--if-busy", "queue-one"], "echo 0 $$; read x")));
    until_first(&scratch, waiter.pid());
    assert_eq!(scratch.done(words("1", &["--if-busy", "queue-one"], "true")).code, Some(79));
    assert_eq!(scratch.done(words("1", &["--if-busy", "skip"], "true")).code, Some(75));
    holder.running.finish();
    held(waiter).running.finish();
}
