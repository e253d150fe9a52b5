//! Faults of an etcd cluster, its users, its names and its operators, and their effect on a lock.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tenure_tests::servers::etcd::{Cluster, there};
use tenure_tests::servers::names::{self, Names};
use tenure_tests::servers::network::{Late, Lossy};
use tenure_tests::servers::{
    Silent, assert_a_break_ends_only_what_was_seen, await_renewal, await_waiters, found, opened, output, receive_soon,
    said, soon,
};
use tenure_tests::{Actor, actor_program, folder, has, needs, tenure_program, until};

/// So long that a wait for a fraction of it does not end during a test.
const DAY: &str = "1440m";

fn target_of(cluster: &Cluster, members: &[usize], user: &str, name: &str, ttl: &str) -> String {
    let hosts: Vec<String> = members.iter().map(|at| format!("{}:2379", cluster.address(*at))).collect();
    format!("etcd://{user}{}/{name}?ttl={ttl}", hosts.join(","))
}

fn keys(cluster: &Cluster, prefix: &str) -> Vec<String> {
    let text = output(cluster.etcdctl().args(["get", prefix, "--prefix", "--keys-only"]));
    text.split_whitespace().map(str::to_owned).collect()
}

/// Turns authentication on, with `root:hunter1`, and `app` with a password and the right to lock below `a`.
fn turn_users_on(cluster: &Cluster, password: &str) {
    let etcdctl = |words: &str| output(cluster.etcdctl().args(words.split_whitespace()));
    etcdctl("user add root:hunter1");
    etcdctl("user grant-role root root");
    etcdctl(&format!("user add app:{password}"));
    etcdctl("role add locker");
    etcdctl("role grant-permission locker readwrite a --prefix");
    etcdctl("role grant-permission locker readwrite .tenure/a --prefix");
    etcdctl("user grant-role app locker");
    etcdctl("auth enable");
}

fn as_root(cluster: &Cluster, words: &str) {
    output(cluster.etcdctl().args(["--user", "root:hunter1"]).args(words.split_whitespace()));
}

/// Runs `etcdctl` with text on its standard input.
fn etcdctl_reads(cluster: &Cluster, words: &[&str], input: &str) {
    let mut child = cluster.etcdctl().args(words).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn set_password(cluster: &Cluster, password: &str) {
    let words = ["--user", "root:hunter1", "user", "passwd", "app", "--interactive=false"];
    etcdctl_reads(cluster, &words, &format!("{password}\n"));
}

fn app(password: &str) -> Actor {
    Actor::from(
        Command::new(actor_program()).env_remove("TENURE_ETCD_PASSWORD_FILE").env("TENURE_ETCD_PASSWORD", password),
    )
}

#[test]
fn a_waiter_on_a_full_server_leaves_the_queue() {
    if !there() {
        return;
    }
    let cluster = Cluster::start_with(1, &["--quota-backend-bytes", "1000000"]);
    let target = cluster.target("a", 20);
    let (mut holder, mut waiter, mut timed) = (opened(&target), opened(&target), opened(&target));
    holder.must("acquire l g never");
    waiter.must("begin l g forever");
    await_waiters(&mut Actor::start(), &target, 1);
    timed.must("begin l g 100000");
    await_waiters(&mut Actor::start(), &target, 2);
    let filler = "x".repeat(100_000);
    until("the alarm", || {
        let put = cluster.etcdctl().args(["put", "filler", &filler]).output().unwrap();
        String::from_utf8_lossy(&put.stderr).contains("space exceeded")
    });
    // The key expires with the lease, and the next waiter cannot record that it holds.
    holder.must_fail("release g", "unreachable");
    for actor in [&mut waiter, &mut timed] {
        let refused = receive_soon(actor, "the waiter");
        assert_eq!((&refused["event"], &refused["kind"]), (&"refused".into(), &"unreachable".into()), "{refused}");
        assert!(said(&refused).contains("NOSPACE"), "{refused}");
    }
    until("an empty queue", || keys(&cluster, "a/").is_empty());
}

#[test]
fn a_release_reports_that_the_lock_was_broken() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = target_of(&cluster, &[0], "", "a", DAY);
    let (mut holder, mut other) = (opened(&target), opened(&target));
    holder.must("acquire l g never");
    output(cluster.etcdctl().args(["del", "a/", "--prefix"]));
    other.must("acquire l g never");
    let lost = holder.must_fail("release g", "lost");
    assert!(said(&lost).contains("broken"), "{lost}");
    other.must("check g");
    other.must("release g");

    // Broken by `break`, which marks the record as a release does.
    holder.must("acquire l g never");
    assert_eq!(other.must(&format!("break {target} force"))["broken"], true);
    holder.must_fail("release g", "lost");

    // The command reports it, by its message and its exit code.
    let ready = folder();
    let fifo = ready.path().join("go");
    output(Command::new("mkfifo").arg(&fifo));
    let mut run = Command::new(tenure_program());
    let script = format!("echo ready; cat {} >/dev/null", fifo.display());
    run.args(["run", &target, "--", "sh", "-c", &script]).stdin(Stdio::null());
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(run.stdout.take().unwrap()), &mut line).unwrap();
    output(cluster.etcdctl().args(["del", "a/", "--prefix"]));
    other.must("acquire l g never");
    std::fs::write(&fifo, "go").unwrap();
    let run = run.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.code() == Some(76) && text.contains("was deleted at the server"), "{:?} {text}", run.status);
    other.must("release g");
    assert_eq!(other.must("acquire l g never")["ok"], true);
}

#[test]
fn an_interrupted_waiter_leaves_no_queue_entry() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = target_of(&cluster, &[0], "", "a", DAY);
    let (mut holder, mut last, mut observer) = (opened(&target), opened(&target), Actor::start());
    holder.must("acquire l g never");
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let mut run = Command::new(tenure_program());
        let mut run = run.args(["run", "-q", &target, "--", "true"]).stdin(Stdio::null()).spawn().unwrap();
        await_waiters(&mut observer, &target, 1);
        tenure_tests::signal(run.id(), signal);
        let status = run.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal), "{status}");
        // The answer may be late; without this request the queue entry would never be removed.
        until("the queue entry is removed", || keys(&cluster, "a/").len() == 1);
    }
    last.must("begin l g forever");
    await_waiters(&mut observer, &target, 1);
    holder.must("release g");
    assert_eq!(receive_soon(&mut last, "the last waiter")["event"], "granted");
}

#[test]
fn an_acquire_that_times_out_leaves_nothing() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = target_of(&cluster, &[0], "", "a", DAY);
    let (mut holder, mut waiter) = (opened(&target), opened(&target));
    holder.must("acquire l g never");
    let files = |actor: &Actor| std::fs::read_dir(format!("/proc/{}/fd", actor.pid())).unwrap().count();
    waiter.must_fail("acquire l g 2000", "busy");
    let (before, most) = (files(&waiter), 4);
    for _ in 0..30 {
        // On a busy machine the server may not have answered by then.
        assert_eq!(waiter.ask("acquire l g 10")["ok"], false);
    }
    until("one queue entry", || keys(&cluster, "a/").len() == 1);
    // Idle threads stay for a moment, for the next job.
    until("no thread waits any more", || waiter.must("threads")["threads"].as_u64().unwrap() <= 2);
    assert!(files(&waiter) <= before + most, "{} {before}", files(&waiter));
    holder.must("check g");
}

#[test]
fn a_silent_member_blocks_no_operation() {
    if !there() {
        return;
    }
    // All members are silent from the start.
    let silent: Vec<Silent> = (0..3).map(|_| Silent::at(2379)).collect();
    let only = format!("etcd://{}/a?ttl={DAY}", silent[0].address());
    let mut actor = opened(&only);
    for line in ["acquire l g never", "acquire l g 1000", &format!("inspect {only}"), &format!("list {only}")] {
        let refused = soon(&mut actor, line);
        assert_eq!(refused["kind"], "unreachable", "{line}: {refused}");
    }
    // More silent members than one call has time for: the next call begins where the last one ended.
    let cluster = Cluster::start(1);
    let hosts: Vec<&str> = silent.iter().map(Silent::address).chain([cluster.address(0)]).collect();
    let mut actor = opened(&format!("etcd://{}/a?ttl=6s", hosts.join(",")));
    until("the fourth is asked", || actor.ask("acquire l g never")["ok"] == true);
    actor.must("release g");

    // During a wait, and during a hold.
    let target = target_of(&cluster, &[0], "", "a", DAY);
    let (mut holder, mut waiter) = (opened(&target), opened(&target));
    holder.must("acquire l g never");
    waiter.must("begin l g 20000");
    await_waiters(&mut Actor::start(), &target, 1);
    cluster.signal(0, libc::SIGSTOP);
    let refused = receive_soon(&mut waiter, "the waiter");
    assert_eq!(refused["event"], "refused", "{refused}");
    let refused = soon(&mut holder, "release g");
    assert_eq!(refused["kind"], "unreachable", "{refused}");
    cluster.signal(0, libc::SIGCONT);
}

#[test]
fn a_waiter_whose_member_hangs_is_notified_by_another_member() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut holder = opened(&target_of(&cluster, &[leader, other], "", "a", DAY));
    let waits = target_of(&cluster, &[one, leader, other], "", "a", DAY);
    let mut waiter = opened(&waits);
    holder.must("acquire l g never");
    waiter.must("begin l g forever");
    await_waiters(&mut Actor::start(), &waits, 1);
    cluster.signal(one, libc::SIGSTOP);
    holder.must("release g");
    assert_eq!(receive_soon(&mut waiter, "the waiter")["event"], "granted");
    cluster.signal(one, libc::SIGCONT);
}

#[test]
fn an_outage_of_the_name_service_costs_no_lock() {
    if !there() || !names::there() {
        return;
    }
    let cluster = Cluster::start(1);
    let line = format!("{} etcd.example", cluster.address(0));
    let names = Names::new(&[line], false);
    let mut holder = Actor::from(&mut names.command(actor_program()));
    holder.must("open l etcd://etcd.example:2379/a?ttl=15s");
    holder.must("acquire l g never");
    names.set(&[]);
    for _ in 0..2 {
        await_renewal(&mut holder);
    }
    // A new lock is reachable as well.
    holder.must("open m etcd://etcd.example:2379/b?ttl=15s");
    holder.must("acquire m h never");
    holder.must("release h");
    holder.must("release g");
}

#[test]
fn a_refused_token_is_replaced() {
    if !there() || !needs("openssl", has("openssl")) {
        return;
    }
    let keys = folder();
    let (private, public) = (keys.path().join("private.pem"), keys.path().join("public.pem"));
    output(Command::new("openssl").args(["genrsa", "-out"]).arg(&private).arg("2048"));
    output(Command::new("openssl").args(["rsa", "-pubout", "-in"]).arg(&private).arg("-out").arg(&public));
    let token = format!("jwt,pub-key={},priv-key={},sign-method=RS256,ttl=10m", public.display(), private.display());
    let cluster = Cluster::start_with(1, &["--auth-token", &token]);
    turn_users_on(&cluster, "hunter2");
    let target = target_of(&cluster, &[0], "app@", "a", "15s");
    let (mut holder, mut waiter) = (app("hunter2"), app("hunter2"));
    holder.must(&format!("open l {target}"));
    waiter.must(&format!("open l {target}"));
    holder.must("acquire l g never");
    waiter.must("begin l g forever");
    until("an entry in the queue", || {
        let found = holder.ask(&format!("inspect {target}"));
        found["found"]["waiters"] == 1
    });
    // An unrelated user is added. All tokens now belong to an older revision of the users.
    as_root(&cluster, "user add other:hunter3");
    await_renewal(&mut holder);
    await_renewal(&mut holder);
    holder.must("release g");
    assert_eq!(receive_soon(&mut waiter, "the waiter")["event"], "granted");
}

#[test]
fn a_holder_survives_a_changed_password_and_a_loss_names_its_reason() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    turn_users_on(&cluster, "hunter2");
    let target = target_of(&cluster, &[0], "app@", "a", "15s");
    let dir = folder();
    let file = dir.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    let mut command = Command::new(actor_program());
    let mut reads = Actor::from(command.env_remove("TENURE_ETCD_PASSWORD").env("TENURE_ETCD_PASSWORD_FILE", &file));
    reads.must(&format!("open l {target}"));
    reads.must("acquire l g never");
    let mut knows = app("hunter2");
    knows.must(&format!("open l {} events=1", target_of(&cluster, &[0], "app@", "ab", "15s")));
    std::fs::write(&file, "hunter4\n").unwrap();
    set_password(&cluster, "hunter4");
    await_renewal(&mut reads);
    await_renewal(&mut reads);
    reads.must("release g");
    // The other actor has only the old password, and reports etcd's answer to that.
    let refused = knows.must_fail("acquire l g never", "permission-denied");
    assert!(said(&refused).contains("TENURE_ETCD_PASSWORD_FILE"), "{refused}");
    let mut lost = app("hunter4");
    lost.must(&format!("open l {target} events=1"));
    lost.must("acquire l g never");
    set_password(&cluster, "hunter5");
    assert_eq!(lost.receive()["event"], "lost");
    let lost = lost.must_fail("check g", "lost");
    assert!(said(&lost).contains("could not be renewed in time: etcd refused: "), "{lost}");
}

#[test]
fn a_rolling_restart_with_users_loses_no_lock() {
    if !there() {
        return;
    }
    const LOCKS: usize = 120;
    let mut cluster = Cluster::start(3);
    turn_users_on(&cluster, "hunter2");
    let mut holder = app("hunter2");
    // One after another: a separate authentication for each would take longer than everything else.
    for at in 0..LOCKS {
        holder.must(&format!("open l{at} {}", target_of(&cluster, &[0, 1, 2], "app@", &format!("a{at}"), "20s")));
        holder.must(&format!("acquire l{at} g{at} never"));
    }
    let renewed = |holder: &mut Actor| {
        for at in [0, LOCKS / 2, LOCKS - 1] {
            let left = |holder: &mut Actor| holder.must(&format!("lease g{at}"))["lostIn"].as_u64().unwrap();
            let mut last = left(holder);
            until("a renewal", || {
                let now = left(holder);
                let more = now > last || now == 0;
                last = now;
                more
            });
        }
    };
    for at in 0..3 {
        cluster.kill(at);
        renewed(&mut holder);
        cluster.restart(at);
        until("a member that answers", || std::net::TcpStream::connect((cluster.address(at), 2379)).is_ok());
        renewed(&mut holder);
    }
    let lost = (0..LOCKS).filter(|at| holder.ask(&format!("check g{at}"))["ok"] != true).count();
    assert_eq!(lost, 0);
}

#[test]
fn a_decreasing_fence_is_refused() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("a", 10);
    let mut holder = opened(&target);
    let fence = holder.must("acquire l g never")["fence"].as_u64().unwrap();
    holder.must("release g");
    // The state of a cluster whose records were copied from a cluster that had run for longer.
    let record = output(cluster.etcdctl().args(["get", ".tenure/a", "--print-value-only"]));
    let mut record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["tenure"]["fence"], fence);
    record["tenure"]["fence"] = json!(fence + 1_000_000);
    output(cluster.etcdctl().args(["put", ".tenure/a", &record.to_string()]));
    let refused = holder.must_fail("acquire l g never", "io");
    assert!(said(&refused).contains(&(fence + 1_000_000).to_string()), "{refused}");
    assert_eq!(keys(&cluster, "a/"), Vec::<String>::new());
    // The remedy that the error names, for the case that no resource knows the older fences.
    output(cluster.etcdctl().args(["del", ".tenure/a"]));
    holder.must("acquire l g never");
    holder.must("release g");
}

#[test]
fn what_kept_the_gateway_from_working_does_not_matter() {
    if !there() || !needs("openssl", has("openssl")) {
        return;
    }
    // The JSON gateway is off.
    let off = Cluster::start_with(1, &["--enable-grpc-gateway=false"]);
    let mut actor = opened(&off.target("a", 10));
    actor.must("acquire l g never");
    actor.must("release g");

    // Users are on, and the client's certificate has a CommonName that is no user's.
    let cluster = Cluster::start_with_tls();
    turn_users_on(&cluster, "hunter2");
    let file = |name: &str| cluster.path(name).display().to_string();
    let certificates = format!("&ca={}&cert={}&key={}", file("ca.pem"), file("client.pem"), file("client.key"));
    let mut actor = app("hunter2");
    actor.must(&format!("open l {}{certificates}", target_of(&cluster, &[0], "app@", "a", "15s")));
    actor.must("acquire l g never");
    await_renewal(&mut actor);
    actor.must("release g");

    // A user that is identified by its certificate alone: without rights first, then with them.
    let mut actor = opened(&format!("{}{certificates}", target_of(&cluster, &[0], "", "ab", "15s")));
    actor.must_fail("acquire l g never", "permission-denied");
    as_root(&cluster, "user add client:unused");
    as_root(&cluster, "user grant-role client locker");
    actor.must("acquire l g never");
    await_renewal(&mut actor);
    actor.must("release g");
}

#[test]
fn a_lock_name_is_no_folder() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let (inner, outer) = (cluster.target("sessions/main", 10), cluster.target("sessions", 10));
    let (mut holder, mut operator) = (opened(&inner), opened(&outer));
    holder.must("acquire l g never");
    // The outer lock waits for the inner one, as `etcdctl lock` does; but a break of the outer lock does not break
    // another lock.
    operator.must_fail("acquire l g never", "busy");
    let refused = operator.must_fail(&format!("break {outer} force"), "in-the-way");
    assert!(said(&refused).contains("sessions/main"), "{refused}");
    holder.must("check g");
    holder.must("release g");

    // Data below a name is no holder, and would never disappear.
    output(cluster.etcdctl().args(["put", "app/config", "x"]));
    let mut waiter = opened(&cluster.target("app", 10));
    let refused = soon(&mut waiter, "acquire l g forever");
    assert_eq!(refused["kind"], "in-the-way", "{refused}");
    assert!(said(&refused).contains("app/config"), "{refused}");
    assert_eq!(keys(&cluster, "app/"), ["app/config"]);
}

#[test]
fn a_list_of_everything_reads_no_foreign_values() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    // Longer than the part of an answer that is read.
    let big = "x".repeat(1_400_000);
    for at in 0..50 {
        etcdctl_reads(&cluster, &["put", &format!("big/{at}")], &big);
    }
    // More keys than one page of an answer.
    for some in 0..20 {
        let puts: String = (0..100).map(|at| format!("put small/{some}/{at} x\n")).collect();
        etcdctl_reads(&cluster, &["txn"], &format!("\n{puts}\n\n"));
    }
    let mut holders: Vec<Actor> = ["a", "m/n", "z/y"].map(|name| opened(&cluster.target(name, 60))).into();
    holders.iter_mut().for_each(|holder| {
        holder.must("acquire l g never");
    });
    let host = format!("etcd://{}:2379", cluster.address(0));
    let listed = soon(&mut holders[0], &format!("list {host}"));
    assert_eq!(listed["ok"], true, "{listed}");
    let pids: Vec<u64> = listed["locks"].as_array().unwrap().iter().map(|lock| lock["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids, holders.iter().map(|holder| u64::from(holder.pid())).collect::<Vec<_>>(), "{listed}");
}

#[test]
fn a_record_that_changes_while_the_server_is_silent_is_shown_later() {
    if !there() {
        return;
    }
    const TTL: u64 = 24;
    let cluster = Cluster::start(1);
    let target = cluster.target("a", TTL);
    let (mut holder, mut observer) = (opened(&target), Actor::start());
    holder.must("acquire l g never");
    holder.must("label g first");
    until("the label", || observer.must(&format!("inspect {target}"))["found"]["label"] == "first");
    await_renewal(&mut holder);
    cluster.signal(0, libc::SIGSTOP);
    holder.must("label g second");
    // Until a renewal is due, which the server does not answer.
    until("a renewal is due", || {
        let left = holder.must("lease g")["lostIn"].as_u64().unwrap();
        assert!(left > 0);
        left < 1000 * TTL * 3 / 4 - 1000 * TTL / 3 - 200
    });
    cluster.signal(0, libc::SIGCONT);
    until("the new label", || observer.must(&format!("inspect {target}"))["found"]["label"] == "second");
    holder.must("check g");
}

/// The request that writes the record of `a`, at a grant and at a release: `PutRequest { key: ".tenure/a", value: .. }`.
/// A request that only reads the record has no value.
const RECORD_WRITE: &str = "\n\x09.tenure/a\x12";

#[test]
fn a_release_whose_answer_was_lost_is_no_loss() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    // The release marks the record in the same transaction.
    let lossy = Lossy::before(cluster.address(0), 2379, r#""state": "released""#);
    let target = format!("etcd://{}:2379,{}:2379/a?ttl=20s", lossy.address(), cluster.address(0));
    let mut holder = opened(&target);
    holder.must("acquire l g never");
    assert!(!lossy.has_lost());
    holder.must("release g");
    assert!(lossy.has_lost());
    let after = holder.must("acquire l g never");
    assert_eq!(after["crashed"], Value::Null, "{after}");
    holder.must("release g");
}

#[test]
fn a_process_does_not_take_over_its_own_lock() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let lossy = Lossy::before(cluster.address(0), 2379, RECORD_WRITE);
    let mut holder = opened(&format!("etcd://{}:2379/a?ttl=20s", lossy.address()));
    let granted = holder.must("acquire l g 60000");
    assert!(lossy.has_lost());
    assert_eq!(granted["crashed"], Value::Null, "{granted}");
    holder.must("check g");
    holder.must("release g");
}

#[test]
fn a_break_ends_only_the_tenure_that_was_seen() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    assert_a_break_ends_only_what_was_seen(&cluster.target("a", 2), &cluster.target("a", 20));
}

#[test]
fn a_late_break_of_a_stale_lock_leaves_the_next_holders_record() {
    if !there() {
        return;
    }
    let cluster = Cluster::start(1);
    let (target, brief) = (cluster.target("a", 20), cluster.target("a", 2));
    let (mut dies, mut next, mut operator) = (opened(&brief), opened(&brief), Actor::start());
    dies.must("acquire l g never");
    dies.kill();
    until("the lock is stale", || found(&mut operator, &target)["state"] == "stale");
    // The break has read the stale record, and its write is late: the next holder comes first.
    let late = Late::going_on_at(cluster.address(0), 2379, |bytes| bytes == b"\"rel");
    operator.send(&format!("break etcd://{}:2379/a?ttl=20s", late.address()));
    late.await_request();
    let pid = next.pid();
    next.must("acquire l g never");
    late.let_through();
    let answer = operator.receive();
    assert_ne!(answer["broken"], true, "{answer}");
    next.kill();
    let after = opened(&target).must("acquire l g 60000");
    assert_eq!(after["crashed"]["pid"], pid, "{after}");
}
