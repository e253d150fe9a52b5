//! Waiting: deadlines, order, and the cost of a waiter.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests look at files and processes as anyone would")]

use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tenure::{Lock, State, Style, Wait, status};
use tenure_tests::strace::Strace;
use tenure_tests::{
    Actor, end_util_linux, folder, has, needs, opened, until, until_waiting, util_linux, util_linux_may, waits_directly,
};

fn open(actor: &mut Actor, target: &Path, keys: &str) {
    actor.must(&format!("open l {} {keys}", target.display()));
}

#[test]
fn a_timeout_includes_the_time_in_the_processs_own_queue() {
    let dir = folder();
    let mut actor = Actor::start();
    actor.hold(&dir.path().join("t"));
    let start = Instant::now();
    for n in 0..10 {
        actor.send(&format!("begin l w{n} 700"));
    }
    let mut answers: Vec<_> = (0..20).map(|_| actor.receive()).collect();
    answers.retain(|answer| !answer["event"].is_null());
    assert_eq!(answers.len(), 10);
    for answer in answers {
        assert_eq!((&answer["event"], &answer["kind"]), (&"refused".into(), &"busy".into()), "{answer}");
        assert!(answer["waitedMs"].as_u64().unwrap() >= 700, "{answer}");
        assert_eq!(answer["holder"], actor.pid(), "{answer}");
    }
    // If each had its full time from the queue's head on, they would take 7 seconds.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
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
    // The lock is free, and the timed-out waiter has reported nothing more: the answer is the next line.
    until("the lock is free", || status(&target).unwrap().state == State::Free);
    waiter.must("threads");
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
                say_id.send(unsafe { libc::gettid() }).unwrap();
                let guard = lock.acquire_with(Wait::For(Duration::from_secs(60))).unwrap();
                sender.send(n).unwrap();
                drop(guard);
            });
            // Asleep: it is in the queue, before the next waiter arrives.
            let stat = format!("/proc/self/task/{}/stat", id.recv().unwrap());
            let asleep = || {
                let stat = std::fs::read_to_string(&stat).unwrap();
                stat[stat.rfind(')').unwrap()..].starts_with(") S")
            };
            until("the waiter sleeps", || asleep() && asleep());
        }
        holder.must("release g");
        let order: Vec<i32> = (0..8).map(|_| receiver.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
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
            other.must("acquire l g 30000");
            let count = hammer.must("hammered")["count"].clone();
            assert_eq!(hammer.must("hammered")["count"], count, "two at work");
            other.must("release g");
        }
    }
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
    // Each wakes up once a second, which takes a debug build on a busy machine up to 0.1 ms.
    const BOUND: f64 = 0.02;
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = Actor::start();
    holder.hold(&target);
    let mut waiters: Vec<Actor> = (0..100).map(|_| opened(&target, "")).collect();
    for waiter in &mut waiters {
        waiter.must("begin l g forever");
    }
    until_waiting(&target, 100);
    // The minimum of several spans, because a start-up or a starved machine adds time that waiting does not cost.
    let used = || waiters.iter().map(|waiter| cpu_time(waiter.pid())).sum::<Duration>();
    let mut least = 1.0_f64;
    for _ in 0..4 {
        let (before, start) = (used(), Instant::now());
        std::thread::sleep(Duration::from_millis(2000));
        least = least.min((used() - before).as_secs_f64() / start.elapsed().as_secs_f64());
        if least < BOUND {
            break;
        }
    }
    eprintln!("100 waiters use {:.3} % of a core", least * 100.0);
    assert!(least < BOUND, "{:.2} % of a core", least * 100.0);
    // Not by a single look: while other programs' locks change, the kernel's table can lack a lock with all its
    // waiters.
    until_waiting(&target, 100);
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
    // Fewer waiters, so that all are granted.
    let mut some = opened(&target, "");
    some.must("async-many l 500");
    holder.must("release g");
    assert_eq!(some.receive()["event"], "all-granted");
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
        let start = Instant::now();
        assert!(lock.acquire_with(wait).unwrap_err().is_busy());
        assert!(runtime.block_on(lock.acquire_async(wait)).unwrap_err().is_busy());
        assert!(start.elapsed() < Duration::from_secs(10), "{wait:?}");
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
fn a_waiter_continues_after_a_break() {
    for style in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let (mut holder, mut waiter) = (opened(&target, style), opened(&target, style));
        holder.must("acquire l g never");
        waiter.must("begin l g 60000");
        until_waiting(&target, 1);
        if style.is_empty() {
            tenure::break_lock(&target, &tenure::BreakOptions::default().force(true)).unwrap();
            let broken = Instant::now();
            assert_eq!(waiter.receive()["event"], "granted");
            assert!(broken.elapsed() < Duration::from_secs(8), "{:?}", broken.elapsed());
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
    let target = dir.path().join("t");
    let (mut holder, mut waiter) = (opened(&target, ""), opened(&target, "steal_after_ms=3000"));
    holder.must("acquire l g never");
    waiter.must_fail("acquire l g never", "busy");
    waiter.must("begin l g 60000");
    assert_eq!(waiter.receive()["event"], "granted");
    holder.must_fail("check g", "lost");
    waiter.must("check g");
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
    assert!(start.elapsed() < Duration::from_secs(20));
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
fn shares_coexist_with_flock_of_util_linux() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut one, mut other) = (opened(&target, "style=flock"), opened(&target, "style=flock"));
    one.must("share l s never");
    let sharer = util_linux(&target, "-s");
    other.must("share l s never");
    assert!(util_linux_may(&target, "-s") && !util_linux_may(&target, "-x"));
    other.must("release s");
    one.must("release s");
    // Only the foreign share remains: it excludes an exclusive holder, and not a share.
    one.must_fail("acquire l g never", "busy");
    other.must("share l s never");
    other.must("release s");
    one.must("begin l g 60000");
    until_waiting(&target, 1);
    end_util_linux(sharer);
    assert_eq!(one.receive()["event"], "granted");
    assert!(!util_linux_may(&target, "-s") && !util_linux_may(&target, "-x"));
    one.must("release g");
    let exclusive = util_linux(&target, "-x");
    other.must_fail("share l s never", "busy");
    other.must("begin-share l s 60000");
    until_waiting(&target, 1);
    end_util_linux(exclusive);
    assert_eq!(other.receive()["event"], "granted");
}

#[test]
fn shares_do_not_starve_an_exclusive_waiter() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = opened(&target, "style=flock");
    actor.must("share l s0 never");
    actor.must("begin l x 60000");
    // Once the exclusive waiter is queued, no further share overtakes it.
    let mut shares = 1;
    until("a share has to wait behind it", || {
        let answer = actor.ask(&format!("share l s{shares} never"));
        shares += usize::from(answer["ok"] == true);
        answer["kind"] == "busy"
    });
    for n in 1..shares {
        actor.must(&format!("release s{n}"));
    }
    assert_eq!(actor.must_and_receive("release s0").1["event"], "granted");
    actor.must_fail("share l s 300", "busy");
    actor.must("release x");
    actor.must("share l s 60000");
}

#[test]
fn a_sharing_thread_that_would_wait_for_itself_gets_an_error() {
    let dir = folder();
    let mut actor = opened(&dir.path().join("t"), "style=flock");
    actor.must("share l s never");
    let answer = actor.must_fail("acquire l g 60000", "would-deadlock");
    assert_eq!(answer["holder"], actor.pid(), "{answer}");
    assert_eq!(actor.must_fail("acquire l g never", "busy")["holder"], actor.pid());
    // A further share does not wait, unless it has to queue behind a waiter for the first.
    actor.must("share l t 60000");
    actor.must("release t");
    actor.must("async-many l 1");
    actor.must_fail("share l t 60000", "would-deadlock");
    assert_eq!(actor.must_and_receive("release s").1["event"], "all-granted");
    actor.must("share l s 60000");
}

#[test]
fn reentrant_waiters_queued_before_the_grant_are_granted_with_it() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut actor) = (opened(&target, ""), opened(&target, "reentrant=1"));
    holder.must("acquire l g never");
    // A thread that waits for the second while it has the first would deadlock otherwise.
    for guard in ["a", "b"] {
        actor.must(&format!("begin l {guard} 10000"));
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
        actor.must(&format!("begin l {guard} 10000"));
    }
    let (one, other) = (actor.receive(), actor.receive());
    assert_eq!((&one["event"], &other["event"]), (&"granted".into(), &"granted".into()), "{one} {other}");
    assert_eq!(one["fence"], other["fence"]);
    strace.detach();
}

/// Starts an actor that waits that long for an exclusive hold in the kernel's queue behind another actor's share.
fn behind_a_share(target: &Path, wait: u32) -> (Actor, Actor) {
    let (mut actor, mut other) = (opened(target, "style=flock"), opened(target, "style=flock"));
    other.must("share l s never");
    actor.must(&format!("begin l g {wait}"));
    until_waiting(target, 1);
    (actor, other)
}

/// The first share belongs to another process, so only this process's queue holds the second back.
#[test]
fn a_share_without_waiting_does_not_overtake_an_exclusive_waiter() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut actor, mut other) = behind_a_share(&target, 60000);
    actor.must_fail("share l s never", "busy");
    until_waiting(&target, 1);
    other.must("release s");
    assert_eq!(actor.receive()["event"], "granted");
}

/// The helper is in the kernel's queue for the first waiter, which wants an exclusive hold. The second waiter could
/// join the existing shares all the while.
#[test]
fn a_share_does_not_wait_behind_a_timed_out_exclusive_acquire() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut actor, mut other) = behind_a_share(&target, 1000);
    actor.must("begin-share l s 60000");
    let (one, two) = (actor.receive(), actor.receive());
    let (refused, granted) = if one["guard"] == "g" { (one, two) } else { (two, one) };
    assert_eq!((&refused["event"], &granted["event"]), (&"refused".into(), &"granted".into()), "{refused} {granted}");
    actor.must("check s");
    other.must("check s");
}

#[test]
fn a_timed_out_exclusive_waiter_blocks_no_share() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    for keys in ["style=flock", "record=0"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, keys);
        let foreign = util_linux(&target, "-s");
        actor.must_fail("acquire l g 100", "busy");
        // An acquire without waiting makes one attempt of its own and abandons the helper, which has no waiter; so does
        // one that waits.
        actor.must("share l s never");
        actor.must("check s");
        actor.must("release s");
        actor.must("share l s 60000");
        actor.must("release s");
        end_util_linux(foreign);
        actor.must("acquire l g 60000");
        actor.must("check g");
    }
}

/// Replaces the target by a new file, as programs do that write a file as a whole.
fn replace(target: &Path) {
    let new = target.with_extension("new");
    std::fs::write(&new, "").unwrap();
    std::fs::rename(&new, target).unwrap();
}

#[test]
fn a_grant_is_not_passed_on_for_a_replaced_target() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    for (keys, moved) in [("style=flock", false), ("record=0", false), ("style=flock", true), ("record=0", true)] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, keys);
        actor.must("acquire l g never");
        actor.must("async-many l 1");
        if moved {
            // The file keeps its link, so only the name shows the change, and the name is checked at most once a
            // millisecond.
            std::fs::rename(&target, dir.path().join("aside")).unwrap();
            std::fs::write(&target, "").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        } else {
            replace(&target);
        }
        let foreign = util_linux(&target, "-x");
        actor.must("release g");
        // It waits for the file that has the name now, and reports nothing meanwhile: its next line follows the end.
        until_waiting(&target, 1);
        end_util_linux(foreign);
        assert_eq!(actor.receive()["event"], "all-granted");
    }
}

#[test]
fn a_share_does_not_join_a_share_of_a_replaced_target() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    for keys in ["style=flock", "record=0"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, keys);
        actor.must("share l s never");
        replace(&target);
        let foreign = util_linux(&target, "-x");
        actor.must_fail("share l t never", "busy");
        actor.must("begin l t 60000");
        actor.must("release s");
        until_waiting(&target, 1);
        end_util_linux(foreign);
        assert_eq!(actor.receive()["event"], "granted");
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

/// A live native whose anchor was removed: its lock file is waited for in its own kernel queue, with the new anchor's
/// lock.
#[test]
fn a_waiter_at_a_natives_lock_file_leaves_the_anchor_free() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut one) = (Actor::start(), opened(&target, ""));
    holder.hold(&target);
    std::fs::remove_dir_all(dir.path().join(".tenure")).unwrap();
    one.must("begin l g 60000");
    until_waiting(&target, 1);
    let anchor = dir.path().join(".tenure/t.lock");
    // The waiter has the anchor while it checks the lock file, and must not have it while it waits: a stopped waiter
    // would block everybody.
    until("the anchor is free", || util_linux_may(&anchor, "-x"));
    holder.kill();
    let granted = one.receive();
    assert_eq!(granted["event"], "granted", "{granted}");
    one.must("check g");
}

/// An abandoned helper wakes up while its process holds another lock.
#[test]
fn an_abandoned_helper_changes_nothing_when_it_wakes_up() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    for (keys, wait) in
        [("style=flock", "never"), ("record=0", "never"), ("style=flock", "60000"), ("record=0", "60000")]
    {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, keys);
        let foreign = util_linux(&target, "-x");
        let old = format!(":{} ", tenure_tests::inode(&target).unwrap());
        actor.must_fail("acquire l g 100", "busy");
        replace(&target);
        actor.must(&format!("share l s {wait}"));
        end_util_linux(foreign);
        // It gets the lock for which it waited, and closes the file.
        until("no process has the old file", || !std::fs::read_to_string("/proc/locks").unwrap().contains(&old));
        actor.must_fail("acquire l g 60000", "would-deadlock");
        actor.must("release s");
        assert!(util_linux_may(&target, "-x"), "{keys}");
    }
}

/// The same after a break: it wakes up when the broken holder ends.
#[test]
fn a_helper_abandoned_after_a_break_changes_nothing_when_it_wakes_up() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut waiter) = (opened(&target, ""), opened(&target, ""));
    holder.must("acquire l g never");
    let old = format!(":{} ", tenure_tests::inode(&dir.path().join(".tenure/t.lock")).unwrap());
    waiter.must("begin l g 60000");
    until_waiting(&target, 1);
    tenure::break_lock(&target, &tenure::BreakOptions::default().force(true)).unwrap();
    assert_eq!(waiter.receive()["event"], "granted");
    holder.must_fail("release g", "lost");
    until("no process has the old anchor", || !std::fs::read_to_string("/proc/locks").unwrap().contains(&old));
    waiter.must_fail("acquire l h never", "busy");
    waiter.must("check g");
    waiter.must("release g");
    assert!(!dir.path().join("t.lock").exists());
    holder.must("acquire l g never");
}

#[test]
fn shares_that_were_granted_together_end_one_by_one() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut actor, mut other) = (opened(&target, "style=flock"), opened(&target, "style=flock"));
    other.must("acquire l g never");
    for guard in ["a", "b", "c"] {
        actor.must(&format!("begin-share l {guard} 60000"));
    }
    other.must("release g");
    for _ in 0..3 {
        assert_eq!(actor.receive()["event"], "granted");
    }
    for guard in ["c", "b", "a"] {
        other.must_fail("acquire l g never", "busy");
        actor.must(&format!("check {guard}"));
        actor.must(&format!("release {guard}"));
    }
    other.must("acquire l g never");
}

/// Starts an actor that holds `g`, with a waiting thread that takes a second to wake up.
fn beside_a_slow_waiter(target: &Path, keys: &str) -> (Actor, Strace) {
    let mut actor = opened(target, keys);
    actor.must("acquire l g never");
    actor.must("begin l late 60000");
    // The youngest thread: a watchdog started before it, and no helper is needed while this process holds.
    let tasks = std::fs::read_dir(format!("/proc/{}/task", actor.pid())).unwrap();
    let ids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse::<u32>().unwrap());
    let waiter = ids.max().unwrap();
    // A sleep that strace interrupts continues as another call.
    let inject = "inject=futex,restart_syscall:delay_exit=1000000";
    let strace = Strace::attach(waiter, &["-e", "trace=futex,restart_syscall", "-e", inject]);
    // The thread sleeps: strace has seen it continue.
    until("it sleeps", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/task/{waiter}/stat", actor.pid())).unwrap();
        stat[stat.rfind(')').unwrap()..].starts_with(") S")
    });
    (actor, strace)
}

#[test]
fn a_release_reports_a_loss_although_another_thread_waits() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let (mut actor, _strace) = beside_a_slow_waiter(&dir.path().join("t"), "");
    std::fs::remove_file(dir.path().join("t.lock")).unwrap();
    actor.must_fail("release g", "lost");
    assert_eq!(actor.receive()["event"], "granted");
    actor.must("check late");
}

#[test]
fn a_running_thread_barges_eight_times_before_a_woken_waiter() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let (mut actor, _strace) = beside_a_slow_waiter(&dir.path().join("t"), "");
    actor.must("release g");
    for _ in 0..8 {
        actor.must("acquire l g never");
        actor.must("release g");
    }
    busy_and_granted(&mut actor);
}

/// Asserts that the waiter is granted the lock, and not this thread.
fn busy_and_granted(actor: &mut Actor) {
    actor.send("acquire l g never");
    let (one, other) = (actor.receive(), actor.receive());
    let (answer, event) = if one["event"].is_null() { (one, other) } else { (other, one) };
    assert_eq!((&answer["kind"], &event["event"]), (&"busy".into(), &"granted".into()), "{answer} {event}");
    actor.must("check late");
    actor.must("release late");
    actor.must("acquire l g never");
}

/// Other processes are granted the lock after that many.
#[test]
fn a_grant_passes_within_the_process_without_the_kernel_thirty_two_times_in_a_row() {
    if !needs("strace", has("strace")) {
        return;
    }
    for keys in ["", "style=flock", "record=0"] {
        let dir = folder();
        let mut actor = opened(&dir.path().join("t"), keys);
        actor.must("acquire l g never");
        actor.must("async-many l 99");
        // Each tenure's record, or with `record=0` the check of the target, is slowed: 32 take more than half a
        // millisecond.
        let slow = ["-f", "-e", "trace=flock,pwrite64,statx", "-e", "inject=pwrite64,statx:delay_enter=30"];
        let strace = Strace::attach(actor.pid(), &slow);
        assert_eq!(actor.must_and_receive("release g").1["event"], "all-granted");
        let unlocks = strace.detach().iter().filter(|line| line.contains("LOCK_UN")).count();
        // A hundred tenures in four rows; in flock style two files are unlocked.
        let files = if keys == "style=flock" { 2 } else { 1 };
        assert!((4 * files..=6 * files).contains(&unlocks), "{keys}: {unlocks}");
    }
}

#[test]
fn cached_files_that_were_removed_are_closed() {
    if !needs("strace", has("strace")) {
        return;
    }
    for keys in ["style=flock", ""] {
        let dir = folder();
        let target = dir.path().join("t");
        let (mut actor, _strace) = beside_a_slow_waiter(&target, keys);
        actor.must("release g");
        if keys.is_empty() {
            std::fs::remove_dir_all(dir.path().join(".tenure")).unwrap();
        } else {
            replace(&target);
        }
        busy_and_granted(&mut actor);
    }
}

fn util_linux_may_soon(target: &Path) -> bool {
    let mut flock = Command::new("flock");
    flock.args(["-w", "60", "-x", target.to_str().unwrap(), "true"]).status().unwrap().success()
}
