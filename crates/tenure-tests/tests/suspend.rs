//! Suspended tenures: who goes first when one is resumed, what it learns of the time in between, and what is left of one whose
//! process ends.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tenure::{Lock, Meanwhile, Requester, State, Style, Wait};
use tenure_tests::{
    Actor, end_util_linux, folder, has, lock_file, needs, opened, signal, stop_without_lock, until, until_unwanted,
    until_waiting, util_linux,
};

const STYLES: [&str; 2] = ["", "style=flock"];

/// Starts an actor whose tenure of `target` is suspended as `s`.
fn suspended(target: &Path, keys: &str) -> Actor {
    let mut actor = opened(target, keys);
    actor.must("acquire l g never");
    let answer = actor.must("suspend g s");
    assert_eq!(answer["first"], true, "{answer}");
    actor
}

/// Starts an actor that holds `target` as `g`.
fn holding(target: &Path, keys: &str) -> Actor {
    let mut actor = opened(target, keys);
    actor.must("acquire l g never");
    actor
}

/// Starts an actor that waits for `target`, behind the present waiters.
fn waiting(target: &Path, keys: &str, before: usize) -> Actor {
    let mut actor = opened(target, keys);
    actor.must("begin l g forever");
    until_waiting(target, before + 1);
    actor
}

/// Has the actor resume its tenure, with `before` waiters in the queue.
fn resume_behind(actor: &mut Actor, target: &Path, before: usize) {
    actor.must("begin-resume s g forever");
    until_waiting(target, before + 1);
}

/// Returns the pids of the suspended tenures, as the status shows them.
fn to_come_back(target: &Path) -> Vec<u32> {
    let suspended = tenure::status(target).unwrap().suspended;
    suspended.iter().map(|suspended| u32::try_from(suspended.pid).unwrap()).collect()
}

/// Awaits the actor's grant.
fn granted(actor: &mut Actor) -> serde_json::Value {
    assert!(actor.answers_within(60), "another waiter was granted the lock");
    let event = actor.receive();
    assert_eq!(event["event"], "granted", "{event}");
    event
}

#[test]
fn a_suspended_lock_is_free_and_shows_who_comes_back() {
    for keys in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = suspended(&target, keys);
        let found = tenure::status(&target).unwrap();
        assert!(found.state == State::Free && found.holder.is_none(), "{found:?}");
        assert_eq!(to_come_back(&target), [actor.pid()]);

        // Each holder carries it on, and shows it.
        let mut other = opened(&target, keys);
        for _ in 0..2 {
            other.must("acquire l g never");
            let found = tenure::status(&target).unwrap();
            assert_eq!(found.holder.as_ref().unwrap().pid(), Some(other.pid().into()));
            assert_eq!(to_come_back(&target), [actor.pid()]);
            assert_eq!(tenure::list(dir.path(), &Default::default()).unwrap()[0].suspended, found.suspended);
            other.must("release g");
        }
        actor.must("resume s g forever");
        assert_eq!(to_come_back(&target), [0; 0]);
        assert_eq!(tenure::status(&target).unwrap().holder.unwrap().pid(), Some(actor.pid().into()));
        actor.must("check g");
        actor.must("release g");
        other.must("acquire l g never");
        other.must("release g");
        assert_eq!(to_come_back(&target), [0; 0]);
    }
}

#[test]
fn it_says_whether_another_program_held_meanwhile() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = holding(&target, "label=mine");
    let cycle = |actor: &mut Actor, between: &dyn Fn()| {
        let before = actor.must("suspend g s");
        between();
        let after = actor.must("resume s g never");
        assert!(after["fence"].as_u64() > before["fence"].as_u64());
        assert!(after["crashed"].is_null());
        assert_eq!(after["changed"], after["meanwhile"] != "nobody", "{after}");
        after["meanwhile"].as_str().unwrap().to_owned()
    };
    let other = Lock::open(&target).unwrap();
    for _ in 0..2 {
        assert_eq!(cycle(&mut actor, &|| {}), "nobody");
        assert_eq!(cycle(&mut actor, &|| drop(other.acquire().unwrap())), "others", "a native");
        assert_eq!(cycle(&mut actor, &|| drop(tenure::status(&target).unwrap())), "nobody", "who looks holds nothing");
        let foreign = || {
            drop(std::fs::File::create_new(lock_file(&target)).unwrap());
            std::fs::remove_file(lock_file(&target)).unwrap();
        };
        assert_eq!(cycle(&mut actor, &foreign), "others", "a program that knows only the lock file");
        let elsewhere = || {
            std::fs::write(dir.path().join("u.lock"), "").unwrap();
            std::fs::rename(dir.path().join("u.lock"), dir.path().join("t.locks")).unwrap();
            drop(Lock::open(dir.path().join("u")).unwrap().acquire().unwrap());
        };
        assert_eq!(cycle(&mut actor, &elsewhere), "nobody", "other locks are not this one");
        let moved = || {
            std::fs::write(dir.path().join("new"), "{}").unwrap();
            std::fs::rename(dir.path().join("new"), lock_file(&target)).unwrap();
            std::fs::rename(lock_file(&target), dir.path().join("old")).unwrap();
        };
        assert_eq!(cycle(&mut actor, &moved), "others", "the name is what counts");
        assert_eq!(
            cycle(&mut actor, &|| std::fs::remove_dir_all(dir.path().join(".tenure")).unwrap()),
            "unknown",
            "the record was lost"
        );
        assert_eq!(
            cycle(&mut actor, &|| {
                std::fs::remove_dir_all(dir.path().join(".tenure")).unwrap();
                drop(other.acquire().unwrap());
            }),
            "others"
        );
    }
    let found = tenure::status(&target).unwrap();
    assert_eq!(found.holder.unwrap().label.as_deref(), Some("mine"));
}

#[test]
fn more_names_than_the_kernel_can_report_prove_nothing() {
    let dir = folder();
    let target = dir.path().join("t");
    let suspended = Lock::open(&target).unwrap().acquire().unwrap().suspend().unwrap();
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    for at in 0..limit.trim().parse::<usize>().unwrap() / 2 + 8 {
        let name = dir.path().join(format!("{}", at % 2));
        std::fs::write(&name, "").unwrap();
        std::fs::remove_file(&name).unwrap();
    }
    assert_eq!(suspended.resume(Wait::Never).unwrap().meanwhile, Meanwhile::Unknown);
}

#[test]
fn in_flock_style_only_natives_are_proven() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::options().style(Style::Flock).open(&target).unwrap();
    let resumed = lock.acquire().unwrap().suspend().unwrap().resume(Wait::Never).unwrap();
    assert!(resumed.meanwhile == Meanwhile::Unknown && resumed.changed());
    let suspended = resumed.guard.suspend().unwrap();
    lock.acquire().unwrap().release().unwrap();
    assert_eq!(suspended.resume(Wait::Never).unwrap().meanwhile, Meanwhile::Others);
    if needs("flock(1)", has("flock")) {
        let suspended = lock.acquire().unwrap().suspend().unwrap();
        end_util_linux(util_linux(&target, "-x"));
        assert_eq!(suspended.resume(Wait::Forever).unwrap().meanwhile, Meanwhile::Unknown);
    }
}

#[test]
fn a_resumed_tenure_goes_before_those_that_wait_already() {
    for keys in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = suspended(&target, keys);
        let mut holder = holding(&target, keys);
        let mut waiters: Vec<_> = (0..3).map(|before| waiting(&target, keys, before)).collect();
        resume_behind(&mut actor, &target, 3);
        assert_eq!(tenure::status(&target).unwrap().queue.last(), Some(&actor.pid().into()), "the kernel has it last");
        holder.must("release g");
        let event = granted(&mut actor);
        assert_eq!(event["meanwhile"], "others");
        assert!(waiters.iter().all(|waiter| !waiter.has_answered()));
        actor.must("release g");
        for _ in 0..3 {
            until("one is granted", || waiters.iter().any(Actor::has_answered));
            let at = waiters.iter().position(Actor::has_answered).unwrap();
            let mut waiter = waiters.remove(at);
            granted(&mut waiter);
            assert!(waiters.iter().all(|waiter| !waiter.has_answered()));
            waiter.must("release g");
        }
        until_unwanted(&target);
    }
}

#[test]
fn of_two_the_one_that_was_suspended_first_goes_first() {
    for keys in STYLES {
        for first_resumes_first in [true, false] {
            let dir = folder();
            let target = dir.path().join("t");
            let (mut one, mut two) = (suspended(&target, keys), suspended(&target, keys));
            assert_eq!(to_come_back(&target), [one.pid(), two.pid()]);
            let mut holder = holding(&target, keys);
            let mut waiter = waiting(&target, keys, 0);
            match first_resumes_first {
                true => {
                    resume_behind(&mut one, &target, 1);
                    resume_behind(&mut two, &target, 2);
                }
                false => {
                    resume_behind(&mut two, &target, 1);
                    resume_behind(&mut one, &target, 2);
                }
            }
            holder.must("release g");
            granted(&mut one);
            assert!(!two.has_answered() && !waiter.has_answered());
            assert_eq!(to_come_back(&target), [two.pid()]);
            one.must("release g");
            granted(&mut two);
            assert!(!waiter.has_answered());
            two.must("release g");
            granted(&mut waiter);
            assert_eq!(to_come_back(&target), [0; 0]);
            waiter.must("release g");
        }
    }
}

/// Polls a future once.
fn poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Polls a future to its end.
fn ended<F: Future + Unpin>(future: &mut F) -> F::Output {
    let mut output = None;
    until("the future ends", || {
        output = poll(future);
        output.is_some()
    });
    output.unwrap()
}

#[test]
fn within_one_process_a_resumed_tenure_goes_first_as_well() {
    for style in [Style::LockFile, Style::Flock] {
        let dir = folder();
        let lock = Lock::options().style(style).open(dir.path().join("t")).unwrap();
        let (first, second) = (lock.acquire().unwrap().suspend().unwrap(), lock.acquire().unwrap().suspend().unwrap());
        assert!(first.fence() < second.fence());
        let held = lock.acquire().unwrap();
        let mut waiter = lock.begin(Requester::Task).unwrap();
        let mut second = second.begin_resume(Wait::Forever, Requester::Task).unwrap();
        let mut first = first.begin_resume(Wait::Forever, Requester::Task).unwrap();
        let mut last = lock.begin(Requester::Task).unwrap();
        assert_eq!(first.target(), lock.target());
        held.release().unwrap();
        let first = ended(&mut first).unwrap();
        assert!(poll(&mut second).is_none() && poll(&mut waiter).is_none() && poll(&mut last).is_none());
        first.guard.release().unwrap();
        let second = ended(&mut second).unwrap();
        assert!(second.meanwhile == Meanwhile::Others && poll(&mut waiter).is_none() && poll(&mut last).is_none());
        second.guard.release().unwrap();
        ended(&mut waiter).unwrap().release().unwrap();
        ended(&mut last).unwrap().release().unwrap();
    }
}

#[test]
fn threads_that_pass_the_lock_on_among_themselves_let_it_in() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut actor, mut busy) = (suspended(&target, ""), opened(&target, ""));
    busy.must("hammer l 4");
    until("they pass it on", || busy.must("hammered")["count"].as_u64() > Some(100));
    for _ in 0..20 {
        let event = actor.must("resume s g forever");
        assert_eq!(event["meanwhile"], "others");
        actor.must("suspend g s");
        let before = busy.must("hammered")["count"].as_u64();
        until("others hold it again", || busy.must("hammered")["count"].as_u64() > before);
    }
}

#[test]
fn an_acquire_that_does_not_wait_takes_what_is_free() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = suspended(&target, "");
    let mut holder = holding(&target, "");
    resume_behind(&mut actor, &target, 0);
    stop_without_lock(actor.pid());
    holder.must("release g");
    let mut other = holding(&target, "");
    assert_eq!(to_come_back(&target), [actor.pid()], "its place was not forgotten");
    // A stopped process is in no queue of the kernel's.
    let mut waiter = waiting(&target, "", 0);
    signal(actor.pid(), libc::SIGCONT);
    until_waiting(&target, 2);
    other.must("release g");
    granted(&mut actor);
    assert!(!waiter.has_answered());
    actor.must("release g");
    granted(&mut waiter);
}

#[test]
fn one_that_is_stopped_keeps_nobody_out_for_ever() {
    for keys in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = suspended(&target, keys);
        let mut holder = holding(&target, keys);
        resume_behind(&mut actor, &target, 0);
        stop_without_lock(actor.pid());
        let mut waiters: Vec<_> = (0..2).map(|before| waiting(&target, keys, before)).collect();
        holder.must("release g");
        until("one is granted", || waiters.iter().any(Actor::has_answered));
        let at = waiters.iter().position(Actor::has_answered).unwrap();
        let mut first = waiters.remove(at);
        granted(&mut first);
        assert_eq!(to_come_back(&target), [0; 0], "its place is forgotten");
        first.must("release g");
        granted(&mut waiters[0]);
        signal(actor.pid(), libc::SIGCONT);
        until_waiting(&target, 1);
        waiters[0].must("release g");
        assert_eq!(granted(&mut actor)["meanwhile"], "others");
        actor.must("check g");
        actor.must("release g");
        until_unwanted(&target);
    }
}

#[test]
fn one_that_is_stopped_keeps_out_neither_short_waits_nor_shares_for_ever() {
    for keys in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = suspended(&target, keys);
        let mut holder = holding(&target, keys);
        resume_behind(&mut actor, &target, 0);
        stop_without_lock(actor.pid());
        holder.must("release g");
        if keys == "style=flock" {
            let mut sharer = opened(&target, keys);
            until("a short wait is granted a share", || sharer.ask("share l g 20")["ok"] == true);
            assert_eq!(to_come_back(&target), [0; 0], "the next process does not wait for it again");
            sharer.must("check g");
            sharer.must("release g");
            // What else the record says stays.
            let found = tenure::status(&target).unwrap();
            assert!(found.state == State::Free && found.holder.is_none(), "{found:?}");
            let mut next = opened(&target, keys);
            assert!(next.must("share l g forever")["crashed"].is_null());
            next.must("release g");
            signal(actor.pid(), libc::SIGCONT);
            assert_eq!(granted(&mut actor)["meanwhile"], "others");
            actor.must("suspend g s");
            let mut holder = holding(&target, keys);
            resume_behind(&mut actor, &target, 0);
            stop_without_lock(actor.pid());
            holder.must("release g");
        }
        let mut other = opened(&target, keys);
        until("a short wait is granted", || other.ask("acquire l g 20")["ok"] == true);
        assert_eq!(to_come_back(&target), [0; 0], "its place is forgotten");
        other.must("release g");
        other.must("acquire l g never");
        other.must("release g");
    }
}

/// A share that is held keeps a resumed tenure out, so others that share may not take its place from it.
#[test]
fn one_that_waits_for_a_share_is_not_forgotten_by_other_shares() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = suspended(&target, "style=flock");
    let mut sharers = [opened(&target, "style=flock"), opened(&target, "style=flock")];
    sharers[0].must("share l g never");
    resume_behind(&mut actor, &target, 0);
    // After it has given way for its time.
    sharers[1].must("share l g forever");
    assert_eq!(to_come_back(&target), [actor.pid()]);
    let mut waiter = waiting(&target, "style=flock", 1);
    for mut sharer in sharers {
        sharer.must("release g");
    }
    granted(&mut actor);
    assert!(!waiter.has_answered());
    actor.must("release g");
    granted(&mut waiter);
}

#[test]
fn one_that_was_killed_leaves_no_place_and_is_no_crash() {
    for keys in STYLES {
        for resuming in [false, true] {
            let dir = folder();
            let target = dir.path().join("t");
            let mut actor = suspended(&target, keys);
            let mut holder = holding(&target, keys);
            assert_eq!(to_come_back(&target), [actor.pid()]);
            if resuming {
                resume_behind(&mut actor, &target, 0);
            }
            let mut waiter = waiting(&target, keys, usize::from(resuming));
            actor.kill();
            assert_eq!(to_come_back(&target), [0; 0], "the kernel knows that its process has ended");
            holder.must("release g");
            assert!(granted(&mut waiter)["crashed"].is_null());
            let record = waiter.must("record g")["record"].as_str().unwrap().to_owned();
            assert!(!record.contains("suspended"), "{record}");
            waiter.must("release g");
        }
    }
}

#[test]
fn one_that_was_killed_alone_is_no_crash_either() {
    for keys in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        suspended(&target, keys).kill();
        assert!(tenure::status(&target).unwrap().state == State::Free && to_come_back(&target).is_empty());
        let mut next = opened(&target, keys);
        assert!(next.must("acquire l g never")["crashed"].is_null());
        next.must("release g");
    }
}

#[test]
fn a_holder_that_died_meanwhile_is_reported() {
    for keys in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = suspended(&target, keys);
        let holder = holding(&target, keys);
        let pid = holder.pid();
        holder.kill();
        assert_eq!(to_come_back(&target), [actor.pid()]);
        let resumed = actor.must("resume s g forever");
        assert_eq!((&resumed["crashed"]["pid"], &resumed["meanwhile"]), (&pid.into(), &"others".into()), "{resumed}");
        actor.must("release g");
    }
}

#[test]
fn one_that_was_given_up_leaves_no_place() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = suspended(&target, "");
    actor.must("give-up s");
    assert_eq!(to_come_back(&target), [0; 0]);

    // A resume that fails gives it up as well.
    actor.must("acquire l g never");
    actor.must("suspend g s");
    let mut holder = holding(&target, "");
    let refused = actor.must_fail("resume s g 20", "busy");
    // From here on, a helper of the wait that ended may have the lock for a moment.
    assert_eq!(refused["holder"], holder.pid());
    assert_eq!(to_come_back(&target), [0; 0]);
    holder.must("release g");

    actor.must("acquire l g forever");
    actor.must("suspend g s");
    holder.must("acquire l g forever");
    actor.must_fail("resume s g never", "busy");
    holder.must("release g");
    assert!(actor.must("acquire l g forever")["crashed"].is_null());
    assert!(!actor.must("record g")["record"].as_str().unwrap().contains("suspended"));
}

#[test]
fn a_future_that_is_dropped_gives_it_up() {
    let dir = folder();
    let lock = Lock::open(dir.path().join("t")).unwrap();
    let suspended = lock.acquire().unwrap().suspend().unwrap();
    let held = lock.acquire().unwrap();
    let mut resuming = suspended.begin_resume(Wait::Forever, Requester::Task).unwrap();
    assert!(poll(&mut resuming).is_none());
    drop(resuming);
    assert!(lock.status().unwrap().suspended.is_empty());
    held.release().unwrap();
    let suspended = lock.acquire().unwrap().suspend().unwrap();
    let held = lock.acquire().unwrap();
    let resuming = suspended.begin_resume(Wait::Forever, Requester::Task).unwrap();
    assert!(resuming.give_up().unwrap_err().is_busy());
    held.release().unwrap();
    let suspended = lock.acquire().unwrap().suspend().unwrap();
    let mut resuming = suspended.begin_resume(Wait::Forever, Requester::Task).unwrap();
    assert!(ended(&mut resuming).unwrap().guard.check().is_ok());
}

#[test]
fn what_cannot_be_suspended_is_an_error_before_the_release() {
    let dir = folder();
    let target = dir.path().join("t");
    let flock = Lock::options().style(Style::Flock).open(&target).unwrap();
    let share = flock.acquire_shared(Wait::Never).unwrap();
    let bare = Lock::options().record(false).open(dir.path().join("bare")).unwrap().acquire().unwrap();
    let slot = Lock::options().slots(2).open(dir.path().join("slot")).unwrap().acquire().unwrap();
    let reentrant = Lock::options().reentrant(true).open(dir.path().join("reentrant")).unwrap();
    let (outer, inner) = (reentrant.acquire().unwrap(), reentrant.acquire().unwrap());
    for guard in [&share, &bare, &slot, &inner] {
        let error = guard.can_suspend().unwrap_err();
        assert!(error.is_unsupported() && guard.check().is_ok(), "{error}");
    }
    for guard in [share, bare, slot, inner] {
        assert!(guard.suspend().unwrap_err().is_unsupported());
    }
    // The error released that guard only.
    outer.check().unwrap();
    assert_eq!(outer.suspend().unwrap().resume(Wait::Never).unwrap().meanwhile, Meanwhile::Nobody);
    flock.acquire().unwrap().suspend().unwrap().resume(Wait::Never).unwrap().guard.release().unwrap();
}

#[test]
fn a_lock_that_is_lost_is_not_suspended() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    let guard = lock.acquire().unwrap();
    tenure::break_lock(&target, &tenure::BreakOptions::default().force(true)).unwrap();
    assert!(guard.suspend().unwrap_err().is_lost());
    assert!(lock.status().unwrap().suspended.is_empty());
    let guard = lock.acquire().unwrap();
    std::fs::remove_file(guard.lock_file()).unwrap();
    assert!(guard.suspend().unwrap_err().is_lost());
    lock.acquire().unwrap().release().unwrap();
}

#[test]
fn a_break_forgets_the_places_and_not_that_others_held() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = suspended(&target, "");
    let _holder = holding(&target, "");
    tenure::break_lock(&target, &tenure::BreakOptions::default().force(true)).unwrap();
    assert_eq!(to_come_back(&target), [0; 0]);
    assert_eq!(actor.must("resume s g forever")["meanwhile"], "others");
    actor.must("check g");
}

#[test]
fn without_its_folder_it_is_not_resumed() {
    let dir = folder();
    let target = dir.path().join("sub/t");
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let suspended = Lock::open(&target).unwrap().acquire().unwrap().suspend().unwrap();
    std::fs::remove_dir_all(dir.path().join("sub")).unwrap();
    let error = suspended.resume(Wait::Forever).unwrap_err();
    assert!(error.to_string().contains("sub"), "{error}");
}

#[test]
fn a_forked_child_resumes_nothing() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = suspended(&target, "");
    assert_eq!(actor.must("fork-on")["ok"], true);
    actor.must_fail("resume s g never", "lost");
    actor.send("leave");
    assert_eq!(actor.receive()["event"], "forked");
    assert_eq!(to_come_back(&target), [actor.pid()], "the child's end is not the parent's");
    assert_eq!(actor.must("resume s g never")["meanwhile"], "nobody");
}

#[test]
fn its_anchor_is_not_pruned() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = suspended(&target, "");
    let mut cleaner = Actor::start();
    assert_eq!(cleaner.must(&format!("clean {} idle_ms=0", dir.path().display()))["pruned"], 0);
    assert_eq!(actor.must("resume s g never")["meanwhile"], "nobody");
    actor.must("release g");
}

#[test]
fn a_run_that_is_counted_stays_one_run() {
    let dir = folder();
    let hour = std::time::Duration::from_secs(3600);
    let lock = Lock::options().not_more_often_than(hour).open(dir.path().join("t")).unwrap();
    let suspended = lock.acquire().unwrap().suspend().unwrap();
    let held = lock.acquire().unwrap();
    let mut resuming = suspended.begin_resume(Wait::Forever, Requester::Task).unwrap();
    assert!(poll(&mut resuming).is_none());
    held.mark_successful().unwrap();
    held.release().unwrap();
    // Another run's success does not end this one, which goes on.
    let guard = ended(&mut resuming).unwrap().guard;
    let guard = guard.suspend().unwrap().resume(Wait::Never).unwrap().guard;
    guard.mark_successful().unwrap();
    guard.release().unwrap();
    assert!(lock.acquire().unwrap_err().is_skipped());
}
