//! Takeovers that are delayed or killed while a foreign program acquires.

use super::*;

#[test]
fn a_delayed_takeover_never_removes_a_file_that_it_did_not_judge() {
    if !needs("strace", has("strace")) {
        return;
    }
    let mut held_up = HeldUp::new(&[]);
    let [theirs, ..] = held_up.inodes();
    let resumer = Resumer::start(held_up.pid);
    until("the takeover is over", || held_up.inodes()[2].is_none());
    assert_eq!(held_up.inodes()[0], theirs, "the foreign holder's file is at its path");
    let mut observer = Actor::start();
    let target = held_up.dir.path().join("t");
    await_waiter(&mut observer, &target);
    let found = status(&mut observer, &target);
    assert_eq!(
        (&found["state"], &found["pid"]),
        (&"held".into(), &held_up.holder.as_ref().unwrap().pid().into()),
        "{found}"
    );
    // Alive to foreign programs, too.
    let said = Foreign::judge("python", &[]).ask(held_up.dir.path().join("t.lock").to_str().unwrap());
    assert_eq!(said["stale"], false, "{said}");
    // Any answer of the waiter so far is no grant: its first word comes after the release.
    held_up.holder.take().unwrap().release();
    let granted = held_up.actor.receive();
    assert_eq!((&granted["event"], &granted["crashed"]), (&"granted".into(), &Value::Null), "{granted}");
    held_up.actor.must("check g");
    drop(resumer);
}

/// Kills the actor before the system call `death` of its takeover; the next actor recovers the rest.
fn killed_in_the_takeover(death: &str, left_at_swap: fn([Option<u64>; 3], Option<u64>) -> bool) {
    if !needs("strace", has("strace")) {
        return;
    }
    let mut held_up = HeldUp::new(&[death]);
    let [theirs, ..] = held_up.inodes();
    let resumer = Resumer::start(held_up.pid);
    // The actor's end closes its pipe; strace ends a moment later.
    held_up.actor.await_end();
    drop(resumer);
    let left = held_up.inodes();
    assert!(left_at_swap(left, theirs), "{left:?}, the foreign holder's is {theirs:?}");

    let target = held_up.dir.path().join("t");
    let mut next = Actor::start();
    next.must(&format!("open l {}", target.display()));
    next.must_fail("acquire l g never", "busy");
    assert_eq!(held_up.inodes()[0], theirs, "the foreign holder's file is back");
    assert_eq!(held_up.inodes()[2], None, "the takeover leaves no file");
    next.must("begin l g 60000");
    await_waiter(&mut Actor::start(), &target);
    held_up.holder.take().unwrap().release();
    assert_eq!(next.receive()["event"], "granted");
}

#[test]
fn a_takeover_killed_before_the_exchange_is_recovered_from() {
    killed_in_the_takeover("renameat2:signal=SIGKILL:when=1", |[lock, anchor, swap], theirs| {
        lock == theirs && swap == anchor
    });
}

#[test]
fn a_takeover_killed_between_the_exchange_and_its_repair_is_recovered_from() {
    killed_in_the_takeover("renameat2:signal=SIGKILL:when=2", |[lock, anchor, swap], theirs| {
        lock == anchor && swap == theirs
    });
}

#[test]
fn a_takeover_killed_after_the_repair_is_recovered_from() {
    killed_in_the_takeover("unlinkat:signal=SIGKILL:when=1", |[lock, anchor, swap], theirs| {
        lock == theirs && swap == anchor
    });
}
