//! Locks on real etcd clusters.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::pin::pin;
use std::process::Command;
use std::task::{Context, Waker};
use std::time::Duration;

use tenure::{Lock, Requester, Wait};
use tenure_tests::servers::clock::{self, Clock};
use tenure_tests::servers::etcd::{Cluster, there};
use tenure_tests::servers::network::{self, Room};
use tenure_tests::servers::{
    Silent, assert_unusable_tls_files_are_named, await_renewal, await_waiters, opened, output,
};
use tenure_tests::wakes::block_on;
use tenure_tests::{Actor, actor_program, has, needs, signal, until};

#[test]
fn etcdctl_and_tenure_exclude_each_other_and_share_a_queue() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("sessions/main", 10);
    let (mut one, mut two, mut observer) = (opened(&target), opened(&target), Actor::start());

    let mut etcdctl = cluster.etcdctl_lock("sessions/main");
    let key = etcdctl.await_held();
    assert!(key.starts_with("sessions/main/"), "{key}");
    one.must_fail("acquire l g never", "busy");
    let found = observer.must(&format!("inspect {target}"))["found"].clone();
    assert_eq!((&found["state"], &found["native"]), (&"held".into(), &false.into()), "{found}");

    // Granted in the order of the queue: Tenure, etcdctl, Tenure.
    one.must("begin l g forever");
    await_waiters(&mut observer, &target, 1);
    let mut etcdctl_waits = cluster.etcdctl_lock("sessions/main");
    await_waiters(&mut observer, &target, 2);
    two.must("begin l g forever");
    await_waiters(&mut observer, &target, 3);
    etcdctl.release();
    let first = one.receive();
    assert_eq!(first["event"], "granted", "{first}");
    one.must("check g");
    two.must_fail("acquire l g2 never", "busy");
    one.must("release g");
    etcdctl_waits.await_held();
    one.must_fail("acquire l g never", "busy");
    etcdctl_waits.release();
    let second = two.receive();
    assert_eq!(second["event"], "granted", "{second}");
    assert!(second["fence"].as_u64() > first["fence"].as_u64(), "{first} {second}");
    two.must("release g");
    assert_eq!(observer.must(&format!("inspect {target}"))["found"]["state"], "free");
}

#[test]
fn a_guard_of_a_server_lock_behaves_like_that_of_a_file() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("sessions/main", 15);
    let mut one = Actor::start();
    one.must(&format!("open l {target} label=first"));
    let granted = one.must("acquire l g never");
    assert_eq!(granted["crashed"], serde_json::Value::Null);
    one.must("label g second");
    let mut two = opened(&target);
    // The heartbeat records it, a moment later.
    until("the label", || two.must(&format!("inspect {target}"))["found"]["label"] == "second");
    // A server that a busy machine does not run until the deadline names no holder.
    until("the holder's pid", || {
        let busy = two.must_fail("acquire l g 2000", "busy");
        assert!(busy["waitedMs"].as_u64() >= Some(2000), "{busy}");
        busy["holder"] == one.pid()
    });
    one.must_fail("acquire l other 1000", "would-deadlock");
    one.must_fail("share l other never", "busy");
    one.must_fail("share l other 1000", "would-deadlock");
    one.must_fail("keep g true", "unsupported");
    // A forked child holds nothing, and its end releases nothing.
    let forked = one.ask("fork");
    assert_eq!((&forked["checks"]["g"]["kind"], &forked["tried"]["l"]["kind"]), (&"lost".into(), &"busy".into()));
    assert_eq!(one.receive()["status"], 0);
    one.must("check g");
    let record = one.must("record g")["record"].as_str().unwrap().to_owned();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!((&record["tenure"]["style"], &record["tenure"]["fence"]), (&"server".into(), &granted["fence"]));
    assert_eq!(two.must(&format!("list {}", cluster.target("sessions", 2)))["locks"][0]["pid"], one.pid());

    // An asynchronous acquire, and a second one by the waiter.
    two.must("async l g forever");
    await_waiters(&mut one, &target, 1);
    one.must("release g");
    assert_eq!(two.receive()["event"], "granted");
    two.must("check g");
    two.must("drop g");

    // Reentrant, and revoked after its maximum hold.
    one.must(&format!("open r {target} reentrant=1"));
    one.must("acquire r a never");
    one.must("acquire r b never");
    one.must("release a");
    two.must_fail("acquire l g never", "busy");
    one.must("release b");
    two.must(&format!("open w {target} max_hold_ms=50 overrun=revoke events=1"));
    let (_, overrun) = two.must_and_receive("acquire w g never");
    assert_eq!((&overrun["event"], &overrun["revoked"]), (&"overrun".into(), &true.into()));
    two.must_fail("check g", "lost");
    until("the lock is free", || one.ask("acquire l g never")["ok"] == true);
    one.must("release g");

    // A crash is reported once.
    two.must("acquire l g2 never");
    let pid = two.pid();
    two.kill();
    let after = one.must("acquire l g 60000");
    assert_eq!(after["crashed"]["pid"], pid, "{after}");
    one.must("release g");
    assert_eq!(one.must("acquire l g never")["crashed"], serde_json::Value::Null);

    // An operator breaks the lock.
    let mut three = Actor::start();
    three.must_fail(&format!("break {target}"), "busy");
    one.must("revoked g");
    assert_eq!(three.must(&format!("break {target} force"))["broken"], true);
    assert_eq!(one.receive()["event"], "revoked");
    let lost = one.must_fail("check g", "lost");
    assert!(lost["error"].as_str().unwrap().contains("its key was deleted"), "{lost}");
    assert_eq!(three.must(&format!("break {target}"))["broken"], false);
}

#[test]
fn an_asynchronous_release_blocks_no_thread() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("asynchronous", 10);
    let guard = Lock::open(&target).unwrap().acquire().unwrap();
    cluster.signal(0, libc::SIGSTOP);
    // A release that blocked would return only after the server's silence, with an outcome.
    let mut releasing = pin!(guard.release_async());
    let first = releasing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    cluster.signal(0, libc::SIGCONT);
    assert!(first.is_pending(), "{first:?}");
    if let Err(error) = block_on(releasing) {
        // The machine may have been too slow for the server to answer in time.
        assert!(error.is_unreachable(), "{error}");
    }
    Lock::open(&target).unwrap().acquire().unwrap().release().unwrap();
}

#[test]
fn an_acquire_that_the_caller_polls_ends_by_itself_where_no_server_answers() {
    let silent = Silent::at(2379);
    let lock = Lock::open(format!("etcd://{}/silent?ttl=2s", silent.address())).unwrap();
    for wait in [Wait::Never, Wait::For(Duration::from_millis(10))] {
        let acquiring = lock.begin_with(wait, Requester::Task).unwrap();
        assert_eq!(acquiring.deadline(), None);
        assert!(block_on(acquiring).unwrap_err().is_unreachable());
    }
}

#[test]
fn the_lock_stays_held_while_every_member_is_killed_in_turn() {
    if !there() {
        return;
    }
    let mut cluster = Cluster::start(3);
    let target = cluster.target("a", 20);
    let (mut holder, mut waiter) = (opened(&target), opened(&target));
    let granted = holder.must("acquire l g never");
    waiter.must("begin l g forever");
    await_waiters(&mut Actor::start(), &target, 1);
    let leader = cluster.leader();
    let others = (0..3).filter(|at| *at != leader);
    for at in std::iter::once(leader).chain(others.collect::<Vec<_>>()) {
        cluster.kill(at);
        await_renewal(&mut holder);
        cluster.restart(at);
        cluster.await_healthy();
    }
    // A hanging member is no different.
    let leader = cluster.leader();
    cluster.signal(leader, libc::SIGSTOP);
    await_renewal(&mut holder);
    cluster.signal(leader, libc::SIGCONT);
    holder.must("check g");
    holder.must("release g");
    let after = waiter.receive();
    assert_eq!(after["event"], "granted", "{after}");
    assert!(after["fence"].as_u64() > granted["fence"].as_u64());
}

#[test]
fn without_a_majority_the_holder_loses_the_lock_before_another_can_acquire_it() {
    if !there() {
        return;
    }
    let mut cluster = Cluster::start(3);
    let target = cluster.target("a", 8);
    let mut holder = Actor::start();
    holder.must(&format!("open l {target} events=1"));
    let before = holder.must("acquire l g never");
    cluster.kill(0);
    cluster.kill(1);
    let lost = holder.receive();
    assert_eq!(lost["event"], "lost", "{lost}");
    holder.must_fail("check g", "lost");
    let refused = opened(&target).must_fail("acquire l g never", "unreachable");
    for at in 0..3 {
        assert!(refused["error"].as_str().unwrap().contains(cluster.address(at)), "{refused}");
    }
    cluster.restart(0);
    cluster.restart(1);
    cluster.await_healthy();
    let after = opened(&target).must("acquire l g 60000");
    assert_eq!(after["crashed"]["pid"], holder.pid(), "{after}");
    assert!(after["fence"].as_u64() > before["fence"].as_u64());
    holder.must_fail("check g", "lost");
}

#[test]
fn a_stopped_holder_resumes_without_the_lock_and_a_stopped_waiter_queues_again() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 10);
    let (mut holder, mut waiter, mut observer) = (opened(&target), opened(&target), Actor::start());
    let mut stopped = opened(&target);
    let before = holder.must("acquire l g never");
    stopped.must("begin l g forever");
    await_waiters(&mut observer, &target, 1);
    signal(stopped.pid(), libc::SIGSTOP);
    // On a slow machine the server may forget the stopped waiter before it knows of this one: two are not always seen.
    waiter.must("begin l g forever");
    signal(holder.pid(), libc::SIGSTOP);
    // The server has forgotten the stopped waiter, as it has the stopped holder.
    let after = waiter.receive();
    assert_eq!((&after["event"], &after["crashed"]["pid"]), (&"granted".into(), &holder.pid().into()), "{after}");
    assert!(after["fence"].as_u64() > before["fence"].as_u64());
    holder.send("check g");
    signal(holder.pid(), libc::SIGCONT);
    assert_eq!(holder.receive()["kind"], "lost");
    waiter.must("check g");
    signal(stopped.pid(), libc::SIGCONT);
    await_waiters(&mut observer, &target, 1);
    waiter.must("release g");
    let last = stopped.receive();
    assert_eq!(last["event"], "granted", "{last}");
    assert!(last["fence"].as_u64() > after["fence"].as_u64());
}

#[test]
fn a_holder_that_is_cut_off_loses_the_lock_before_another_acquires_it() {
    if !there() || !network::there() {
        return;
    }
    for silently in [true, false] {
        let room = Room::new();
        let cluster = Cluster::start_at(&room.outside);
        let (near, far) = (cluster.target("a", 8), format!("etcd://{}:2379/a?ttl=8s", room.outside));
        let mut holder = Actor::from(&mut room.command(actor_program()));
        holder.must(&format!("open l {far} events=1"));
        let before = holder.must("acquire l g never");
        let mut waiter = opened(&near);
        waiter.must("begin l g forever");
        await_waiters(&mut Actor::start(), &near, 1);
        if silently {
            room.cut()
        } else {
            room.blackhole()
        }
        let after = waiter.receive();
        assert_eq!(after["event"], "granted", "{after}");
        assert!(after["fence"].as_u64() > before["fence"].as_u64());
        // The loss may not be reported yet, but `check` must fail already.
        holder.send("check g");
        let mut said = [holder.receive(), holder.receive()];
        said.sort_by_key(|said| said["event"].is_null());
        assert_eq!((&said[0]["event"], &said[1]["kind"]), (&"lost".into(), &"lost".into()), "{said:?}");
        drop(cluster);
    }
}

#[test]
fn a_jump_of_the_wall_clock_changes_nothing() {
    if !there() || !clock::there() {
        return;
    }
    let clock = Clock::new(libc::CLOCK_REALTIME);
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 12);
    let mut holder = Actor::from(&mut clock.command(actor_program()));
    holder.must(&format!("open l {target}"));
    holder.must("acquire l g never");
    let mut other = opened(&target);
    for days in [400i64, -400, 0] {
        clock.set_offset(days * 86_400);
        await_renewal(&mut holder);
        await_renewal(&mut holder);
        other.must_fail("acquire l g never", "busy");
        // The clock did jump for the holder.
        holder.must("release g");
        holder.must("acquire l g never");
        let record = holder.must("record g")["record"].as_str().unwrap().to_owned();
        let year = std::time::SystemTime::now() + std::time::Duration::from_secs(400 * 86_400);
        let stepped = record.contains(&tenure_tests::iso(year)[..7]);
        assert_eq!(stepped, days == 400, "{record}");
    }
}

#[test]
fn a_long_uptime_changes_nothing() {
    if !there() || !needs("root, for a time namespace", tenure_tests::is_root()) {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 15);
    let mut holder = Actor::from(
        Command::new("unshare")
            .args(["--time", "--boottime", "90000000", "--monotonic", "90000000", "--fork"])
            .arg(actor_program()),
    );
    holder.must(&format!("open l {target}"));
    holder.must("acquire l g never");
    await_renewal(&mut holder);
    opened(&target).must_fail("acquire l g never", "busy");
    holder.must("release g");
}

#[test]
fn a_full_server_refuses_newcomers_and_keeps_the_holder() {
    if !there() {
        return;
    }
    let cluster = Cluster::start_with(1, &["--quota-backend-bytes", "1000000"]);
    let target = cluster.target("a", 20);
    let mut holder = opened(&target);
    holder.must("acquire l g never");
    let filler = "x".repeat(100_000);
    until("the alarm", || {
        let put = cluster.etcdctl().args(["put", "filler", &filler]).output().unwrap();
        String::from_utf8_lossy(&put.stderr).contains("space exceeded")
    });
    let refused = opened(&target).must_fail("acquire l g never", "unreachable");
    assert!(refused["error"].as_str().unwrap().contains("NOSPACE"), "{refused}");
    await_renewal(&mut holder);
    holder.must("check g");
    // Its record cannot be marked, which the error reports; the key expires with the lease.
    holder.must_fail("release g", "unreachable");
    let keys = output(cluster.etcdctl().args(["get", "a/", "--prefix", "--keys-only"]));
    assert_eq!(keys.trim(), "");
}

#[test]
fn users_and_passwords_limit_a_lock_to_its_rights() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let etcdctl = |words: &str| output(cluster.etcdctl().args(words.split_whitespace()));
    etcdctl("user add root:hunter1");
    etcdctl("user grant-role root root");
    etcdctl("user add app:hunter2");
    etcdctl("role add locker");
    etcdctl("role grant-permission locker readwrite sessions/ --prefix");
    etcdctl("role grant-permission locker readwrite .tenure/sessions/ --prefix");
    etcdctl("user grant-role app locker");
    etcdctl("auth enable");
    let host = format!("{}:2379", cluster.address(0));
    let with = |password: &str| Actor::from(Command::new(actor_program()).env("TENURE_ETCD_PASSWORD", password));

    let mut right = with("hunter2");
    right.must(&format!("open l etcd://app@{host}/sessions/main?ttl=15s"));
    right.must("acquire l g never");
    await_renewal(&mut right);
    right.must("release g");
    right.must(&format!("open other etcd://app@{host}/elsewhere"));
    let refused = right.must_fail("acquire other g never", "permission-denied");
    assert!(refused["error"].as_str().unwrap().contains("readwrite"), "{refused}");

    let mut wrong = with("hunter3");
    wrong.must(&format!("open l etcd://app@{host}/sessions/main"));
    let refused = wrong.must_fail("acquire l g never", "permission-denied");
    assert!(!refused.to_string().contains("hunter"), "{refused}");
    wrong.must(&format!("open l etcd://{host}/sessions/main"));
    wrong.must_fail("acquire l g never", "permission-denied");
}

#[test]
fn tls_works_with_certificates_on_both_sides() {
    if !there() || !needs("openssl", has("openssl")) {
        return;
    }
    let cluster = Cluster::start_with_tls();
    let file = |name: &str| cluster.path(name).display().to_string();
    let target = |more: &str| format!("{}{more}", cluster.target("a", 15));
    let client = format!("&cert={}&key={}", file("client.pem"), file("client.key"));
    let mut actor = opened(&target(&format!("&ca={}{client}", file("ca.pem"))));
    actor.must("acquire l g 60000");
    await_renewal(&mut actor);
    actor.must("release g");
    // Without the client's certificate, with another authority's, without TLS: the server answers none of them.
    for more in [format!("&ca={}", file("ca.pem")), format!("&ca={}{client}", file("client.pem")), String::new()] {
        opened(&target(&more)).must_fail("acquire l g never", "unreachable");
    }
    let missing = Actor::start().must_fail(&format!("open l {}", target("&ca=/nowhere")), "cannot-create");
    assert!(missing["error"].as_str().unwrap().contains("/nowhere"), "{missing}");
    assert_unusable_tls_files_are_named(target, |name| cluster.path(name));
}
