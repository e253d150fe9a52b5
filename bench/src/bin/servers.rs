//! Measures server locks beside `etcdctl lock` and a bare `psql`, on servers that this program starts.
//!
//! `cargo build --release --workspace && cargo run --release -p tenure-bench --bin servers`, with
//! `-- only-etcd`, `-- only-many [--least N] [--most N]`, `-- only-restart [--most N] [--ttl SECONDS] [--away SECONDS] [--kill]`,
//! `-- only-postgres` or `-- only-many-postgres [--least N] [--most N]` for a part of it. With `--features tracing` the failed
//! renewals of the rolling restart are counted too. `-- only-limits >bench/limits.json` measures what `million` simulates with.
//!
//! Everything is measured in one run, in turns. The ratios can be compared, the times only on one machine.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark")]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
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
    if asked("only-restart") {
        let by_kill = words.iter().any(|word| word == "--kill");
        let away = Duration::from_secs(number("--away", 0) as u64);
        rolling_restart(number("--most", 10_000), number("--ttl", 10) as u64, away, by_kill);
    }
    // Its output is a file.
    if words.iter().any(|word| word == "only-limits") {
        limits();
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
    let (threads, before) = (threads(), cluster.requests(0));
    std::thread::sleep(COUNTED);
    let rate = (cluster.requests(0) - before) as f64 / COUNTED.as_secs_f64();
    let ours = own_memory(std::process::id());
    println!(
        "  {what}: {threads} threads, {ours:.0} MB; etcd {:.0} MB and {rate:.1} requests a second",
        own_memory(cluster.pid(0))
    );
}

/// Acquires that many locks.
fn hold_all(count: usize, target: &(impl Fn(usize) -> String + Sync)) -> Vec<Guard> {
    let hold = &|at: usize| Lock::open(target(at)).unwrap().acquire_with(Wait::Forever).unwrap();
    std::thread::scope(|scope| {
        let part = |first: usize| scope.spawn(move || (first..count).step_by(AT_ONCE).map(hold).collect::<Vec<_>>());
        let parts: Vec<_> = (0..AT_ONCE).map(part).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

/// Measures a process with many locks: as many that it holds, and then as many that it waits for as well.
fn many(rounds: usize, count: usize) {
    println!("etcd: one member, files in memory, {count} locks with a lease of 10 s in one process");
    let cluster = Cluster::start(1);
    let (began, before) = (Instant::now(), cluster.requests(0));
    let guards = hold_all(count, &|at| cluster.target(&format!("many/{at}"), 10));
    let (took, asked) = (began.elapsed().as_secs_f64(), cluster.requests(0) - before);
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
    let (began, before) = (Instant::now(), cluster.requests(0));
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
        let (took, asked) = (began.elapsed().as_secs_f64(), cluster.requests(0) - before);
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

/// Measures a rolling restart under a process that holds many locks. The members are restarted one after the other, as soon
/// as the cluster is healthy: by SIGTERM, as an operator does, or by SIGKILL, as a crash does. Each is away for a time.
fn rolling_restart(count: usize, ttl: u64, away: Duration, by_kill: bool) {
    let how = if by_kill { "SIGKILL" } else { "SIGTERM" };
    println!("etcd: three members, files in memory, {count} locks with a lease of {ttl} s in one process");
    println!("  each member is ended once by {how}, and started {} s later", away.as_secs());
    let mut cluster = Cluster::start(3);
    let began = Instant::now();
    let guards = hold_all(count, &|at| cluster.target(&format!("many/{at}"), ttl));
    println!("  all held after {:.2} s", began.elapsed().as_secs_f64());
    let failed = failed_renewals::counted();
    let done = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        let watching = scope.spawn(|| longest_unconfirmed(&guards, Duration::from_secs(ttl), &done));
        for at in 0..cluster.len() {
            let role = if cluster.leader() == at { "leader" } else { "follower" };
            let began = Instant::now();
            match by_kill {
                true => cluster.kill(at),
                false => cluster.stop(at),
            }
            std::thread::sleep(away);
            cluster.restart(at);
            cluster.await_healthy();
            println!("  member {at}, a {role}: healthy again after {:.2} s", began.elapsed().as_secs_f64());
        }
        // A lease that is no longer renewed is over by then.
        std::thread::sleep(Duration::from_secs(ttl));
        done.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    let lost: Vec<tenure::Error> = guards.iter().filter_map(|guard| guard.check().err()).collect();
    println!("  {} lost of {count}", lost.len());
    if let Some(error) = lost.first() {
        println!("  the first of them: {error}");
    }
    println!("  failed renewals: {}", failed());
    println!(
        "  the longest time without a confirmed renewal: {:.2} s; a lock is lost after {:.2} s",
        longest.as_secs_f64(),
        ttl as f64 * 0.75
    );
    let began = Instant::now();
    drop(guards);
    println!("  released after {:.2} s", began.elapsed().as_secs_f64());
}

/// Returns the longest time without a confirmed renewal that any of the guards had, as seen every few milliseconds.
fn longest_unconfirmed(guards: &[Guard], ttl: Duration, done: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let left = guards.iter().filter_map(Guard::lease).map(|lease| lease.free_in).min().unwrap_or_default();
        longest = longest.max(ttl.saturating_sub(left));
        std::thread::sleep(Duration::from_millis(20));
    }
    longest
}

/// Measures the limits of a cluster for the program `million`, and prints them as its file of limits.
///
/// A cost is the processor time of the member that serves all requests and leads, so that it does not depend on what else runs
/// on this machine.
fn limits() {
    const MANY: [usize; 2] = [1280, 10_240];
    const SESSIONS: usize = 40;
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let hosts: Vec<String> =
        (0..cluster.len()).map(|step| format!("{}:2379", cluster.address((leader + step) % 3))).collect();
    let target = |hosts: &str, name: &str, ttl: u64| format!("etcd://{hosts}/{name}?ttl={ttl}s");
    let all = hosts.join(",");
    let idle = worked(&cluster, leader, || std::thread::sleep(COUNTED)) / COUNTED.as_secs_f64();
    eprintln!("idle: {:.2}% of a processor", idle * 100.0);
    // The cost of renewals for a time, and how many there were. An idle member works too.
    let renewals = |cluster: &Cluster| {
        std::thread::sleep(Duration::from_secs(2));
        let before = keep_alives(cluster, leader);
        let work = worked(cluster, leader, || std::thread::sleep(COUNTED)) - idle * COUNTED.as_secs_f64();
        (work, keep_alives(cluster, leader) - before)
    };

    // Sessions with one lock each: the same members under other names, as a client takes them, are another session.
    let few: Vec<Guard> = (0..SESSIONS)
        .map(|at| {
            let hosts = vec![hosts[0].clone(); at + 1].join(",");
            Lock::open(target(&hosts, &format!("few/{at}"), 2)).unwrap().acquire().unwrap()
        })
        .collect();
    let (work, count) = renewals(&cluster);
    let keep_alive = work / count;
    eprintln!("{count} renewals of one lock: {:.0} us each", keep_alive * 1e6);
    drop(few);

    let mut each = [0.0; 2];
    let (mut acquire, mut space, mut memory) = (0.0, 0.0, 0.0);
    for (at, count) in MANY.into_iter().enumerate() {
        let before = (database_bytes(&cluster, leader), own_memory(cluster.pid(leader)));
        let (mut guards, began) = (Vec::new(), Instant::now());
        let work = worked(&cluster, leader, || {
            guards = hold_all(count, &|lock| target(&all, &format!("many/{at}/{lock}"), 6));
        });
        let acquired = count as f64 / began.elapsed().as_secs_f64();
        acquire = work / count as f64;
        space = (database_bytes(&cluster, leader) - before.0) / count as f64;
        memory = (own_memory(cluster.pid(leader)) - before.1) * 1024.0 * 1024.0 / count as f64;
        let (renewal, renewals) = renewals(&cluster);
        assert!(renewals > 0.0, "the machine is so busy that another member leads or serves: measure again");
        each[at] = renewal / renewals;
        eprintln!(
            "{count} locks: {:.0} us and {space:.0} bytes for each acquire ({:.0} a second); {renewals} renewals, {:.0} us each",
            acquire * 1e6,
            acquired,
            each[at] * 1e6
        );
        drop(guards);
    }
    let confirm = (each[1] - each[0]) / ((MANY[1] - MANY[0]) / 128) as f64;

    const HAND_OFFS: usize = 500;
    const WAITERS: usize = 4;
    let handed = worked(&cluster, leader, || {
        std::thread::scope(|scope| {
            for _ in 0..WAITERS {
                let lock = Lock::options().deadlock_check(false).open(target(&all, "hand", 10)).unwrap();
                scope.spawn(move || {
                    for _ in 0..HAND_OFFS {
                        lock.acquire().unwrap().release().unwrap();
                    }
                });
            }
        });
    });
    let hand_off = handed / (HAND_OFFS * WAITERS) as f64;

    let lock = Lock::open(target(&all, "one", 10)).unwrap();
    let mut calls: Vec<Duration> = (0..300)
        .map(|_| {
            let began = Instant::now();
            lock.acquire().unwrap().release().unwrap();
            // Three transactions.
            began.elapsed() / 3
        })
        .collect();
    calls.sort();
    let call = calls[calls.len() / 2];

    let mut failover = Duration::ZERO;
    for round in 0..5 {
        let leader = cluster.leader();
        let others: Vec<String> = (1..3).map(|step| format!("{}:2379", cluster.address((leader + step) % 3))).collect();
        // With a short lease, so that a call that is left unanswered is soon repeated.
        let lock = Lock::open(target(&others.join(","), &format!("after/{round}"), 2)).unwrap();
        cluster.kill(leader);
        let began = Instant::now();
        while lock.acquire().and_then(Guard::release).is_err() {}
        eprintln!("a leader's death to the next acquire: {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
        failover = failover.max(began.elapsed());
        cluster.restart(leader);
        cluster.await_healthy();
    }
    let micros = |seconds: f64| (seconds * 1e6).round();
    let limits = serde_json::json!({
        "cores": std::thread::available_parallelism().unwrap().get(),
        "keep_alive_us": micros(keep_alive),
        "confirm_us": micros(confirm),
        "acquire_us": micros(acquire),
        "hand_off_us": micros(hand_off),
        "call_us": micros(call.as_secs_f64()),
        "failover_us": micros(failover.as_secs_f64()),
        "election_timeout_ms": 500,
        "database_bytes_per_hold": space.round(),
        "memory_bytes_per_hold": memory.round(),
    });
    println!("{}", serde_json::to_string_pretty(&limits).unwrap());
}

/// Returns the processor time in seconds that a member takes during `work`.
fn worked(cluster: &Cluster, at: usize, work: impl FnOnce()) -> f64 {
    let taken = || -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", cluster.pid(at))).unwrap().flatten();
        let nanos = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        });
        nanos.sum::<f64>() / 1e9
    };
    let before = taken();
    work();
    taken() - before
}

/// Returns the number of keep-alives that a member has received.
fn keep_alives(cluster: &Cluster, at: usize) -> f64 {
    let text = cluster.metrics(at);
    let line = |line: &&str| {
        line.starts_with("grpc_server_msg_received_total{") && line.contains("grpc_method=\"LeaseKeepAlive\"")
    };
    text.lines().filter(line).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Returns the size of a member's database.
fn database_bytes(cluster: &Cluster, at: usize) -> f64 {
    let text = cluster.metrics(at);
    let line = text.lines().find(|line| line.starts_with("etcd_mvcc_db_total_size_in_bytes "));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// Counts the renewals that fail, by the library's events.
#[cfg(feature = "tracing")]
mod failed_renewals {
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// The errors, and how often each came.
    type Counts = Arc<Mutex<BTreeMap<String, usize>>>;

    struct Counter(Counts);

    #[derive(Default)]
    struct Fields {
        message: String,
        error: String,
    }

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            match field.name() {
                "message" => self.message = format!("{value:?}"),
                "error" => self.error = format!("{value:?}"),
                _ => {}
            }
        }
    }

    impl Subscriber for Counter {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "tenure"
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            if fields.message == "the lease was not renewed" {
                *self.0.lock().unwrap().entry(fields.error).or_default() += 1;
            }
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    /// Begins to count. The result says how many failed until then, and why.
    pub(super) fn counted() -> impl FnOnce() -> String {
        let counts = Counts::default();
        tracing::subscriber::set_global_default(Counter(Arc::clone(&counts))).unwrap();
        move || {
            let counts = counts.lock().unwrap();
            let all: usize = counts.values().sum();
            let each = counts.iter().map(|(error, count)| format!("\n    {count} times: {error}"));
            std::iter::once(all.to_string()).chain(each).collect()
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod failed_renewals {
    pub(super) fn counted() -> impl FnOnce() -> String {
        || "not counted (build with `--features tracing`)".to_owned()
    }
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
    let guards = hold_all(count, &|at| target(at, 10));
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
