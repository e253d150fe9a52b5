//! Several locks of files, all or none.

#![cfg(any(target_os = "linux", windows))]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::Duration;

use tenure::{Lock, Wait, acquire_all};

fn opened(dir: &std::path::Path, names: &[&str]) -> Vec<Lock> {
    names.iter().map(|name| Lock::open(dir.join(name)).unwrap()).collect()
}

#[test]
fn all_or_none_and_the_guards_in_the_order_of_the_locks() {
    let dir = tempfile::tempdir().unwrap();
    let locks = opened(dir.path(), &["c", "a", "b"]);
    let guards = acquire_all(&locks, Wait::Never).unwrap();
    assert!(guards.iter().zip(&locks).all(|(guard, lock)| guard.target() == lock.target()));
    drop(guards);
    let held = locks[0].acquire().unwrap();
    let waits = [Wait::Never, Wait::For(Duration::from_millis(1))];
    for wait in waits {
        let others = opened(dir.path(), &["b", "a", "c"]);
        let refused = std::thread::spawn(move || acquire_all(&others, wait).unwrap_err()).join().unwrap();
        assert!(refused.is_busy() && refused.path() == locks[0].target(), "{refused}");
        locks[1].acquire_with(Wait::Never).unwrap().release().unwrap();
        locks[2].acquire_with(Wait::Never).unwrap().release().unwrap();
    }
    held.release().unwrap();
    assert!(acquire_all([], Wait::Never).unwrap().is_empty());
}

#[test]
fn threads_that_name_the_locks_in_another_order_do_not_deadlock() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for names in [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]] {
            let locks = opened(dir.path(), &names);
            scope.spawn(move || {
                for _ in 0..200 {
                    acquire_all(&locks, Wait::Forever).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_lock_that_is_named_twice_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("sub/../a");
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let locks = [Lock::open(dir.path().join("a")).unwrap(), Lock::open(&other).unwrap()];
    let refused = acquire_all(&locks, Wait::Forever).unwrap_err();
    assert!(refused.is_invalid_target() && refused.to_string().contains("twice"), "{refused}");
    // Nothing is held.
    locks[0].acquire_with(Wait::Never).unwrap().release().unwrap();
}
