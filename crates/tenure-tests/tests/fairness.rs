//! Fairness between processes: a process that keeps reacquiring the lock yields to waiters. Fairness affects only the
//! order: a stopped or dead waiter blocks nobody.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tenure::{Lock, Requester, Wait};
use tenure_tests::strace::Strace;
use tenure_tests::{Actor, folder, has, needs, opened, signal, until, until_waiting};

/// Stops all threads of an actor, because a running one would be granted.
fn stop(actor: &Actor) {
    signal(actor.pid(), libc::SIGSTOP);
    let stopped = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
    };
    let tasks = format!("/proc/{}/task", actor.pid());
    until("all threads are stopped", || std::fs::read_dir(&tasks).unwrap().all(stopped));
}

/// Returns the number of sleeps in any thread of `actor` during a command.
fn sleeps(actor: &mut Actor, line: &str) -> usize {
    let strace = Strace::attach(actor.pid(), &["-f", "-e", "trace=clock_nanosleep,nanosleep"]);
    actor.must(line);
    strace.detach().iter().filter(|text| text.contains("nanosleep(")).count()
}

/// Starts a holder, and a waiter in the kernel's queue behind it.
fn contest(target: &Path, keys: &str) -> (Actor, Actor) {
    let (mut greedy, mut waiter) = (opened(target, keys), opened(target, keys));
    greedy.must("acquire l g 60000");
    waiter.must("begin l g 60000");
    until_waiting(target, 1);
    (greedy, waiter)
}

fn backs_off(keys: &str) {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut greedy, mut waiter) = contest(&target, keys);
    stop(&waiter);
    greedy.must("release g");
    // Longer than a time slice.
    std::thread::sleep(Duration::from_millis(20));
    assert!(sleeps(&mut greedy, "acquire l g 60000") > 0, "the waiter got no time to acquire");
    greedy.must("release g");
    signal(waiter.pid(), libc::SIGCONT);
    assert_eq!(waiter.receive()["event"], "granted");
    waiter.must("release g");
    // No process waits any more.
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(sleeps(&mut greedy, "acquire l g 60000"), 0);
}

#[test]
fn a_process_whose_slice_ended_backs_off_while_another_waits() {
    backs_off("");
}

#[test]
fn a_process_whose_slice_ended_backs_off_in_flock_style_too() {
    backs_off("style=flock");
}

#[test]
fn an_acquire_without_waiting_never_backs_off() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut greedy, mut waiter) = contest(&target, "");
    stop(&waiter);
    greedy.must("release g");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(sleeps(&mut greedy, "acquire l g 0"), 0);
    greedy.must("release g");
    signal(waiter.pid(), libc::SIGCONT);
    assert_eq!(waiter.receive()["event"], "granted");
}

#[test]
fn a_task_leaves_the_back_off_to_a_helper_thread() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut waiter = opened(&target, "");
    let greedy = Lock::open(&target).unwrap();
    let guard = greedy.acquire_with(Wait::Forever).unwrap();
    waiter.must("begin l g 60000");
    until_waiting(&target, 1);
    stop(&waiter);
    guard.release().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let acquiring = greedy.begin(Requester::Task).unwrap();
    assert!(format!("{acquiring:?}").contains("waiting"), "an event loop backed off itself: {acquiring:?}");
    // A waiter that does not run blocks nobody.
    struct Bell(std::thread::Thread);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let bell = Waker::from(Arc::new(Bell(std::thread::current())));
    let mut acquiring = std::pin::pin!(acquiring);
    let guard = loop {
        match acquiring.as_mut().poll(&mut Context::from_waker(&bell)) {
            Poll::Ready(outcome) => break outcome.unwrap(),
            Poll::Pending => std::thread::park(),
        }
    };
    guard.release().unwrap();
    signal(waiter.pid(), libc::SIGCONT);
    assert_eq!(waiter.receive()["event"], "granted");
    waiter.must("release g");
    // No process waits any more: granted at once.
    std::thread::sleep(Duration::from_millis(20));
    let acquiring = greedy.begin(Requester::Task).unwrap();
    assert!(format!("{acquiring:?}").contains("granted"), "{acquiring:?}");
}

#[test]
fn a_killed_waiter_causes_no_back_off() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut greedy, waiter) = contest(&target, "");
    waiter.kill();
    until_waiting(&target, 0);
    greedy.must("release g");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(sleeps(&mut greedy, "acquire l g 60000"), 0);
}

/// A helper thread may have to wait for a processor, while the process that reacquires keeps it busy.
#[test]
fn a_waiter_shows_itself_before_its_helper_thread_runs() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut waiter) = (opened(&target, ""), opened(&target, ""));
    holder.must("acquire l g 60000");
    let strace = Strace::attach(waiter.pid(), &["-f", "-e", "trace=flock,fcntl"]);
    waiter.must("begin l g 60000");
    until_waiting(&target, 1);
    let calls = strace.detach();
    let thread_of = |what: &str| {
        let call = calls.iter().find(|call| call.contains(what));
        call.unwrap_or_else(|| panic!("{what}: {calls:?}")).split(']').next().map(str::to_owned)
    };
    assert_eq!(
        thread_of("F_OFD_SETLK"),
        thread_of("LOCK_EX|LOCK_NB"),
        "a helper thread announced the waiter: {calls:?}"
    );
    holder.must("release g");
    assert_eq!(waiter.receive()["event"], "granted");
}
