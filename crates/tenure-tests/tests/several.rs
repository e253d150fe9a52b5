//! Several locks at once, all or none: of files, of etcd and of PostgreSQL.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use tenure::{Event, Lock, State, Wait, acquire_all, status};
use tenure_tests::servers::etcd::{self, Cluster};
use tenure_tests::servers::output;
use tenure_tests::servers::postgres::{self, Postgres};
use tenure_tests::{Actor, folder, tenure_program, until};

fn tenure(words: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(tenure_program()).args(words).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

/// Runs `true` under the targets, and returns the exit code and what was said. Waits for two minutes at most.
fn run(targets: &[&str]) -> (Option<i32>, String) {
    let (code, _, said) = tenure(&[&["run", "--timeout", "120s"], targets, &["--", "true"]].concat());
    (code, said)
}

fn is_unwanted(target: &str) -> bool {
    let found = status(target).unwrap();
    found.state == State::Free && found.waiters.is_none_or(|waiters| waiters == 0)
}

#[test]
fn a_refusal_of_one_leaves_nothing_of_the_others() {
    if !etcd::there() || !postgres::there() {
        return;
    }
    let (cluster, postgres, folder) = (Cluster::start(1), Postgres::start(), folder());
    // Leases so long that nothing is freed by their end.
    let file = folder.path().join("a").display().to_string();
    let targets = [file, cluster.target("a", 600), postgres.target("a", 600), cluster.target("b/c", 600)];
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    for busy in &targets {
        let held = Lock::open(busy).unwrap().acquire().unwrap();
        let (code, _, said) = tenure(&[&["run", "-n"], &targets[..], &["--", "true"]].concat());
        // A busy server may not have answered in time.
        assert!(code == Some(75) || code == Some(69), "{busy}: {code:?} {said}");
        let locks: Vec<Lock> = targets.iter().map(|target| Lock::open(target).unwrap()).collect();
        let refused = acquire_all(&locks, Wait::For(Duration::from_millis(100))).unwrap_err();
        assert!(refused.is_busy() || refused.is_unreachable() || refused.is_would_deadlock(), "{refused}");
        for free in targets.iter().filter(|target| target != &busy) {
            until("nothing is left", || is_unwanted(free));
        }
        held.check().unwrap();
        held.release().unwrap();
    }
    assert_eq!(run(&targets), (Some(0), String::new()));
    let locks: Vec<Lock> = targets.iter().map(|target| Lock::open(target).unwrap()).collect();
    let guards = acquire_all(&locks, Wait::Forever).unwrap();
    assert!(guards.iter().zip(&targets).all(|(guard, target)| guard.target() == Path::new(target)));
    let fences: Vec<_> = guards.iter().map(tenure::Guard::fence).collect();
    assert!(fences.iter().all(Option::is_some), "{fences:?}");
    drop(guards);
    targets.iter().for_each(|target| until("all are free", || is_unwanted(target)));
}

#[test]
fn calls_with_the_targets_in_another_order_or_spelling_do_not_deadlock() {
    if !etcd::there() || !postgres::there() {
        return;
    }
    let (cluster, postgres, folder) = (Cluster::start(1), Postgres::start(), folder());
    let (etcd, file) = (cluster.address(0), folder.path().join("f").display().to_string());
    let sql = postgres.target("a", 60);
    let named = |name: &str, port: &str, ttl: u32| format!("etcd://{etcd}{port}/{name}?ttl={ttl}s");
    // By the targets' texts the second pair would have another order than the first.
    let calls = [
        [&sql, &file, &named("a", "", 60), &named("b", "", 60)],
        [&named("b", "", 60), &named("a", ":2379", 60), &file, &sql],
        [&named("b", ":2379", 90), &sql, &named("a", "", 60), &file],
    ];
    std::thread::scope(|scope| {
        for call in &calls {
            scope.spawn(move || {
                let targets: Vec<&str> = call.iter().map(|target| target.as_str()).collect();
                for _ in 0..10 {
                    let (code, said) = run(&targets);
                    assert_eq!(code, Some(0), "{said}");
                }
            });
        }
    });
}

#[test]
fn a_lock_that_two_targets_name_is_acquired_once() {
    if !etcd::there() {
        return;
    }
    let cluster = Cluster::start(1);
    let address = cluster.address(0);
    let (one, other) = (format!("etcd://{address}/a"), format!("etcd://{address}:2379/a?ttl=30s"));
    assert_eq!(run(&[&one, &other]), (Some(0), String::new()));
    let locks = [Lock::open(&one).unwrap(), Lock::open(&other).unwrap()];
    let refused = acquire_all(&locks, Wait::Forever).unwrap_err();
    assert!(refused.is_invalid_target() && refused.to_string().contains("twice"), "{refused}");
    // The holder of an outer name waits for those of inner names, so it is acquired first.
    let (outer, inner) = (format!("etcd://{address}/a?ttl=10s"), format!("etcd://{address}/a/b?ttl=10s"));
    for targets in [[&*outer, &*inner], [&*inner, &*outer]] {
        assert_eq!(run(&targets), (Some(0), String::new()));
    }
}

#[test]
fn a_lease_that_is_lost_while_another_lock_is_waited_for_ends_the_call() {
    if !etcd::there() {
        return;
    }
    let (cluster, folder) = (Cluster::start(1), folder());
    let file = folder.path().join("f");
    let mut busy = Actor::start();
    busy.hold(&file);
    let (told, lost) = channel();
    let options = Lock::options().on_event(move |event| {
        if let Event::Lost { .. } = event {
            let _ = told.send(());
        }
    });
    let target = cluster.target("a", 10);
    let locks = [Lock::open(&file).unwrap(), options.open(&target).unwrap()];
    let waiting = std::thread::spawn(move || acquire_all(&locks, Wait::Forever));
    until("the lease", || status(&target).unwrap().state == State::Held);
    // By then it has its lease.
    until("a waiter for the file", || status(&file).unwrap().waiters == Some(1));
    output(cluster.etcdctl().args(["del", "a/", "--prefix"]));
    lost.recv().unwrap();
    busy.must("release g");
    let error = waiting.join().unwrap().unwrap_err();
    assert!(error.is_lost(), "{error}");
    until("the file is free", || status(&file).unwrap().state == State::Free);
}

/// Slots of a target and its lock without slots are two locks, and the slots of one target are one.
#[test]
fn slots_are_another_lock_than_the_plain_one() {
    let folder = folder();
    let file = folder.path().join("a").display().to_string();
    let with_slots = |target: &str| Lock::options().slots(2).open(target).unwrap();
    let guards = acquire_all(&[Lock::open(&file).unwrap(), with_slots(&file)], Wait::Never).unwrap();
    assert_eq!(guards.iter().map(|guard| guard.slot()).collect::<Vec<_>>(), [None, Some(0)]);
    for target in [&*file, "etcd://127.0.0.1:1/a", "postgres://app@127.0.0.1:1/db?lock=a"] {
        let refused = acquire_all(&[with_slots(target), with_slots(target)], Wait::Never).unwrap_err();
        assert!(refused.is_invalid_target(), "{refused}");
        if target != file {
            let refused = acquire_all(&[Lock::open(target).unwrap(), with_slots(target)], Wait::Never).unwrap_err();
            assert!(refused.is_unreachable(), "{refused}");
        }
    }
}
