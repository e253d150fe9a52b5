//! `tenure run --if-busy` and `--not-more-often-than`.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use common::{Done, PATIENCE, Running, Scratch, ends, needs};
use rustix::process::Signal;

/// Waits until the holder of a target's lock is this process.
fn until_held_by(scratch: &Scratch, target: &str, by: &Running) {
    let pid = by.pid();
    let began = Instant::now();
    while scratch.json(["status", "--json", target])["holder"]["pid"] != pid {
        assert!(began.elapsed() < PATIENCE, "{target} was never held by {pid}: {:?}", by.stderr.so_far());
    }
}

const QUEUE_ONE: [&str; 3] = ["run", "--if-busy", "queue-one"];

#[test]
fn skip_does_not_wait() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let done = scratch.done(["run", "--if-busy", "skip", "--timeout", "1h", "a", "--", "true"]);
    assert_eq!(done.code, Some(75), "{done:?}");
    assert_eq!(scratch.done(["run", "--if-busy", "skip", "-E", "0", "a", "--", "false"]).code, Some(0));
    holder.finish();
    assert_eq!(scratch.done(["run", "--if-busy", "skip", "a", "--", "true"]).code, Some(0));
}

#[test]
fn one_waits_and_the_next_leaves_until_the_waiter_is_dead() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let again = [&QUEUE_ONE[..], &["a", "--", "echo", "ran"]].concat();
    let waiter = Running::start(scratch.tenure(&again));
    until_held_by(&scratch, "a.next", &waiter);
    let done = scratch.done(&again);
    assert_eq!((done.code, done.stdout.as_str()), (Some(79), ""), "{done:?}");
    assert!(done.stderr.contains(&waiter.pid().to_string()) && done.stderr.contains("waits already"), "{done:?}");
    let quiet = scratch.done([&QUEUE_ONE[..], &["-q", "-E", "0", "a", "--", "false"]].concat());
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));

    waiter.signal(Signal::KILL);
    assert!(ends(waiter.pid()));
    let mut next = Running::start(scratch.tenure(&again));
    until_held_by(&scratch, "a.next", &next);
    // A waiter that gives up leaves the place too.
    next.signal(Signal::TERM);
    assert_eq!(next.wait().signal(), Some(15));
    let late = scratch.done([&QUEUE_ONE[..], &["--timeout", "20ms", "a", "--", "true"]].concat());
    assert_eq!(late.code, Some(75), "{late:?}");
    let mut last = Running::start(scratch.tenure(&again));
    until_held_by(&scratch, "a.next", &last);
    assert_eq!(holder.finish().code(), Some(1));
    assert_eq!(last.stdout.next(), "ran");
    assert_eq!(last.wait().code(), Some(0));
    assert_eq!(scratch.names(), [".tenure"], "nothing remains");
}

#[test]
fn a_look_at_the_place_of_a_dead_waiter_skips_no_run() {
    if !needs("strace") {
        return;
    }
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let again = [&QUEUE_ONE[..], &["a", "--", "echo", "ran"]].concat();
    let waiter = Running::start(scratch.tenure(&again));
    until_held_by(&scratch, "a.next", &waiter);
    waiter.signal(Signal::KILL);
    assert!(ends(waiter.pid()));
    // As `status` may have it for a moment.
    let look = fs::File::open(scratch.join(".tenure/a.next.lock")).unwrap();
    rustix::fs::flock(&look, rustix::fs::FlockOperation::LockShared).unwrap();
    let mut strace = std::process::Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-e", "trace=flock", env!("CARGO_BIN_EXE_tenure")]).args(&again);
    let mut next = Running::start({
        strace.current_dir(scratch.path());
        strace
    });
    while !next.stderr.until("a.next.lock").contains("EAGAIN") {}
    rustix::fs::flock(&look, rustix::fs::FlockOperation::Unlock).unwrap();
    // It waits for the holder, and has the place. Its pid is not known, as strace has started it.
    let began = Instant::now();
    let is_next = |place: &serde_json::Value| {
        place["state"] == "held" && place["holder"]["liveness"] == "alive" && place["holder"]["pid"] != waiter.pid()
    };
    while !is_next(&scratch.json(["status", "--json", "a.next"])) {
        assert!(began.elapsed() < PATIENCE, "it never had the place: {:?}", next.stderr.so_far());
    }
    assert_eq!(holder.finish().code(), Some(1));
    assert_eq!(next.stdout.next(), "ran");
    assert_eq!(next.wait().code(), Some(0));
}

#[test]
fn of_many_that_arrive_at_once_exactly_one_waits() {
    const CALLS: usize = 12;
    let scratch = Scratch::new();
    for options in [&["a"][..], &["--flock", "a"]] {
        let mut holder = scratch.hold(options.iter().copied());
        let words = [&QUEUE_ONE[..], options, &["-c", "echo ran"]].concat();
        thread::scope(|scope| {
            let (sender, done) = channel();
            for _ in 0..CALLS {
                let (sender, words, scratch) = (sender.clone(), &words, &scratch);
                scope.spawn(move || sender.send(scratch.done(words)));
            }
            for _ in 1..CALLS {
                let done: Done = done.recv_timeout(PATIENCE).expect("all but one leave");
                assert_eq!((done.code, done.stdout.as_str()), (Some(79), ""), "{done:?}");
            }
            assert!(done.try_recv().is_err(), "one waits");
            holder.finish();
            let last = done.recv_timeout(PATIENCE).expect("the last one runs");
            assert_eq!((last.code, last.stdout.as_str()), (Some(0), "ran\n"), "{last:?}");
        });
    }
}

/// `clean` and an acquire have the kernel lock of the waiter's place for an instant, and are no waiters.
#[test]
fn a_passer_by_at_the_waiters_place_is_no_waiter() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    // Makes the anchor of the waiter's place.
    assert_eq!(scratch.done(["run", "a.next", "-c", "true"]).code, Some(0));
    let anchor = fs::File::open(scratch.join(".tenure/a.next.lock")).unwrap();
    anchor.lock().unwrap();
    let words = [&QUEUE_ONE[..], &["a", "-c", "echo ran"]].concat();
    let mut waits = Running::start(scratch.tenure(words));
    waits.stderr.until("waiting for");
    anchor.unlock().unwrap();
    until_held_by(&scratch, "a.next", &waits);
    holder.finish();
    assert_eq!(waits.stdout.next(), "ran");
    assert_eq!(waits.wait().code(), Some(0));
}

/// Each call makes a request, and leaves only if a run that has yet to begin covers it.
#[test]
fn every_request_is_covered_by_a_run_that_began_after_it() {
    let scratch = Scratch::new();
    let requests = scratch.join("requests");
    fs::write(&requests, "").unwrap();
    let words = [&QUEUE_ONE[..], &["-q", "a", "-c", "cat requests > built; echo >> runs"]].concat();
    thread::scope(|scope| {
        for caller in 0..6 {
            let (scratch, requests, words) = (&scratch, &requests, &words);
            scope.spawn(move || {
                for call in 0..12 {
                    let request = format!("{caller}.{call}\n");
                    let mut file = fs::File::options().append(true).open(requests).unwrap();
                    std::io::Write::write_all(&mut file, request.as_bytes()).unwrap();
                    let done = scratch.done(words);
                    assert!(matches!(done.code, Some(0 | 79)), "{done:?}");
                }
            });
        }
    });
    assert_eq!(fs::read_to_string(scratch.join("built")).unwrap(), fs::read_to_string(&requests).unwrap());
    let runs = fs::read_to_string(scratch.join("runs")).unwrap().len();
    assert!((1..=72).contains(&runs), "{runs}");
}

/// Starts `tenure run OPTIONS -- sh -c SCRIPT`, and returns it with the pid that the script prints.
fn start(scratch: &Scratch, options: &[&str], script: &str) -> (Running, i32) {
    let running = Running::start(scratch.tenure([&["run"], options, &["-c", script]].concat()));
    let pid = running.stdout.next().parse().unwrap();
    (running, pid)
}

/// Returns whether a holder ended with its command, with this exit code; or by a signal, where it had no command yet, or was
/// too late on a busy machine.
fn was_ended(holder: &mut Running, code: i32) -> bool {
    let status = holder.wait();
    status.code() == Some(code) || matches!(status.signal(), Some(9 | 15))
}

fn replace<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--if-busy", "replace"], options, &["a", "--", "echo", "ran"]].concat()
}

#[test]
fn replace_ends_the_holders_command_and_all_that_it_started() {
    let scratch = Scratch::new();
    for options in [&["a"][..], &["--flock", "a"]] {
        let (mut holder, child) = start(&scratch, options, "sh -c 'echo $$; exec sleep 1000' & wait; wait");
        let done = scratch.done(replace(&[&["--grace", "30s"], &options[..options.len() - 1]].concat()));
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), "ran\n"), "{done:?}");
        assert_eq!(holder.wait().code(), Some(143));
        assert!(ends(child), "a descendant of the command");
        assert!(holder.stderr.until("replaces this run").contains("within 30 s"));
        assert!(!done.stderr.contains("took over"), "the holder released: {done:?}");
    }
}

#[test]
fn replace_kills_what_does_not_end_within_the_grace() {
    let scratch = Scratch::new();
    let (mut holder, command) = start(&scratch, &["a"], "trap '' TERM; echo $$; exec sleep 1000");
    let done = scratch.done(replace(&["--grace", "50ms"]));
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "ran\n"), "{done:?}");
    assert!(was_ended(&mut holder, 137));
    assert!(ends(command));

    // A holder without a command, which is stopped and ignores SIGTERM.
    let mut command = std::process::Command::new("sh");
    let script = format!("trap '' TERM; exec {} hold a", env!("CARGO_BIN_EXE_tenure"));
    command.args(["-c", &script]).current_dir(scratch.path());
    let mut holder = Running::start(command);
    holder.stdout.next();
    holder.signal(Signal::STOP);
    let done = scratch.done(replace(&["--grace", "50ms"]));
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "ran\n"), "{done:?}");
    assert_eq!(holder.wait().signal(), Some(9));
}

#[test]
fn replace_ends_a_command_that_outlives_its_tenure() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    holder.signal(Signal::KILL);
    assert_eq!(holder.wait().signal(), Some(9));
    let done = scratch.done(replace(&[]));
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "ran\n"), "{done:?}");
    assert!(ends(holder.command));
}

#[test]
fn replace_ends_each_holder_that_comes_first() {
    let scratch = Scratch::new();
    let (mut first, _) = start(&scratch, &["a"], "trap '' TERM; echo $$; exec sleep 1000");
    // It queues before the one that replaces.
    let mut second = Running::start(scratch.tenure(["run", "-q", "a", "-c", "echo $$; exec sleep 1000"]));
    let began = Instant::now();
    while scratch.json(["status", "--json", "a"])["waiters"] != 1 {
        assert!(began.elapsed() < PATIENCE, "it never queued");
    }
    let done = scratch.done(replace(&["--grace", "50ms"]));
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "ran\n"), "{done:?}");
    assert!(was_ended(&mut first, 137));
    // It came first in the kernel's queue, and was asked to end as well: before it had a command, or after.
    assert!(was_ended(&mut second, 143));
}

#[test]
fn replace_ends_no_process_that_is_not_proven() {
    let scratch = Scratch::new();
    let mut foreign = Running::start(std::process::Command::new("cat"));
    let record = format!("{{\"pid\":{},\"createdAt\":\"2099-01-01T00:00:00.000Z\"}}", foreign.pid());
    fs::write(scratch.join("a.lock"), record).unwrap();
    let done = scratch.done(replace(&[]));
    assert_eq!((done.code, done.stdout.as_str()), (Some(69), ""), "{done:?}");
    for part in ["cannot be asked to end", "does not use Tenure", &foreign.pid().to_string()] {
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
    assert_eq!(foreign.finish().code(), Some(0), "it was not signalled");
}

#[test]
fn replace_ends_no_process_that_does_not_have_the_kernel_lock() {
    let scratch = Scratch::new();
    let (mut holder, mut victim) = (scratch.hold(["a"]), scratch.hold(["b"]));
    // Any user who may write the record may name any process in it, with all that proves which one is meant.
    let forged = fs::read(scratch.join("b.lock")).unwrap();
    let mut record = fs::OpenOptions::new().write(true).open(scratch.join("a.lock")).unwrap();
    std::io::Write::write_all(&mut record, &forged).unwrap();
    let done = scratch.done(replace(&["--grace", "0s"]));
    assert_eq!((done.code, done.stdout.as_str()), (Some(69), ""), "{done:?}");
    assert!(done.stderr.contains("does not have the kernel lock"), "{done:?}");
    assert_eq!(victim.finish().code(), Some(1), "it was not signalled");
    holder.finish();
}

#[test]
fn replace_never_ends_its_own_ancestor() {
    let scratch = Scratch::new();
    let tenure = env!("CARGO_BIN_EXE_tenure");
    let script = format!("{tenure} run --if-busy replace a -- true; echo $?");
    let done = scratch.done(["run", "a", "-c", &script]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "75\n"), "{done:?}");
}

#[test]
fn replace_needs_the_right_to_signal_the_holder() {
    if !rustix::process::geteuid().is_root() || !common::needs("setpriv") {
        return;
    }
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--mode", "666", "a"]);
    fs::set_permissions(scratch.join(".tenure"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let done = scratch.done_by_nobody(replace(&["--mode", "666"]));
    assert_eq!((done.code, done.stdout.as_str()), (Some(77), ""), "{done:?}");
    assert!(done.stderr.contains(&holder.pid().to_string()), "{done:?}");
    assert_eq!(holder.finish().code(), Some(1), "it was not signalled");
}

#[test]
fn grace_is_for_replace() {
    let scratch = Scratch::new();
    for words in [&["run", "--grace", "1s", "a", "--", "true"][..], &["run", "--if-busy", "no", "a", "--", "true"]] {
        assert_eq!(scratch.done(words).code, Some(64), "{words:?}");
    }
    assert!(scratch.names().is_empty());
}

fn at_most_hourly(scratch: &Scratch, script: &str) -> Done {
    scratch.done(["run", "--not-more-often-than", "1h", "a", "-c", script])
}

#[test]
fn a_run_is_skipped_only_after_a_recent_success() {
    let scratch = Scratch::new();
    assert_eq!(at_most_hourly(&scratch, "exit 3").code, Some(3), "a failure does not count");
    assert_eq!(at_most_hourly(&scratch, "kill -KILL $$").code, Some(137), "a death does not either");
    assert_eq!(at_most_hourly(&scratch, "echo ran").stdout, "ran\n");
    let done = at_most_hourly(&scratch, "echo ran");
    assert_eq!((done.code, done.stdout.as_str()), (Some(79), ""), "{done:?}");
    assert!(done.stderr.contains("the last successful run began"), "{done:?}");
    // Neither another program's record nor a removed lock file forgets it.
    assert_eq!(scratch.done(["run", "a", "--", "true"]).code, Some(0), "a call without the option runs");
    assert_eq!(scratch.done(["break", "a"]).code, Some(0));
    fs::write(scratch.join("a.lock"), "{\"pid\":4194304,\"createdAt\":\"2020-01-01T00:00:00.000Z\"}").unwrap();
    scratch.done(["clean"]);
    assert_eq!(at_most_hourly(&scratch, "true").code, Some(79));
    assert_eq!(scratch.done(["run", "-E", "0", "--not-more-often-than", "1h", "a", "--", "false"]).code, Some(0));
    // Any other interval, and any other content.
    assert_eq!(scratch.done(["run", "--not-more-often-than", "1ms", "a", "--", "true"]).code, Some(0));
    fs::write(success_of(&scratch), "[]").unwrap();
    assert_eq!(at_most_hourly(&scratch, "true").code, Some(0));
}

/// Returns the file with the last success of this user.
fn success_of(scratch: &Scratch) -> std::path::PathBuf {
    scratch.join(format!(".tenure/a.lock.{}.success", rustix::process::geteuid().as_raw()))
}

#[test]
fn a_run_that_was_cut_short_is_no_success() {
    let scratch = Scratch::new();
    let options = ["--not-more-often-than", "1h", "--max-hold", "200ms", "--on-overrun", "term", "a"];
    let script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done";
    let (mut running, _) = scratch.overrunning(&[&["run"], &options[..], &["-c", script]].concat());
    assert_eq!(running.wait().code(), Some(0));
    assert_eq!(at_most_hourly(&scratch, "echo ran").stdout, "ran\n");
}

#[test]
fn a_waiter_is_skipped_where_the_holder_succeeded_meanwhile() {
    let scratch = Scratch::new();
    let option = ["--not-more-often-than", "1h", "a"];
    for (ends, code) in [("exit 1", 0), ("exit 0", 79)] {
        let (mut holder, _) = start(&scratch, &option, &format!("echo $$; read x; {ends}"));
        let mut waiter = Running::start(scratch.tenure([&["run"], &option[..], &["-c", "exit 0"]].concat()));
        waiter.stderr.until("waiting for a");
        holder.finish();
        assert_eq!(waiter.wait().code(), Some(code), "{ends}");
        let _ = fs::remove_file(success_of(&scratch));
    }
    assert_eq!(scratch.done(["run", "--no-record", "--not-more-often-than", "1h", "a", "--", "true"]).code, Some(69));
}
