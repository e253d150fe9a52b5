//! Shares, and their order among exclusive waiters.

use super::*;

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

/// Starts an actor that waits that long for an exclusive hold in the kernel's queue behind another actor's share. Returns
/// `None` if the wait was over before it was seen.
fn behind_a_share(target: &Path, wait: u32) -> Option<(Actor, Actor)> {
    let (mut actor, mut other) = (opened(target, "style=flock"), opened(target, "style=flock"));
    other.must("share l s never");
    actor.must(&format!("begin l g {wait}"));
    until("it waits, or no longer", || actor.has_answered() || status(target).unwrap().waiters == Some(1));
    (!actor.has_answered()).then_some((actor, other))
}

/// The first share belongs to another process, so only this process's queue holds the second back.
#[test]
fn a_share_without_waiting_does_not_overtake_an_exclusive_waiter() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut actor, mut other) = behind_a_share(&target, 600_000).unwrap();
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
    // A slow machine needs more than a second to begin.
    let seen = |attempt: u32| behind_a_share(&dir.path().join(attempt.to_string()), 1000 << attempt);
    let (mut actor, mut other) = (0..).find_map(seen).unwrap();
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
