//! A PostgreSQL server that is gone for a while, and connections and files that fall silent.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use tenure_tests::servers::clock::{self, Clock};
use tenure_tests::servers::network::{Cables, Far, Lossy, Starting};
use tenure_tests::servers::postgres::{Postgres, there};
use tenure_tests::servers::{await_renewal, await_waiters, opened, output, receive_soon, said, soon};
use tenure_tests::{Actor, actor_program, folder, until};

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
    // No renewal of another session shows that the server is there.
    let others = "SELECT count(pg_terminate_backend(pid, 60000)) > 0 FROM pg_stat_activity \
                  WHERE application_name = 'tenure' AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";
    assert_eq!(postgres.ask(others), "t");
    clock.set_offset(3600);

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

#[test]
fn a_password_file_that_hangs_blocks_no_operation() {
    if !there() {
        return;
    }
    let (postgres, folder) = (Postgres::start(), folder());
    let file = folder.path().join("pgpass");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut actor = Actor::from(Command::new(actor_program()).env_remove("PGPASSWORD").env("PGPASSFILE", &file));
    actor.must(&format!("open held {}", postgres.target("held", 15)));
    actor.must("acquire held g never");

    // As on a file system that hangs: no program ever writes to it.
    std::fs::remove_file(&file).unwrap();
    output(Command::new("mkfifo").args(["-m", "600"]).arg(&file));
    // Other sessions than those of the held lock: each reads the password.
    let target = postgres.target("a", 16);
    actor.must(&format!("open l {target}"));
    for line in ["acquire l h never", "acquire l h 2000", &format!("inspect {target}"), &format!("list {target}")] {
        let refused = soon(&mut actor, line);
        assert_eq!(refused["kind"], "unreachable", "{line}: {refused}");
        assert!(said(&refused).contains("no password was read"), "{line}: {refused}");
    }
    await_renewal(&mut actor);
    actor.must("check g");
}

#[test]
fn a_connection_that_is_dropped_silently_delays_no_waiter_without_a_session() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let cables = Cables::to(postgres.address(), 5432);
    // So long that no wait for a fraction of it ends during a test.
    let target =
        |name: &str, address: &str| format!("postgres://postgres@{address}/postgres?lock={name}&ttl=1440m&sessions=1");
    let mut holder = Actor::start();
    for name in ["a", "b"] {
        holder.must(&format!("open {name} {}", target(name, postgres.address())));
        holder.must(&format!("acquire {name} {name} never"));
    }
    // The first waiter has the only session, and the process tries for the other again and again.
    let mut waiter = Actor::start();
    for name in ["a", "b"] {
        waiter.must(&format!("open {name} {}", target(name, cables.address())));
    }
    waiter.must("begin a a forever");
    await_waiters(&mut Actor::start(), &target("a", postgres.address()), 1);
    waiter.must("begin b b forever");
    let tried = "SELECT max(query_start) FROM pg_stat_activity WHERE query LIKE '%pg_try_advisory_lock%' \
                 AND application_name = 'tenure' AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";
    let mut seen = HashSet::new();
    until("some attempts", || {
        seen.insert(postgres.ask(tried));
        seen.len() > 3
    });
    cables.cut();
    holder.must("release b");
    let granted = receive_soon(&mut waiter, "the waiter without a session");
    assert_eq!((&granted["event"], &granted["guard"]), (&"granted".into(), &"b".into()), "{granted}");
    waiter.must("check b");
}

#[test]
fn a_shared_release_that_is_written_twice_reports_no_loss() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 600);
    let readers = "SELECT readers FROM tenure.locks";
    let ends = "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE query LIKE 'WITH asked%' \
                AND application_name = 'tenure'";
    // On a very busy machine the release is not answered in time.
    until("a release in time", || {
        let lossy = Lossy::before(postgres.address(), 5432, "WITH asked");
        let mut reader = opened(&target.replace(postgres.address(), lossy.address()));
        reader.must("share l g never");
        reader.send("release g");
        until("the removal of the word", || lossy.has_lost() && postgres.ask(readers) == "{}");
        // The writer's session ends, and the writing is repeated in another.
        postgres.ask(ends);
        let released = receive_soon(&mut reader, "the release");
        assert_ne!(released["kind"], "lost", "{released}");
        released["ok"] == true
    });
    until("no lock", || postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0");
}

#[test]
fn the_statements_of_a_status_have_one_limit_together() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a/b", 3);
    opened(&target).must("acquire l g never");
    // Each round trip takes a third of the limit, which is a second. A session needs two, and each statement another.
    let far = Far::from(postgres.address(), 5432, Duration::from_millis(170));
    let target = target.replace(postgres.address(), far.address());
    let mut observer = Actor::start();
    for line in [format!("inspect {target}"), format!("list {}", target.replace("a/b", "a"))] {
        let refused = soon(&mut observer, &line);
        assert_eq!(refused["kind"], "unreachable", "{line}: {refused}");
    }
}
