//! Simulates a million locks: processes that hold 10,000 each on one etcd cluster, in virtual time.
//!
//! `cargo run --release -p tenure-bench --bin million`, with `-- [--processes N] [--holds N] [--seed N] [--limits FILE]`. The
//! same seed and limits give the same figures on every machine. The limits in `bench/limits.json` were measured by `cargo run
//! --release -p tenure-bench --bin servers -- only-limits`.
//!
//! What is simulated: each process renews its lease as the library does, by a keep-alive and then one transaction for each 128
//! of its keys, all at once; a call that is not answered goes on to the next member; a renewal that fails is repeated after
//! 100 ms; a lease that was not confirmed for three quarters of `ttl` is lost. Each member has a machine of its own, like the
//! one that was measured. What is not: disks and networks that are slower than those of the measurement, and the processes'
//! own work.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark")]

mod cluster;
mod limits;
mod simulation;

use std::time::Duration;

use cluster::Time;
use limits::Limits;
use simulation::{Outcome, Scenario, requests_of_renewal, run};

/// The default of etcd's `--quota-backend-bytes`, and the maximum that its manual suggests.
const QUOTAS: [f64; 2] = [2.0 * GIB, 8.0 * GIB];
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| words.iter().position(|word| word == name).map(|at| &*words[at + 1]);
    let number = |name: &str, default: usize| value(name).map_or(default, |text| text.parse().unwrap());
    let limits = Limits::read(value("--limits"));
    let (processes, holds) = (number("--processes", 100), number("--holds", 10_000));
    let plain = Scenario {
        seed: number("--seed", 1) as u64,
        processes,
        holds,
        ttl: Duration::from_secs(10),
        time: Duration::from_secs(120),
        failover_after: None,
        newcomers: 0,
        hand_offs: 0.0,
        waiters: 0,
    };
    println!(
        "simulated: {processes} processes with {holds} locks each on three members of {} processors",
        limits.cores
    );
    println!(
        "measured: {} us for a keep-alive, {} us for 128 keys, {} us for an acquire, {} us for a hand-off; {} ms without a leader",
        limits.keep_alive.as_micros(),
        limits.confirm.as_micros(),
        limits.acquire.as_micros(),
        limits.hand_off.as_micros(),
        limits.failover.as_millis()
    );
    renewals(&limits, &plain);
    failovers(&limits, &plain);
    queues(&limits, &plain);
    growth(&limits, &plain);
    space(&limits, (processes * holds) as f64);
}

const TTLS: [u64; 7] = [2, 5, 10, 20, 30, 60, 300];

/// A measured time that has many renewals, however long the lease.
fn with_ttl(plain: &Scenario, seconds: u64) -> Scenario {
    let ttl = Duration::from_secs(seconds);
    Scenario { ttl, time: (ttl * 4).max(plain.time), ..plain.clone() }
}

fn millis(time: Time) -> f64 {
    time as f64 / 1e6
}

fn at(times: &[Time], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).map_or(0.0, |time| millis(*time))
}

fn rate(outcome: &Outcome, scenario: &Scenario) -> f64 {
    outcome.requests as f64 / scenario.time.as_secs_f64()
}

/// What `ttl` costs while nothing happens.
fn renewals(limits: &Limits, plain: &Scenario) {
    println!("\nrenewals, while nothing else happens");
    println!("  ttl   requests/s   busiest member   renewal p50 / p99      failed   locks lost");
    for ttl in TTLS {
        let scenario = with_ttl(plain, ttl);
        let outcome = run(limits, &scenario);
        println!(
            "  {ttl:>3} s {:>11.0} {:>15.0}% {:>10.0} / {:>6.0} ms {:>9} {:>12}",
            rate(&outcome, &scenario),
            outcome.busy * 100.0,
            at(&outcome.renewals, 50),
            at(&outcome.renewals, 99),
            outcome.failed,
            outcome.lost * scenario.holds
        );
    }
}

/// What a failover costs, and a process that acquires all its locks half a second after it.
fn failovers(limits: &Limits, plain: &Scenario) {
    println!("\nthe leader dies, and a process begins to acquire {} more locks", plain.holds);
    println!("  ttl   renewal p99   failed   longest unconfirmed (lost at)   locks lost   all acquired after");
    for ttl in TTLS {
        let scenario =
            Scenario { failover_after: Some(Duration::from_secs(ttl)), newcomers: 1, ..with_ttl(plain, ttl) };
        let outcome = run(limits, &scenario);
        let acquired =
            outcome.acquired.first().map_or("never".to_owned(), |time| format!("{:.1} s", millis(*time) / 1e3));
        println!(
            "  {ttl:>3} s {:>10.0} ms {:>7} {:>20.1} s ({:>5.1} s) {:>12} {:>20}",
            at(&outcome.renewals, 99),
            outcome.failed,
            millis(outcome.longest) / 1e3,
            ttl as f64 * 0.75,
            outcome.lost * scenario.holds,
            acquired
        );
    }
}

/// What waiters and hand-offs cost beside the renewals, with a `ttl` of 60 s.
fn queues(limits: &Limits, plain: &Scenario) {
    println!(
        "\nwith ttl=60s: waiters, who are looked after every 3 s, and hand-offs (whose own requests are not counted)"
    );
    println!("  waiters   hand-offs/s   requests/s   busiest member   hand-off p50 / p99      locks lost");
    for (waiters, hand_offs) in [(0, 100.0), (0, 1000.0), (1000, 100.0), (10_000, 100.0)] {
        let waiters = waiters.min(plain.holds);
        let scenario = Scenario { hand_offs, waiters, ..with_ttl(plain, 60) };
        let outcome = run(limits, &scenario);
        println!(
            "  {:>7} {:>13.0} {:>12.0} {:>15.0}% {:>10.1} / {:>6.0} ms {:>14}",
            waiters * scenario.processes,
            hand_offs,
            rate(&outcome, &scenario),
            outcome.busy * 100.0,
            at(&outcome.handed_off, 50),
            at(&outcome.handed_off, 99),
            outcome.lost * scenario.holds
        );
    }
}

/// Where it breaks: the greatest number of processes of which none loses its locks, also when the leader dies.
fn growth(limits: &Limits, plain: &Scenario) {
    println!("\nhow many locks no failover takes away");
    for ttl in TTLS {
        let loses = |processes: usize| {
            let after = Some(Duration::from_secs(ttl));
            let scenario = Scenario { processes, failover_after: after, ..with_ttl(plain, ttl) };
            // A cluster that is busy all the time is too small, even where the simulation ends before the first loss.
            let outcome = run(limits, &Scenario { time: scenario.ttl * 4, ..scenario });
            outcome.lost > 0 || outcome.busy > 0.95
        };
        let most = greatest(1000, |processes| !loses(processes));
        let more = if most == 1000 { " or more" } else { "" };
        println!("  ttl={ttl}s: {}{more}, by {most} processes", most * plain.holds);
    }
}

/// Returns the greatest number up to `limit` that is good, where all smaller ones are. Searched by halves.
fn greatest(limit: usize, good: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, limit + 1);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if good(middle) { low = middle } else { high = middle }
    }
    low
}

fn space(limits: &Limits, locks: f64) {
    println!(
        "\nspace on each member, by {} bytes a lock in the database and {} in memory",
        limits.database_bytes, limits.memory_bytes
    );
    println!(
        "  database {:.1} GiB, memory {:.1} GiB",
        limits.database_bytes * locks / GIB,
        limits.memory_bytes * locks / GIB
    );
    for quota in QUOTAS {
        println!("  a quota of {:.0} GiB is full with {:.0} locks", quota / GIB, quota / limits.database_bytes);
    }
    println!("  and {} requests for each renewal of 10,000 locks", requests_of_renewal(10_000));
}

#[cfg(test)]
mod tests {
    use tenure::{Guard, Lock};
    use tenure_tests::servers::etcd::{Cluster, there};
    use tenure_tests::until;

    use super::*;

    fn scenario(processes: usize, holds: usize, ttl: u64) -> Scenario {
        Scenario {
            seed: 7,
            processes,
            holds,
            ttl: Duration::from_secs(ttl),
            time: Duration::from_secs(60),
            failover_after: None,
            newcomers: 0,
            hand_offs: 0.0,
            waiters: 0,
        }
    }

    fn limits() -> Limits {
        Limits {
            cores: 2,
            keep_alive: Duration::from_micros(200),
            confirm: Duration::from_micros(500),
            acquire: Duration::from_micros(600),
            hand_off: Duration::from_micros(1000),
            call: Duration::from_micros(800),
            failover: Duration::from_millis(700),
            database_bytes: 3000.0,
            memory_bytes: 2000.0,
        }
    }

    #[test]
    fn the_measured_limits_can_be_read() {
        let limits = Limits::read(None);
        assert!(limits.cores > 0 && limits.confirm > Duration::ZERO && limits.failover > Duration::ZERO, "{limits:?}");
    }

    #[test]
    fn a_seed_determines_everything() {
        let with_seed = |seed| {
            let failover_after = Some(Duration::from_secs(10));
            run(&limits(), &Scenario { seed, failover_after, newcomers: 2, hand_offs: 50.0, ..scenario(20, 1000, 5) })
        };
        assert_eq!(with_seed(1), with_seed(1));
        assert_ne!(with_seed(1), with_seed(2));
    }

    #[test]
    fn an_idle_cluster_takes_the_requests_of_each_renewal_and_no_more() {
        let outcome = run(&limits(), &scenario(10, 1000, 10));
        // Each renewal begins a third of `ttl` after the one before was sent: 18 of each process in a minute.
        assert_eq!(outcome.renewals.len(), 180);
        assert_eq!(outcome.requests, 180 * requests_of_renewal(1000) as u64);
        assert_eq!((outcome.failed, outcome.lost), (0, 0));
        assert!(outcome.longest < 4_000_000_000, "{}", outcome.longest);
        // By the costs alone.
        let work = 180.0 * (200e-6 + 8.0 * 500e-6) / (2.0 * 60.0);
        assert!((outcome.busy / work - 1.0).abs() < 0.05, "{} {work}", outcome.busy);
    }

    #[test]
    fn a_failover_costs_renewals_and_a_cluster_that_keeps_up_no_lock() {
        let failover_after = Some(Duration::from_secs(10));
        let outcome = run(&limits(), &Scenario { failover_after, newcomers: 1, ..scenario(50, 1000, 10) });
        assert!(outcome.longest > 3_400_000_000 && outcome.lost == 0, "{outcome:?}");
        assert_eq!(outcome.acquired.len(), 1);
    }

    #[test]
    fn a_cluster_that_is_too_slow_loses_locks() {
        // Twice as much work as three members of two processors can do.
        let outcome = run(&limits(), &scenario(300, 10_000, 3));
        assert!(outcome.lost > 150, "{}", outcome.lost);
    }

    #[test]
    fn the_greatest_number_is_found_by_halves() {
        for most in [0, 1, 2, 511, 999, 1000] {
            assert_eq!(greatest(1000, |number| number <= most), most);
        }
    }

    /// The simulation's requests are those of the real library and a real server.
    #[test]
    fn a_thousand_real_locks_cost_as_many_requests() {
        if !there() {
            return;
        }
        const LOCKS: usize = 1000;
        let ttl = 6;
        let cluster = Cluster::start(1);
        let hold = |at: usize| Lock::open(cluster.target(&format!("many/{at}"), ttl)).unwrap().acquire().unwrap();
        let guards: Vec<Guard> = (0..LOCKS).map(hold).collect();
        let simulated = run(&limits(), &scenario(1, LOCKS, ttl));
        let each = simulated.requests / simulated.renewals.len() as u64;
        assert_eq!(each, requests_of_renewal(LOCKS) as u64);
        let await_renewal = || {
            // The least of all, because each transaction confirms its own keys.
            let left = || guards.iter().map(|guard| guard.lease().unwrap().free_in).min().unwrap();
            let mut last = left();
            until("a renewal", || {
                let now = left();
                std::mem::replace(&mut last, now) < now
            });
        };
        // On a busy machine a renewal may fail and be repeated, so one that does not is waited for.
        let mut seen = Vec::new();
        await_renewal();
        let mut before = cluster.requests(0);
        until("a renewal with as many requests", || {
            await_renewal();
            let now = cluster.requests(0);
            seen.push(now - std::mem::replace(&mut before, now));
            seen.last() == Some(&each)
        });
        // None has fewer, and so they take as many in a second as long as they succeed.
        assert!(seen.iter().all(|count| *count >= each), "{seen:?}, simulated {each}");
    }
}
