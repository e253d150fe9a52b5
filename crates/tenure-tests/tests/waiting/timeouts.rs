//! Timeouts, and acquires that do not wait.

use super::*;

#[test]
fn a_timeout_includes_the_time_in_the_processs_own_queue() {
    let dir = folder();
    let mut actor = Actor::start();
    actor.hold(&dir.path().join("t"));
    let start = Instant::now();
    for n in 0..40 {
        actor.send(&format!("begin l w{n} 2000"));
    }
    let mut answers: Vec<_> = (0..80).map(|_| actor.receive()).collect();
    answers.retain(|answer| !answer["event"].is_null());
    assert_eq!(answers.len(), 40);
    for answer in answers {
        assert_eq!((&answer["event"], &answer["kind"]), (&"refused".into(), &"busy".into()), "{answer}");
        assert!(answer["waitedMs"].as_u64().unwrap() >= 2000, "{answer}");
        assert_eq!(answer["holder"], actor.pid(), "{answer}");
    }
    // If each had its full time from the queue's head on, they would take 80 seconds.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn a_timed_out_waiter_never_holds() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut waiter, mut third) = (Actor::start(), opened(&target, ""), opened(&target, ""));
    holder.hold(&target);
    waiter.must_fail("acquire l g 100", "busy");
    // Its helper thread is still in the kernel's queue, before all later waiters.
    let left = usize::from(!waits_directly());
    until_waiting(&target, left);
    third.must("begin l g 60000");
    until_waiting(&target, left + 1);
    holder.must("release g");
    assert_eq!(third.receive()["event"], "granted");
    assert_eq!(status(&target).unwrap().holder.unwrap().pid(), Some(third.pid().into()));
    third.must("release g");
    // The lock is free, and the timed-out waiter has reported nothing more.
    until("the lock is free", || status(&target).unwrap().state == State::Free);
    waiter.must("threads");
    waiter.assert_no_event();
    third.must("acquire l g 60000");
}

#[test]
fn a_release_at_the_moment_of_a_timeout_loses_no_grant() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut waiter, mut third) = (opened(&target, ""), opened(&target, ""), opened(&target, ""));
    let mut seen = [0, 0];
    for round in 0..60 {
        holder.must("acquire l g 60000");
        waiter.must("begin l g 10");
        std::thread::sleep(Duration::from_micros(8_000 + 100 * round));
        holder.must("release g");
        let granted = waiter.receive()["event"] == "granted";
        seen[usize::from(granted)] += 1;
        if granted {
            third.must_fail("acquire l g never", "busy");
            waiter.must("release g");
        }
        third.must("acquire l g 60000");
        third.must("check g");
        third.must("release g");
    }
    eprintln!("refused, granted: {seen:?}");
}

/// The kernel lock is granted, and the waiter times out while the lock file is created.
#[test]
fn a_grant_for_a_timed_out_waiter_is_withdrawn() {
    // A direct waiter times out only while it waits.
    if waits_directly() || !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut waiter) = (opened(&target, ""), opened(&target, ""));
    holder.must("acquire l g never");
    let _strace = Strace::inject(waiter.pid(), &["linkat:delay_exit=3000000"]);
    waiter.must("begin l g 1500");
    until_waiting(&target, 1);
    holder.must("release g");
    assert_eq!(waiter.receive()["event"], "refused");
    let granted = holder.must("acquire l g 60000");
    assert!(granted["crashed"].is_null(), "{granted}");
    holder.must("check g");
}

#[test]
fn a_timeout_beyond_the_clocks_range_never_ends() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = Actor::start();
    holder.hold(&target);
    let lock = Lock::open(&target).unwrap();
    for long in [Duration::MAX, Duration::from_secs(u64::from(u32::MAX) * 1000)] {
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(lock.acquire_with(Wait::For(long)).unwrap().fence().unwrap()).unwrap());
            until_waiting(&target, 1);
            holder.must("release g");
            assert!(receiver.recv_timeout(Duration::from_secs(60)).unwrap() > 0);
        });
        holder.must("acquire l g 60000");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (lock, waited) = (lock.clone(), Wait::For(long));
            let task = tokio::spawn(async move { lock.acquire_async(waited).await.unwrap().fence().unwrap() });
            tokio::task::yield_now().await;
            until_waiting(&target, 1);
            holder.must("release g");
            assert!(task.await.unwrap() > 0);
        });
        holder.must("acquire l g 60000");
    }
}

#[test]
fn a_deadline_in_the_past_allows_one_attempt() {
    let dir = folder();
    let (target, other) = (dir.path().join("t"), dir.path().join("u"));
    let past = Instant::now();
    let mut holder = Actor::start();
    holder.hold(&target);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for wait in [Wait::Until(past), Wait::For(Duration::ZERO), Wait::Never] {
        let lock = Lock::open(&target).unwrap();
        assert!(lock.acquire_with(wait).unwrap_err().is_busy());
        assert!(runtime.block_on(lock.acquire_async(wait)).unwrap_err().is_busy());
        let free = Lock::open(&other).unwrap();
        free.acquire_with(wait).unwrap().release().unwrap();
        runtime.block_on(free.acquire_async(wait)).unwrap().release().unwrap();
    }
}

#[test]
fn an_acquire_without_waiting_never_queues() {
    for keys in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let (mut holder, mut actor) = (opened(&target, keys), opened(&target, keys));
        holder.must("acquire l g never");
        let answer = actor.must_fail("acquire l g never", "busy");
        assert!(answer["waitedMs"].is_null() && answer["holder"] == holder.pid(), "{answer}");
        assert_eq!(status(&target).unwrap().waiters, Some(0));
    }
}

#[test]
fn a_timed_out_waiter_for_a_target_blocks_no_native() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut flock, mut other) = (opened(&target, "style=flock"), opened(&target, ""));
    let foreign = util_linux(&target, "-x");
    flock.must_fail("acquire l g 100", "busy");
    // That program does not know lock files: only the timed-out waiter could block it.
    other.must("acquire l g 60000");
    // The waiter's helper does not exclude its own process in lock-file style either, and does not take the target once
    // that is free.
    other.must("release g");
    open(&mut flock, &target, "");
    flock.must("acquire l h 60000");
    end_util_linux(foreign);
    flock.must("release h");
    assert!(util_linux_may_soon(&target));
    open(&mut flock, &target, "style=flock");
    flock.must("acquire l g 60000");
}

#[test]
fn a_timed_out_waiter_that_returns_waits_for_the_new_holder() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut flock, mut other) = (opened(&target, "style=flock"), opened(&target, ""));
    let foreign = util_linux(&target, "-x");
    flock.must_fail("acquire l g 100", "busy");
    other.must("acquire l g 60000");
    // Its helper is still in the target's queue, and no longer has the anchor, which belongs to the other.
    flock.must("begin l g 60000");
    end_util_linux(foreign);
    until_waiting(&target, 1);
    other.must("check g");
    other.must("release g");
    assert_eq!(flock.receive()["event"], "granted");
}

fn util_linux_may_soon(target: &Path) -> bool {
    let mut flock = Command::new("flock");
    flock.args(["-w", "60", "-x", target.to_str().unwrap(), "true"]).status().unwrap().success()
}
