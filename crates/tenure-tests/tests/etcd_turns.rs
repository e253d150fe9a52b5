//! Many acquires of one process that wait for one name on etcd.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use tenure::{AcquireFuture, Guard, Lock, Requester, Wait};
use tenure_tests::servers::etcd::{Cluster, there};
use tenure_tests::servers::{opened, output};
use tenure_tests::until;
use tenure_tests::wakes::block_on;

/// So long a lease, in seconds, that no renewal is counted.
const LONG: u64 = 3600;
/// The number of places that a process has in the queue of a name.
const PLACES: usize = 8;

/// Starts an acquire.
fn begun(lock: &Lock) -> Pin<Box<AcquireFuture>> {
    let mut acquiring = Box::pin(lock.begin(Requester::Task).unwrap());
    assert!(!is_granted(&mut acquiring));
    acquiring
}

fn is_granted(acquiring: &mut Pin<Box<AcquireFuture>>) -> bool {
    acquiring.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn keys(cluster: &Cluster) -> usize {
    output(cluster.etcdctl().args(["get", "a/", "--prefix", "--keys-only"])).split_whitespace().count()
}

/// Returns the number of requests of clients, but for the reads of [`keys`]: only those are no part of a transaction.
fn requests(cluster: &Cluster) -> u64 {
    let text = cluster.metrics(0);
    let count = |of: &str| -> u64 {
        let counts =
            text.lines().filter(|line| line.starts_with("grpc_server_msg_received_total{") && line.contains(of));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    };
    count("") - count("grpc_method=\"Range\"")
}

#[test]
fn a_thousand_waiters_of_a_process_cost_the_cluster_as_much_as_a_few() {
    const MANY: usize = 1000;
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let lock = Lock::open(cluster.target("a", LONG)).unwrap();
    let holder = lock.acquire().unwrap();
    let before = requests(&cluster);
    let waiting: Vec<_> = (0..MANY).map(|_| begun(&lock)).collect();
    until("the places are taken", || keys(&cluster) == 1 + PLACES);
    // All of them wait by now, because their tasks began before those of the places were answered.
    let asked = requests(&cluster) - before;
    assert!(asked < 8 * PLACES as u64, "{asked} requests");

    // In the order of their arrival, and for a few requests each.
    let before = requests(&cluster);
    let mut fence = holder.fence().unwrap();
    holder.release().unwrap();
    for acquiring in waiting {
        let guard = block_on(acquiring).unwrap();
        assert!(guard.fence().unwrap() > fence);
        fence = guard.fence().unwrap();
        guard.release().unwrap();
    }
    let asked = requests(&cluster) - before;
    assert!(asked < 7 * MANY as u64, "{asked} requests");
    assert_eq!(keys(&cluster), 0);
}

#[test]
fn other_programs_have_their_turns_between_those_of_a_process() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let lock = Lock::open(cluster.target("a", LONG)).unwrap();
    let holder = lock.acquire().unwrap();
    let waiting: Vec<_> = (0..3 * PLACES).map(|_| begun(&lock)).collect();
    until("the places are taken", || keys(&cluster) == 1 + PLACES);
    let mut other = cluster.etcdctl_lock("a");
    until("the other program waits", || keys(&cluster) == 2 + PLACES);
    holder.release().unwrap();
    let mut waiting = waiting.into_iter();
    for acquiring in waiting.by_ref().take(PLACES) {
        block_on(acquiring).unwrap().release().unwrap();
    }
    // Those that came to the process before it, and had no place, come after it.
    other.await_held();
    let mut rest: Vec<_> = waiting.collect();
    assert!(!rest.iter_mut().any(is_granted));
    until("places again", || keys(&cluster) == 1 + PLACES);
    other.release();
    for acquiring in rest {
        block_on(acquiring).unwrap().release().unwrap();
    }
}

#[test]
fn a_waiter_without_a_place_keeps_its_deadline_and_leaves_nothing() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", LONG);
    let mut holder = opened(&target);
    holder.must("acquire l g never");
    let lock = Lock::open(&target).unwrap();
    let places: Vec<_> = (0..PLACES).map(|_| begun(&lock)).collect();
    until("the places are taken", || keys(&cluster) == 1 + PLACES);
    let given_up = begun(&lock);
    let mut last = begun(&lock);
    let busy = lock.acquire_timeout(Duration::from_millis(1)).unwrap_err();
    assert!(busy.is_busy() && busy.waited().is_some(), "{busy}");
    assert_eq!(busy.holder().unwrap().identity.as_ref().map(|it| it.pid), Some(i64::from(holder.pid())), "{busy}");
    // An acquire that does not wait needs no turn.
    assert!(lock.try_acquire().unwrap().is_none());
    until("the keys of the places", || keys(&cluster) == 1 + PLACES);

    // It asked nothing when it began, and gets no answer at its deadline.
    cluster.signal(0, libc::SIGSTOP);
    let unknown = lock.acquire_timeout(Duration::from_millis(1500)).unwrap_err();
    assert!(unknown.is_unreachable() && unknown.waited().is_some(), "{unknown}");
    cluster.signal(0, libc::SIGCONT);

    drop(given_up);
    drop(places);
    until("the last one has a place", || keys(&cluster) == 2);
    assert!(!is_granted(&mut last));
    holder.must("release g");
    block_on(last).unwrap().release().unwrap();
    until("no key", || keys(&cluster) == 0);
}

#[test]
fn shares_that_wait_for_one_holder_share_a_watch_and_reads() {
    const MANY: usize = 300;
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", LONG);
    let mut holder = opened(&target);
    holder.must("acquire l g never");
    let lock = Lock::open(&target).unwrap();
    let before = requests(&cluster);
    let mut waiting: Vec<_> =
        (0..MANY).map(|_| Box::pin(lock.begin_shared(Wait::Forever, Requester::Task).unwrap())).collect();
    assert!(!waiting.iter_mut().any(is_granted));
    until("all have keys", || keys(&cluster) == 1 + MANY);
    let asked = requests(&cluster) - before;
    // A transaction each.
    assert!(asked < 3 * MANY as u64 / 2, "{asked} requests");
    let before = requests(&cluster);
    holder.must("release g");
    let guards: Vec<Guard> = waiting.into_iter().map(|acquiring| block_on(acquiring).unwrap()).collect();
    let asked = requests(&cluster) - before;
    assert!(asked < MANY as u64 / 2, "{asked} requests");
    guards.iter().for_each(|guard| guard.check().unwrap());
    assert!(lock.acquire_with(Wait::Never).unwrap_err().is_busy());
    guards.into_iter().for_each(|guard| guard.release().unwrap());
}
