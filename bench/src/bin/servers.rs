//! Measures server locks beside `etcdctl lock` and a bare `psql`, on servers that this program starts.
//!
//! `cargo build --release --workspace && cargo run --release -p tenure-bench --bin servers`, with
//! `-- only-etcd`, `-- only-many [--least N] [--most N]`, `-- only-postgres` or `-- only-many-postgres [--least N] [--most N]`
//! for a part of it.
//!
//! Everything is measured in one run, in turns. The ratios can be compared, the times only on one machine.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark")]

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tenure::{Guard, Lock, Wait};
use tenure_tests::servers::etcd::Cluster;
use tenure_tests::servers::postgres::Postgres;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: usize| {
        let at = words.iter().position(|word| word == name);
        at.map_or(default, |at| words[at + 1].parse().unwrap())
    };
    let rounds = number("--rounds", 200);
    let asked =
        |name: &str| words.iter().any(|word| word == name) || !words.iter().any(|word| word.starts_with("only-"));
    if asked("only-etcd") {
        etcd(rounds);
    }
    let counts = number("--least", 1)..=number("--most", 10_000);
    let counts = || [1, 100, 1000, 10_000].into_iter().filter(|count| counts.contains(count));
    if asked("only-many") {
        counts().for_each(|count| many(rounds, count));
    }
    if asked("only-postgres") {
        postgres(rounds);
    }
    if asked("only-many-postgres") {
        counts().for_each(|count| many_on_postgres(rounds, count));
    }
}

/// The time until a waiter's watch is active. etcd serves watches that begin in the past every 100 ms.
const SETTLE: Duration = Duration::from_millis(200);

/// Times of one kind, printed on one line.
struct Times(&'static str, Vec<Duration>);

impl Times {
    fn new(name: &'static str) -> Times {
        Times(name, Vec::new())
    }

    fn take<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.1.push(began.elapsed());
        done
    }

    fn show(&mut self) {
        self.1.sort();
        let at = |percent: usize| self.1[(self.1.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
        println!("  {:<44} p50 {:>8.2} ms   p99 {:>8.2} ms   ({} times)", self.0, at(50), at(99), self.1.len());
    }
}

fn quiet(command: &mut Command) {
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(ended.success(), "{command:?}");
}

/// Measures acquire and release, by the library and by whole commands.
fn one_shot(target: &str, rounds: usize, mut peer: impl FnMut(), peer_name: &'static str) {
    let lock = Lock::open(target).unwrap();
    let mut both = Times::new("library: acquire and release");
    let mut ours = Times::new("tenure run T -- true");
    let mut theirs = Times::new(peer_name);
    for _ in 0..rounds {
        both.take(|| lock.acquire_with(Wait::Forever).unwrap().release().unwrap());
        ours.take(|| quiet(Command::new(tenure_tests::tenure_program()).args(["run", target, "--", "true"])));
        theirs.take(&mut peer);
    }
    both.show();
    ours.show();
    theirs.show();
}

/// Measures the time from a release to the grant of a waiter.
fn hand_off(target: &str, rounds: usize) {
    let mut times = Times::new("library: from a release to the next grant");
    let lock = Lock::options().deadlock_check(false).open(target).unwrap();
    for _ in 0..rounds {
        let guard = lock.acquire_with(Wait::Forever).unwrap();
        let waiter = lock.clone();
        let next = std::thread::spawn(move || {
            let guard: Guard = waiter.acquire_with(Wait::Forever).unwrap();
            let granted = Instant::now();
            guard.release().unwrap();
            granted
        });
        while lock.status().unwrap().waiters != Some(1) {}
        std::thread::sleep(SETTLE);
        let released = Instant::now();
        guard.release().unwrap();
        times.1.push(next.join().unwrap().saturating_duration_since(released));
    }
    times.show();
}

/// Returns the resident memory of a process, in MB.
fn own_memory(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("Pss:")).unwrap_or_default();
    line.split_whitespace().nth(1).map_or(0.0, |kb| kb.parse().unwrap()) / 1024.0
}

fn etcd(rounds: usize) {
    println!("etcd: one member, files in memory");
    let cluster = Cluster::start(1);
    one_shot(
        &cluster.target("once", 10),
        rounds,
        || quiet(cluster.etcdctl().args(["lock", "peer", "true"])),
        "etcdctl lock NAME true",
    );
    hand_off(&cluster.target("hand", 10), rounds);
    let mut theirs = Times::new("etcdctl lock: from SIGINT to the next grant");
    for _ in 0..rounds.min(50) {
        let mut one = cluster.etcdctl_lock("peer");
        one.await_held();
        let mut two = cluster.etcdctl_lock("peer");
        let peer = Lock::open(cluster.target("peer", 10)).unwrap();
        while peer.status().unwrap().waiters != Some(1) {}
        std::thread::sleep(SETTLE);
        theirs.take(|| {
            one.interrupt();
            two.await_held();
        });
        drop(one);
        two.release();
    }
    theirs.show();
}

/// How many calls and messages an etcd has handled.
fn requests(cluster: &Cluster) -> f64 {
    let mut stream = std::net::TcpStream::connect((cluster.address(0), 2379)).unwrap();
    let mut text = String::new();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").and_then(|()| stream.read_to_string(&mut text)).unwrap();
    let counts = text.lines().filter(|line| line.starts_with("grpc_server_msg_received_total{"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Returns the number of this process's threads.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// The time over which requests are counted: several renewals of each lease.
const COUNTED: Duration = Duration::from_secs(20);

/// Shows what locks cost that are held, or waited for, and nothing else.
fn cost(cluster: &Cluster, what: &str) {
    // Helper threads without work end after a second.
    std::thread::sleep(Duration::from_secs(2));
    let (threads, before) = (threads(), requests(cluster));
    std::thread::sleep(COUNTED);
    let rate = (requests(cluster) - before) / COUNTED.as_secs_f64();
    let ours = own_memory(std::process::id());
    println!(
        "  {what}: {threads} threads, {ours:.0} MB; etcd {:.0} MB and {rate:.1} requests a second",
        own_memory(cluster.pid(0))
    );
}

/// Measures a process with many locks: as many that it holds, and then as many that it waits for as well.
fn many(rounds: usize, count: usize) {
    println!("etcd: one member, files in memory, {count} locks with a lease of 10 s in one process");
    let cluster = Cluster::start(1);
    let (began, before) = (Instant::now(), requests(&cluster));
    let hold = &|at: usize| {
        Lock::open(cluster.target(&format!("many/{at}"), 10)).unwrap().acquire_with(Wait::Forever).unwrap()
    };
    let guards: Vec<Guard> = std::thread::scope(|scope| {
        let part = |first: usize| scope.spawn(move || (first..count).step_by(AT_ONCE).map(hold).collect::<Vec<_>>());
        let parts: Vec<_> = (0..AT_ONCE).map(part).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    let (took, asked) = (began.elapsed().as_secs_f64(), requests(&cluster) - before);
    println!("  all held after {took:.2} s and {asked} requests, by {AT_ONCE} threads");
    cost(&cluster, "held");
    let mut among = Times::new("meanwhile: acquire and release of another lock");
    let lock = Lock::open(cluster.target("one-more", 10)).unwrap();
    for _ in 0..rounds {
        among.take(|| lock.acquire_with(Wait::Forever).unwrap().release().unwrap());
    }
    among.show();
    // Of another length, so that this is a second lease.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let waits: Vec<_> = (0..count)
        .map(|at| {
            let lock = Lock::options().deadlock_check(false).open(cluster.target(&format!("many/{at}"), 11)).unwrap();
            Box::pin(async move { lock.acquire_async(Wait::Forever).await })
        })
        .collect();
    let (began, before) = (Instant::now(), requests(&cluster));
    runtime.block_on(async {
        let mut waits = waits;
        // A first poll starts each acquire, and no other is needed.
        for wait in &mut waits {
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(wait.as_mut().poll(context)));
            assert!(polled.await.is_pending());
        }
        let last = Lock::open(cluster.target(&format!("many/{}", count - 1), 10)).unwrap();
        // The server may be too busy for an answer in time.
        while last.status().map(|status| status.waiters).unwrap_or_default() != Some(1) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (took, asked) = (began.elapsed().as_secs_f64(), requests(&cluster) - before);
        println!("  all waited for after {took:.2} s and {asked} requests and watches");
        cost(&cluster, "held and waited for");
        let lost = guards.iter().filter(|guard| guard.check().is_err()).count();
        println!("  {lost} lost");
        let began = Instant::now();
        drop(waits);
        guards.into_iter().for_each(|guard| guard.release().unwrap());
        println!("  released, one after the other, after {:.2} s", began.elapsed().as_secs_f64());
    });
}

fn postgres(rounds: usize) {
    println!("PostgreSQL: fsync off, files in memory");
    let server = Postgres::start();
    let one = "SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1)";
    one_shot(&server.target("once", 10), rounds, || quiet(server.psql().args(["-c", one])), "psql: lock and unlock");
    hand_off(&server.target("hand", 10), rounds);
    let mut theirs = Times::new("psql: from an unlock to the next grant");
    let (mut one, mut two) = (server.session(), server.session());
    for _ in 0..rounds {
        one.ask("SELECT 1 FROM pg_advisory_lock(2);");
        two.send("SELECT 1 FROM pg_advisory_lock(2);");
        while server.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") != "1" {}
        theirs.take(|| {
            one.send("SELECT pg_advisory_unlock(2);");
            two.receive();
        });
        one.receive();
        two.ask("SELECT pg_advisory_unlock(2);");
    }
    theirs.show();
}

/// The number of locks that are acquired at once.
const AT_ONCE: usize = 8;

/// Measures a process with many locks on PostgreSQL: as many that it holds, and then as many that it waits for as well.
fn many_on_postgres(rounds: usize, count: usize) {
    println!("PostgreSQL: fsync off, files in memory, {count} locks with a lease of 10 s in one process");
    let server = Postgres::start_with(&["max_locks_per_transaction=512"]);
    let target = |at: usize, ttl: u64| server.target(&format!("many/{at}"), ttl);
    let began = Instant::now();
    let hold = &|at: usize| Lock::open(target(at, 10)).unwrap().acquire_with(Wait::Forever).unwrap();
    let guards: Vec<Guard> = std::thread::scope(|scope| {
        let part = |first: usize| scope.spawn(move || (first..count).step_by(AT_ONCE).map(hold).collect::<Vec<_>>());
        let parts: Vec<_> = (0..AT_ONCE).map(part).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    println!("  all held after {:.2} s", began.elapsed().as_secs_f64());
    cost_on_postgres(&server, "held");
    let mut among = Times::new("meanwhile: acquire and release of another lock");
    let lock = Lock::open(server.target("one-more", 10)).unwrap();
    for _ in 0..rounds {
        among.take(|| lock.acquire_with(Wait::Forever).unwrap().release().unwrap());
    }
    among.show();
    // Of another length, so that these are other sessions.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let waits: Vec<_> = (0..count)
        .map(|at| {
            let lock = Lock::options().deadlock_check(false).open(target(at, 11)).unwrap();
            Box::pin(async move { lock.acquire_async(Wait::Forever).await })
        })
        .collect();
    runtime.block_on(async {
        let mut waits = waits;
        // A first poll starts each acquire, and no other is needed.
        for wait in &mut waits {
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(wait.as_mut().poll(context)));
            assert!(polled.await.is_pending());
        }
        cost_on_postgres(&server, "held and waited for");
        let lost = guards.iter().filter(|guard| guard.check().is_err()).count();
        println!("  {lost} lost");
        drop(waits);
        let began = Instant::now();
        guards.into_iter().for_each(|guard| guard.release().unwrap());
        println!("  released, one after the other, after {:.2} s", began.elapsed().as_secs_f64());
    });
}

/// Shows what locks cost on PostgreSQL that are held, or waited for, and nothing else.
fn cost_on_postgres(server: &Postgres, what: &str) {
    // Helper threads without work end after a second.
    std::thread::sleep(Duration::from_secs(2));
    let (threads, ours) = (threads(), own_memory(std::process::id()));
    let sessions = server.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenure'");
    println!("  {what}: {threads} threads, {ours:.0} MB, {sessions} sessions");
}
