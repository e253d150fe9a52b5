//! Faults of a PostgreSQL server, its roles, its names and its proxies, and their effect on a lock.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::process::Command;

use serde_json::Value;
use tenure_tests::servers::names::{self, Names};
use tenure_tests::servers::network::{Cables, Lossy, Narrow};
use tenure_tests::servers::postgres::{Pool, Postgres, there};
use tenure_tests::servers::{
    Silent, assert_a_break_ends_only_what_was_seen, await_waiters, opened, receive_soon, said, soon,
};
use tenure_tests::{Actor, actor_program, folder, has, needs, signal, stop, until};

/// So long that a wait for a fraction of it does not end during a test.
const DAY: &str = "1440m";

/// Returns the target of the lock `a` for a role.
fn target_of(postgres: &Postgres, user: &str, ttl: &str) -> String {
    format!("postgres://{user}@{}/postgres?lock=a&ttl={ttl}", postgres.address())
}

/// Creates a role that may lock, once the tables exist.
fn role(postgres: &Postgres, name: &str) {
    let target = postgres.target("first", 10);
    let mut first = opened(&target);
    first.must("acquire l g never");
    first.must("release g");
    postgres.ask(&format!("CREATE ROLE {name} LOGIN"));
    postgres.ask(&format!("GRANT USAGE ON SCHEMA tenure TO {name}"));
    postgres.ask(&format!("GRANT USAGE ON SEQUENCE tenure.fence TO {name}"));
    postgres.ask(&format!("GRANT SELECT, INSERT, UPDATE ON tenure.locks TO {name}"));
}

/// Returns a holder, and a waiter that is in the queue for as long as `wait` says.
fn holder_and_waiter(target: &str, wait: &str) -> (Actor, Actor) {
    let (mut holder, mut waiter) = (opened(target), opened(target));
    holder.must("acquire l g never");
    waiter.must(&format!("begin l g {wait}"));
    await_waiters(&mut Actor::start(), target, 1);
    (holder, waiter)
}

#[test]
fn a_server_that_takes_no_writes_is_refused_at_once() {
    if !there() {
        return;
    }
    let primary = Postgres::start_with(&["wal_keep_size=64"]);
    role(&primary, "app");
    let standby = primary.standby();
    primary.ask("ALTER ROLE app SET default_transaction_read_only = on");
    let advisory = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    for (server, user, word) in [(&standby, "postgres", "standby"), (&primary, "app", "default_transaction_read_only")]
    {
        let mut actor = opened(&target_of(server, user, DAY));
        for wait in ["never", "2000", "forever"] {
            let refused = soon(&mut actor, &format!("acquire l g {wait}"));
            assert_eq!(refused["kind"], "unreachable", "{wait}: {refused}");
            assert!(said(&refused).contains(word), "{wait}: {refused}");
            // It does not exclude another process.
            assert_eq!(server.ask(advisory), "0");
        }
    }
    // A status needs no writes. But a standby's locks are not the primary's.
    let mut observer = Actor::start();
    observer.must(&format!("inspect {}", target_of(&primary, "app", DAY)));
    observer.must_fail(&format!("inspect {}", target_of(&standby, "postgres", DAY)), "unreachable");
    // Among several servers, the one that takes writes is found.
    let both =
        format!("postgres://postgres@{}:5432,{}:5432/postgres?lock=a&ttl=10s", standby.address(), primary.address());
    let mut actor = opened(&both);
    actor.must("acquire l g never");
    actor.must("release g");
}

#[test]
fn no_row_is_written_at_another_server_than_that_of_the_lock() {
    if !there() {
        return;
    }
    let primary = Postgres::start_with(&["wal_keep_size=64"]);
    role(&primary, "app");
    let standby = primary.standby();
    let target = |name: &str| {
        let (first, second) = (primary.address(), standby.address());
        format!("postgres://app@{first}:5432,{second}:5432/postgres?lock={name}&ttl=60s")
    };
    let mut holder = opened(&target("a"));
    holder.must(&format!("open other {}", target("b")));
    holder.must("acquire l g never");
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(primary.ask(locks), "1");
    // Both accept writes now, and the first has no room for another session to write them.
    standby.promote();
    primary.ask("ALTER ROLE app CONNECTION LIMIT 1");
    let writers = "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE application_name = 'tenure' \
                   AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";
    assert_eq!(primary.ask(writers), "1");
    until("a writer at the other server", || {
        said(&holder.must_fail("acquire other h never", "unreachable")).contains("another server")
    });
    assert_eq!(standby.ask("SELECT count(*) FROM tenure.locks WHERE name = 'b'"), "0");
    // Where there is room again, the row is written beside its lock.
    primary.ask("ALTER ROLE app CONNECTION LIMIT -1");
    holder.must("check g");
    holder.must("acquire other h 60000");
    assert_eq!(primary.ask(locks), "2");
    holder.must("release h");
    holder.must("release g");
}

#[test]
fn a_commit_that_hangs_leaves_few_sessions() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    role(&postgres, "app");
    let mut actor = opened(&target_of(&postgres, "app", "3s"));
    postgres.ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    postgres.ask("SELECT pg_reload_conf()");
    until("no standby", || postgres.ask("SHOW synchronous_standby_names") == "nobody");
    // As long as the leases of eight sessions, of which each would leave a backend that waits for ever.
    for at in 0..8 {
        actor.must(&format!(
            "open l{at} {}",
            target_of(&postgres, "app", "3s").replace("lock=a", &format!("lock={at}"))
        ));
        let refused = actor.ask(&format!("acquire l{at} g{at} 2500"));
        assert_eq!(refused["ok"], false, "{refused}");
    }
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let waiting: u32 = postgres.ask(waits).parse().unwrap();
    assert!(waiting <= 5, "{waiting} sessions wait for a standby");
}

#[test]
fn a_break_that_is_refused_changes_nothing() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    role(&postgres, "app");
    role_beside(&postgres, "ops", "app");
    let mut holder = opened(&target_of(&postgres, "app", "60s"));
    holder.must("acquire l g never");
    let row = "SELECT state, fence, backend FROM tenure.locks WHERE name = 'a'";
    let before = postgres.ask(row);
    assert!(before.starts_with("held|"), "{before}");
    let mut ops = Actor::start();
    let of_ops = target_of(&postgres, "ops", "60s");
    let refused = ops.must_fail(&format!("break {of_ops} force"), "permission-denied");
    assert!(said(&refused).contains("pg_signal_backend") && !said(&refused).contains("CREATE SCHEMA"), "{refused}");
    assert_eq!(postgres.ask(row), before);
    holder.must("check g");
    assert_eq!(ops.must(&format!("inspect {of_ops}"))["found"]["pid"], holder.pid());

    // A break changes nothing either if the session does not end. A stopped process cannot end.
    let backend: u32 = postgres.ask("SELECT backend FROM tenure.locks WHERE name = 'a'").parse().unwrap();
    signal(backend, libc::SIGSTOP);
    let short = target_of(&postgres, "postgres", "3s");
    let refused = soon(&mut ops, &format!("break {short} force"));
    assert_eq!((&refused["ok"], &refused["kind"]), (&false.into(), &"unreachable".into()), "{refused}");
    assert_eq!(postgres.ask(row), before);
    signal(backend, libc::SIGCONT);
    until("the end of the session", || {
        postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"
    });

    // A successful break grants the next waiter at once, without waiting for the lease, and without a crash report.
    let mut holder = opened(&target_of(&postgres, "app", DAY));
    // The last tenure ended in a loss, which the row records: the lease is waited for.
    holder.must_fail("acquire l g never", "busy");
    postgres.ask("UPDATE tenure.locks SET state = 'released'");
    holder.must("acquire l g 60000");
    let mut waiter = opened(&target_of(&postgres, "app", DAY));
    waiter.must("begin l g forever");
    await_waiters(&mut ops, &of_ops, 1);
    assert_eq!(ops.must(&format!("break {} force", target_of(&postgres, "app", DAY)))["broken"], true);
    let after = receive_soon(&mut waiter, "the waiter behind a broken lock");
    assert_eq!((&after["event"], &after["crashed"]), (&"granted".into(), &Value::Null), "{after}");
}

#[test]
fn a_break_that_fails_midway_is_taken_back() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    role(&postgres, "app");
    role_beside(&postgres, "ops", "app");
    postgres.ask("GRANT app TO ops");
    // The holder is asked to give the lock up, and cannot be told so.
    postgres.ask("REVOKE EXECUTE ON FUNCTION pg_notify FROM PUBLIC");
    let mut holder = opened(&target_of(&postgres, "app", "60s"));
    holder.must(&format!("open other {}", target_of(&postgres, "app", "60s").replace("lock=a", "lock=b")));
    holder.must("acquire l g never");
    holder.must("acquire other h never");
    let row = "SELECT state, fence, backend FROM tenure.locks WHERE name = 'a'";
    let before = postgres.ask(row);
    let refused =
        Actor::start().must_fail(&format!("break {} force", target_of(&postgres, "ops", "60s")), "permission-denied");
    assert!(said(&refused).contains("pg_notify"), "{refused}");
    assert_eq!(postgres.ask(row), before);
    holder.must("check g");
    holder.must("release g");
    holder.must("release h");
}

#[test]
fn a_break_of_a_lock_that_is_just_released_ends_no_other() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = target_of(&postgres, "postgres", "60s");
    let mut holder = opened(&target);
    holder.must(&format!("open other {}", target.replace("lock=a", "lock=b")));
    holder.must("acquire l g never");
    // A release of its only lock, stopped before the commit.
    let mut releases = postgres.session();
    assert_eq!(releases.ask("BEGIN; UPDATE tenure.locks SET state = 'released' WHERE name = 'a' RETURNING 1;"), "1");
    let mut operator = Actor::start();
    operator.send(&format!("break {target} force"));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%UPDATE tenure.locks%' \
                 AND application_name = 'tenure' AND wait_event_type = 'Lock'";
    // On a very busy machine it has failed by then.
    until("the break waits for the row", || operator.has_answered() || postgres.ask(waits) == "1");
    holder.must("acquire other h never");
    releases.send("COMMIT;");
    receive_soon(&mut operator, "the break");
    assert_eq!(postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "2");
    holder.must("check h");
    holder.must("release h");
    releases.end();
}

#[test]
fn the_next_holder_waits_for_the_end_of_a_break() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = target_of(&postgres, "postgres", DAY);
    let (_holder, mut waiter) = holder_and_waiter(&target, "forever");
    // A break, stopped between the end of the session and the commit.
    let mut operator = postgres.session();
    operator.send("BEGIN; UPDATE tenure.locks SET state = 'released' WHERE name = 'a';");
    let ended = operator.ask("SELECT pg_terminate_backend(backend, 60000) FROM tenure.locks WHERE name = 'a';");
    assert_eq!(ended, "t");
    let reads = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%FOR SHARE' AND wait_event_type = 'Lock'";
    until("the next holder waits for the row", || postgres.ask(reads) == "1");
    operator.send("COMMIT;");
    // Not after the lease of a day, and without a crash report.
    let after = receive_soon(&mut waiter, "the waiter");
    assert_eq!((&after["event"], &after["crashed"]), (&"granted".into(), &Value::Null), "{after}");
    operator.end();
}

/// Creates another role with the rights of the first, once these exist.
fn role_beside(postgres: &Postgres, name: &str, first: &str) {
    postgres.ask(&format!("CREATE ROLE {name} LOGIN"));
    postgres.ask("CREATE ROLE lockers NOLOGIN");
    postgres.ask(&format!("GRANT lockers TO {name}, {first}"));
    postgres.ask("GRANT USAGE ON SCHEMA tenure TO lockers");
    postgres.ask("GRANT USAGE ON SEQUENCE tenure.fence TO lockers");
    postgres.ask("GRANT SELECT, INSERT, UPDATE ON tenure.locks TO lockers");
}

#[test]
fn functions_of_other_users_are_never_called() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    role(&postgres, "app");
    postgres.ask("CREATE ROLE mallory LOGIN");
    postgres.ask("GRANT CREATE ON SCHEMA public TO mallory");
    postgres.ask("CREATE TABLE public.called (by text)");
    postgres.ask("GRANT INSERT ON public.called TO public");
    // Each trap fits carelessly written arguments better than the server's own function.
    let traps = [
        ("hashtextextended(text, int)", "bigint", "1 + (random() * 1e15)::bigint"),
        ("hashtextextended(unknown, int)", "bigint", "2"),
        ("nextval(text)", "bigint", "1"),
        ("nextval(unknown)", "bigint", "1"),
        ("pg_backend_pid(int)", "int", "1"),
        ("current_setting(unknown)", "text", "'off'::text"),
        ("set_config(unknown, unknown, boolean)", "text", "''::text"),
        ("set_config(text, unknown, boolean)", "text", "''::text"),
        ("pg_terminate_backend(int, int)", "boolean", "true"),
        ("left(text, bigint)", "text", "''::text"),
        ("length(varchar)", "int", "0"),
    ];
    for (name, returns, value) in traps {
        let body = format!("INSERT INTO public.called VALUES (current_user); SELECT {value}");
        let sql = format!(
            "SET ROLE mallory; CREATE FUNCTION public.{name} RETURNS {returns} LANGUAGE sql VOLATILE AS $${body}$$"
        );
        let mut psql = postgres.psql();
        // A version may not allow some kinds of arguments: then there is no trap.
        psql.args(["-c", &sql]).output().unwrap();
    }
    assert!(
        postgres
            .ask("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
            .parse::<u32>()
            .unwrap()
            > 3
    );
    // Also if the role's own path names the schema first.
    postgres.ask("ALTER ROLE app SET search_path = public, pg_catalog");
    let target = target_of(&postgres, "app", "10s");
    let (mut one, mut two) = (opened(&target), opened(&target));
    let first = one.must("acquire l g never");
    two.must_fail("acquire l g never", "busy");
    two.must(&format!("inspect {target}"));
    two.must(&format!("list postgres://app@{}/postgres", postgres.address()));
    one.must("release g");
    let second = two.must("acquire l g never");
    assert!(second["fence"].as_u64() > first["fence"].as_u64(), "{first} {second}");
    assert_eq!(one.must(&format!("break {target} force"))["broken"], true);
    assert_eq!(postgres.ask("SELECT count(*) FROM public.called"), "0");
}

#[test]
fn a_pool_that_lends_a_session_for_each_statement_is_refused() {
    if !there() || !needs("pgbouncer", has("pgbouncer")) {
        return;
    }
    let postgres = Postgres::start();
    let pool = Pool::start(&postgres, "statement");
    let refused = opened(&pool.target("a")).must_fail("acquire l g never", "unsupported");
    assert!(said(&refused).contains("proxy"), "{refused}");
}

#[test]
fn a_pool_that_has_room_for_one_session_is_refused() {
    if !there() || !needs("pgbouncer", has("pgbouncer")) {
        return;
    }
    let postgres = Postgres::start();
    let pool = Pool::start(&postgres, "transaction");
    let narrow = Narrow::before(pool.address(), 6432);
    let target = format!("postgres://postgres@{}:6432/postgres?lock=a&ttl=10s", narrow.address());
    // Which of the two sessions of the comparison is refused is a matter of chance.
    for _ in 0..4 {
        let refused = opened(&target).must_fail("acquire l g never", "unreachable");
        assert!(said(&refused).contains("a proxy is between"), "{refused}");
    }
    assert_eq!(postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "0");
}

#[test]
fn new_locks_do_not_wait_for_a_connection_that_was_cut() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let cables = Cables::to(postgres.address(), 5432);
    let target = |name: &str| format!("postgres://postgres@{}/postgres?lock={name}&ttl={DAY}", cables.address());
    let mut holder = opened(&target("a"));
    for name in ["b", "c"] {
        holder.must(&format!("open {name} {}", target(name)));
    }
    holder.must("acquire l g never");
    cables.cut();
    holder.send("acquire b h 50000");
    let granted = receive_soon(&mut holder, "a new lock");
    assert_eq!(granted["ok"], true, "{granted}");
    holder.must("acquire c i never");
    // What the lost session has stays its own.
    holder.must("check g");
    opened(&target_of(&postgres, "postgres", DAY)).must_fail("acquire l g never", "busy");
    holder.must("release h");
    holder.must("release i");
}

#[test]
fn a_crash_is_reported_after_a_grant_that_was_not_answered() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = target_of(&postgres, "postgres", "10s");
    let mut crashed = opened(&target);
    crashed.must("acquire l g never");
    let pid = crashed.pid();
    crashed.kill();
    until("the end of its session", || {
        postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"
    });
    // The first grant finds the row of the crashed holder. The second replaces it, and its answer is lost.
    let lossy = Lossy::after(1, postgres.address(), 5432, "INSERT INTO tenure.locks");
    let mut next = opened(&target.replace(postgres.address(), lossy.address()));
    until("the lost answer", || {
        let refused = next.ask("acquire l g 1500");
        assert_eq!(refused["ok"], false, "{refused}");
        lossy.has_lost()
    });
    let granted = next.must("acquire l g 50000");
    assert_eq!(granted["crashed"]["pid"], pid, "{granted}");
    next.must("release g");
    assert_eq!(next.must("acquire l g 50000")["crashed"], Value::Null);
}

#[test]
fn a_decreasing_fence_is_refused() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let mut holder = opened(&postgres.target("a", 10));
    let mut last = 0;
    for _ in 0..3 {
        last = holder.must("acquire l g never")["fence"].as_u64().unwrap();
        holder.must("release g");
    }
    // The state after a restore of the table alone, or after logical replication.
    postgres.ask("SELECT setval('tenure.fence', 1)");
    let refused = holder.must_fail("acquire l g never", "io");
    assert!(said(&refused).contains(&last.to_string()), "{refused}");
    // The SQL in the error runs unchanged.
    let error = said(&refused);
    let sql = &error[error.find("SELECT").unwrap()..error.rfind(", and more").unwrap()];
    postgres.ask(sql);
    let after = holder.must("acquire l g never");
    assert!(after["fence"].as_u64() > Some(last), "{after}");
}

#[test]
fn a_release_reports_that_the_lock_had_another_holder() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 20);
    let mut holder = opened(&target);
    holder.must("acquire l g never");
    // The row as another holder's grant writes it.
    let overwrite = || postgres.ask("UPDATE tenure.locks SET fence = fence + 1");
    overwrite();
    holder.must("check g");
    let lost = holder.must_fail("release g", "lost");
    assert!(said(&lost).contains("changed at the server"), "{lost}");
    postgres.ask("UPDATE tenure.locks SET state = 'released'");
    let mut waiter = holder_that_has_waited(&target);
    overwrite();
    let lost = waiter.must_fail("release g", "lost");
    assert!(said(&lost).contains("changed at the server"), "{lost}");
}

/// Returns a holder to which another has handed the lock over.
fn holder_that_has_waited(target: &str) -> Actor {
    let (mut first, mut waiter) = (opened(target), opened(target));
    first.must("acquire l g 20000");
    waiter.must("begin l g 20000");
    await_waiters(&mut Actor::start(), target, 1);
    first.must("release g");
    let granted = receive_soon(&mut waiter, "the waiter");
    assert_eq!(granted["event"], "granted", "{granted}");
    waiter
}

#[test]
fn a_row_that_is_locked_delays_the_release_of_a_holder_that_has_waited() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 30);
    let mut holder = holder_that_has_waited(&target);
    let mut session = postgres.session();
    assert_eq!(session.ask("BEGIN; SELECT state FROM tenure.locks FOR UPDATE;"), "held");
    holder.send("release g");
    // The session that has the lock does not wait for the row: it hands the write over to another, which does.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE tenure.locks SET state = $3%RETURNING 1'";
    until("a release that waits for the row", || postgres.ask(waits) == "1");
    assert_eq!(postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"), "1");
    session.send("COMMIT;");
    let released = receive_soon(&mut holder, "the release");
    assert_eq!(released["ok"], true, "{released}");
    assert_eq!(postgres.ask("SELECT state FROM tenure.locks"), "released");
    let next = opened(&target).must("acquire l g 20000");
    assert_eq!(next["crashed"], Value::Null, "{next}");
    session.end();
}

#[test]
fn a_release_that_a_silent_server_has_not_answered_frees_the_lock_later() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = target_of(&postgres, "postgres", DAY);
    let mut holder = holder_that_has_waited(&target);
    postgres.freeze();
    let refused = soon(&mut holder, "release g");
    assert_eq!(refused["kind"], "unreachable", "{refused}");
    assert!(said(&refused).contains("as soon as the server answers"), "{refused}");
    postgres.thaw();
    let next = opened(&target).must("acquire l g 60000");
    assert_eq!(next["crashed"], Value::Null, "{next}");
}

#[test]
fn the_lease_of_a_holder_that_dies_after_its_session_is_not_waited_out() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = target_of(&postgres, "postgres", DAY);
    let (holder, mut waiter) = holder_and_waiter(&target, "forever");
    // As where the kernel closes the connection of a process that still ends.
    stop(holder.pid());
    postgres.ask("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted");
    let read = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%FOR SHARE NOWAIT' AND state = 'idle'";
    until("a waiter that has read the row of a live holder", || postgres.ask(read) == "1");
    waiter.assert_no_event();
    let pid = holder.pid();
    holder.kill();
    let granted = receive_soon(&mut waiter, "the waiter");
    assert_eq!((&granted["event"], &granted["crashed"]["pid"]), (&"granted".into(), &pid.into()), "{granted}");
}

#[test]
fn a_silent_server_blocks_no_operation() {
    if !there() {
        return;
    }
    // Silent from the start.
    let silent = Silent::at(5432);
    let target = format!("postgres://postgres@{}/postgres?lock=a&ttl={DAY}", silent.address());
    let mut actor = opened(&target);
    for line in ["acquire l g never", "acquire l g 1000", &format!("inspect {target}"), &format!("list {target}")] {
        let refused = soon(&mut actor, line);
        assert_eq!(refused["kind"], "unreachable", "{line}: {refused}");
        assert!(said(&refused).contains("; is it running, and can it be reached from here?"), "{line}: {refused}");
    }
    // During a wait, and during a hold.
    let postgres = Postgres::start();
    let target = target_of(&postgres, "postgres", DAY);
    let (mut holder, mut waiter) = holder_and_waiter(&target, "20000");
    postgres.freeze();
    let refused = receive_soon(&mut waiter, "the waiter");
    assert_eq!(refused["event"], "refused", "{refused}");
    let refused = soon(&mut holder, "release g");
    assert_eq!(refused["kind"], "unreachable", "{refused}");
    postgres.thaw();
    opened(&target).must("acquire l g 60000");
}

#[test]
fn a_silent_name_service_blocks_no_operation() {
    if !there() || !names::there() {
        return;
    }
    let names = Names::new(&[], true);
    let mut actor = Actor::from(&mut names.command(actor_program()));
    actor.must(&format!("open l postgres://postgres@db.example/postgres?lock=a&ttl={DAY}"));
    for wait in ["never", "1000"] {
        let refused = soon(&mut actor, &format!("acquire l g {wait}"));
        assert_eq!(refused["kind"], "unreachable", "{wait}: {refused}");
        assert!(said(&refused).contains("not resolved"), "{wait}: {refused}");
    }
}

#[test]
fn every_address_of_a_name_is_tried() {
    if !there() || !names::there() {
        return;
    }
    let (silent, postgres) = (Silent::at(5432), Postgres::start());
    let lines = [silent.address(), postgres.address()].map(|address| format!("{address} db.example"));
    let names = Names::new(&lines, false);
    let mut actor = Actor::from(&mut names.command(actor_program()));
    actor.must("open l postgres://postgres@db.example/postgres?lock=a&ttl=10s");
    actor.must("acquire l g never");
    actor.must("release g");
}

#[test]
fn a_process_does_not_take_over_its_own_lock() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 18);
    let mut holder = opened(&target);
    holder.must("acquire l g never");
    holder.must("release g");
    let mut session = postgres.session();
    assert_eq!(session.ask("BEGIN; LOCK TABLE tenure.locks IN SHARE MODE; SELECT 1;"), "1");
    holder.must("begin l g forever");
    let granting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO tenure.locks%' AND wait_event_type = 'Lock'";
    until("the grant waits for the table", || postgres.ask(granting) == "1");
    // Longer than one call may take, and shorter than the lease.
    assert_eq!(session.ask("SELECT 2 FROM pg_sleep(6);"), "2");
    session.send("COMMIT;");
    let granted = receive_soon(&mut holder, "the grant");
    assert_eq!((&granted["event"], &granted["crashed"]), (&"granted".into(), &Value::Null), "{granted}");
    holder.must("release g");
    session.end();
}

#[test]
fn a_roles_own_settings_do_not_end_a_lock() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    role(&postgres, "app");
    let version: u32 = postgres.ask("SHOW server_version_num").parse().unwrap();
    let mut settings = vec![
        "statement_timeout = '200ms'",
        "lock_timeout = '200ms'",
        "idle_in_transaction_session_timeout = '200ms'",
        "idle_session_timeout = '200ms'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "search_path = ''",
        "synchronous_commit = off",
    ];
    if version >= 170_000 {
        settings.push("transaction_timeout = '200ms'");
    }
    for setting in settings {
        postgres.ask(&format!("ALTER ROLE app SET {setting}"));
    }
    let target = target_of(&postgres, "app", "20s");
    let (mut holder, mut waiter) = holder_and_waiter(&target, "forever");
    // Longer than any of the timeouts.
    postgres.ask("SELECT pg_sleep(1)");
    holder.must("check g");
    holder.must("release g");
    let granted = receive_soon(&mut waiter, "the grant");
    assert_eq!(granted["event"], "granted", "{granted}");
    waiter.must("release g");
}

#[test]
fn libpqs_variables_are_honoured_or_refused() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = target_of(&postgres, "postgres", "10s");
    let with = |values: &[(&str, &str)]| {
        let mut command = Command::new(actor_program());
        for name in ["PGSSLMODE", "PGSERVICE", "PGPASSWORD", "PGPASSFILE"] {
            command.env_remove(name);
        }
        Actor::from(command.envs(values.iter().copied()))
    };
    for mode in ["require", "verify-ca", "verify-full", "nonsense"] {
        let refused = with(&[("PGSSLMODE", mode)]).must_fail(&format!("open l {target}"), "invalid-target");
        assert!(said(&refused).contains("PGSSLMODE"), "{refused}");
        let refused = with(&[]).must_fail(&format!("open l {target}&sslmode={mode}"), "invalid-target");
        assert!(said(&refused).contains("sslmode"), "{refused}");
    }
    let refused = with(&[("PGSERVICE", "prod")]).must_fail(&format!("open l {target}"), "invalid-target");
    assert!(said(&refused).contains("PGSERVICE"), "{refused}");
    for mode in ["disable", "allow", "prefer"] {
        let mut actor = with(&[("PGSSLMODE", mode)]);
        actor.must(&format!("open l {target}&sslmode={mode}"));
        actor.must("acquire l g never");
        actor.must("release g");
    }

    // An empty password is none, and the file has one.
    role(&postgres, "app");
    postgres.ask("ALTER ROLE app PASSWORD 'hunter2'");
    postgres.require_password("app");
    let dir = folder();
    let file = dir.path().join("pgpass");
    std::fs::write(&file, "*:*:*:app:hunter2\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut app = with(&[("PGPASSWORD", ""), ("PGPASSFILE", file.to_str().unwrap())]);
    app.must(&format!("open l {}", target_of(&postgres, "app", "10s")));
    app.must("acquire l g 60000");
    app.must("release g");
}

#[test]
fn an_error_names_the_missing_part_of_tls() {
    if !there() || !needs("openssl", has("openssl")) {
        return;
    }
    // Creates a certificate as PostgreSQL's manual does.
    let manual = |postgres: &Postgres| {
        let (key, certificate) = (postgres.path("server.key"), postgres.path("manual.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-new", "-x509", "-key"]).arg(key).arg("-out").arg(&certificate);
        tenure_tests::servers::output(openssl.args(["-subj", "/CN=db", "-days", "2"]));
        certificate
    };
    let mut postgres = Postgres::start_with_tls();
    let certificate = manual(&postgres);
    postgres.change(&format!("ssl_cert_file={}", certificate.display()));
    let file = |name: &str| postgres.path(name).display().to_string();
    let more = format!("&ca={}&cert={}&key={}", file("manual.pem"), file("client.pem"), file("client.key"));
    let refused = opened(&format!("{}{more}", postgres.target("a", 10))).must_fail("acquire l g never", "unreachable");
    assert!(said(&refused).contains("subjectAltName"), "{refused}");
    // A server that requires TLS.
    let refused = opened(&postgres.target("a", 10)).must_fail("acquire l g never", "permission-denied");
    assert!(said(&refused).contains("ca=FILE"), "{refused}");
}

#[test]
fn a_break_ends_only_the_tenure_that_was_seen() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    assert_a_break_ends_only_what_was_seen(&postgres.target("a", 20), &postgres.target("a", 20));
}
