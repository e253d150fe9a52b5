//! Shared locks on etcd.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::task::{Context, Waker};

use serde_json::Value;
use tenure::{Lock, Requester, Wait};
use tenure_tests::servers::etcd::{Cluster, there};
use tenure_tests::servers::{
    assert_shares_keep_the_order, assert_waits, await_renewal, await_waiters, begin_with_a_deadline, found, opened,
    output, receive_soon, said, soon,
};
use tenure_tests::{Actor, until};

/// Returns the keys below `a`, in their order.
fn keys(cluster: &Cluster) -> Vec<String> {
    let text = output(cluster.etcdctl().args(["get", "a/", "--prefix", "--keys-only"]));
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn shares_are_together_and_the_queue_keeps_its_order() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 20);
    let all = cluster.target("", 20);
    assert_shares_keep_the_order(
        &target,
        |observer, shown| assert_eq!(observer.must(&format!("list {all}"))["locks"][0], *shown),
        || (),
        || assert_eq!(keys(&cluster).len(), 0),
    );
}

#[test]
fn etcdctl_excludes_shares_and_is_excluded_by_them() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 20);
    let (mut one, mut two, mut observer) = (opened(&target), opened(&target), Actor::start());
    let mut etcdctl = cluster.etcdctl_lock("a");
    etcdctl.await_held();
    one.must_fail("share l g never", "busy");
    one.must("begin-share l g forever");
    await_waiters(&mut observer, &target, 1);
    two.must("begin-share l g forever");
    await_waiters(&mut observer, &target, 2);
    let mut behind = cluster.etcdctl_lock("a");
    await_waiters(&mut observer, &target, 3);
    assert_waits(&mut one);
    etcdctl.release();
    for reader in [&mut one, &mut two] {
        assert_eq!(receive_soon(reader, "a reader")["event"], "granted");
    }
    // `etcdctl` waits for both, and a share that begins now waits for it.
    one.must_fail("share l more never", "busy");
    one.must("release g");
    two.must("begin-share l more forever");
    await_waiters(&mut observer, &target, 2);
    assert_eq!(found(&mut observer, &target)["openBy"], serde_json::json!([two.pid()]));
    two.must("release g");
    behind.await_held();
    assert_waits(&mut two);
    behind.release();
    assert_eq!(receive_soon(&mut two, "a reader")["event"], "granted");
    two.must("release more");
}

#[test]
fn a_process_may_have_several_shares_and_loses_them_one_by_one() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 20);
    let (mut process, mut writer, mut observer) = (opened(&target), opened(&target), Actor::start());
    // Two on one thread, and one on another.
    process.must("share l g never");
    process.must("share l g1 never");
    process.must("begin-share l g2 forever");
    assert_eq!(process.receive()["event"], "granted");
    let held = keys(&cluster);
    assert_eq!(held.len(), 3, "{held:?}");
    assert!(held.iter().all(|key| key.starts_with("a/shared:")), "{held:?}");
    assert_eq!(found(&mut observer, &target)["openBy"], serde_json::json!([process.pid()]));

    // One key is deleted: one share is lost, whose key `.1` is free again.
    let deleted = held.iter().find(|key| key.ends_with(".1")).unwrap();
    output(cluster.etcdctl().args(["del", deleted]));
    until("the loss", || process.ask("check g1")["kind"] == "lost");
    assert!(said(&process.must_fail("check g1", "lost")).contains("its key was deleted"));
    await_renewal(&mut process);
    process.must("check g");
    process.must("check g2");
    process.must_fail("release g1", "lost");

    // A share is not upgraded; with a writer in the queue, a further share of this thread would wait for the first.
    let refused = process.must_fail("acquire l w 1000", "would-deadlock");
    assert!(said(&refused).contains("cannot be upgraded"), "{refused}");
    writer.must("begin l g forever");
    await_waiters(&mut observer, &target, 1);
    process.must_fail("share l more never", "busy");
    assert_eq!(soon(&mut process, "share l more forever")["kind"], "would-deadlock");
    assert_eq!(keys(&cluster).len(), 3);
    process.must("release g2");
    process.must("release g");
    assert_eq!(receive_soon(&mut writer, "the writer")["event"], "granted");
    writer.must("release g");

    // A lost lease loses all of them.
    for name in ["g", "g1"] {
        process.must(&format!("share l {name} never"));
    }
    let held = keys(&cluster);
    let lease = held.iter().find_map(|key| key.strip_prefix("a/shared:").filter(|end| !end.contains('.'))).unwrap();
    output(cluster.etcdctl().args(["lease", "revoke", lease]));
    for name in ["g", "g1"] {
        until("the loss", || process.ask(&format!("check {name}"))["kind"] == "lost");
        process.must_fail(&format!("release {name}"), "lost");
    }
}

#[test]
fn a_reader_that_dies_leaves_no_report_and_takes_none_away() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    // The leases of those that die run out. The other one keeps its lease on a slow machine.
    let (target, longer) = (cluster.target("a", 8), cluster.target("a", 20));
    let (mut reader, mut writer, mut other) = (opened(&target), opened(&target), opened(&longer));
    reader.must("share l g never");
    writer.must_fail("acquire l g never", "busy");
    reader.kill();
    let granted = writer.must("acquire l g 60000");
    assert_eq!(granted["crashed"], Value::Null, "{granted}");

    // Each reader after a writer that died has the report, and so has the next writer, also after readers that died.
    let dead = writer.pid();
    writer.kill();
    let mut reader = opened(&target);
    for (reader, target) in [(&mut reader, &target), (&mut other, &longer)] {
        // A takeover would be reported before the grant.
        reader.must(&format!("open l {target} events=1"));
        let granted = reader.must("share l g 60000");
        assert_eq!(granted["crashed"]["pid"], dead, "{granted}");
    }
    let shown = found(&mut Actor::start(), &target);
    assert_eq!((&shown["state"], &shown["pid"]), (&"held".into(), &Value::Null), "{shown}");
    reader.kill();
    other.must("release g");
    let (granted, event) = other.must_and_receive("acquire l g 60000");
    assert_eq!(
        (&granted["crashed"]["pid"], &event["event"]),
        (&dead.into(), &"taken-over".into()),
        "{granted} {event}"
    );
    other.must("release g");
    assert_eq!(other.must("share l g never")["crashed"], Value::Null);
}

#[test]
fn a_break_ends_all_shares_and_no_other_place() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 20);
    let [mut one, mut two, mut writer, mut late] = [(); 4].map(|()| opened(&target));
    let mut operator = Actor::start();
    // More than one transaction has room for.
    for at in 0..150 {
        one.must(&format!("share l g{at} never"));
    }
    two.must("share l g never");
    writer.must("begin l g forever");
    await_waiters(&mut operator, &target, 1);
    late.must("begin-share l g forever");
    await_waiters(&mut operator, &target, 2);
    operator.must_fail(&format!("break {target}"), "busy");
    two.must("check g");
    assert_eq!(operator.must(&format!("break {target} force"))["broken"], true);
    assert_eq!(receive_soon(&mut writer, "the writer")["event"], "granted");
    for at in 0..150 {
        until("the losses", || one.ask(&format!("check g{at}"))["kind"] == "lost");
    }
    until("the loss", || two.ask("check g")["kind"] == "lost");
    two.must_fail("release g", "lost");
    assert_waits(&mut late);
    writer.must("release g");
    assert_eq!(receive_soon(&mut late, "the reader behind it")["event"], "granted");
    late.must("check g");
}

#[test]
fn a_share_that_is_not_granted_leaves_nothing() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 20);
    let (mut writer, mut reader, mut observer) = (opened(&target), opened(&target), Actor::start());
    writer.must("acquire l g never");
    // A server that a busy machine does not run until the deadline names no holder.
    until("the holder's pid", || reader.must_fail("share l g 2000", "busy")["holder"] == writer.pid());
    until("the place is given back", || keys(&cluster).len() == 1);
    let lock = Lock::open(&target).unwrap();
    let mut waiting = Box::pin(lock.begin_shared(Wait::Forever, Requester::Task).unwrap());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    await_waiters(&mut observer, &target, 1);
    drop(waiting);
    until("the place is given back", || keys(&cluster).len() == 1);
    writer.must("release g");

    // And a writer that gives up behind readers lets those behind it in.
    reader.must("share l g never");
    begin_with_a_deadline(&mut writer, "g", &mut observer, &target);
    observer.must(&format!("open l {target}"));
    observer.must("begin-share l g forever");
    let refused = receive_soon(&mut writer, "the deadline");
    assert_eq!((&refused["kind"], &refused["holder"]), (&"busy".into(), &Value::Null), "{refused}");
    assert_eq!(receive_soon(&mut observer, "the reader behind it")["event"], "granted");
    assert_eq!(keys(&cluster).len(), 2);
}

#[test]
fn a_forked_child_has_no_share_and_ends_none() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 20);
    let mut process = opened(&target);
    process.must("share l g never");
    process.must("share l g1 never");
    let forked = process.ask("fork");
    for name in ["g", "g1"] {
        assert_eq!(forked["checks"][name]["kind"], "lost", "{forked}");
    }
    assert_eq!(forked["tried"]["l"]["kind"], "busy", "{forked}");
    assert_eq!(process.receive()["status"], 0);
    await_renewal(&mut process);
    process.must("check g");
    process.must("check g1");
    assert_eq!(keys(&cluster).len(), 2);
    process.must("release g");
    process.must("release g1");
    assert_eq!(keys(&cluster).len(), 0);
}
