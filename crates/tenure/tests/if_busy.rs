//! `if_busy` and `not_more_often_than` within one process: acquires that are polled, cancelled and given up.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tenure::{AcquireFuture, BreakOptions, ErrorKind, Guard, IfBusy, Lock, Requester, State, Style, Wait};

const PATIENCE: Duration = Duration::from_secs(60);

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls an acquire to its outcome.
fn outcome(acquiring: AcquireFuture) -> tenure::Result<Guard> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut acquiring = Box::pin(acquiring);
    loop {
        match acquiring.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Waits until the lock of `target` is in a state.
fn until(target: &Path, state: State) {
    let began = Instant::now();
    while tenure::status(target).unwrap().state != state {
        assert!(began.elapsed() < PATIENCE, "{} never became {state:?}", target.display());
    }
}

#[test]
fn a_wait_that_is_dropped_leaves_the_place_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (path, place) = (dir.path().join("t"), dir.path().join("t.next"));
    let held = Lock::open(&path).unwrap().acquire().unwrap();
    let lock = Lock::options().if_busy(IfBusy::QueueOne).label("one").open(&path).unwrap();
    let begin = || lock.begin(Requester::Task).unwrap();

    let first = begin();
    until(&place, State::Held);
    assert_eq!(tenure::status(&place).unwrap().holder.unwrap().label.as_deref(), Some("one"));
    let error = outcome(begin()).unwrap_err();
    assert!(error.is_skipped() && error.kind() == ErrorKind::Skipped, "{error}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::WouldBlock);
    let error = lock.acquire_with(Wait::Never).unwrap_err();
    assert!(error.is_busy(), "an acquire that never waits is not the one that waits: {error}");
    drop(first);
    until(&place, State::Free);

    // A deadline ends a wait as a drop does.
    let patient = Lock::options().if_busy(IfBusy::QueueOne).deadlock_check(false).open(&path).unwrap();
    assert!(patient.acquire_timeout(Duration::from_millis(20)).unwrap_err().is_busy());
    until(&place, State::Free);

    let next = begin();
    until(&place, State::Held);
    held.release().unwrap();
    let guard = outcome(next).unwrap();
    assert_eq!(tenure::status(&place).unwrap().state, State::Free, "the work has not begun yet");
    guard.release().unwrap();
    assert!(lock.try_acquire().unwrap().is_some());
}

#[test]
fn a_deadlock_is_reported_and_leaves_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    for if_busy in [IfBusy::QueueOne, IfBusy::Replace] {
        let lock = Lock::options().if_busy(if_busy).open(&path).unwrap();
        let _held = lock.acquire().unwrap();
        assert!(lock.acquire().unwrap_err().is_would_deadlock(), "{if_busy:?}");
        assert_eq!(tenure::status(dir.path().join("t.next")).unwrap().state, State::Free);
    }
}

#[test]
fn this_process_is_not_asked_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let _held = Lock::open(&path).unwrap().acquire().unwrap();
    let lock = Lock::options().if_busy(IfBusy::Replace).open(&path).unwrap();
    let error = outcome(lock.begin(Requester::Task).unwrap()).unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains("it is this process"), "{error}");
}

#[test]
fn success_counts_only_where_it_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let plain = Lock::open(&path).unwrap();
    assert!(plain.acquire().unwrap().mark_successful().unwrap_err().is_unsupported());
    let hourly = Lock::options().not_more_often_than(Duration::from_secs(3600)).open(&path).unwrap();
    // A release without a mark is no success, nor is a mark after the loss.
    hourly.acquire().unwrap().release().unwrap();
    let broken = hourly.acquire().unwrap();
    tenure::break_lock(&path, &BreakOptions::default().force(true)).unwrap();
    assert!(broken.mark_successful().unwrap_err().is_lost());
    drop(broken);
    let guard = hourly.acquire().unwrap();
    guard.mark_successful().unwrap();
    guard.release().unwrap();
    assert!(hourly.acquire().unwrap_err().is_skipped());
    assert!(hourly.try_acquire().unwrap_err().is_skipped());
    assert!(outcome_of_begin(&hourly).is_skipped());
    plain.acquire().unwrap().release().unwrap();
    assert!(hourly.acquire().unwrap_err().is_skipped(), "another record forgets nothing");
}

fn outcome_of_begin(lock: &Lock) -> tenure::Error {
    match lock.begin(Requester::Task) {
        Ok(acquiring) => outcome(acquiring).unwrap_err(),
        Err(error) => error,
    }
}

#[test]
fn shares_and_locks_without_a_record_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let flock = || Lock::options().style(Style::Flock);
    for options in [
        flock().if_busy(IfBusy::QueueOne),
        flock().if_busy(IfBusy::Replace),
        flock().not_more_often_than(Duration::from_secs(1)),
    ] {
        let lock = options.open(&path).unwrap();
        assert!(lock.acquire_shared(Wait::Never).unwrap_err().is_unsupported());
        assert!(lock.acquire().is_ok());
    }
    let skip = flock().if_busy(IfBusy::Skip).open(&path).unwrap();
    let _shared = skip.acquire_shared(Wait::Forever).unwrap();
    let bare = Lock::options().record(false).not_more_often_than(Duration::from_secs(1));
    assert!(bare.open(&path).unwrap_err().is_unsupported());
}
