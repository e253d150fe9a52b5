//! One process and its lock: the first steps of a user of the library.

#![allow(clippy::disallowed_methods, reason = "a test looks at the files as any program would")]

use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tenure::{Lock, State, Style, Wait, status};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn the_lock_file_is_visible_exactly_while_held() {
    let dir = folder();
    let target = dir.path().join("main.jsonl");
    let lock = Lock::open(&target).expect("open");
    let guard = lock.acquire_with(Wait::Never).expect("acquire");
    let text = fs::read_to_string(dir.path().join("main.jsonl.lock")).expect("the lock file");
    assert!(text.starts_with(&format!("{{\n  \"pid\": {},", std::process::id())), "{text}");
    // In place of the text's last newline, the file has spaces, which leave room for a longer text.
    assert_eq!(guard.record_json().trim_end(), text.trim_end());
    guard.check().expect("held");
    assert!(!guard.previous().is_crashed());
    let first = guard.fence().expect("a fence");
    guard.release().expect("release");
    assert!(!dir.path().join("main.jsonl.lock").exists());
    assert!(!target.exists(), "the target is the user's");
    assert_eq!(fs::read_to_string(dir.path().join(".tenure/.gitignore")).expect("ignored"), "*\n");
    let second = lock.acquire_with(Wait::Never).expect("again").fence().expect("a fence");
    assert!(second > first, "{second} after {first}");
}

#[test]
fn a_fence_that_cannot_grow_is_an_error() {
    const LAST: u64 = (1 << 53) - 1;
    let dir = folder();
    let lock = Lock::open(dir.path().join("t")).expect("open");
    let fence = lock.acquire_with(Wait::Never).expect("acquire").fence().expect("a fence");
    let anchor = dir.path().join(".tenure/t.lock");
    let text = fs::read_to_string(&anchor).expect("the anchor");
    fs::write(&anchor, text.replace(&fence.to_string(), &(LAST - 1).to_string())).expect("changed");
    assert_eq!(lock.acquire_with(Wait::Never).expect("the last one").fence(), Some(LAST));
    let error = lock.acquire_with(Wait::Never).expect_err("not every program reads larger numbers");
    assert!(error.to_string().contains("2^53"), "{error}");
}

#[test]
fn a_second_lock_of_the_same_target_waits() {
    let dir = folder();
    let target = dir.path().join("t");
    let one = Lock::open(&target).expect("open");
    let other = Lock::open(&target).expect("open");
    let guard = one.acquire_with(Wait::Never).expect("acquire");
    assert!(other.acquire_with(Wait::Never).expect_err("held").is_busy());
    let (sender, receiver) = mpsc::channel();
    let waiter = thread::spawn(move || {
        let guard = other.acquire_with(Wait::For(Duration::from_secs(120))).expect("its turn");
        sender.send(Instant::now()).expect("the receiver waits");
        guard.fence()
    });
    assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err(), "held by one");
    let fence = guard.fence();
    let released = Instant::now();
    drop(guard);
    assert!(receiver.recv_timeout(Duration::from_secs(120)).expect("granted") > released);
    assert!(waiter.join().expect("joined") > fence);
}

#[test]
fn a_nested_acquire_is_a_clear_error_or_counted() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).expect("open");
    let guard = lock.acquire_with(Wait::Forever).expect("acquire");
    let error = lock.acquire_with(Wait::Forever).expect_err("would wait for itself");
    assert!(error.is_would_deadlock() && error.holder().is_some(), "{error}");
    drop(guard);
    let lock = Lock::options().reentrant(true).open(&target).expect("open");
    let one = lock.acquire_with(Wait::Forever).expect("acquire");
    let two = lock.acquire_with(Wait::Forever).expect("again");
    assert_eq!(one.fence(), two.fence());
    drop(one);
    two.check().expect("the last guard counts");
    assert_eq!(status(&target).expect("inspect").state, State::Held);
    two.release().expect("release");
    assert_eq!(status(&target).expect("inspect").state, State::Free);
}

#[test]
fn flock_style_shares_and_excludes() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::options().style(Style::Flock).open(&target).expect("open");
    let guard = lock.acquire_with(Wait::Never).expect("acquire");
    assert!(!dir.path().join("t.lock").exists());
    let found = status(&target).expect("inspect");
    assert_eq!((found.state, found.style), (State::Held, Style::Flock));
    drop(guard);
    let one = lock.acquire_shared(Wait::Never).expect("share");
    let two = lock.acquire_shared(Wait::Never).expect("share");
    assert!(lock.acquire_with(Wait::Never).expect_err("shared").is_busy());
    drop((one, two));
    let guard = lock.acquire_with(Wait::Never).expect("acquire");
    assert!(!guard.previous().is_crashed(), "{:?}", guard.previous());
}

#[test]
fn many_threads_lose_no_update() {
    let dir = folder();
    let target = dir.path().join("count");
    fs::write(&target, "0").expect("write");
    let lock = Lock::open(&target).expect("open");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let _guard = lock.acquire_with(Wait::Forever).expect("acquire");
                    let count: u32 = fs::read_to_string(&target).expect("read").parse().expect("a number");
                    fs::write(&target, (count + 1).to_string()).expect("write");
                }
            });
        }
    });
    assert_eq!(fs::read_to_string(&target).expect("read"), "1600");
}
