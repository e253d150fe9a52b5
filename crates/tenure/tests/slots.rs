//! Slots within one process: threads, acquires that are polled and given up, and bad options.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tenure::{BreakOptions, IfBusy, Lock, Overrun, Requester, StalePolicy, State, Style, Wait};

const PATIENCE: Duration = Duration::from_secs(60);

fn until(target: &Path, state: State) {
    let began = Instant::now();
    while tenure::status(target).unwrap().state != state {
        assert!(began.elapsed() < PATIENCE, "{} never became {state:?}", target.display());
    }
}

#[test]
fn threads_never_hold_more_than_the_smallest_number_and_no_slot_twice() {
    const ROUNDS: u32 = 40;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let slots: [AtomicU32; 4] = Default::default();
    let held = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (path, slots, held) = (&path, &slots, &held);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let most = [3, 2, 4][(thread + round as usize) % 3];
                    let lock = Lock::options().slots(most).open(path).unwrap();
                    // Those that wait count one after the other. Those that only try count at any time.
                    let guard = match thread % 2 {
                        0 => lock.acquire().unwrap(),
                        _ => std::iter::repeat_with(|| lock.try_acquire().unwrap()).flatten().next().unwrap(),
                    };
                    // The count is changed within the tenure, so it is never more than hold.
                    let now = held.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= most, "{now} of {most}");
                    let slot = guard.slot().unwrap();
                    assert!(slot < most);
                    assert_eq!(slots[slot as usize].fetch_add(1, Ordering::SeqCst), 0, "slot {slot} twice");
                    guard.check().unwrap();
                    std::thread::yield_now();
                    slots[slot as usize].fetch_sub(1, Ordering::SeqCst);
                    held.fetch_sub(1, Ordering::SeqCst);
                    guard.release().unwrap();
                }
            });
        }
    });
    assert!(tenure::slots(&path).unwrap().is_empty());
}

#[test]
fn a_guard_knows_its_slot_and_its_target() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let lock = Lock::options().slots(2).label("one").open(&path).unwrap();
    let (zero, one) = (lock.acquire().unwrap(), lock.acquire().unwrap());
    assert_eq!((zero.slot(), one.slot()), (Some(0), Some(1)));
    assert_eq!((one.target(), one.lock_file()), (&*path, &*dir.path().join("t.slot-1.lock")));
    assert_eq!(one.holder().slots, Some(2));
    assert_eq!(Lock::open(&path).unwrap().acquire().unwrap().slot(), None, "another lock");
    let found = tenure::slots(&path).unwrap();
    assert_eq!(
        found.iter().map(|slot| slot.holder.as_ref().unwrap().fence).collect::<Vec<_>>(),
        [zero.fence(), one.fence()]
    );
    one.set_label("two").unwrap();
    assert_eq!(tenure::slots(&path).unwrap()[1].holder.as_ref().unwrap().label.as_deref(), Some("two"));
    assert_eq!(tenure::slots(&path).unwrap()[1].holder.as_ref().unwrap().slots, Some(2), "as before");
    assert!(zero.mark_successful().unwrap_err().is_unsupported());

    // One slot is broken by its own name, and its holder knows.
    assert!(tenure::break_lock(dir.path().join("t.slot-0"), &BreakOptions::default().force(true)).unwrap().broken);
    assert!(zero.check().unwrap_err().is_lost() && one.check().is_ok());
    // Until the guard is dropped, this process counts it.
    drop(zero);
    let again = lock.try_acquire().unwrap().expect("the broken slot is free");
    assert_eq!(again.slot(), Some(0));
    assert!(tenure::slots(dir.path().join("missing/t")).unwrap().is_empty());
}

#[test]
fn a_revoked_slot_is_free_and_its_next_holder_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let limited = Lock::options().slots(1).max_hold(Duration::from_millis(20)).overrun(Overrun::Revoke);
    let _revoked = limited.open(&path).unwrap().acquire().unwrap();
    let next = Lock::options().slots(1).deadlock_check(false).open(&path).unwrap().acquire().unwrap();
    assert!(next.previous().is_crashed());
}

#[test]
fn a_wait_that_is_given_up_leaves_neither_a_slot_nor_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let (path, place) = (dir.path().join("t"), dir.path().join("t.next"));
    let lock = Lock::options().slots(1).open(&path).unwrap();
    let held = lock.acquire().unwrap();
    let first = lock.begin(Requester::Task).unwrap();
    until(&place, State::Held);
    let second = lock.begin(Requester::Task).unwrap();
    drop(second);
    drop(first);
    until(&place, State::Free);
    let error = std::thread::scope(|scope| {
        scope.spawn(|| lock.acquire_timeout(Duration::from_millis(20)).unwrap_err()).join().unwrap()
    });
    assert!(error.is_busy() && error.waited().is_some(), "{error}");
    assert_eq!(error.holder().and_then(tenure::Holder::pid), Some(std::process::id().into()));
    until(&place, State::Free);
    let error = lock.acquire_with(Wait::Never).unwrap_err();
    assert!(error.is_busy() && error.to_string().contains("no slot of 1 is free"), "{error}");
    held.release().unwrap();
    let _again = lock.try_acquire().unwrap().expect("no slot is left");
}

#[test]
fn a_thread_that_would_wait_for_itself_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let two = Lock::options().slots(2).open(&path).unwrap();
    let (_zero, one) = (two.acquire().unwrap(), two.acquire().unwrap());
    assert!(two.acquire().unwrap_err().is_would_deadlock());
    assert!(Lock::options().slots(1).open(&path).unwrap().acquire().unwrap_err().is_would_deadlock());
    // Where another thread holds a slot as well, its release makes room.
    drop(one);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| two.acquire().unwrap()).join().unwrap();
        let waiting = scope.spawn(|| two.acquire().unwrap());
        until(&dir.path().join("t.next"), State::Held);
        drop(other);
        drop(waiting.join().unwrap());
    });
}

#[test]
fn options_that_have_no_meaning_for_slots_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let second = Duration::from_secs(1);
    let slots = || Lock::options().slots(2);
    for (name, options) in [
        ("none", Lock::options().slots(0)),
        ("too many", Lock::options().slots(1001)),
        ("flock", slots().style(Style::Flock)),
        ("no record", slots().record(false)),
        ("reentrant", slots().reentrant(true)),
        ("steal", slots().stale_policy(StalePolicy::StealAfter(second))),
        ("replace", slots().if_busy(IfBusy::Replace)),
        ("recent", slots().not_more_often_than(second)),
    ] {
        assert!(options.open(&path).unwrap_err().is_unsupported(), "{name}");
    }
    assert!(slots().open(&path).unwrap().acquire_shared(Wait::Never).unwrap_err().is_unsupported());
    let long = dir.path().join("n".repeat(245));
    assert!(slots().open(long).unwrap_err().is_invalid_target());
    let numbers: BTreeSet<_> = tenure::list(dir.path(), &tenure::ListOptions::default())
        .unwrap()
        .into_iter()
        .map(|lock| lock.target)
        .collect();
    assert!(numbers.is_empty());
}
