//! Complaints about waiting and its errors.

use super::*;

#[test]
fn complaint_07_an_idle_waiter_makes_hardly_any_system_calls() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let (native, theirs) = (dir.path().join("native"), dir.path().join("foreign"));
    let mut holder = Actor::start();
    holder.hold(&native);
    let foreign_holder = Foreign::hold("python", &theirs);
    let mut observer = Actor::start();
    // Two looks of two calls at a native, and the calls that begin and end the wait; a look at a foreign holder is a
    // complete judgement. OpenClaw makes a thousand calls a second.
    for (target, most) in [(&native, 60), (&theirs, 400)] {
        let log = dir.path().join("strace.log");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", log.to_str().unwrap()]);
        let mut waiter = Actor::from(command.arg(actor_program()));
        open(&mut waiter, target, "");
        waiter.must("begin l g forever");
        await_waiters(&mut observer, target, 1);
        let lines = || std::fs::read_to_string(&log).unwrap().lines().count();
        // The beginning of the wait, and where a slow machine runs it, may be among the calls of the first time.
        measure(5, || {
            let (before, began) = (lines(), Instant::now());
            // Measures a time in which nothing happens.
            std::thread::sleep(Duration::from_secs(2));
            let (calls, took) = (lines() - before, began.elapsed());
            let most = f64::from(most) * took.as_secs_f64() / 2.0;
            if calls as f64 <= most { Ok(()) } else { Err(format!("{calls} lines of system calls in {took:?}")) }
        });
    }
    drop(foreign_holder);
}

#[test]
fn complaint_07_a_hand_off_takes_no_polling_interval_and_is_fair() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut one, mut other, mut observer) = (Actor::start(), Actor::start(), Actor::start());
    open(&mut one, &target, "");
    open(&mut other, &target, "");
    one.must("acquire l g never");
    measure(4, || {
        let (mut took, mut answered) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            other.must("begin l g forever");
            await_waiters(&mut observer, &target, 1);
            answered.push(round_trip(&mut [&mut one, &mut other]));
            let began = Instant::now();
            one.send("release g");
            assert_eq!(other.receive()["event"], "granted");
            took.push(began.elapsed());
            assert_eq!(one.receive()["ok"], true);
            std::mem::swap(&mut one, &mut other);
        }
        took.sort();
        answered.sort();
        // On a busy machine, each process waits for the processor.
        let most = Duration::from_millis(50) + 4 * answered[25];
        if took[25] < most {
            Ok(())
        } else {
            Err(format!("half of them took longer than {:?}, not {most:?}", took[25]))
        }
    });

    // First come, first served, also between processes.
    let mut queue: Vec<Actor> = (0..4).map(|_| Actor::start()).collect();
    for (at, waiter) in queue.iter_mut().enumerate() {
        open(waiter, &target, "");
        waiter.must("begin l g forever");
        await_waiters(&mut observer, &target, at + 1);
    }
    one.must("release g");
    let mut fence = 0;
    for (at, waiter) in queue.iter_mut().enumerate() {
        let granted = waiter.receive();
        let next = granted["fence"].as_u64().unwrap();
        assert!(next > fence, "{at} was granted out of order: {granted}");
        fence = next;
        waiter.must("release g");
    }
}

#[test]
fn complaint_08_a_nested_acquire_fails_at_once() {
    let dir = folder();
    let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
    let mut actor = Actor::start();
    open(&mut actor, &target, "label=first");
    actor.must("acquire l g never");
    let refused = actor.must_fail("acquire l h forever", "would-deadlock");
    let text = refused["error"].as_str().unwrap();
    assert_eq!(refused["holder"], actor.pid(), "{text}");
    assert!(text.contains("this thread") && text.contains("first") && text.contains("reentrant"), "{text}");
    actor.must("check g");
    actor.must("release g");

    open(&mut actor, &target, "reentrant=1");
    actor.must("acquire l g never");
    actor.must("acquire l h forever");
    actor.must("release g");
    assert!(inode(&lock_file).is_some(), "one acquire remains");
    let mut other = Actor::start();
    open(&mut other, &target, "");
    other.must_fail("acquire l g never", "busy");
    actor.must("release h");
    assert_eq!(inode(&lock_file), None);
    other.must("acquire l g never");
}

#[test]
fn complaint_09_the_error_names_the_holder_its_age_its_liveness_and_a_remedy() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = Actor::start();
    holder.must(&format!("open l {} label=run-8f2c", target.display()));
    holder.must("acquire l g never");
    let mut other = Actor::start();
    open(&mut other, &target, "");
    for (wait, least) in [("never", 0), ("50", 50)] {
        let refused = other.must_fail(&format!("acquire l g {wait}"), "busy");
        let text = refused["error"].as_str().unwrap();
        let pid = format!("pid {}", holder.pid());
        for word in
            [target.to_str().unwrap(), &pid, "actor", "run-8f2c", " for ", "alive", "tenure status", "tenure break"]
        {
            assert!(text.contains(word), "no {word:?} in: {text}");
        }
        assert_eq!(refused["holder"], holder.pid());
        assert!(refused["waitedMs"].as_u64().unwrap_or(0) >= least, "{refused}");
    }
    // An error names a foreign holder as well.
    let theirs = dir.path().join("theirs");
    let foreign_holder = Foreign::hold("python", &theirs);
    open(&mut other, &theirs, "");
    let refused = other.must_fail("acquire l g 50", "busy");
    let text = refused["error"].as_str().unwrap();
    assert!(text.contains(&format!("pid {}", foreign_holder.pid())) && text.contains("alive"), "{text}");
}

#[test]
fn complaint_11_a_timeout_includes_the_processs_own_queue_and_a_timed_out_waiter_never_holds() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut other, mut third) = (Actor::start(), Actor::start(), Actor::start());
    holder.hold(&target);
    open(&mut other, &target, "");
    open(&mut third, &target, "");
    // The second waits behind the first in its own process all the time.
    other.must("begin l first 60000");
    await_waiters(&mut third, &target, 1);
    let began = Instant::now();
    other.must("begin l second 100");
    let refused = other.receive();
    assert_eq!(
        (&refused["event"], &refused["guard"], &refused["kind"]),
        (&"refused".into(), &"second".into(), &"busy".into())
    );
    let waited = refused["waitedMs"].as_u64().unwrap();
    assert!(waited >= 100 && u128::from(waited) <= began.elapsed().as_millis(), "{refused}");
    holder.must("release g");
    assert_eq!(other.receive()["guard"], "first");
    other.must("release first");
    // The timed-out waiter holds nothing: the lock is free.
    third.must("acquire l g 60000");

    // The same for the only waiter, in the kernel's queue and in an async task.
    for begin in ["begin", "async"] {
        other.must(&format!("{begin} l late 50"));
        let refused = other.receive();
        assert_eq!((&refused["event"], &refused["guard"]), (&"refused".into(), &"late".into()), "{refused}");
    }
    third.must("release g");
    holder.must("acquire l g 60000");
    holder.must("check g");
}
