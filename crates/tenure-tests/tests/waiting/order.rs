//! The order of grants, and the cost of a waiter.

use super::*;

#[test]
fn waiters_are_granted_in_the_order_of_arrival() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = Actor::start();
    holder.hold(&target);
    let lock = Lock::open(&target).unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (lock, sender) = (lock.clone(), sender.clone());
            let (say_id, id) = mpsc::channel();
            scope.spawn(move || {
                // SAFETY: no precondition.
                say_id.send(unsafe { libc::gettid() }.unsigned_abs()).unwrap();
                let guard = lock.acquire_with(Wait::For(Duration::from_secs(600))).unwrap();
                sender.send(n).unwrap();
                drop(guard);
            });
            // It is in the queue before the next waiter arrives.
            let thread = id.recv().unwrap();
            if waits_directly() && n == 0 {
                // This one waits in the kernel's queue.
                until_waiting(&target, 1);
            } else {
                until("the waiter sleeps", || sleeps_until_a_deadline(std::process::id(), thread));
            }
        }
        holder.must("release g");
        let order: Vec<i32> = (0..8).map(|_| receiver.recv_timeout(Duration::from_secs(600)).unwrap()).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7]);
    });
}

#[test]
fn other_processes_are_granted_beside_a_hammering_process() {
    for style in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let (mut hammer, mut other) = (opened(&target, style), opened(&target, style));
        hammer.must("hammer l 8");
        until("it hammers", || hammer.must("hammered")["count"].as_u64().unwrap() > 100);
        for _ in 0..20 {
            other.must("acquire l g forever");
            let count = hammer.must("hammered")["count"].clone();
            assert_eq!(hammer.must("hammered")["count"], count, "two at work");
            other.must("release g");
        }
    }
}

/// Returns how often the threads of a process have gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: std::io::Result<std::fs::DirEntry>| -> u64 {
        // A thread may end meanwhile.
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .map_or(0, |count| count.trim().parse().unwrap())
    };
    tasks.map(of).sum()
}

/// Returns the processor time of all threads of a process.
fn cpu_time(pid: u32) -> Duration {
    let mut clock = 0;
    // SAFETY: `clock` and `time` are on this stack.
    unsafe {
        assert_eq!(libc::clock_getcpuclockid(i32::try_from(pid).unwrap(), &raw mut clock), 0);
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(clock, &raw mut time), 0);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

#[test]
fn a_hundred_idle_waiters_use_no_processor_time() {
    // Each wakes up once a second, and looks around, for which a slow machine needs more of its processor's time. A thread that
    // spun would need all of a processor, and one that polled would go to sleep a hundred times a second.
    const BOUND: f64 = 0.3;
    const SLEEPS: f64 = 10.0;
    const COUNT: usize = 100;
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = Actor::start();
    holder.hold(&target);
    let mut waiters: Vec<Actor> = (0..COUNT).map(|_| opened(&target, "")).collect();
    for waiter in &mut waiters {
        waiter.must("begin l g forever");
    }
    until_waiting(&target, COUNT);
    // The minimum of several spans, because a start-up or a starved machine adds time that waiting does not cost.
    let used = || {
        let pids = || waiters.iter().map(Actor::pid);
        (pids().map(cpu_time).sum::<Duration>(), pids().map(sleeps).sum::<u64>())
    };
    let (mut least, mut fewest) = (f64::MAX, f64::MAX);
    for _ in 0..10 {
        let ((time, count), start) = (used(), Instant::now());
        std::thread::sleep(Duration::from_millis(2000));
        let (now, took) = (used(), start.elapsed().as_secs_f64());
        least = least.min((now.0 - time).as_secs_f64() / took);
        fewest = fewest.min((now.1 - count) as f64 / COUNT as f64 / took);
        if least < BOUND && fewest < SLEEPS {
            break;
        }
    }
    eprintln!("{COUNT} waiters use {:.3} % of a core, and each sleeps {fewest:.1} times a second", least * 100.0);
    assert!(least < BOUND, "{:.2} % of a core", least * 100.0);
    assert!(fewest < SLEEPS, "each goes to sleep {fewest:.1} times a second");
    // Not by a single look: while other programs' locks change, the kernel's table can lack a lock with all its
    // waiters.
    until_waiting(&target, COUNT);
}

#[test]
fn ten_thousand_async_waiters_are_one_waiter_in_the_kernel() {
    const COUNT: usize = 10_000;
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut many) = (Actor::start(), opened(&target, ""));
    holder.hold(&target);
    let bytes = many.must(&format!("async-many l {COUNT}"))["bytes"].as_u64().unwrap() as usize / COUNT;
    eprintln!("{bytes} bytes a waiter");
    assert!(bytes < 4096, "{bytes} bytes a waiter");
    until_waiting(&target, 1);
    let names = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", many.pid())).unwrap();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let mut names: Vec<String> = tasks.map(|task| name(task.unwrap()).trim().to_owned()).collect();
        names.retain(|name| name.starts_with("tenure-"));
        names.sort();
        names
    };
    assert_eq!(names(), ["tenure-wait", "tenure-watchdog"]);
    drop(many);
    // A smaller number, all of which are granted.
    let mut some = opened(&target, "");
    some.must("async-many l 500");
    holder.must("release g");
    assert_eq!(some.receive()["event"], "all-granted");
}

#[test]
fn a_waiter_continues_after_a_break() {
    for style in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let (mut holder, mut waiter) = (opened(&target, style), opened(&target, style));
        holder.must("acquire l g never");
        waiter.must("begin l g forever");
        until_waiting(&target, 1);
        if style.is_empty() {
            tenure::break_lock(&target, &tenure::BreakOptions::default().force(true)).unwrap();
            // The broken holder lives, and has the old anchor's kernel lock, so no event of the kernel ends the wait.
            assert!(waiter.answers_within(60), "the waiter looks again every second");
            assert_eq!(waiter.receive()["event"], "granted");
            waiter.must("check g");
        } else {
            // The target's own kernel lock cannot be broken: the waiter waits for it, and continues when the holder
            // ends.
            tenure::break_lock(&target, &tenure::BreakOptions::default().force(true)).unwrap();
            holder.must_fail("check g", "lost");
            until("the waiter waits for the target itself", || {
                let found = status(&target).unwrap();
                found.waiters == Some(1) && found.state != State::Free
            });
            holder.must_fail("release g", "lost");
            assert_eq!(waiter.receive()["event"], "granted");
        }
        assert_eq!(status(&target).unwrap().holder.unwrap().pid(), Some(waiter.pid().into()));
    }
}

/// The holder is young enough when the wait begins, and too old later.
#[test]
fn a_waiter_with_a_stealing_policy_steals_from_a_holder_that_became_too_old() {
    let dir = folder();
    // On a machine that is very slow, the holder is too old at the first attempt.
    let young_enough = (0..).map(|attempt| 3000 << attempt).find(|age| {
        let target = dir.path().join(age.to_string());
        let (mut holder, mut waiter) = (opened(&target, ""), opened(&target, &format!("steal_after_ms={age}")));
        let began = Instant::now();
        holder.must("acquire l g never");
        let first = waiter.ask("acquire l g never");
        if first["ok"] == true {
            assert!(began.elapsed() >= Duration::from_millis(*age), "stolen from a young holder: {first}");
            return false;
        }
        assert_eq!(first["kind"], "busy", "{first}");
        waiter.must("begin l g forever");
        assert_eq!(waiter.receive()["event"], "granted");
        assert!(began.elapsed() >= Duration::from_millis(*age), "stolen from a young holder");
        holder.must_fail("check g", "lost");
        waiter.must("check g");
        true
    });
    assert!(young_enough.is_some());
}

#[test]
fn a_nested_acquire_names_the_first_holder_at_once() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = opened(&target, "label=first");
    actor.must("acquire l g never");
    open(&mut actor, &target, "label=second");
    let start = Instant::now();
    for wait in ["forever", "60000"] {
        let answer = actor.must_fail(&format!("acquire l h {wait}"), "would-deadlock");
        assert_eq!(answer["holder"], actor.pid(), "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("first"), "{answer}");
    }
    actor.must_fail("acquire l h never", "busy");
    // None of them has waited.
    assert!(start.elapsed() < Duration::from_secs(60));
    // Another thread may wait, and this one may again once it holds no more.
    actor.must("begin l h 60000");
    assert_eq!(actor.must_and_receive("release g").1["event"], "granted");
    actor.must("release h");
    actor.must("acquire l g never");
}

#[test]
fn without_the_check_a_nested_acquire_waits() {
    let dir = folder();
    let mut actor = opened(&dir.path().join("t"), "deadlock_check=0");
    actor.must("acquire l g never");
    let answer = actor.must_fail("acquire l h 200", "busy");
    assert!(answer["waitedMs"].as_u64().unwrap() >= 200, "{answer}");
    actor.must("release g");
    actor.must("acquire l h never");
}

#[test]
fn reentrant_guards_are_counted_across_threads() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut actor, mut other) = (opened(&target, "reentrant=1"), opened(&target, "reentrant=1"));
    let fence = actor.must("acquire l g never")["fence"].clone();
    let answer = actor.must_and_receive("begin l h 60000").1;
    assert_eq!((&answer["event"], &answer["fence"]), (&"granted".into(), &fence), "{answer}");
    assert_eq!(actor.must("acquire l i forever")["fence"], fence);
    actor.must("release g");
    actor.must("check h");
    other.must_fail("acquire l g never", "busy");
    actor.must("drop i");
    other.must_fail("acquire l g never", "busy");
    actor.must("release h");
    let later = other.must("acquire l g never");
    assert!(later["fence"].as_u64() > fence.as_u64(), "{later}");
    // A guard of a reentrant lock does not admit a lock without that option.
    open(&mut other, &target, "");
    other.must_fail("acquire l x 60000", "would-deadlock");
}

#[test]
fn sixty_four_threads_lose_no_update() {
    for style in [Style::LockFile, Style::Flock] {
        let dir = folder();
        let target = dir.path().join("count");
        std::fs::write(&target, "0").unwrap();
        let lock = Lock::options().style(style).open(&target).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let guard = lock.acquire_with(Wait::For(Duration::from_secs(60))).unwrap();
                        let count: u32 = std::fs::read_to_string(&target).unwrap().parse().unwrap();
                        std::fs::write(&target, (count + 1).to_string()).unwrap();
                        guard.release().unwrap();
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "640", "{style:?}");
    }
}

#[test]
fn the_two_styles_exclude_each_other() {
    let dir = folder();
    let (target, number) = (dir.path().join("t"), dir.path().join("number"));
    std::fs::write(&number, "0").unwrap();
    let mut actors = [opened(&target, ""), opened(&target, "style=flock"), opened(&target, "style=flock")];
    for actor in &mut actors {
        actor.must(&format!("count l {} 4 40", number.display()));
    }
    for actor in &mut actors {
        let answer = actor.receive();
        assert_eq!((&answer["event"], &answer["doubles"]), (&"counted".into(), &0.into()), "{answer}");
    }
    assert_eq!(std::fs::read_to_string(&number).unwrap(), "480");
}

#[test]
fn reentrant_waiters_queued_before_the_grant_are_granted_with_it() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut actor) = (opened(&target, ""), opened(&target, "reentrant=1"));
    holder.must("acquire l g never");
    // A thread that waits for the second while it has the first would deadlock otherwise.
    for guard in ["a", "b"] {
        actor.must(&format!("begin l {guard} forever"));
    }
    until_waiting(&target, 1);
    holder.must("release g");
    let (one, other) = (actor.receive(), actor.receive());
    assert_eq!((&one["event"], &other["event"]), (&"granted".into(), &"granted".into()), "{one} {other}");
    assert_eq!(one["fence"], other["fence"]);
    actor.must("release a");
    holder.must_fail("acquire l g never", "busy");
    actor.must("release b");
    holder.must("acquire l g 60000");
}

#[test]
fn a_compatible_waiter_that_arrives_during_an_acquire_is_granted_with_it() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let mut actor = opened(&dir.path().join("t"), "reentrant=1");
    let strace = Strace::inject(actor.pid(), &["flock:delay_enter=500000:when=1"]);
    for guard in ["a", "b"] {
        actor.must(&format!("begin l {guard} forever"));
    }
    let (one, other) = (actor.receive(), actor.receive());
    assert_eq!((&one["event"], &other["event"]), (&"granted".into(), &"granted".into()), "{one} {other}");
    assert_eq!(one["fence"], other["fence"]);
    strace.detach();
}
