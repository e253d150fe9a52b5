//! A PostgreSQL server that is gone for a while, and connections and files that fall silent.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use tenure_tests::servers::clock::{self, Clock};
use tenure_tests::servers::network::Starting;
use tenure_tests::servers::postgres::{Postgres, there};
use tenure_tests::servers::{await_waiters, opened, receive_soon};
use tenure_tests::{Actor, actor_program, until};

#[test]
fn a_waiter_that_has_waited_for_an_hour_survives_a_restart() {
    if !there() || !clock::there() {
        return;
    }
    let mut postgres = Postgres::start();
    let target = postgres.target("a", 600);
    let mut holder = opened(&target);
    holder.must("acquire l g never");
    let clock = Clock::new(libc::CLOCK_MONOTONIC);
    let mut waiter = Actor::from(&mut clock.command(actor_program()));
    waiter.must(&format!("open l {target}"));
    waiter.must("begin l g forever");
    await_waiters(&mut Actor::start(), &target, 1);
    clock.set_offset(3600);
    // The server answers, as it does at each renewal.
    waiter.must_fail("acquire l h never", "busy");

    postgres.stop();
    holder.kill();
    let starting = Starting::at(postgres.address(), 5432);
    until("attempts to connect", || starting.refused() >= 3 || waiter.has_answered());
    waiter.assert_no_event();
    drop(starting);
    postgres.run();
    let granted = receive_soon(&mut waiter, "the waiter");
    assert_eq!(granted["event"], "granted", "{granted}");
}
