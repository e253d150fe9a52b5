//! Acquires and releases of one process on etcd that share calls.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::future::Future as _;
use std::io::{Read as _, Write as _};
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::task::{Context, Waker};

use tenure::{AcquireFuture, Guard, Lock, Requester, Wait};
use tenure_tests::servers::etcd::{Cluster, there};
use tenure_tests::servers::output;
use tenure_tests::wakes::block_on;
use tenure_tests::{Actor, actor_program, until};

/// Returns how many messages the first member has received.
fn requests(cluster: &Cluster) -> u64 {
    let mut stream = std::net::TcpStream::connect((cluster.address(0), 2379)).unwrap();
    let mut text = String::new();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").and_then(|()| stream.read_to_string(&mut text)).unwrap();
    let counts = text.lines().filter(|line| line.starts_with("grpc_server_msg_received_total{"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

/// Starts an acquire.
fn begun(lock: &Lock) -> Pin<Box<AcquireFuture>> {
    let mut acquiring = Box::pin(lock.begin(Requester::Task).unwrap());
    assert!(acquiring.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    acquiring
}

#[test]
fn acquires_that_begin_together_share_calls() {
    const MANY: usize = 1000;
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    // So long a lease that no renewal is counted.
    let open = |at: usize| Lock::open(cluster.target(&format!("many/{at}"), 600)).unwrap();
    let before = requests(&cluster);
    let acquiring: Vec<_> = (0..MANY).map(|at| begun(&open(at))).collect();
    let guards: Vec<Guard> = acquiring.into_iter().map(|acquiring| block_on(acquiring).unwrap()).collect();
    let asked = requests(&cluster) - before;
    // Two calls each, if they were alone.
    assert!(asked < MANY as u64 / 2, "{asked} requests");
    let mut fences: Vec<u64> = guards.iter().map(|guard| guard.fence().unwrap()).collect();
    assert!(fences.iter().all(|fence| *fence > 0));
    guards.iter().for_each(|guard| guard.check().unwrap());

    // As many that wait, and are then granted together.
    let before = requests(&cluster);
    let waiting: Vec<_> = (0..MANY).map(|at| begun(&open(at))).collect();
    let keys =
        || output(cluster.etcdctl().args(["get", "many/", "--prefix", "--keys-only"])).split_whitespace().count();
    until("all wait", || keys() == 2 * MANY);
    let asked = requests(&cluster) - before;
    // A watch each, and few calls.
    assert!(asked < 3 * MANY as u64 / 2, "{asked} requests");
    let releasing: Vec<_> = guards.into_iter().map(|guard| Box::pin(guard.release_async())).collect();
    releasing.into_iter().for_each(|releasing| block_on(releasing).unwrap());
    for (fence, waiting) in fences.iter_mut().zip(waiting) {
        let guard = block_on(waiting).unwrap();
        assert!(guard.fence().unwrap() > *fence);
        *fence = guard.fence().unwrap();
        guard.check().unwrap();
        guard.release().unwrap();
    }
    assert_eq!(keys(), 0);
}

#[test]
fn threads_exclude_each_other_while_they_share_calls() {
    const NAMES: usize = 4;
    const THREADS: usize = 24;
    const ROUNDS: usize = 20;
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    /// The number of readers in a name; of a writer, less than zero.
    static INSIDE: [AtomicI32; NAMES] = [const { AtomicI32::new(0) }; NAMES];
    static LAST: [AtomicU64; NAMES] = [const { AtomicU64::new(0) }; NAMES];
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let cluster = &cluster;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let at = (thread + round) % NAMES;
                    let lock = Lock::open(cluster.target(&format!("n{at}"), 60)).unwrap();
                    let inside = &INSIDE[at];
                    if thread % 4 == 0 {
                        let guard = lock.acquire_shared(Wait::Forever).unwrap();
                        assert!(inside.fetch_add(1, Ordering::SeqCst) >= 0, "a writer is there");
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        guard.release().unwrap();
                    } else {
                        let guard = lock.acquire().unwrap();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 0, "others are there");
                        let fence = guard.fence().unwrap();
                        assert!(LAST[at].swap(fence, Ordering::SeqCst) < fence, "the fence grows");
                        std::thread::yield_now();
                        inside.fetch_add(1, Ordering::SeqCst);
                        guard.release().unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn an_acquire_that_is_refused_costs_no_other_its_call() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let etcdctl = |words: &str| output(cluster.etcdctl().args(words.split_whitespace()));
    for words in ["user add root:hunter1", "user grant-role root root", "user add app:hunter2", "role add locker"] {
        etcdctl(words);
    }
    for prefix in ["kept", ".tenure/kept"] {
        etcdctl(&format!("role grant-permission locker readwrite {prefix} --prefix"));
    }
    etcdctl("user grant-role app locker");
    etcdctl("auth enable");
    let mut process = Actor::from(Command::new(actor_program()).env("TENURE_ETCD_PASSWORD", "hunter2"));
    let names = (0..40).map(|at| if at % 4 == 0 { format!("other/{at}") } else { format!("kept/{at}") });
    let names: Vec<String> = names.collect();
    for name in &names {
        process.must(&format!("open {name} etcd://app@{}:2379/{name}?ttl=60s", cluster.address(0)));
    }
    // The first of them waits for the user's token, and the others meanwhile for its call.
    names.iter().for_each(|name| process.send(&format!("begin {name} {name} forever")));
    let (mut begun, mut granted, mut refused) = (0, Vec::new(), 0);
    while begun < names.len() || granted.len() + refused < names.len() {
        let said = process.receive();
        let name = said["guard"].as_str().map(str::to_owned);
        match (said["event"].as_str(), name) {
            (Some("granted"), Some(name)) => granted.push(name),
            (Some("refused"), Some(name)) => {
                assert!(name.starts_with("other/") && said["kind"] == "permission-denied", "{said}");
                refused += 1;
            }
            _ => begun += 1,
        }
    }
    assert_eq!((granted.len(), refused), (30, 10));
    assert!(granted.iter().all(|name| name.starts_with("kept/")), "{granted:?}");
}
