//! One name on several clusters: all programs acquire in one order, however their targets name the servers.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tenure::{Lock, Wait, acquire_all};
use tenure_tests::servers::etcd::{self, Cluster};
use tenure_tests::servers::postgres::{self, Postgres};
use tenure_tests::servers::{Silent, output};

/// Returns another spelling of an address, which is before all others in an order of names.
fn other_spelling(address: &str) -> String {
    let number: u32 = address.parse::<Ipv4Addr>().unwrap().into();
    format!("0x{number:x}")
}

/// Returns whether the first of two locks is acquired first.
fn is_first(one: &str, two: &str) -> bool {
    let [one, two] = [one, two].map(|target| Lock::open(target).unwrap());
    let forth = tenure::command::order_of(&[&one, &two], Wait::Forever).unwrap();
    let back = tenure::command::order_of(&[&two, &one], Wait::Forever).unwrap();
    assert_eq!((forth.len(), back.len()), (2, 2));
    assert_ne!(forth, back, "the order of the arguments does not matter");
    forth[0] == 0
}

fn is_one_order(target: impl Fn(&str) -> String, addresses: [&str; 2]) {
    let [one, two] = addresses;
    let usual = is_first(&target(one), &target(two));
    assert_eq!(is_first(&target(&other_spelling(one)), &target(two)), usual);
    assert_eq!(is_first(&target(one), &target(&other_spelling(two))), usual);
    let locks = [target(&other_spelling(one)), target(two)].map(|target| Lock::open(target).unwrap());
    let guards = acquire_all(&locks, Wait::Forever).unwrap();
    assert!(locks.iter().all(|lock| lock.acquire_with(Wait::Never).unwrap_err().is_busy()));
    guards.into_iter().for_each(|guard| guard.release().unwrap());
}

#[test]
fn one_name_on_two_etcd_clusters_has_one_order() {
    if !etcd::there() {
        return;
    }
    let clusters = [Cluster::start(1), Cluster::start(1)];
    let target = |address: &str| format!("etcd://{address}:2379/a?ttl=60s");
    is_one_order(target, [clusters[0].address(0), clusters[1].address(0)]);
    // A cluster that has to be asked and does not answer.
    let silent = Silent::at(2379);
    let locks = [silent.address(), clusters[0].address(0)].map(|address| Lock::open(target(address)).unwrap());
    assert!(acquire_all(&locks, Wait::Never).unwrap_err().is_unreachable());
}

#[test]
fn a_deadline_ends_the_question_for_the_order() {
    let silent = [Silent::at(2379), Silent::at(2379)];
    let locks = silent.each_ref().map(|at| Lock::open(format!("etcd://{}:2379/a?ttl=60s", at.address())).unwrap());
    let (tell, ended) = mpsc::channel();
    thread::scope(|scope| {
        // The first of the silent servers has five seconds, or one.
        for (name, wait) in [("late", Wait::For(Duration::from_secs(60))), ("early", Wait::For(Duration::ZERO))] {
            let (tell, locks) = (tell.clone(), &locks);
            scope.spawn(move || {
                assert!(tenure::command::order_of(&locks.each_ref(), wait).unwrap_err().is_unreachable());
                tell.send(name).unwrap();
            });
        }
    });
    assert_eq!(ended.try_iter().collect::<Vec<_>>(), ["early", "late"]);
}

#[test]
fn one_name_on_two_postgres_servers_has_one_order() {
    if !postgres::there() {
        return;
    }
    let servers = [Postgres::start(), Postgres::start()];
    for server in &servers {
        // Not a superuser.
        for sql in ["CREATE ROLE app LOGIN", "GRANT CREATE ON DATABASE postgres TO app"] {
            output(server.psql().args(["-c", sql]));
        }
        server.allow("127.0.0.0/8");
    }
    let target = |address: &str| format!("postgres://app@{address}/postgres?lock=a&ttl=60s");
    is_one_order(target, [servers[0].address(), servers[1].address()]);
}
