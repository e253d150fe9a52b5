//! Circles through slots: a wait for a slot is part of one only if the slots whose holders wait leave no room.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tenure::{ListOptions, Lock, Requester};
use tenure_tests::{Actor, folder, until, until_waiting};

use crate::{holder, is_announced, notes, paths, until_announced, wait_for};

fn slot(target: &Path, number: u32) -> PathBuf {
    PathBuf::from(format!("{}.slot-{number}", target.display()))
}

/// Starts an actor that holds a slot of `target`, one of so many, as its guard `slot`.
fn slot_holder(target: &Path, slots: u32) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open s {} slots={slots}", target.display()));
    actor.must("acquire s slot never");
    actor
}

/// Returns each wait of a circle: what it holds and what it waits for, sorted.
fn waits(answer: &Value) -> Vec<(String, String, Value)> {
    let name = |path: &Value| Path::new(path.as_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned();
    let wait = |waiting: &Value| (name(&waiting["holds"]), name(&waiting["waitsFor"]), waiting["slots"].clone());
    let mut waits: Vec<_> = answer["circle"].as_array().unwrap().iter().map(wait).collect();
    waits.sort_by(|one, other| one.0.cmp(&other.0));
    waits
}

fn expected(waits: &[(&str, &str, Option<u32>)]) -> Vec<(String, String, Value)> {
    waits.iter().map(|(holds, waited, slots)| ((*holds).to_owned(), (*waited).to_owned(), (*slots).into())).collect()
}

/// Whichever of the three waits comes last closes the circle.
#[test]
fn a_wait_for_a_slot_closes_a_circle_with_all_holders() {
    for last in 0..3 {
        let dir = folder();
        let [x, t] = &paths(dir.path(), ["x", "t"]);
        let mut actors = [slot_holder(t, 2), slot_holder(t, 2), holder(&[x], "")];
        let waited = [(x, "", slot(t, 0)), (x, "", slot(t, 1)), (t, "slots=2", x.clone())];
        for at in (0..3).filter(|at| *at != last) {
            let (target, keys, held) = &waited[at];
            wait_for(&mut actors[at], target, keys, "forever", &[held]);
        }
        assert!(!actors.iter().any(Actor::has_answered), "no circle without the last");
        let (target, keys, _) = &waited[last];
        actors[last].must(&format!("open w {} {keys}", target.display()));
        let answer = actors[last].must_fail("acquire w got forever", "would-deadlock");
        assert_eq!(
            waits(&answer),
            expected(&[("t.slot-0", "x", None), ("t.slot-1", "x", None), ("x", "t", Some(2))]),
            "{answer}"
        );
        let text = answer["error"].as_str().unwrap();
        assert!(text.contains(&format!("waits for one of 2 slots of {}", t.display())), "{text}");
        // It gives up what it holds, and the others go on.
        actors[last].must(if last == 2 { "release g0" } else { "release slot" });
        until("another one goes on", || (0..3).any(|at| at != last && actors[at].has_answered()));
    }
}

/// Of the holders of the slots, one does not wait.
#[test]
fn a_holder_that_goes_on_keeps_the_others_out_of_a_circle() {
    let dir = folder();
    let [x, t] = &paths(dir.path(), ["x", "t"]);
    let (mut a, mut b, mut c) = (slot_holder(t, 2), slot_holder(t, 2), holder(&[x], ""));
    wait_for(&mut a, x, "", "forever", &[&slot(t, 0)]);
    wait_for(&mut c, t, "slots=2", "forever", &[x]);
    assert!(!a.has_answered() && !c.has_answered());
    b.must("release slot");
    assert_eq!(c.receive()["slot"], 1);
    assert!(notes(x).is_empty());
    c.must("release g0");
    assert_eq!(a.receive()["ok"], true);
}

/// A holder waits, but says nothing of it, because another thread of its may release.
#[test]
fn a_holder_without_a_note_keeps_the_others_out_of_a_circle() {
    let dir = folder();
    let [x, t] = &paths(dir.path(), ["x", "t"]);
    let (mut a, mut b, mut c) = (slot_holder(t, 2), Actor::start(), holder(&[x], ""));
    b.must(&format!("open s {} slots=2 deadlock_check=0", t.display()));
    b.must("acquire s slot never");
    wait_for(&mut a, x, "", "forever", &[&slot(t, 0)]);
    b.must(&format!("open w {}", x.display()));
    b.send("acquire w got forever");
    until_waiting(x, 2);
    assert!(!is_announced(&slot(t, 1)));
    wait_for(&mut c, t, "slots=2", "300", &[]);
    assert_eq!(c.receive()["kind"], "busy");
    c.must("release g0");
    until("one is granted x", || a.has_answered() || b.has_answered());
}

#[test]
fn a_free_slot_ends_the_wait() {
    let dir = folder();
    let [x, t] = &paths(dir.path(), ["x", "t"]);
    let (mut a, mut b, mut c) = (slot_holder(t, 3), slot_holder(t, 3), holder(&[x], ""));
    wait_for(&mut a, x, "", "forever", &[&slot(t, 0)]);
    wait_for(&mut b, x, "", "forever", &[&slot(t, 1)]);
    c.must(&format!("open w {} slots=3", t.display()));
    assert_eq!(c.must("acquire w got forever")["slot"], 2);
}

/// The smallest number of all counts, as it does for a grant: that of the waiter, or that of a holder that waits.
#[test]
fn a_changed_number_of_slots_counts_as_in_a_grant() {
    // The holders' numbers, whether the third one waits as well, the waiter's number, and whether that is a deadlock.
    for (holders, third_waits, limit, deadlock) in [
        ([4, 4, 4], false, 2, true),
        ([4, 4, 4], false, 3, false),
        ([4, 4, 4], true, 3, true),
        ([4, 4, 3], false, 4, false),
        ([4, 4, 3], true, 4, true),
        ([3, 3, 3], false, 4, false),
        ([3, 3, 3], true, 4, true),
    ] {
        let dir = folder();
        let [x, t] = &paths(dir.path(), ["x", "t"]);
        let mut actors: Vec<Actor> = holders.iter().map(|slots| slot_holder(t, *slots)).collect();
        let mut waiter = holder(&[x], "");
        let waiting = if third_waits { 3 } else { 2 };
        for (number, actor) in (0..).zip(&mut actors[..waiting]) {
            wait_for(actor, x, "", "forever", &[&slot(t, number)]);
        }
        let case = format!("{holders:?} {third_waits} {limit}");
        waiter.must(&format!("open w {} slots={limit}", t.display()));
        match deadlock {
            true => {
                let answer = waiter.must_fail("acquire w got forever", "would-deadlock");
                assert_eq!(answer["circle"].as_array().unwrap().len(), waiting + 1, "{case}: {answer}");
            }
            false => {
                let answer = waiter.must_fail("acquire w got 200", "busy");
                assert!(answer["circle"].is_null(), "{case}: {answer}");
            }
        }
    }
}

/// It waits in the queue behind another waiter, and knows all the same.
#[test]
fn a_waiter_behind_another_one_finds_its_circle() {
    let dir = folder();
    let [x, t] = &paths(dir.path(), ["x", "t"]);
    let (mut a, mut first, mut c) = (slot_holder(t, 1), Actor::start(), holder(&[x], ""));
    wait_for(&mut first, t, "slots=1", "forever", &[]);
    until("the first one has its place", || {
        tenure::status(PathBuf::from(format!("{}.next", t.display()))).unwrap().holder.is_some()
    });
    wait_for(&mut a, x, "", "forever", &[&slot(t, 0)]);
    c.must(&format!("open w {} slots=1", t.display()));
    let answer = c.must_fail("acquire w got forever", "would-deadlock");
    assert_eq!(waits(&answer), expected(&[("t.slot-0", "x", None), ("x", "t", Some(1))]), "{answer}");
    c.must("release g0");
    assert_eq!(a.receive()["ok"], true);
    a.must("release slot");
    assert_eq!(first.receive()["ok"], true);
}

/// The waiter has one of the slots itself, and the other one's holder waits for it.
#[test]
fn own_slots_are_part_of_the_circle() {
    let dir = folder();
    let [x, t] = &paths(dir.path(), ["x", "t"]);
    let (mut a, mut b) = (slot_holder(t, 2), slot_holder(t, 2));
    b.must(&format!("open l {}", x.display()));
    b.must("acquire l g never");
    wait_for(&mut a, x, "", "forever", &[&slot(t, 0)]);
    let answer = b.must_fail("acquire s more forever", "would-deadlock");
    assert_eq!(
        waits(&answer),
        expected(&[("t.slot-0", "x", None), ("t.slot-1", "t", Some(2)), ("x", "t", Some(2))]),
        "{answer}"
    );
    b.must("release g");
    assert_eq!(a.receive()["ok"], true);
}

/// What others wait for among themselves is not the waiter's circle.
#[test]
fn a_wait_for_the_members_of_a_circle_closes_none() {
    let dir = folder();
    let [x, y, z, t] = &paths(dir.path(), ["x", "y", "z", "t"]);
    let (mut a, mut b, mut c) = (slot_holder(t, 2), slot_holder(t, 2), holder(&[z], ""));
    for (actor, own) in [(&mut a, x), (&mut b, y)] {
        actor.must(&format!("open l {}", own.display()));
        actor.must("acquire l g never");
    }
    wait_for(&mut a, y, "deadlock_check=0", "forever", &[x, &slot(t, 0)]);
    wait_for(&mut b, x, "deadlock_check=0", "forever", &[y, &slot(t, 1)]);
    wait_for(&mut c, t, "slots=2", "300", &[]);
    assert_eq!(c.receive()["kind"], "busy");
    assert_eq!(tenure::deadlocks(dir.path(), &ListOptions::default()).unwrap().len(), 1);
}

#[test]
fn a_dead_holder_of_a_slot_is_part_of_no_circle() {
    let dir = folder();
    let [x, t] = &paths(dir.path(), ["x", "t"]);
    let (mut a, mut b, mut c) = (slot_holder(t, 2), slot_holder(t, 2), holder(&[x], ""));
    wait_for(&mut a, x, "", "forever", &[&slot(t, 0)]);
    wait_for(&mut b, x, "", "forever", &[&slot(t, 1)]);
    b.kill();
    c.must(&format!("open w {} slots=2", t.display()));
    assert_eq!(c.must("acquire w got forever")["slot"], 1);
}

/// `deadlocks` finds what nobody refused.
#[test]
fn circles_through_slots_are_listed() {
    let dir = folder();
    let [x, t] = &paths(dir.path(), ["x", "t"]);
    let (mut a, mut b) = (slot_holder(t, 2), slot_holder(t, 2));
    let held = Lock::open(x).unwrap().acquire().unwrap();
    for (number, actor) in [(0, &mut a), (1, &mut b)] {
        wait_for(actor, x, "deadlock_check=0", "forever", &[&slot(t, number)]);
    }
    let list = || tenure::deadlocks(dir.path(), &ListOptions::default()).unwrap();
    assert!(list().is_empty());
    let waiting = Lock::options().slots(2).deadlock_check(false).open(t).unwrap().begin(Requester::Thread).unwrap();
    until_announced(x);
    let found = list();
    assert_eq!(found.len(), 1, "{found:?}");
    let mut holds: Vec<_> = found[0].waits.iter().map(|waiting| (waiting.holds.clone(), waiting.slots)).collect();
    holds.sort();
    assert_eq!(holds, [(slot(t, 0), None), (slot(t, 1), None), (x.clone(), Some(2))]);
    drop(waiting);
    until("no circle is left", || list().is_empty());
    drop(held);
}
