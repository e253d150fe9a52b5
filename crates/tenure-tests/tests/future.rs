//! Async acquires: a dropped future leaves nothing, and tasks exclude each other.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tenure::{Lock, State, Style, Wait, status};
use tenure_tests::wakes::counted;
use tenure_tests::{Actor, folder, until, until_unwanted};

const MINUTE: Wait = Wait::For(Duration::from_secs(60));

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Asserts that the lock has neither holder nor waiter, and that another process can acquire it.
fn is_free(target: &Path, other: &mut Actor) {
    until_unwanted(target);
    other.must("acquire l g 60000");
    other.must("release g");
}

#[test]
fn a_future_dropped_at_any_poll_leaves_nothing() {
    for style in [Style::LockFile, Style::Flock] {
        let dir = folder();
        let target = dir.path().join("t");
        let lock = Lock::options().style(style).open(&target).unwrap();
        let mut other = Actor::start();
        let flock = if style == Style::Flock { "style=flock" } else { "" };
        other.must(&format!("open l {} {flock}", target.display()));
        let runtime = runtime();
        let _context = runtime.enter();
        for contended in [false, true] {
            for wait in [MINUTE, Wait::Forever] {
                for polls in 0..5 {
                    if contended {
                        other.must("acquire l h 60000");
                    }
                    let (_, waker) = counted();
                    {
                        let mut acquiring = pin!(lock.acquire_async(wait));
                        for _ in 0..polls {
                            if acquiring.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                                break;
                            }
                        }
                    }
                    // Dropped: after the holder's release, the lock is free.
                    if contended {
                        other.must("check h");
                        other.must("release h");
                    }
                    is_free(&target, &mut other);
                }
            }
        }
    }
}

#[test]
fn an_untaken_grant_is_released_with_the_future() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    let mut other = Actor::start();
    for round in 0..20 {
        other.hold(&target);
        let (woken, waker) = counted();
        {
            let mut acquiring = Box::pin(lock.acquire_async(Wait::Forever));
            assert!(acquiring.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            other.must("release g");
            if round % 2 == 0 {
                // Granted and woken, but never polled again: the tenure exists, and is released.
                until("it is woken", || woken.0.load(Ordering::SeqCst) == 1);
                assert_eq!(status(&target).unwrap().holder.unwrap().pid(), Some(std::process::id().into()));
            }
        }
        is_free(&target, &mut other);
    }
}

#[test]
fn a_dropped_waiter_passes_its_grant_on() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    let mut other = Actor::start();
    other.hold(&target);
    let mut polled: Vec<_> = (0..5).map(|_| (Box::pin(lock.acquire_async(Wait::Forever)), counted())).collect();
    for (acquiring, (_, waker)) in &mut polled {
        assert!(acquiring.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    // One process has one waiter in the kernel; the first, a middle and the last waiter give up.
    until("it waits", || status(&target).unwrap().waiters == Some(1));
    for at in [4, 2, 0] {
        drop(polled.remove(at));
    }
    other.must("release g");
    for (mut acquiring, (woken, waker)) in polled {
        until("the next waiter's grant", || woken.0.load(Ordering::SeqCst) == 1);
        match acquiring.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(guard) => guard.unwrap().release().unwrap(),
            Poll::Pending => panic!("woken without a grant"),
        }
    }
    is_free(&target, &mut other);
}

type Acquiring = std::pin::Pin<Box<dyn Future<Output = tenure::Result<tenure::Guard>> + Send>>;

/// An executor that resumes its task at once, on the thread that wakes it, and releases the guard.
#[derive(Default)]
struct AtOnce {
    task: std::sync::Mutex<Option<Acquiring>>,
    granted: AtomicUsize,
}

impl Wake for AtOnce {
    fn wake(self: Arc<Self>) {
        let Some(mut task) = self.task.lock().unwrap().take() else { return };
        match task.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&self)))) {
            Poll::Ready(guard) => {
                guard.unwrap().release().unwrap();
                self.granted.fetch_add(1, Ordering::SeqCst);
            }
            Poll::Pending => *self.task.lock().unwrap() = Some(task),
        }
    }
}

#[test]
fn a_waker_may_acquire_at_once() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    let mut other = Actor::start();
    other.hold(&target);
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let (executor, lock) = (Arc::new(AtOnce::default()), lock.clone());
            *executor.task.lock().unwrap() = Some(Box::pin(async move { lock.acquire_async(Wait::Forever).await }));
            Arc::clone(&executor).wake();
            executor
        })
        .collect();
    other.must("release g");
    until("each had it", || tasks.iter().all(|task| task.granted.load(Ordering::SeqCst) == 1));
    is_free(&target, &mut other);
}

#[test]
fn the_most_recent_waker_is_woken() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    let mut other = Actor::start();
    other.hold(&target);
    let ((first, first_waker), (second, second_waker)) = (counted(), counted());
    let mut acquiring = pin!(lock.acquire_async(Wait::Forever));
    for waker in [&first_waker, &first_waker, &second_waker] {
        assert!(acquiring.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    other.must("release g");
    until("it is woken", || second.0.load(Ordering::SeqCst) == 1);
    assert_eq!(first.0.load(Ordering::SeqCst), 0);
    assert!(acquiring.as_mut().poll(&mut Context::from_waker(&second_waker)).is_ready());
}

#[test]
fn a_timeout_is_busy_and_leaves_nothing() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    let mut other = Actor::start();
    other.hold(&target);
    runtime().block_on(async {
        let error = lock.acquire_async(Wait::For(Duration::from_millis(100))).await.unwrap_err();
        assert!(error.is_busy() && error.waited().unwrap() >= Duration::from_millis(100), "{error}");
        assert_eq!(error.holder().unwrap().pid(), Some(other.pid().into()));
        // Cancelled from outside, and by the other branch of a select.
        tokio::time::timeout(Duration::from_millis(50), lock.acquire_async(Wait::Forever)).await.unwrap_err();
        tokio::select! {
            biased;
            _ = lock.acquire_async(Wait::Forever) => panic!("it is held"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    });
    other.must("release g");
    is_free(&target, &mut other);
}

#[test]
fn tasks_of_one_thread_exclude_each_other() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    runtime().block_on(async {
        let inside = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (lock, inside) = (lock.clone(), Arc::clone(&inside));
                tokio::spawn(async move {
                    for _ in 0..10 {
                        let guard = lock.acquire_async(MINUTE).await.unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two inside");
                        // Held while other tasks run.
                        tokio::task::yield_now().await;
                        guard.check().unwrap();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1, "two inside");
                        drop(guard);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(status(&target).unwrap().state, State::Free);
}

#[test]
fn tasks_are_granted_in_the_order_of_arrival() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    runtime().block_on(async {
        let guard = lock.acquire_async(Wait::Never).await.unwrap();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let (lock, order) = (lock.clone(), Arc::clone(&order));
                tokio::spawn(async move {
                    let _guard = lock.acquire_async(MINUTE).await.unwrap();
                    order.lock().unwrap().push(n);
                })
            })
            .collect();
        // Each has been polled once, in order.
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(guard);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn threads_tasks_and_cancellations_mixed_lose_no_update() {
    let dir = folder();
    let (target, number) = (dir.path().join("t"), dir.path().join("number"));
    std::fs::write(&number, "0").unwrap();
    let add = || {
        let now: usize = std::fs::read_to_string(&number).unwrap().parse().unwrap();
        std::fs::write(&number, (now + 1).to_string()).unwrap();
    };
    let mut other = Actor::start();
    other.must(&format!("open l {}", target.display()));
    other.must(&format!("count l {} 2 50", number.display()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    let lock = Lock::open(&target).unwrap();
    let added = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _guard = lock.acquire_with(MINUTE).unwrap();
                        add();
                    }
                })
            })
            .collect();
        let granted = runtime.block_on(async {
            let number = Arc::new(number.clone());
            let tasks: Vec<_> = (0..20)
                .map(|n| {
                    let (lock, number) = (lock.clone(), Arc::clone(&number));
                    tokio::spawn(async move {
                        let mut granted = 0;
                        for round in 0..20 {
                            // Some waiters time out at about the time of their grant.
                            let patience = Duration::from_micros(if n % 2 == 0 { 60_000_000 } else { 200 * round });
                            let acquiring = tokio::time::timeout(patience, lock.acquire_async(Wait::Forever));
                            if let Ok(guard) = acquiring.await {
                                let _guard = guard.unwrap();
                                let now: usize = std::fs::read_to_string(&*number).unwrap().parse().unwrap();
                                std::fs::write(&*number, (now + 1).to_string()).unwrap();
                                granted += 1;
                            }
                        }
                        granted
                    })
                })
                .collect();
            let mut granted = 0;
            for task in tasks {
                granted += task.await.unwrap();
            }
            granted
        });
        for thread in threads {
            thread.join().unwrap();
        }
        granted + 100
    });
    let counted = other.receive();
    assert_eq!(counted["doubles"], 0, "{counted}");
    assert_eq!(std::fs::read_to_string(&number).unwrap(), (added + 100).to_string());
    is_free(&target, &mut other);
}

#[test]
fn tasks_share_a_lock() {
    let dir = folder();
    let lock = Lock::options().style(Style::Flock).open(dir.path().join("t")).unwrap();
    runtime().block_on(async {
        let one = lock.acquire_shared_async(MINUTE).await.unwrap();
        let other = lock.acquire_shared_async(MINUTE).await.unwrap();
        assert!(lock.acquire_async(Wait::Never).await.unwrap_err().is_busy());
        let (lock_too, waits) = (lock.clone(), lock.acquire_async(MINUTE));
        drop((one, other));
        waits.await.unwrap().release().unwrap();
        lock_too.acquire_shared_async(Wait::Never).await.unwrap().release().unwrap();
    });
}

#[test]
fn a_guard_may_be_dropped_by_another_thread() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    let guard = runtime().block_on(lock.acquire_async(MINUTE)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || guard.release().unwrap());
    });
    assert_eq!(status(&target).unwrap().state, State::Free);
}

/// A lock of the other style may wait in the same process: the grant is acquired again for it, from the lock file to
/// the kernel lock.
#[test]
fn a_grant_is_not_passed_on_to_another_style() {
    let styles = [Style::LockFile, Style::Flock];
    for (first, next) in [(styles[0], styles[1]), (styles[1], styles[0])] {
        let dir = folder();
        let target = dir.path().join("t");
        let open = |style| Lock::options().style(style).open(&target).unwrap();
        let guard = open(first).acquire_with(Wait::Never).unwrap();
        let next_lock = open(next);
        let mut waits = pin!(next_lock.acquire_async(MINUTE));
        let runtime = runtime();
        let guard = {
            let _context = runtime.enter();
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            guard.release().unwrap();
            runtime.block_on(waits).unwrap()
        };
        assert_eq!(dir.path().join("t.lock").exists(), next == Style::LockFile, "{next:?} after {first:?}");
        let locked = std::fs::File::open(&target).is_ok_and(|file| file.try_lock().is_err());
        assert_eq!(locked, next == Style::Flock, "{next:?} after {first:?}");
        guard.check().unwrap();
        guard.release().unwrap();
    }
}

/// An exclusive grant is not passed on to a share either.
#[test]
fn a_share_is_granted_as_a_share_after_an_exclusive_tenure() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::options().style(Style::Flock).open(&target).unwrap();
    let mut other = tenure_tests::opened(&target, "style=flock");
    let runtime = runtime();
    let guard = lock.acquire_with(Wait::Never).unwrap();
    let mut waits = pin!(lock.acquire_shared_async(MINUTE));
    let _context = runtime.enter();
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    guard.release().unwrap();
    let _share = runtime.block_on(waits).unwrap();
    other.must("share l g never");
}

#[test]
fn a_grant_that_is_passed_on_has_its_own_fence_in_the_record() {
    for style in [Style::LockFile, Style::Flock] {
        let dir = folder();
        let lock = Lock::options().style(style).open(dir.path().join("t")).unwrap();
        let native = || {
            let text = std::fs::read(dir.path().join(".tenure/t.lock")).unwrap();
            let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
            (record["tenure"]["fence"].as_u64().unwrap(), record["tenure"]["state"].as_str().unwrap().to_owned())
        };
        let mut guard = lock.acquire_with(Wait::Never).unwrap();
        let runtime = runtime();
        let _context = runtime.enter();
        for _ in 0..3 {
            let mut waits = pin!(lock.acquire_async(MINUTE));
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let last = guard.fence().unwrap();
            guard.release().unwrap();
            guard = runtime.block_on(waits).unwrap();
            assert!(guard.fence().unwrap() > last);
            assert_eq!(native(), (guard.fence().unwrap(), "held".to_owned()), "{style:?}");
        }
        let last = guard.fence().unwrap();
        guard.release().unwrap();
        // In lock-file style, the missing lock file shows the release.
        let ended = if style == Style::Flock { "released" } else { "held" };
        assert_eq!(native(), (last, ended.to_owned()), "{style:?}");
    }
}
