//! Acquires that the caller polls: granted at once or later, abandoned, dropped.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tenure::{Lock, Previous, Requester, Style, Wait, status};
use tenure_tests::wakes::counted;
use tenure_tests::{Actor, folder, until, until_unwanted};

#[test]
fn a_free_lock_is_granted_at_once() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    let guard = lock.begin(Requester::Thread).unwrap().give_up().unwrap();
    guard.check().unwrap();
    guard.release().unwrap();
    let (_, waker) = counted();
    let mut acquiring = pin!(lock.begin(Requester::Task).unwrap());
    assert!(acquiring.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    until_unwanted(&target);
    // Dropped without a poll: the lock had been granted, and is released.
    drop(lock.begin(Requester::Thread).unwrap());
    until_unwanted(&target);
}

#[test]
fn a_waiter_is_woken_with_its_grant() {
    for style in [Style::LockFile, Style::Flock] {
        let dir = folder();
        let target = dir.path().join("t");
        let lock = Lock::options().style(style).open(&target).unwrap();
        let mut other = Actor::start();
        other.hold(&target);
        let (woken, waker) = counted();
        let mut acquiring = pin!(lock.begin(Requester::Thread).unwrap());
        assert!(acquiring.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        other.must("release g");
        until("it is woken", || woken.0.load(Ordering::SeqCst) == 1);
        let Poll::Ready(guard) = acquiring.as_mut().poll(&mut Context::from_waker(&waker)) else {
            panic!("woken without a grant")
        };
        // The grant belongs to this thread: a second wait would be for itself.
        let _guard = guard.unwrap();
        assert!(lock.acquire_with(Wait::Forever).unwrap_err().is_would_deadlock());
        assert!(lock.begin(Requester::Thread).unwrap_err().is_would_deadlock());
        assert!(lock.begin(Requester::Task).unwrap().give_up().unwrap_err().is_busy());
    }
}

#[test]
fn an_abandoned_wait_names_the_holder_and_leaves_nothing() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    let mut other = Actor::start();
    other.hold(&target);
    let acquiring = lock.begin(Requester::Task).unwrap();
    until("it waits", || status(&target).unwrap().waiters == Some(1));
    let error = acquiring.give_up().unwrap_err();
    assert!(error.is_busy() && error.waited().unwrap() > Duration::ZERO, "{error}");
    assert_eq!(error.holder().unwrap().pid(), Some(other.pid().into()));
    other.must("release g");
    until_unwanted(&target);
}

#[test]
fn an_untaken_grant_is_returned_or_released() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    let mut other = Actor::start();
    for taken in [true, false] {
        other.hold(&target);
        let (woken, waker) = counted();
        let mut acquiring = Box::pin(lock.begin(Requester::Thread).unwrap());
        assert!(acquiring.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        other.must("release g");
        until("it is woken", || woken.0.load(Ordering::SeqCst) == 1);
        match taken {
            true => std::pin::Pin::into_inner(acquiring).give_up().unwrap().release().unwrap(),
            false => drop(acquiring),
        }
        until_unwanted(&target);
    }
}

#[test]
fn an_unreported_crash_is_reported_to_the_next_holder() {
    for waits in [false, true] {
        let dir = folder();
        let target = dir.path().join("t");
        let lock = Lock::open(&target).unwrap();
        let mut other = Actor::start();
        other.hold(&target);
        let pid = i64::from(other.pid());
        if waits {
            let (woken, waker) = counted();
            let mut acquiring = Box::pin(lock.begin(Requester::Thread).unwrap());
            assert!(acquiring.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            other.kill();
            until("it is woken", || woken.0.load(Ordering::SeqCst) == 1);
        } else {
            other.kill();
            drop(lock.begin(Requester::Thread).unwrap());
        }
        let guard = lock.acquire_with(Wait::Never).unwrap();
        let Previous::Crashed(holder) = guard.previous() else { panic!("no crash report") };
        assert_eq!(holder.pid(), Some(pid));
    }
}

#[test]
fn shared_acquires_begin_in_flock_style_only() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::options().style(Style::Flock).open(&target).unwrap();
    let one = lock.begin_shared(Wait::Forever, Requester::Task).unwrap().give_up().unwrap();
    let other = lock.begin_shared(Wait::Forever, Requester::Task).unwrap().give_up().unwrap();
    assert!(one.is_shared() && other.is_shared());
    assert!(Lock::open(&target).unwrap().begin_shared(Wait::Forever, Requester::Task).unwrap_err().is_unsupported());
}
