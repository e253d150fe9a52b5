//! Locks on real PostgreSQL servers.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::process::Command;

use serde_json::{Value, json};
use tenure_tests::servers::network::{self, Room};
use tenure_tests::servers::postgres::{Pool, Postgres, there};
use tenure_tests::servers::{assert_unusable_tls_files_are_named, await_waiters, opened};
use tenure_tests::{Actor, actor_program, folder, has, needs, signal, until};

#[test]
fn psql_and_tenure_exclude_each_other_and_share_a_queue() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("sessions/main", 20);
    let (mut one, mut observer) = (opened(&target), Actor::start());
    // The tables do not exist yet.
    assert_eq!(observer.must(&format!("inspect {target}"))["found"]["state"], "free");
    assert_eq!(observer.must(&format!("list {target}"))["locks"], json!([]));

    let psql = postgres.lock("sessions/main");
    let busy = one.must_fail("acquire l g never", "busy");
    assert_eq!(busy["holder"], Value::Null);
    let found = observer.must(&format!("inspect {target}"))["found"].clone();
    assert_eq!((&found["state"], &found["native"]), (&"held".into(), &false.into()), "{found}");
    one.must("begin l g forever");
    await_waiters(&mut observer, &target, 1);
    let mut waits = postgres.session();
    waits.send("SELECT 'had' FROM pg_advisory_lock(hashtextextended('sessions/main', 0));");
    await_waiters(&mut observer, &target, 2);
    psql.end();
    let first = one.receive();
    assert_eq!((&first["event"], &first["crashed"]), (&"granted".into(), &Value::Null), "{first}");
    assert_eq!(observer.must(&format!("inspect {target}"))["found"]["pid"], one.pid());
    one.must("release g");
    assert_eq!(waits.receive(), "had");
    one.must_fail("acquire l g 2000", "busy");
    waits.end();
    let second = one.must("acquire l g 60000");
    assert!(second["fence"].as_u64() > first["fence"].as_u64(), "{first} {second}");
}

#[test]
fn a_guard_of_a_server_lock_behaves_like_that_of_a_file() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("sessions/main", 20);
    let mut one = Actor::start();
    one.must(&format!("open l {target} label=first"));
    let granted = one.must("acquire l g never");
    assert_eq!(granted["crashed"], Value::Null);
    one.must("label g second");
    let mut two = opened(&target);
    until("the label", || two.must(&format!("inspect {target}"))["found"]["label"] == "second");
    // A server that a busy machine does not run until the deadline names no holder.
    until("the holder's pid", || {
        let busy = two.must_fail("acquire l g 2000", "busy");
        busy["holder"] == one.pid()
    });
    one.must_fail("acquire l other 1000", "would-deadlock");
    one.must_fail("share l other never", "busy");
    // A forked child holds nothing, and its end releases nothing.
    let forked = one.ask("fork");
    assert_eq!((&forked["checks"]["g"]["kind"], &forked["tried"]["l"]["kind"]), (&"lost".into(), &"busy".into()));
    assert_eq!(one.receive()["status"], 0);
    one.must("check g");
    let all = format!("postgres://postgres@{}/postgres", postgres.address());
    assert_eq!(two.must(&format!("list {all}?lock=sessions"))["locks"][0]["pid"], one.pid());
    assert_eq!(two.must(&format!("list {all}?lock=session"))["locks"], json!([]));

    two.must("async l g forever");
    await_waiters(&mut one, &target, 1);
    one.must("release g");
    assert_eq!(two.receive()["event"], "granted");
    two.must("check g");

    // Killed: its death is proven on this machine, so no process waits for the end of its lease.
    one.must("begin l g forever");
    await_waiters(&mut Actor::start(), &target, 1);
    let pid = two.pid();
    two.kill();
    let after = one.receive();
    assert_eq!((&after["event"], &after["crashed"]["pid"]), (&"granted".into(), &pid.into()), "{after}");
    assert!(after["fence"].as_u64() > granted["fence"].as_u64());

    let mut three = Actor::start();
    three.must_fail(&format!("break {target}"), "busy");
    one.must("revoked g");
    assert_eq!(three.must(&format!("break {target} force"))["broken"], true);
    assert_eq!(one.receive()["event"], "revoked");
    one.must_fail("check g", "lost");
    // The server ends its session a moment after the request.
    until("the session's end", || three.must(&format!("inspect {target}"))["found"]["state"] == "free");
    assert_eq!(three.must(&format!("break {target}"))["broken"], false);
}

#[test]
fn statements_that_a_session_repeats_are_prepared_until_a_table_changes() {
    if !there() {
        return;
    }
    let log = ["logging_collector=on", "log_filename=server.log", "log_statement=all"];
    let postgres = Postgres::start_with(&log);
    let target = postgres.target("a", 20);
    let mut one = opened(&target);
    // It keeps the sessions, which else may end between two acquires.
    one.must(&format!("open k {}", postgres.target("k", 20)));
    one.must("acquire k kept 20000");
    let acquire_and_release = |one: &mut Actor| {
        one.must("acquire l g 20000");
        one.must("release g");
    };
    // The server's log has what it executes, by the statement's name or as `<unnamed>`, and at last our own question. Renewals
    // are not counted.
    let mut asked = 0;
    let mut executed = || {
        asked += 1;
        postgres.ask(&format!("SELECT 'question {asked}'"));
        let read = || std::fs::read_to_string(postgres.path("data/log/server.log")).unwrap();
        until("the question", || read().contains(&format!("'question {asked}'")));
        let log = read();
        let lines = log.lines().filter(|line| line.contains("execute ") && !line.contains("pg_backend_pid"));
        let (unnamed, named): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains("execute <unnamed>"));
        (unnamed.len(), named.len())
    };
    (0..3).for_each(|_| acquire_and_release(&mut one));
    let (unnamed, named) = executed();
    (0..5).for_each(|_| acquire_and_release(&mut one));
    // An acquire takes the lock and writes the row. A release writes it again and unlocks.
    assert_eq!(executed(), (unnamed, named + 5 * 4));
    // What returns the name has another type now, and its plan is refused.
    postgres.ask("ALTER TABLE tenure.locks ALTER COLUMN name TYPE varchar");
    (0..2).for_each(|_| acquire_and_release(&mut one));
    assert!(executed().0 > unnamed);
    one.must("check kept");
}

#[test]
fn a_session_with_one_lock_releases_it_in_one_round_trip() {
    if !there() {
        return;
    }
    let log = ["logging_collector=on", "log_filename=server.log", "log_statement=all", "log_line_prefix=[%p] "];
    let postgres = Postgres::start_with(&log);
    let target = postgres.target("a", 20);
    let (mut first, mut waiter) = (opened(&target), opened(&target));
    let mut hand_over = || {
        first.must("acquire l g 20000");
        waiter.must("begin l g 20000");
        await_waiters(&mut Actor::start(), &target, 1);
        first.must("release g");
        assert_eq!(waiter.receive()["event"], "granted");
        waiter.must("release g");
        assert_eq!(postgres.ask("SELECT state FROM tenure.locks"), "released");
    };
    // The statements that the third use of a session prepares come in any order.
    (0..5).for_each(|_| hand_over());
    postgres.ask("SELECT 'question'");
    let read = || std::fs::read_to_string(postgres.path("data/log/server.log")).unwrap();
    until("the question", || read().contains("'question'"));
    let log = read();
    // Each entry begins with the session.
    let executed: Vec<&str> = log.split("\n[").filter(|entry| entry.contains("execute ")).collect();
    let sessions_of = |part: &str| -> Vec<&str> {
        let entries = executed.iter().filter(|entry| entry.contains(part));
        entries.map(|entry| entry.split(']').next().unwrap()).collect()
    };
    // The session that took what was free and the one that waited write the row and unlock.
    let writes = sessions_of("set_config('tenure.released'");
    assert_eq!((writes.len(), &writes), (10, &sessions_of("current_setting('tenure.released'")), "{log}");
    // A later unlock is of a release whose two statements came in the other order.
    let others = executed.iter().filter(|entry| entry.contains("SELECT k.at, CASE")).count();
    assert!(others <= 2, "{log}");
}

#[test]
fn a_holder_whose_session_was_ended_loses_the_lock_before_the_next_holder_begins() {
    if !there() {
        return;
    }
    let mut postgres = Postgres::start();
    let target = postgres.target("a", 8);
    let endings: [&dyn Fn(&mut Postgres); 3] = [
        &|postgres| {
            postgres
                .ask("SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted");
        },
        &|postgres| {
            postgres.stop();
            postgres.run();
        },
        &|postgres| {
            postgres.kill();
            postgres.run();
        },
    ];
    let mut fence = 0;
    for end in endings {
        let mut holder = Actor::start();
        holder.must(&format!("open l {target}"));
        let granted = holder.must("acquire l g 60000");
        assert!(granted["fence"].as_u64().unwrap() > fence);
        fence = granted["fence"].as_u64().unwrap();
        let mut waiter = opened(&target);
        waiter.must("begin l g forever");
        await_waiters(&mut Actor::start(), &target, 1);
        // The stopped holder cannot notice, and the server cannot know that.
        signal(holder.pid(), libc::SIGSTOP);
        end(&mut postgres);
        let after = waiter.receive();
        assert_eq!((&after["event"], &after["crashed"]["pid"]), (&"granted".into(), &holder.pid().into()), "{after}");
        assert!(after["fence"].as_u64().unwrap() > fence, "{after}");
        fence = after["fence"].as_u64().unwrap();
        holder.send("check g");
        signal(holder.pid(), libc::SIGCONT);
        assert_eq!(holder.receive()["kind"], "lost");
        waiter.must("check g");
        waiter.must("release g");
    }
}

#[test]
fn a_holder_on_a_hanging_server_loses_the_lock_in_time() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let target = postgres.target("a", 8);
    let mut holder = Actor::start();
    holder.must(&format!("open l {target} events=1"));
    holder.must("acquire l g never");
    let backend = postgres.ask("SELECT pid FROM pg_locks WHERE locktype = 'advisory'").parse().unwrap();
    signal(backend, libc::SIGSTOP);
    assert_eq!(holder.receive()["event"], "lost");
    holder.must_fail("check g", "lost");
    signal(backend, libc::SIGCONT);
    opened(&target).must("acquire l g 60000");
}

#[test]
fn a_holder_that_is_cut_off_loses_the_lock_before_another_acquires_it() {
    if !there() || !network::there() {
        return;
    }
    let room = Room::new();
    let postgres = Postgres::start_at(&room.outside);
    // Clients in the namespace may connect.
    postgres.allow(&format!("{}/32", room.inside()));
    let near = postgres.target("a", 8);
    let far = format!("postgres://postgres@{}/postgres?lock=a&ttl=8s", room.outside);
    let mut holder = Actor::from(&mut room.command(actor_program()));
    holder.must(&format!("open l {far} events=1"));
    let before = holder.must("acquire l g never");
    let mut waiter = opened(&near);
    waiter.must("begin l g forever");
    await_waiters(&mut Actor::start(), &near, 1);
    room.cut();
    let after = waiter.receive();
    assert_eq!(after["event"], "granted", "{after}");
    assert!(after["fence"].as_u64() > before["fence"].as_u64());
    holder.send("check g");
    let mut said = [holder.receive(), holder.receive()];
    said.sort_by_key(|said| said["event"].is_null());
    assert_eq!((&said[0]["event"], &said[1]["kind"]), (&"lost".into(), &"lost".into()), "{said:?}");
}

#[test]
fn a_promoted_standby_continues_with_a_greater_fence() {
    if !there() {
        return;
    }
    let mut primary = Postgres::start_with(&["wal_keep_size=64"]);
    // The tables are created first, so that the standby has them.
    let mut holder = opened(&primary.target("a", 8));
    holder.must("acquire l g never");
    holder.must("release g");
    let standby = primary.standby();
    primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.ask("SELECT pg_reload_conf()");
    until("a synchronous standby", || primary.ask("SELECT sync_state FROM pg_stat_replication") == "sync");
    let both =
        format!("postgres://postgres@{}:5432,{}:5432/postgres?lock=a&ttl=8s", primary.address(), standby.address());
    holder.must(&format!("open l {both}"));
    let before = holder.must("acquire l g never");
    let mut waiter = opened(&both);
    waiter.must("begin l g forever");
    await_waiters(&mut Actor::start(), &both, 1);
    signal(holder.pid(), libc::SIGSTOP);
    primary.kill();
    standby.promote();
    let mut after = waiter.receive();
    // The holder does not wait for ever for the missing server.
    if after["kind"] == "unreachable" {
        after = waiter.must("acquire l g 60000");
    }
    assert_eq!(after["crashed"]["pid"], holder.pid(), "{after}");
    assert!(after["fence"].as_u64() > before["fence"].as_u64(), "{before} {after}");
    holder.send("check g");
    signal(holder.pid(), libc::SIGCONT);
    assert_eq!(holder.receive()["kind"], "lost");
}

#[test]
fn a_server_at_its_connection_limit_is_reported_as_unreachable() {
    if !there() {
        return;
    }
    let postgres = Postgres::start_with(&["max_connections=8", "superuser_reserved_connections=0"]);
    let target = postgres.target("a", 20);
    let mut holder = opened(&target);
    holder.must("acquire l g never");
    // One has the locks of the process, and another writes the rows.
    until("two sessions", || {
        postgres.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenure'") == "2"
    });
    let mut sessions: Vec<_> = (0..6).map(|_| postgres.session()).collect();
    for session in &mut sessions {
        assert_eq!(session.ask("SELECT 1;"), "1");
    }
    let refused = opened(&target).must_fail("acquire l g never", "unreachable");
    assert!(refused["error"].as_str().unwrap().contains("connection limit"), "{refused}");
    holder.must("check g");
    holder.must("release g");
}

#[test]
fn a_pool_that_lends_sessions_is_refused() {
    if !there() || !needs("pgbouncer", has("pgbouncer")) {
        return;
    }
    let postgres = Postgres::start();
    let transactions = Pool::start(&postgres, "transaction");
    let refuse = || {
        let refused = opened(&transactions.target("a")).must_fail("acquire l g never", "unsupported");
        assert!(refused["error"].as_str().unwrap().contains("transaction pooling"), "{refused}");
    };
    refuse();
    // Also if the pool has a session of the server for each of ours.
    let mut sessions = [transactions.session(), transactions.session(), transactions.session()];
    sessions.iter_mut().for_each(|session| assert_eq!(session.ask("BEGIN; SELECT 1;"), "1"));
    sessions.iter_mut().for_each(|session| assert_eq!(session.ask("COMMIT; SELECT 2;"), "2"));
    refuse();
    let sessions = Pool::start(&postgres, "session");
    let mut holder = opened(&sessions.target("a"));
    holder.must("acquire l g never");
    opened(&postgres.target("a", 15)).must_fail("acquire l g never", "busy");
    holder.must("release g");
}

#[test]
fn an_error_names_the_command_for_a_role_without_rights() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    postgres.ask("CREATE ROLE app LOGIN");
    let target = format!("postgres://app@{}/postgres?lock=a&ttl=20s", postgres.address());
    let refused = opened(&target).must_fail("acquire l g never", "permission-denied");
    let error = refused["error"].as_str().unwrap().to_owned();
    // The SQL in the error runs unchanged.
    let sql = &error[error.find("CREATE SCHEMA").unwrap()..];
    postgres.ask(sql);
    postgres.ask("GRANT USAGE ON SCHEMA tenure TO app");
    postgres.ask("GRANT USAGE ON SEQUENCE tenure.fence TO app");
    postgres.ask("GRANT SELECT, INSERT, UPDATE ON tenure.locks TO app");
    let mut app = opened(&target);
    app.must("acquire l g never");
    app.must("release g");
}

#[test]
fn passwords_come_from_the_environment_or_a_file() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    postgres.ask("CREATE ROLE app LOGIN PASSWORD 'hunter2'");
    postgres.ask("GRANT CREATE ON DATABASE postgres TO app");
    postgres.require_password("app");
    let target = format!("postgres://app@{}/postgres?lock=a&ttl=20s", postgres.address());
    let dir = folder();
    let file = dir.path().join("pgpass");
    std::fs::write(&file, format!("{}:5432:*:app:hunter2\n", postgres.address())).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let with = |name: &str, value: &std::ffi::OsStr| {
        let mut command = Command::new(actor_program());
        command.env_remove("PGPASSWORD").env_remove("PGPASSFILE").env("HOME", dir.path()).env(name, value);
        let mut actor = Actor::from(&mut command);
        actor.must(&format!("open l {target}"));
        actor
    };
    for (name, value) in [("PGPASSWORD", "hunter2".as_ref()), ("PGPASSFILE", file.as_os_str())] {
        let mut actor = with(name, value);
        actor.must("acquire l g 60000");
        actor.must("release g");
    }
    let refused = with("PGPASSWORD", "hunter3".as_ref()).must_fail("acquire l g never", "permission-denied");
    assert!(!refused.to_string().contains("hunter"), "{refused}");
    with("X", "".as_ref()).must_fail("acquire l g never", "permission-denied");
    // A password file that others may read is ignored.
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    with("PGPASSFILE", file.as_os_str()).must_fail("acquire l g never", "permission-denied");
}

#[test]
fn tls_works_with_certificates_on_both_sides() {
    if !there() || !needs("openssl", has("openssl")) {
        return;
    }
    let postgres = Postgres::start_with_tls();
    let file = |name: &str| postgres.path(name).display().to_string();
    let target = |more: &str| format!("{}{more}", postgres.target("a", 10));
    let client = format!("&cert={}&key={}", file("client.pem"), file("client.key"));
    let mut actor = opened(&target(&format!("&ca={}{client}", file("ca.pem"))));
    actor.must("acquire l g 60000");
    assert_eq!(
        postgres.ask(
            "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tenure'"
        ),
        "t"
    );
    let psql = postgres.ask("SELECT pg_try_advisory_lock(hashtextextended('a', 0))");
    assert_eq!(psql, "f", "one lock for both");
    actor.must("release g");
    // Another authority's certificate: not the intended server. Without a client certificate, and without TLS, the
    // server refuses.
    let stranger =
        opened(&target(&format!("&ca={}{client}", file("client.pem")))).must_fail("acquire l g never", "unreachable");
    assert!(stranger["error"].as_str().unwrap().contains("certificate"), "{stranger}");
    for more in [format!("&ca={}", file("ca.pem")), String::new()] {
        let refused = opened(&target(&more)).must_fail("acquire l g never", "permission-denied");
        assert!(refused["error"].as_str().unwrap().contains("certificate") || more.is_empty(), "{refused}");
    }
    assert_unusable_tls_files_are_named(target, |name| postgres.path(name));
}
