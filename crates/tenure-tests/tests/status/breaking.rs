//! A break removes the lock of the holder that the operator saw, and of no other.

use tenure::{BreakOptions, State, break_lock, status};
use tenure_tests::strace::Strace;
use tenure_tests::{Actor, Foreign, folder, has, has_ended, lock_file, needs, opened, signal, until};

use super::{holding, pid_of, tree};

/// A break applies only to the holder that the operator saw, and not to a later one.
#[test]
fn a_break_of_a_seen_holder_breaks_no_other() {
    for keys in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut first = holding(&target, keys);
        let seen = status(&target).unwrap();
        first.must("release g");
        let mut second = holding(&target, keys);
        assert!(break_lock(&target, &BreakOptions::default().only(seen).force(true)).unwrap_err().is_busy());
        second.must("check g");
        let seen = status(&target).unwrap();
        assert!(break_lock(&target, &BreakOptions::default().only(seen).force(true)).unwrap().broken);
        second.must_fail("check g", "lost");
    }
}

#[test]
fn a_break_of_a_live_holder_requires_force() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = holding(&target, "");
    let fence = status(&target).unwrap().holder.unwrap().fence;
    let refused = break_lock(&target, &BreakOptions::default()).unwrap_err();
    assert!(refused.is_busy(), "{refused}");
    assert_eq!(refused.holder().unwrap().pid(), Some(holder.pid().into()));
    holder.must("check g");
    let mut waiter = opened(&target, "");
    waiter.must("begin l g 60000");
    until("it waits", || status(&target).unwrap().waiters == Some(1));
    let broken = break_lock(&target, &BreakOptions::default().force(true)).unwrap();
    assert_eq!((broken.broken, pid_of(&broken.found)), (true, Some(holder.pid().into())));
    holder.must_fail("check g", "lost");
    let granted = waiter.receive();
    assert_eq!(granted["event"], "granted");
    assert!(granted["fence"].as_u64() > fence, "{granted}");
    // The old holder's release does not release the new holder's lock.
    holder.must_fail("release g", "lost");
    waiter.must("check g");
    assert_eq!(pid_of(&status(&target).unwrap()), Some(waiter.pid().into()));
    holder.must_fail("acquire l g never", "busy");
}

#[test]
fn a_break_of_a_free_or_stale_lock_requires_no_force() {
    let dir = folder();
    let target = dir.path().join("t");
    assert!(!break_lock(&target, &BreakOptions::default()).unwrap().broken);
    assert!(tree(dir.path()).is_empty());
    for keys in ["", "style=flock"] {
        holding(&target, keys).kill();
        let broken = break_lock(&target, &BreakOptions::default()).unwrap();
        assert!(broken.broken && broken.found.state == State::Stale, "{broken:?}");
        assert_eq!(status(&target).unwrap().state, State::Free);
        assert!(!break_lock(&target, &BreakOptions::default().force(true)).unwrap().broken);
        assert!(!lock_file(&target).exists());
    }
}

#[test]
fn a_foreign_holders_lock_is_broken() {
    if !needs("python3", has("python3")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let holder = Foreign::hold("python", &target);
    let refused = break_lock(&target, &BreakOptions::default()).unwrap_err();
    assert_eq!(refused.holder().unwrap().pid(), Some(holder.pid().into()));
    assert!(lock_file(&target).exists());
    let mut waiter = opened(&target, "");
    waiter.must("begin l g 60000");
    until("it waits", || status(&target).unwrap().waiters == Some(1));
    assert!(break_lock(&target, &BreakOptions::default().force(true)).unwrap().broken);
    assert_eq!(waiter.receive()["event"], "granted");
    assert!(!has_ended(holder.pid()));
    waiter.must("release g");
    Foreign::hold("python", &target).kill();
    assert!(break_lock(&target, &BreakOptions::default()).unwrap().broken);
    assert!(!lock_file(&target).exists());
}

#[test]
fn a_delayed_break_breaks_no_other_holder() {
    if !needs("strace", has("strace")) {
        return;
    }
    for by in ["break", "steal"] {
        let dir = folder();
        let target = dir.path().join("t");
        let (mut old, mut new, mut breaker) = (holding(&target, ""), opened(&target, ""), Actor::start());
        // It is stopped before it creates the new anchor: the holder to break was determined before.
        let strace = Strace::attach(
            breaker.pid(),
            &["-f", "-e", "trace=openat", "-P", ".tenure/t.lock.new", "-e", "inject=openat:signal=STOP:when=1"],
        );
        match by {
            "break" => breaker.send(&format!("break {} force", target.display())),
            _ => {
                breaker.must(&format!("open l {} steal_after_ms=1", target.display()));
                breaker.send("acquire l g never");
            }
        }
        strace.wait_for("t.lock.new");
        old.must("release g");
        new.must("acquire l g never");
        strace.detach();
        signal(breaker.pid(), libc::SIGCONT);
        let refused = breaker.receive();
        assert_eq!(refused["kind"], "busy", "{refused}");
        new.must("check g");
        new.must("release g");
        assert!(!dir.path().join(".tenure/t.lock.new").exists());
    }
}
