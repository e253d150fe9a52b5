//! Shared locks on PostgreSQL.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::task::{Context, Waker};

use serde_json::Value;
use tenure::{Lock, Requester, Wait};
use tenure_tests::servers::postgres::{Postgres, there};
use tenure_tests::servers::{
    assert_shares_keep_the_order, assert_waits, await_renewal, await_waiters, begin_with_a_deadline, found, opened,
    receive_soon, said,
};
use tenure_tests::{Actor, signal, until};

/// The sessions that have or await an advisory lock, by kind.
const LOCKS: &str = "SELECT count(*) FILTER (WHERE mode = 'ShareLock'), count(*) FILTER (WHERE mode = 'ExclusiveLock') \
                     FROM pg_locks WHERE locktype = 'advisory'";

/// Returns the number of words of readers in the row of `a`.
fn words(postgres: &Postgres) -> String {
    postgres.ask("SELECT count(*) FROM tenure.locks, jsonb_each(readers) WHERE name = 'a'")
}

#[test]
fn shares_are_together_and_exclude_a_writer() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 20);
    let above = format!("postgres://postgres@{}/postgres?ttl=10s", postgres.address());
    assert_shares_keep_the_order(
        &target,
        |observer, shown| assert_eq!(observer.must(&format!("list {above}"))["locks"][0]["openBy"], shown["openBy"]),
        || assert_eq!(words(&postgres), "2"),
        || assert_eq!(words(&postgres), "0"),
    );
}

#[test]
fn psql_excludes_shares_and_is_excluded_by_them() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 20);
    let (mut one, mut two, mut observer) = (opened(&target), opened(&target), Actor::start());
    let psql = postgres.lock("a");
    one.must_fail("share l g never", "busy");
    one.must("begin-share l g forever");
    await_waiters(&mut observer, &target, 1);
    two.must("begin-share l g forever");
    await_waiters(&mut observer, &target, 2);
    let mut behind = postgres.session();
    behind.send("SELECT 'had' FROM pg_advisory_lock(hashtextextended('a', 0));");
    await_waiters(&mut observer, &target, 3);
    assert_waits(&mut one);
    psql.end();
    for reader in [&mut one, &mut two] {
        assert_eq!(receive_soon(reader, "a reader")["event"], "granted");
    }
    // `psql` waits for both, and a share that begins now waits for it.
    assert_eq!(postgres.ask("SELECT pg_try_advisory_lock(hashtextextended('a', 0))"), "f");
    one.must_fail("share l more never", "busy");
    one.must("release g");
    one.must("begin-share l more forever");
    await_waiters(&mut observer, &target, 2);
    assert_eq!(found(&mut observer, &target)["openBy"], serde_json::json!([two.pid()]));
    two.must("release g");
    assert_eq!(behind.receive(), "had");
    assert_waits(&mut one);
    behind.end();
    assert_eq!(receive_soon(&mut one, "a reader")["event"], "granted");

    // A reader's SQL shares with ours, and a writer waits for it.
    let mut reads = postgres.session();
    assert_eq!(reads.ask("SELECT 'had' FROM pg_advisory_lock_shared(hashtextextended('a', 0));"), "had");
    one.must("release more");
    let shown = found(&mut observer, &target);
    assert_eq!((&shown["state"], &shown["openBy"]), (&"held".into(), &serde_json::json!([])), "{shown}");
    two.must_fail("acquire l g never", "busy");
    two.must("share l g never");
    reads.end();
    two.must("release g");
    two.must("acquire l g 60000");
}

#[test]
fn one_process_excludes_its_own_readers_and_writers() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 20);
    let (mut process, mut observer) = (opened(&target), Actor::start());
    process.must(&format!("open free {target} deadlock_check=0"));
    // Its shares are in one session of the server, where the lock is reentrant.
    process.must("share l g never");
    process.must("share l g1 never");
    process.must("begin-share l g2 forever");
    assert_eq!(process.receive()["event"], "granted");
    assert_eq!((postgres.ask(LOCKS), words(&postgres)), ("1|0".to_owned(), "1".to_owned()));
    process.must_fail("acquire free w never", "busy");
    let refused = process.must_fail("acquire l w 1000", "would-deadlock");
    assert!(said(&refused).contains("cannot be upgraded"), "{refused}");
    process.must("begin l w forever");
    await_waiters(&mut observer, &target, 1);
    // A further share comes after the writer, also in this process.
    process.must_fail("share l more never", "busy");
    process.must_fail("share l more forever", "would-deadlock");
    for guard in ["g", "g1"] {
        process.must(&format!("release {guard}"));
        process.must("check g2");
        assert_waits(&mut process);
        assert_eq!(words(&postgres), "1");
    }
    process.send("release g2");
    let mut answers = [receive_soon(&mut process, "the release"), receive_soon(&mut process, "the writer")];
    answers.sort_by_key(|answer| answer["event"].is_null());
    assert_eq!((&answers[0]["guard"], &answers[1]["ok"]), (&"w".into(), &true.into()), "{answers:?}");
    assert_eq!((postgres.ask(LOCKS), words(&postgres)), ("0|1".to_owned(), "0".to_owned()));

    // More readers than the process has sessions to wait in. They are granted together.
    process.must_fail("share free g never", "busy");
    for at in 0..20 {
        process.must(&format!("begin-share free g{at} forever"));
    }
    // The writer holds in the fourth.
    await_waiters(&mut observer, &target, 3);
    process.send("release w");
    for _ in 0..21 {
        let answer = receive_soon(&mut process, "a reader");
        assert_eq!(answer["ok"], true, "{answer}");
    }
    process.must_fail("acquire free w never", "busy");
    for at in 0..20 {
        process.must(&format!("check g{at}"));
        process.must(&format!("release g{at}"));
    }
    assert_eq!((postgres.ask(LOCKS), words(&postgres)), ("0|0".to_owned(), "0".to_owned()));
    process.must("acquire l w never");
}

#[test]
fn the_next_writer_waits_out_the_leases_of_readers_whose_sessions_were_ended() {
    if !there() {
        return;
    }
    let mut postgres = Postgres::start();
    let target = postgres.target("a", 8);
    let endings: [&dyn Fn(&mut Postgres); 2] = [
        &|postgres| {
            postgres.ask(
                "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_locks WHERE locktype = 'advisory' AND granted",
            );
        },
        &|postgres| {
            postgres.kill();
            postgres.run();
        },
    ];
    for (end, is_waiting) in endings.into_iter().zip([true, false]) {
        let [mut one, mut two, mut waiter] = [(); 3].map(|()| opened(&target));
        for reader in [&mut one, &mut two] {
            reader.must("share l g 60000");
        }
        if is_waiting {
            waiter.must("begin l g forever");
            await_waiters(&mut Actor::start(), &target, 1);
        }
        // The stopped readers cannot notice, and the server cannot know that.
        for reader in [&one, &two] {
            signal(reader.pid(), libc::SIGSTOP);
        }
        end(&mut postgres);
        if !is_waiting {
            // A share in between takes nothing away from what the writer waits for.
            let mut between = opened(&target);
            between.must("share l g 60000");
            between.must("release g");
            waiter.must("begin l g forever");
        }
        let after = receive_soon(&mut waiter, "the writer");
        assert_eq!((&after["event"], &after["crashed"]), (&"granted".into(), &Value::Null), "{after}");
        for reader in [&mut one, &mut two] {
            reader.send("check g");
            signal(reader.pid(), libc::SIGCONT);
            assert_eq!(reader.receive()["kind"], "lost");
        }
        waiter.must("check g");
        waiter.must("release g");
        assert_eq!(words(&postgres), "0");
    }
}

#[test]
fn a_reader_waits_out_the_lease_of_a_writer_whose_session_was_ended() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 8);
    let [mut writer, mut one, mut two] = [(); 3].map(|()| opened(&target));
    writer.must("acquire l g never");
    signal(writer.pid(), libc::SIGSTOP);
    postgres.ask("SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_locks WHERE locktype = 'advisory'");
    let granted = one.must("share l g 60000");
    assert_eq!(granted["crashed"]["pid"], writer.pid(), "{granted}");
    writer.send("check g");
    signal(writer.pid(), libc::SIGCONT);
    assert_eq!(writer.receive()["kind"], "lost");
    // No other reader waits for it again, and each gets the report.
    assert_eq!(postgres.ask("SELECT state FROM tenure.locks"), "aborted");
    assert_eq!(two.must("share l g never")["crashed"]["pid"], writer.pid());
    assert_eq!(one.must("share l more never")["crashed"]["pid"], writer.pid());
}

#[test]
fn a_reader_that_dies_leaves_no_report_and_takes_none_away() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 10);
    let (mut reader, mut writer, mut other) = (opened(&target), opened(&target), opened(&target));
    reader.must("share l g never");
    writer.must_fail("acquire l g never", "busy");
    reader.kill();
    let granted = writer.must("acquire l g 60000");
    assert_eq!((&granted["crashed"], words(&postgres)), (&Value::Null, "0".to_owned()), "{granted}");

    // Each reader after a writer that died has the report, and so has the next writer, also after readers that died.
    let dead = writer.pid();
    writer.kill();
    let mut reader = opened(&target);
    for reader in [&mut reader, &mut other] {
        let granted = reader.must("share l g 60000");
        assert_eq!(granted["crashed"]["pid"], dead, "{granted}");
    }
    let shown = found(&mut Actor::start(), &target);
    assert_eq!((&shown["state"], &shown["pid"]), (&"held".into(), &Value::Null), "{shown}");
    reader.kill();
    other.must("release g");
    let granted = other.must("acquire l g 60000");
    assert_eq!(granted["crashed"]["pid"], dead, "{granted}");
    other.must("release g");
    assert_eq!(other.must("share l g never")["crashed"], Value::Null);
}

#[test]
fn dead_readers_leave_few_words() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 10);
    for _ in 0..17 {
        let mut reader = opened(&target);
        reader.must("share l g never");
        reader.kill();
    }
    until("the sessions' end", || postgres.ask(LOCKS) == "0|0");
    let mut reader = opened(&target);
    reader.must("share l g never");
    // The last of the dead ones may have removed the others' already, and not its own.
    until("the removal", || words(&postgres).parse::<u32>().unwrap() <= 2);
    reader.must("check g");
    reader.must("release g");
}

#[test]
fn a_break_ends_all_shares_and_no_other_lock() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 20);
    let [mut one, mut two, mut writer, mut late] = [(); 4].map(|()| opened(&target));
    let mut operator = Actor::start();
    // This one has another lock in the same session.
    one.must(&format!("open other {}", postgres.target("b", 20)));
    one.must("acquire other h never");
    for at in 0..10 {
        one.must(&format!("share l g{at} never"));
    }
    two.must("share l g never");
    let mut psql = postgres.session();
    assert_eq!(psql.ask("SELECT 'had' FROM pg_advisory_lock_shared(hashtextextended('a', 0));"), "had");
    writer.must("begin l g forever");
    await_waiters(&mut operator, &target, 1);
    late.must("begin-share l g forever");
    await_waiters(&mut operator, &target, 2);
    operator.must_fail(&format!("break {target}"), "busy");
    two.must("check g");
    assert_eq!(operator.must(&format!("break {target} force"))["broken"], true);
    assert_eq!(receive_soon(&mut writer, "the writer")["event"], "granted");
    for at in 0..10 {
        let lost = one.must_fail(&format!("check g{at}"), "lost");
        assert!(said(&lost).contains("broken"), "{lost}");
        one.must_fail(&format!("release g{at}"), "lost");
    }
    one.must("check h");
    until("the loss", || two.ask("check g")["kind"] == "lost");
    two.must_fail("release g", "lost");
    assert_waits(&mut late);
    writer.must("release g");
    assert_eq!(receive_soon(&mut late, "the reader behind it")["event"], "granted");
    late.must("check g");
    one.must("release h");

    // A notification alone, which every role may send, ends nothing; nor does a role without the right.
    let key = postgres.ask("SELECT key FROM tenure.locks, jsonb_object_keys(readers) AS key WHERE name = 'a'");
    postgres.ask(&format!("SELECT pg_notify('tenure', 'word {key}')"));
    postgres.ask("CREATE ROLE ops LOGIN");
    postgres.ask("GRANT USAGE ON SCHEMA tenure TO ops");
    postgres.ask("GRANT SELECT, INSERT, UPDATE ON tenure.locks TO ops");
    let ops = format!("postgres://ops@{}/postgres?lock=a", postgres.address());
    operator.must_fail(&format!("break {ops} force"), "permission-denied");
    await_renewal(&mut late);
    late.must("check g");
    late.must("release g");
}

#[test]
fn a_break_ends_no_session_whose_share_is_just_written() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let (target, brief) = (postgres.target("a", 30), postgres.target("a", 3));
    let (mut one, mut operator) = (opened(&target), Actor::start());
    one.must("share l g never");
    one.must("release g");
    one.must(&format!("open other {}", postgres.target("b", 30)));
    one.must("acquire other h never");
    // Another program has locked the row: the session has the advisory lock, and its word is not written.
    let mut psql = postgres.session();
    assert_eq!(psql.ask("BEGIN; SELECT 'had' FROM tenure.locks WHERE name = 'a' FOR UPDATE;"), "had");
    one.must("begin-share l g forever");
    until("the advisory lock", || postgres.ask(LOCKS) == "1|1");
    operator.must_fail(&format!("break {brief} force"), "unreachable");
    one.must("check h");
    // A session of another program is ended at once.
    let mut other = postgres.session();
    other.ask("SELECT pg_advisory_lock(7);");
    other.ask("SELECT 'had' FROM pg_advisory_lock_shared(hashtextextended('a', 0));");
    psql.end();
    assert_eq!(receive_soon(&mut one, "the reader")["event"], "granted");
    assert_eq!(operator.must(&format!("break {target} force"))["broken"], true);
    one.must_fail("check g", "lost");
    one.must("check h");
    assert_eq!(postgres.ask(LOCKS), "0|1");
}

#[test]
fn a_share_that_is_not_granted_leaves_nothing() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 20);
    let (mut writer, mut reader, mut observer) = (opened(&target), opened(&target), Actor::start());
    writer.must("acquire l g never");
    // A server that a busy machine does not run until the deadline names no holder.
    until("the holder's pid", || reader.must_fail("share l g 2000", "busy")["holder"] == writer.pid());
    until("the place is given back", || postgres.ask(LOCKS) == "0|1");
    let lock = Lock::open(&target).unwrap();
    let mut waiting = Box::pin(lock.begin_shared(Wait::Forever, Requester::Task).unwrap());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    await_waiters(&mut observer, &target, 1);
    drop(waiting);
    until("the place is given back", || postgres.ask(LOCKS) == "0|1");
    writer.must("release g");

    // And a writer that gives up behind readers lets those behind it in.
    reader.must("share l g never");
    begin_with_a_deadline(&mut writer, "g", &mut observer, &target);
    observer.must(&format!("open l {target}"));
    observer.must("begin-share l g forever");
    let refused = receive_soon(&mut writer, "the deadline");
    assert_eq!((&refused["kind"], &refused["holder"]), (&"busy".into(), &Value::Null), "{refused}");
    assert_eq!(receive_soon(&mut observer, "the reader behind it")["event"], "granted");
    assert_eq!(words(&postgres), "2");
    reader.must("release g");
    observer.must("release g");
    assert_eq!((postgres.ask(LOCKS), words(&postgres)), ("0|0".to_owned(), "0".to_owned()));
}

#[test]
fn a_forked_child_has_no_share_and_ends_none() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 20);
    let mut process = opened(&target);
    process.must("share l g never");
    process.must("share l g1 never");
    let forked = process.ask("fork");
    for name in ["g", "g1"] {
        assert_eq!(forked["checks"][name]["kind"], "lost", "{forked}");
    }
    assert_eq!(forked["tried"]["l"]["kind"], "busy", "{forked}");
    assert_eq!(process.receive()["status"], 0);
    await_renewal(&mut process);
    process.must("check g");
    process.must("check g1");
    process.must("release g");
    process.must("release g1");
    assert_eq!((postgres.ask(LOCKS), words(&postgres)), ("0|0".to_owned(), "0".to_owned()));
}

#[test]
fn two_names_with_one_number_share_and_exclude_in_one_process() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let (one, two) = ("iKZWeqhFWCEPSFByVCByUqAt", "IFeHYpmkdsTQwa~!LcwS+M|S");
    let mut process = Actor::start();
    process.must(&format!("open one {}", postgres.target(one, 20)));
    process.must(&format!("open two {}", postgres.target(two, 20)));
    process.must("share one g never");
    process.must("share two h never");
    process.must("release g");
    process.must("check h");
    process.must_fail("acquire one g never", "busy");
    until("one share", || postgres.ask(LOCKS) == "1|0");
    process.must("release h");
    assert_eq!(postgres.ask(LOCKS), "0|0");
    process.must("acquire one g never");
    process.must_fail("share two h never", "busy");
    until("one lock", || postgres.ask(LOCKS) == "0|1");
    process.must("release g");
    assert_eq!(postgres.ask(LOCKS), "0|0");
}
