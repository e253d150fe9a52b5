//! Many locks of one process on etcd, which share a lease.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tenure::{Event, Lock, Requester};
use tenure_tests::servers::etcd::{Cluster, there};
use tenure_tests::servers::network::{Far, Late};
use tenure_tests::servers::{await_renewal, await_waiters, opened, output, receive_soon, said, stop_io_thread};
use tenure_tests::{Actor, until};

const MANY: usize = 1000;

fn keys(cluster: &Cluster, prefix: &str) -> Vec<String> {
    let text = output(cluster.etcdctl().args(["get", prefix, "--prefix", "--keys-only"]));
    text.split_whitespace().map(str::to_owned).collect()
}

fn leases(cluster: &Cluster) -> Vec<String> {
    let text = output(cluster.etcdctl().args(["lease", "list"]));
    // `etcdctl` prints 16 digits, and a key has those without leading zeros.
    let lease = |line: &str| line.trim().trim_start_matches('0').to_owned();
    text.lines().skip(1).map(lease).filter(|line| !line.is_empty()).collect()
}

/// Starts an actor that holds `many/0`, `many/1`, .. as `g0`, `g1`, .., and the first also as `g`.
fn holder_of_many(cluster: &Cluster, count: usize, ttl: u64) -> Actor {
    let mut holder = Actor::start();
    for at in 0..count {
        holder.must(&format!("open l{at} {}", cluster.target(&format!("many/{at}"), ttl)));
        holder.must(&format!("acquire l{at} g{at} never"));
    }
    holder.must(&format!("open l {}", cluster.target("one", ttl)));
    holder.must("acquire l g never");
    holder
}

#[test]
fn a_thousand_locks_share_a_lease() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let mut holder = holder_of_many(&cluster, MANY, 20);
    let lease = leases(&cluster);
    assert_eq!(lease.len(), 1, "{lease:?}");
    let held = keys(&cluster, "many/");
    assert_eq!(held.len(), MANY);
    assert!(held.iter().all(|key| key.ends_with(&format!("/{}", lease[0]))), "{held:?}");
    until("no thread for each", || holder.must("threads")["threads"].as_u64().unwrap() <= 4);
    let mut other = opened(&cluster.target("many/500", 20));
    other.must_fail("acquire l g never", "busy");

    // A release deletes a key and leaves the lease.
    holder.must("release g500");
    other.must("acquire l g never");
    await_renewal(&mut holder);
    assert!((0..MANY).filter(|at| *at != 500).all(|at| holder.must(&format!("check g{at}"))["ok"] == true));
    other.must("release g");

    // A forked child holds none of them, and takes none away. It begins a lease of its own for what it tries.
    let forked = holder.ask("fork");
    for at in [0, 499, 999] {
        let (checked, tried) = (&forked["checks"][format!("g{at}")], &forked["tried"][format!("l{at}")]);
        assert_eq!((&checked["kind"], &tried["kind"]), (&"lost".into(), &"busy".into()));
    }
    assert_eq!(holder.receive()["status"], 0);
    holder.must("release g");
    for at in (0..MANY).filter(|at| *at != 500) {
        holder.must(&format!("release g{at}"));
    }
    assert_eq!(keys(&cluster, "many/"), Vec::<String>::new());
    let own = lease[0].clone();
    until("the lease is given back", || !leases(&cluster).contains(&own));
}

#[test]
fn a_deleted_key_ends_one_of_a_thousand_locks() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let mut holder = holder_of_many(&cluster, MANY, 20);
    assert_eq!(keys(&cluster, "many/500/").len(), 1);
    output(cluster.etcdctl().args(["del", "many/500/", "--prefix"]));
    // Before the lease is over, and for this lock alone.
    until("the loss", || holder.ask("check g500")["kind"] == "lost");
    let lost = holder.must_fail("check g500", "lost");
    assert!(said(&lost).contains("its key was deleted"), "{lost}");
    await_renewal(&mut holder);
    for at in (0..MANY).filter(|at| *at != 500) {
        holder.must(&format!("check g{at}"));
    }
    holder.must_fail("release g500", "lost");
    // The name is free for this process as well.
    holder.must("acquire l500 again never");
    holder.must("release again");
}

#[test]
fn a_stopped_io_thread_loses_all_in_time() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let mut holder = Actor::start();
    for at in 0..MANY {
        // The loss of the first is reported.
        let events = if at == 0 { "events=1" } else { "" };
        holder.must(&format!("open l{at} {} {events}", cluster.target(&format!("many/{at}"), 10)));
        holder.must(&format!("acquire l{at} g{at} never"));
    }
    let mut waiter = opened(&cluster.target("many/7", 20));
    waiter.must("begin l g forever");
    await_waiters(&mut Actor::start(), &cluster.target("many/7", 20), 1);
    let stopped = stop_io_thread(&holder);
    // Another thread reports it, by the clock.
    assert_eq!(receive_soon(&mut holder, "the loss")["event"], "lost");
    assert_eq!(receive_soon(&mut waiter, "the waiter")["event"], "granted");
    // All were lost before the waiter was granted one of them.
    for at in 0..MANY {
        holder.must_fail(&format!("check g{at}"), "lost");
    }
    drop(stopped);
    holder.must_fail("acquire l7 again never", "busy");
    waiter.must("check g");
    holder.must("acquire l8 again never");
    waiter.must("release g");
}

#[test]
fn a_break_ends_one_lock() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let mut holder = holder_of_many(&cluster, 3, 20);
    let mut operator = Actor::start();
    assert_eq!(operator.must(&format!("break {} force", cluster.target("many/1", 20)))["broken"], true);
    until("the loss", || holder.ask("check g1")["kind"] == "lost");
    await_renewal(&mut holder);
    holder.must("check g0");
    holder.must("check g2");
}

#[test]
fn a_revoked_lease_ends_all_and_the_next_acquire_begins_another() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let mut holder = holder_of_many(&cluster, MANY, 30);
    let mut waiter = opened(&cluster.target("many/7", 30));
    waiter.must("begin l g forever");
    await_waiters(&mut Actor::start(), &cluster.target("many/7", 30), 1);
    let held = keys(&cluster, "many/0/");
    let lease = held[0].rsplit('/').next().unwrap();
    output(cluster.etcdctl().args(["lease", "revoke", lease]));
    assert_eq!(receive_soon(&mut waiter, "the waiter")["event"], "granted");
    until("the losses", || (0..MANY).all(|at| holder.ask(&format!("check g{at}"))["kind"] == "lost"));
    let lost = holder.must_fail("check g0", "lost");
    assert!(said(&lost).contains("lease is gone"), "{lost}");
    holder.must_fail("acquire l7 again never", "busy");
    holder.must("acquire l8 again never");
    holder.must_fail("release g8", "lost");
    holder.must("check again");
}

#[test]
fn a_rolling_restart_loses_none_of_many_locks() {
    if !there() {
        return;
    }
    const LOCKS: usize = 300;
    let mut cluster = Cluster::start(3);
    let mut holder = holder_of_many(&cluster, LOCKS, 10);
    // As an operator does it: the next member as soon as the cluster is healthy. The leader is the second. Each is away until
    // the lease was renewed without it.
    let leader = cluster.leader();
    for at in [leader + 1, leader, leader + 2].map(|at| at % 3) {
        cluster.stop(at);
        await_renewal(&mut holder);
        cluster.restart(at);
        cluster.await_healthy();
    }
    await_renewal(&mut holder);
    for at in 0..LOCKS {
        holder.must(&format!("check g{at}"));
    }
    let mut other = opened(&cluster.target("many/200", 10));
    other.must_fail("acquire l g never", "busy");
    for at in 0..LOCKS {
        holder.must(&format!("release g{at}"));
    }
    assert_eq!(keys(&cluster, "many/"), Vec::<String>::new());
    other.must("acquire l g never");
}

#[test]
fn acquires_of_one_process_queue_at_the_server() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 20);
    let (mut process, mut observer) = (opened(&target), Actor::start());
    process.must("acquire l g never");
    process.must("begin l second forever");
    await_waiters(&mut observer, &target, 1);
    let mut etcdctl = cluster.etcdctl_lock("a");
    await_waiters(&mut observer, &target, 2);
    process.must("begin l third forever");
    await_waiters(&mut observer, &target, 3);
    assert_eq!(leases(&cluster).len(), 2, "the process's, and etcdctl's");
    let locks = observer.must(&format!("list etcd://{}:2379", cluster.address(0)))["locks"].clone();
    assert_eq!(locks.as_array().unwrap().len(), 1, "{locks}");
    assert_eq!(locks[0]["waiters"], 3, "{locks}");
    process.must("release g");
    assert_eq!(process.receive()["guard"], "second");
    process.must("release second");
    etcdctl.await_held();
    etcdctl.release();
    assert_eq!(process.receive()["guard"], "third");
    process.must("release third");
}

#[test]
fn a_silent_cluster_delays_no_other_s_renewals() {
    if !there() {
        return;
    }
    let (silent, other) = (Cluster::start(1), Cluster::start(1));
    let mut holder = Actor::start();
    for at in 0..100 {
        holder.must(&format!("open l{at} {}", silent.target(&format!("many/{at}"), 15)));
        holder.must(&format!("acquire l{at} g{at} never"));
    }
    holder.must(&format!("open l {}", other.target("a", 15)));
    holder.must("acquire l g never");
    silent.signal(0, libc::SIGSTOP);
    for _ in 0..4 {
        await_renewal(&mut holder);
    }
    holder.must("check g");
    for at in 0..100 {
        holder.must_fail(&format!("check g{at}"), "lost");
    }
    silent.signal(0, libc::SIGCONT);
}

#[test]
fn a_right_that_is_taken_away_ends_only_its_locks() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let etcdctl = |words: &str| output(cluster.etcdctl().args(words.split_whitespace()));
    for words in ["user add root:hunter1", "user grant-role root root", "user add app:hunter2", "role add locker"] {
        etcdctl(words);
    }
    for prefix in ["kept", ".tenure/kept", "taken", ".tenure/taken"] {
        etcdctl(&format!("role grant-permission locker readwrite {prefix} --prefix"));
    }
    etcdctl("user grant-role app locker");
    etcdctl("auth enable");
    let target = |name: &str| format!("etcd://app@{}:2379/{name}?ttl=15s", cluster.address(0));
    let mut holder =
        Actor::from(std::process::Command::new(tenure_tests::actor_program()).env("TENURE_ETCD_PASSWORD", "hunter2"));
    for name in ["kept/1", "taken/1", "taken/2", "kept/2"] {
        holder.must(&format!("open {name} {}", target(name)));
        holder.must(&format!("acquire {name} {name} never"));
    }
    holder.must(&format!("open l {}", target("kept/3")));
    holder.must("acquire l g never");
    etcdctl("--user root:hunter1 role revoke-permission locker taken --prefix");
    for name in ["taken/1", "taken/2"] {
        until("the loss", || holder.ask(&format!("check {name}"))["kind"] == "lost");
        let lost = holder.must_fail(&format!("check {name}"), "lost");
        assert!(said(&lost).contains("permission denied"), "{lost}");
    }
    await_renewal(&mut holder);
    await_renewal(&mut holder);
    holder.must("check kept/1");
    holder.must("check kept/2");

    // Both guards live. The first name is free once its key may be deleted, whatever becomes of the second.
    etcdctl("--user root:hunter1 role grant-permission locker readwrite taken/1 --prefix");
    let left = |name: &str| {
        let words = ["--user", "root:hunter1", "get", name, "--prefix", "--keys-only"];
        output(cluster.etcdctl().args(words)).split_whitespace().count()
    };
    until("the deletion", || left("taken/1/") == 0);
    assert_eq!((left("taken/2/"), left("kept/1/")), (1, 1));
    holder.must("check kept/1");
}

#[test]
fn a_key_that_a_hung_member_creates_later_is_deleted() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    // The request that creates the key `a/<lease>`, of at most 18 bytes: a lease may begin with zeros, which are not written.
    let late = Late::at(cluster.address(0), 2379, |bytes| matches!(bytes, [b'\n', 3..=18, b'a', b'/']));
    let target = |name: &str| format!("etcd://{}:2379/{name}?ttl=30s", late.address());
    let mut holder = opened(&target("b"));
    holder.must("acquire l g never");
    holder.must(&format!("open a {}", target("a")));
    // Its answer does not come in time, though the member is to create the key in the end.
    holder.must_fail("acquire a ga never", "unreachable");
    late.let_through();
    await_renewal(&mut holder);
    await_renewal(&mut holder);
    assert_eq!(keys(&cluster, "a/"), Vec::<String>::new());
    assert_eq!(keys(&cluster, "b/").len(), 1);
    let mut other = opened(&format!("etcd://{}:2379/a?ttl=20s", cluster.address(0)));
    other.must("acquire l g never");
    other.must("release g");
    holder.must("acquire a ga never");
    holder.must("release ga");
    holder.must("release g");
}

#[test]
fn locks_that_come_and_go_cost_no_other_its_lease() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    // So far away that keys are created during each call.
    let far = Far::from(cluster.address(0), 2379, Duration::from_millis(20));
    let target = |name: &str| format!("etcd://{}:2379/{name}?ttl=15s", far.address());
    let kept = Lock::open(target("kept")).unwrap().acquire().unwrap();
    // Longer than the lease, so that all is lost unless a renewal ends.
    let end = Instant::now() + Duration::from_secs(17);
    std::thread::scope(|scope| {
        for at in 0..64 {
            let lock = Lock::open(target(&format!("busy/{at}"))).unwrap();
            scope.spawn(move || {
                while Instant::now() < end {
                    // A busy member may answer late, which is no loss.
                    let outcome = lock.acquire().and_then(tenure::Guard::release);
                    assert!(outcome.as_ref().err().is_none_or(|error| !error.is_lost()), "{outcome:?}");
                }
            });
        }
    });
    kept.check().unwrap();
    kept.release().unwrap();
}

#[test]
fn a_grant_that_a_reentrant_acquire_joined_is_not_taken_away() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 15);
    let mut dead = opened(&target);
    dead.must("acquire l g never");
    dead.kill();

    // The callback runs while the lock is held and the caller does not have it yet.
    let (holds, held) = channel();
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    let options = Lock::options().reentrant(true).on_event(move |event| {
        if let Event::TakenOver { .. } = event {
            holds.send(()).unwrap();
            let _ = gone.lock().unwrap().recv();
        }
    });
    let lock = Arc::new(options.open(&target).unwrap());
    let mut acquiring = Box::pin(lock.begin(Requester::Task).unwrap());
    assert!(acquiring.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    held.recv().unwrap();
    let joined = lock.begin(Requester::Task).unwrap();
    let joined = joined.give_up().unwrap();
    drop(acquiring);
    go.send(()).unwrap();
    let mut other = opened(&target);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        other.must_fail("acquire l g never", "busy");
        joined.check().unwrap();
    }
    joined.release().unwrap();
    other.must("acquire l g never");
}

#[test]
fn a_command_leaves_no_lease() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let run = |target: &str| {
        let mut run = std::process::Command::new(tenure_tests::tenure_program());
        output(run.args(["run", target, "--", "true"]));
    };
    run(&cluster.target("a", 60));
    assert_eq!(leases(&cluster), Vec::<String>::new());
}

#[test]
fn a_guard_that_is_dropped_after_a_loss_frees_the_name() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    // A lease so long that the name is not free by its end.
    let target = cluster.target("a", 48);
    let (mut holder, mut other) = (opened(&target), opened(&target));
    holder.must("acquire l g never");
    cluster.signal(0, libc::SIGSTOP);
    // At three quarters of the lease, after which the session's task has ended.
    until("the loss", || holder.ask("check g")["kind"] == "lost");
    cluster.signal(0, libc::SIGCONT);
    other.must_fail("acquire l g never", "busy");
    holder.must_fail("release g", "lost");
    let began = Instant::now();
    until("a free name", || other.ask("acquire l g never")["ok"] == true);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    other.must("release g");
}

#[test]
fn an_acquire_for_which_nothing_was_lost_begins_another_lease() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let mut holder = holder_of_many(&cluster, 1, 60);
    holder.must(&format!("open other {}", cluster.target("other", 60)));
    // The process has not noticed it yet.
    output(cluster.etcdctl().args(["lease", "revoke", &leases(&cluster)[0]]));
    holder.must("acquire other other never");
    holder.must("check other");
    holder.must_fail("check g", "lost");
}

#[test]
fn a_callback_that_hangs_keeps_no_revoked_lock() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let (told, reported) = channel();
    let (go, hangs) = channel::<()>();
    let hangs = Mutex::new(hangs);
    let options =
        Lock::options().max_hold(Duration::from_millis(10)).overrun(tenure::Overrun::Revoke).on_event(move |event| {
            if let Event::Overrun { .. } = event {
                told.send(()).unwrap();
                // Until the test ends.
                let _ = hangs.lock().unwrap().recv();
            }
        });
    let guard = options.open(cluster.target("a", 20)).unwrap().acquire().unwrap();
    reported.recv().unwrap();
    let mut other = opened(&cluster.target("a", 20));
    other.must("acquire l g 60000");
    assert!(guard.check().is_err_and(|error| error.is_lost()));
    drop(go);
}
