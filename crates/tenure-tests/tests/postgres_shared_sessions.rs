//! Many locks of one process on PostgreSQL, which share a few sessions.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tenure_tests::servers::postgres::{Postgres, there};
use tenure_tests::servers::{await_renewal, await_waiters, opened, receive_soon, said, soon, stop_io_thread};
use tenure_tests::{Actor, signal, until};

const MANY: usize = 1000;

/// Starts an actor that holds `many/0`, `many/1`, .. as `g0`, `g1`, .., and `one` as `g`.
fn holder_of_many(postgres: &Postgres, count: usize, ttl: u64) -> Actor {
    let mut holder = Actor::start();
    for at in 0..count {
        holder.must(&format!("open l{at} {}", postgres.target(&format!("many/{at}"), ttl)));
        holder.must(&format!("acquire l{at} g{at} never"));
    }
    holder.must(&format!("open l {}", postgres.target("one", ttl)));
    holder.must("acquire l g never");
    holder
}

/// Returns the number of sessions of all processes with locks.
fn sessions(postgres: &Postgres) -> usize {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenure'";
    postgres.ask(count).parse().unwrap()
}

/// Returns the session that has the lock of a name.
fn backend(postgres: &Postgres, name: &str) -> String {
    postgres.ask(&format!("SELECT backend FROM tenure.locks WHERE name = '{name}' AND state = 'held'"))
}

#[test]
fn a_thousand_locks_share_a_session() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let mut holder = holder_of_many(&postgres, MANY, 20);
    let holders = "SELECT count(DISTINCT pid), count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(postgres.ask(holders), format!("1|{}", MANY + 1));
    // One has the locks, and another writes the rows.
    until("two sessions", || sessions(&postgres) == 2);
    until("no thread for each", || holder.must("threads")["threads"].as_u64().unwrap() <= 4);
    let mut other = opened(&postgres.target("many/500", 20));
    let busy = other.must_fail("acquire l g never", "busy");
    assert_eq!(busy["holder"], holder.pid(), "{busy}");
    assert_eq!(postgres.ask("SELECT pg_try_advisory_lock(hashtextextended('many/500', 0))"), "f");

    // A release unlocks one.
    holder.must("release g500");
    other.must("acquire l g never");
    await_renewal(&mut holder);
    assert!((0..MANY).filter(|at| *at != 500).all(|at| holder.must(&format!("check g{at}"))["ok"] == true));
    other.must("release g");

    // A forked child holds none of them, and takes none away. It has sessions of its own for what it tries.
    let forked = holder.ask("fork");
    for at in [0, 499, 999] {
        let (checked, tried) = (&forked["checks"][format!("g{at}")], &forked["tried"][format!("l{at}")]);
        assert_eq!((&checked["kind"], &tried["kind"]), (&"lost".into(), &"busy".into()));
    }
    assert_eq!(holder.receive()["status"], 0);
    await_renewal(&mut holder);
    holder.must("release g");
    for at in (0..MANY).filter(|at| *at != 500) {
        holder.must(&format!("release g{at}"));
    }
    assert_eq!(postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "0");
    until("the sessions' end", || sessions(&postgres) == 0);
}

#[test]
fn a_terminated_session_loses_its_locks_and_no_other() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    for ends_waiter in [false, true] {
        let psql = postgres.lock("waited");
        let mut holder = holder_of_many(&postgres, 100, 15);
        // This one is waited for, in a session of its own.
        holder.must(&format!("open waited {}", postgres.target("waited", 15)));
        holder.must("begin waited waited forever");
        await_waiters(&mut Actor::start(), &postgres.target("waited", 15), 1);
        psql.end();
        assert_eq!(receive_soon(&mut holder, "the waiter")["event"], "granted");
        let (shared, own) = (backend(&postgres, "many/0"), backend(&postgres, "waited"));
        assert_eq!(backend(&postgres, "many/99"), shared);
        assert_ne!(own, shared);
        let many: Vec<String> = (0..100).map(|at| format!("g{at}")).chain(["g".to_owned()]).collect();
        let waited = vec!["waited".to_owned()];
        let (ended, lost, kept) = if ends_waiter { (own, waited, many) } else { (shared, many, waited) };
        assert_eq!(postgres.ask(&format!("SELECT pg_terminate_backend({ended}, 60000)")), "t");
        for guard in &lost {
            until("the loss", || holder.ask(&format!("check {guard}"))["kind"] == "lost");
        }
        let error = holder.must_fail(&format!("check {}", lost[0]), "lost");
        assert!(said(&error).contains("administrator command"), "{error}");
        // Longer than the leases of those that were lost.
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_secs(16) {
            kept.iter().for_each(|guard| drop(holder.must(&format!("check {guard}"))));
            postgres.ask("SELECT pg_sleep(0.5)");
        }
        // The process acquires in another session what it has lost.
        let lock = if ends_waiter { "waited" } else { "l5" };
        holder.must(&format!("acquire {lock} again 60000"));
        holder.must("release again");
        kept.iter().for_each(|guard| drop(holder.must(&format!("release {guard}"))));
        lost.iter().for_each(|guard| drop(holder.must_fail(&format!("release {guard}"), "lost")));
    }
}

#[test]
fn waiters_share_a_bounded_number_of_sessions() {
    if !there() {
        return;
    }
    const WAITERS: usize = 40;
    let postgres = Postgres::start();
    let mut psql = postgres.session();
    let lock = "SELECT count(pg_advisory_lock(hashtextextended('many/' || n, 0))) FROM generate_series(0, 39) n;";
    assert_eq!(psql.ask(lock), "40");
    let queued = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    let mut process = Actor::start();
    for at in 0..WAITERS {
        process.must(&format!("open l{at} {}&sessions=3", postgres.target(&format!("many/{at}"), 20)));
        process.must(&format!("begin l{at} g{at} forever"));
        if at == 2 {
            until("three that wait", || postgres.ask(queued) == "3");
        }
    }
    // The others are tried, in the session that takes what is free.
    let tries = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_try_advisory_lock%unnest%'";
    until("a try", || postgres.ask(tries) != "0");
    // One more takes what is free, and two write rows.
    assert!(sessions(&postgres) <= 3 + 3, "{}", sessions(&postgres));
    // A name that is free now is granted, though no session is left to wait in.
    assert_eq!(psql.ask("SELECT pg_advisory_unlock(hashtextextended('many/39', 0));"), "t");
    assert_eq!(receive_soon(&mut process, "a waiter without a session")["guard"], "g39");
    process.must("check g39");
    assert_eq!(postgres.ask(queued), "3");
    psql.end();
    let granted: BTreeSet<String> =
        (1..WAITERS).map(|_| receive_soon(&mut process, "a waiter")["guard"].as_str().unwrap().to_owned()).collect();
    assert_eq!(granted.len(), WAITERS - 1, "{granted:?}");
    // One more takes what is free, and two write rows.
    assert!(sessions(&postgres) <= 3 + 3, "{}", sessions(&postgres));
    for at in 0..WAITERS {
        process.must(&format!("check g{at}"));
        process.must(&format!("release g{at}"));
    }
    until("the sessions' end", || sessions(&postgres) == 0);
}

#[test]
fn acquires_of_one_process_exclude_each_other() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 20);
    let mut process = opened(&target);
    process.must("acquire l g0 never");
    process.must_fail("acquire l g never", "busy");
    for at in 1..20 {
        process.must(&format!("begin l g{at} forever"));
    }
    // Another program's place is before those that come later.
    until("their places", || postgres.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == "4");
    let mut psql = postgres.session();
    psql.send("SELECT 'had' FROM pg_advisory_lock(hashtextextended('a', 0));");
    until("its place", || postgres.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == "5");
    let mut last = "g0".to_owned();
    for at in 1..20 {
        process.must(&format!("check {last}"));
        process.send(&format!("release {last}"));
        if at == 5 {
            assert_eq!(psql.receive(), "had");
            assert_eq!(psql.ask("SELECT pg_advisory_unlock(hashtextextended('a', 0));"), "t");
        }
        // The release's answer may come after the grant.
        let mut said = [receive_soon(&mut process, "the release"), receive_soon(&mut process, "the next")];
        said.sort_by_key(|said| said["event"].is_null());
        let [granted, released] = said;
        assert_eq!((&granted["event"], &released["ok"]), (&"granted".into(), &true.into()), "{granted} {released}");
        last = granted["guard"].as_str().unwrap().to_owned();
        assert_eq!(postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"), "1");
    }
    process.must(&format!("release {last}"));
    assert_eq!(postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "0");
}

#[test]
fn two_names_with_one_number_exclude_each_other_in_one_process() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let (one, two) = ("iKZWeqhFWCEPSFByVCByUqAt", "IFeHYpmkdsTQwa~!LcwS+M|S");
    let number = |name: &str| postgres.ask(&format!("SELECT hashtextextended('{name}', 0)"));
    assert_eq!(number(one), number(two));
    let mut process = Actor::start();
    process.must(&format!("open one {}", postgres.target(one, 20)));
    process.must(&format!("open two {}", postgres.target(two, 20)));
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    process.must("acquire one g never");
    process.must_fail("acquire two h never", "busy");
    process.must("begin two h forever");
    await_waiters(&mut Actor::start(), &postgres.target(two, 10), 1);
    process.must("check g");
    process.must("release g");
    assert_eq!(receive_soon(&mut process, "the other name")["guard"], "h");
    process.must_fail("acquire one g never", "busy");
    process.must("release h");
    assert_eq!(postgres.ask(held), "0");
}

#[test]
fn a_break_ends_one_lock_of_many() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let mut holder = holder_of_many(&postgres, 3, 20);
    let target = postgres.target("many/1", 20);
    let (mut operator, mut other) = (Actor::start(), opened(&target));
    other.must("begin l g forever");
    await_waiters(&mut operator, &target, 1);
    let broken = soon(&mut operator, &format!("break {target} force"));
    assert_eq!(broken["broken"], true, "{broken}");
    // At once, and without a crash report.
    let after = receive_soon(&mut other, "the waiter behind a broken lock");
    assert_eq!((&after["event"], &after["crashed"]), (&"granted".into(), &Value::Null), "{after}");
    let lost = holder.must_fail("check g1", "lost");
    assert!(said(&lost).contains("broken"), "{lost}");
    await_renewal(&mut holder);
    holder.must("check g0");
    holder.must("check g2");
    holder.must_fail("release g1", "lost");
    other.must("check g");

    // A process that is stopped gives nothing up, and nothing is taken away from it.
    let row = "SELECT state, fence, backend FROM tenure.locks WHERE name = 'many/2'";
    let before = postgres.ask(row);
    signal(holder.pid(), libc::SIGSTOP);
    let refused = soon(&mut operator, &format!("break {} force", postgres.target("many/2", 6)));
    assert_eq!((&refused["ok"], &refused["kind"]), (&false.into(), &"unreachable".into()), "{refused}");
    assert!(said(&refused).contains("pg_terminate_backend"), "{refused}");
    assert_eq!(postgres.ask(row), before);
    signal(holder.pid(), libc::SIGCONT);
}

#[test]
fn a_break_of_a_lock_that_is_just_granted_ends_no_other() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let (target, brief) = (postgres.target("a", 30), postgres.target("a", 3));
    let (mut operator, mut before) = (Actor::start(), opened(&target));
    before.must("acquire l g never");
    before.must("release g");
    let mut holder = holder_of_many(&postgres, 1, 30);
    holder.must(&format!("open a {target}"));
    // Another program has locked the row: the session has the advisory lock, and the row is not its own yet.
    let mut psql = postgres.session();
    assert_eq!(psql.ask("BEGIN; SELECT 'had' FROM tenure.locks WHERE name = 'a' FOR UPDATE;"), "had");
    holder.must("begin a ga forever");
    until("the advisory lock", || {
        postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted") == "3"
    });
    operator.must_fail(&format!("break {brief} force"), "unreachable");
    holder.must("check g");
    psql.end();
    assert_eq!(receive_soon(&mut holder, "the grant")["event"], "granted");
    assert_eq!(operator.must(&format!("break {target} force"))["broken"], true);
    holder.must_fail("check ga", "lost");
    holder.must("check g");
}

#[test]
fn a_break_of_one_lock_of_many_needs_the_right_to_end_its_session() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let mut holder = holder_of_many(&postgres, 2, 20);
    postgres.ask("CREATE ROLE ops LOGIN");
    postgres.ask("GRANT USAGE ON SCHEMA tenure TO ops");
    postgres.ask("GRANT SELECT, INSERT, UPDATE ON tenure.locks TO ops");
    let target = format!("postgres://ops@{}/postgres?lock=many/1", postgres.address());
    let row = "SELECT state, fence, backend FROM tenure.locks WHERE name = 'many/1'";
    let before = postgres.ask(row);
    let refused = Actor::start().must_fail(&format!("break {target} force"), "permission-denied");
    assert!(said(&refused).contains("pg_signal_backend"), "{refused}");
    assert_eq!(postgres.ask(row), before);
    // A notification alone, which every role may send, ends nothing.
    let fence = postgres.ask("SELECT fence FROM tenure.locks WHERE name = 'many/1'");
    postgres.ask(&format!("SET ROLE ops; SELECT pg_notify('tenure', '{fence}')"));
    await_renewal(&mut holder);
    await_renewal(&mut holder);
    holder.must("check g1");
    holder.must("release g1");
}

#[test]
fn rows_that_are_locked_delay_no_other_lock() {
    if !there() {
        return;
    }
    const BLOCKED: usize = 80;
    let postgres = Postgres::start();
    let mut holder = holder_of_many(&postgres, BLOCKED + 2, 30);
    let mut session = postgres.session();
    let rows = format!(
        "BEGIN; SELECT count(*) FROM (SELECT FROM tenure.locks WHERE name NOT IN ('many/{BLOCKED}', 'many/{}', 'one') FOR UPDATE) r;",
        BLOCKED + 1
    );
    (0..BLOCKED).for_each(|at| drop(holder.must(&format!("release g{at}"))));
    assert_eq!(session.ask(&rows), BLOCKED.to_string());
    (0..BLOCKED).for_each(|at| drop(holder.must(&format!("begin l{at} g{at} forever"))));
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenure' AND wait_event_type = 'Lock'";
    until("a blocked grant", || postgres.ask(blocked) != "0");
    // A release fails if its row is not written within five seconds, the limit of a call. Each blocked grant lasts as long.
    let (kept, again) = (BLOCKED, BLOCKED + 1);
    for _ in 0..5 {
        holder.must(&format!("release g{again}"));
        holder.must(&format!("acquire l{again} g{again} 60000"));
    }
    await_renewal(&mut holder);
    holder.must(&format!("check g{kept}"));
    holder.must(&format!("check g{again}"));
    session.send("COMMIT;");
    for _ in 0..BLOCKED {
        let granted = receive_soon(&mut holder, "the grant");
        assert_eq!((&granted["event"], &granted["crashed"]), (&"granted".into(), &Value::Null), "{granted}");
    }
    (0..BLOCKED + 2).for_each(|at| drop(holder.must(&format!("release g{at}"))));
    session.end();
}

#[test]
fn many_releases_at_once_are_few_commits() {
    if !there() {
        return;
    }
    const LOCKS: usize = 1000;
    let postgres = Postgres::start();
    let guards: Vec<tenure::Guard> = (0..LOCKS)
        .map(|at| tenure::Lock::open(postgres.target(&format!("many/{at}"), 30)).unwrap().acquire().unwrap())
        .collect();
    let commits = "SELECT count(DISTINCT xmin::text) FROM tenure.locks";
    assert_eq!(postgres.ask(commits), LOCKS.to_string());
    // The first release is under way while the others begin.
    let writers = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tenure' \
                   AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";
    until("the end of the session that created the table", || postgres.ask(writers).lines().count() == 1);
    let writer: u32 = postgres.ask(writers).parse().unwrap();
    signal(writer, libc::SIGSTOP);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let releases: Vec<_> = guards.into_iter().map(tenure::Guard::release_async).collect();
    signal(writer, libc::SIGCONT);
    for release in releases {
        runtime.block_on(release).unwrap();
    }
    let commits: usize = postgres.ask(commits).parse().unwrap();
    assert!(commits < LOCKS / 10, "{commits} commits");
    assert_eq!(postgres.ask("SELECT count(*) FROM tenure.locks WHERE state <> 'released'"), "0");
    assert_eq!(postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "0");
}

#[test]
fn the_loss_of_the_session_that_writes_rows_costs_no_lock() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let mut holder = holder_of_many(&postgres, 3, 20);
    let writers = "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE application_name = 'tenure' \
                   AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";
    assert_ne!(postgres.ask(writers), "0");
    holder.must("release g1");
    assert_ne!(postgres.ask(writers), "0");
    holder.must("acquire l1 g1 60000");
    await_renewal(&mut holder);
    ["g", "g0", "g1", "g2"].iter().for_each(|guard| drop(holder.must(&format!("check {guard}"))));
    ["g", "g0", "g1", "g2"].iter().for_each(|guard| drop(holder.must(&format!("release {guard}"))));
}

#[test]
fn a_stopped_io_thread_loses_all_by_the_clock() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let mut holder = Actor::start();
    for at in 0..3 {
        holder.must(&format!("open l{at} {} events=1", postgres.target(&format!("many/{at}"), 8)));
        holder.must(&format!("acquire l{at} g{at} never"));
    }
    let mut waiter = opened(&postgres.target("many/1", 8));
    waiter.must("begin l g forever");
    let stopped = stop_io_thread(&holder);
    for _ in 0..3 {
        assert_eq!(receive_soon(&mut holder, "a loss")["event"], "lost");
    }
    for at in 0..3 {
        let lost = holder.must_fail(&format!("check g{at}"), "lost");
        assert!(said(&lost).contains("could not be renewed in time"), "{lost}");
    }
    // The server ends the session when the lease is over.
    assert_eq!(receive_soon(&mut waiter, "the waiter")["event"], "granted");
    drop(stopped);
    holder.must_fail("check g1", "lost");
    holder.must_fail("release g1", "lost");
    waiter.must("check g");
}

#[test]
fn callbacks_that_hang_silence_no_other_loss() {
    if !there() {
        return;
    }
    const LOCKS: usize = 7;
    let postgres = Postgres::start();
    let (reports, reported) = channel();
    let (go, hangs) = channel::<()>();
    let hangs = Arc::new(Mutex::new(hangs));
    let guards: Vec<tenure::Guard> = (0..LOCKS)
        .map(|at| {
            let (reports, hangs) = (reports.clone(), Arc::clone(&hangs));
            let options = tenure::Lock::options().on_event(move |event| {
                if let tenure::Event::Lost { .. } = event {
                    reports.send(at).unwrap();
                    // Until the test ends.
                    let _ = hangs.lock().unwrap().recv();
                }
            });
            options.open(postgres.target(&format!("many/{at}"), 10)).unwrap().acquire().unwrap()
        })
        .collect();
    let shared = backend(&postgres, "many/0");
    assert_eq!(postgres.ask(&format!("SELECT pg_terminate_backend({shared}, 60000)")), "t");
    let lost: BTreeSet<usize> = (0..LOCKS).map(|_| reported.recv().unwrap()).collect();
    assert_eq!(lost, (0..LOCKS).collect());
    assert!(guards.iter().all(|guard| guard.check().is_err_and(|error| error.is_lost())));
    drop(go);
}

#[test]
fn a_server_without_room_for_another_lock_is_reported_and_keeps_the_others() {
    if !there() {
        return;
    }
    let postgres = Postgres::start_with(&["max_locks_per_transaction=10", "max_connections=10"]);
    let mut holder = Actor::start();
    let mut held = 0;
    let refused = loop {
        holder.must(&format!("open l{held} {}", postgres.target(&format!("many/{held}"), 30)));
        let answer = holder.ask(&format!("acquire l{held} g{held} never"));
        if answer["ok"] != true {
            break answer;
        }
        held += 1;
        assert!(held < 10_000, "the server has room for all");
    };
    assert_eq!(refused["kind"], "unreachable", "{refused}");
    assert!(said(&refused).contains("max_locks_per_transaction"), "{refused}");
    (0..held).for_each(|at| drop(holder.must(&format!("check g{at}"))));
    (0..held).for_each(|at| drop(holder.must(&format!("release g{at}"))));
    assert_eq!(postgres.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "0");
}

#[test]
fn a_callback_that_hangs_keeps_no_revoked_lock() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let (told, reported) = channel();
    let (go, hangs) = channel::<()>();
    let hangs = Mutex::new(hangs);
    let max_hold = std::time::Duration::from_millis(10);
    let options = tenure::Lock::options().max_hold(max_hold).overrun(tenure::Overrun::Revoke).on_event(move |event| {
        if let tenure::Event::Overrun { .. } = event {
            told.send(()).unwrap();
            // Until the test ends.
            let _ = hangs.lock().unwrap().recv();
        }
    });
    let guard = options.open(postgres.target("a", 10)).unwrap().acquire().unwrap();
    reported.recv().unwrap();
    let mut other = opened(&postgres.target("a", 10));
    let granted = other.must("acquire l g 60000");
    assert_eq!(granted["crashed"], Value::Null, "{granted}");
    assert!(guard.check().is_err_and(|error| error.is_lost()));
    drop(go);
}

#[test]
fn at_the_connection_limit_no_row_is_written_beside_another_lock() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = |name: &str| format!("postgres://app@{}/postgres?lock={name}&ttl=20s", postgres.address());
    postgres.ask("CREATE ROLE app LOGIN SUPERUSER");
    let mut holder = opened(&target("a"));
    holder.must(&format!("open other {}", target("b")));
    holder.must("acquire l g never");
    until("two sessions", || sessions(&postgres) == 2);
    postgres.ask("ALTER ROLE app NOSUPERUSER CONNECTION LIMIT 1");
    postgres.ask("GRANT USAGE ON SCHEMA tenure TO app");
    postgres.ask("GRANT USAGE ON SEQUENCE tenure.fence TO app");
    postgres.ask("GRANT SELECT, INSERT, UPDATE ON tenure.locks TO app");
    let writers = "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE application_name = 'tenure' \
                   AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";
    assert_eq!(postgres.ask(writers), "1");
    // A row that hangs would end the session, and its lock.
    for _ in 0..2 {
        holder.must_fail("acquire other h never", "unreachable");
    }
    holder.must("check g");
    // For its only lock, the session does.
    holder.must("release g");
    holder.must("acquire other h 60000");
    holder.must("release h");
}
