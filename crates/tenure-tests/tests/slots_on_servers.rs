//! Slots on real servers: numbered names, the same rule as beside a file.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use serde_json::{Value, json};
use tenure_tests::servers::network::Late;
use tenure_tests::servers::{Silent, etcd, postgres, receive_soon, soon};
use tenure_tests::{Actor, until};

enum Server {
    Etcd(etcd::Cluster),
    Postgres(postgres::Postgres),
}

impl Server {
    fn target(&self, name: &str, ttl: u64) -> String {
        match self {
            Server::Etcd(cluster) => cluster.target(name, ttl),
            Server::Postgres(postgres) => postgres.target(name, ttl),
        }
    }
}

/// Starts each kind of server that is installed.
fn servers() -> Vec<Server> {
    let etcd = etcd::there().then(|| Server::Etcd(etcd::Cluster::start(1)));
    let postgres = postgres::there().then(|| Server::Postgres(postgres::Postgres::start()));
    etcd.into_iter().chain(postgres).collect()
}

/// Starts an actor that has opened the target with that many slots as `l`.
fn opened(target: &str, slots: u32) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open l {target} slots={slots}"));
    actor
}

fn take(actor: &mut Actor) -> Value {
    actor.must("acquire l g never")["slot"].clone()
}

fn slots(actor: &mut Actor, target: &str) -> Vec<Value> {
    let answer = actor.must(&format!("slots {target}"));
    answer["slots"].as_array().unwrap().iter().map(|slot| json!([slot["state"], slot["pid"]])).collect()
}

/// Waits for the grant of an acquire that began before.
fn granted(actor: &mut Actor) -> Value {
    let said = receive_soon(actor, "granted");
    assert_eq!(said["ok"], true, "{said}");
    said
}

/// Waits until this actor is the first that waits.
fn until_first(observer: &mut Actor, target: &str, waiter: &Actor) {
    until("the first waiter", || observer.must(&format!("inspect {target}"))["found"]["pid"] == waiter.pid());
}

#[test]
fn each_holder_has_a_slot_and_the_smallest_number_counts() {
    for server in servers() {
        let target = server.target("a/b", 20);
        let (mut one, mut two, mut three, mut more) =
            (opened(&target, 2), opened(&target, 2), opened(&target, 3), opened(&target, 1));
        assert_eq!((take(&mut one), take(&mut two)), (json!(0), json!(1)));
        let busy = two.must_fail("acquire l h never", "busy");
        assert!(busy["error"].as_str().unwrap().contains("no slot of 2 is free: 2 held"), "{busy}");
        assert_eq!(busy["holder"], one.pid());
        // A larger number does not break the promise to the others, and a smaller one waits until fewer hold.
        three.must_fail("acquire l g never", "busy");
        more.must_fail("acquire l g never", "busy");
        assert_eq!(slots(&mut more, &target), [json!(["held", one.pid()]), json!(["held", two.pid()])]);
        // Each is a lock by its own name, and all are below the folder.
        let folder = server.target("a", 20);
        let listed = more.must(&format!("list {folder}"));
        let held = |name: &str| {
            let locks = listed["locks"].as_array().unwrap();
            locks.iter().any(|lock| lock["target"].as_str().unwrap().contains(name) && lock["state"] == "held")
        };
        assert!(held("slot-0") && held("slot-1"), "{listed}");

        one.must("release g");
        more.must_fail("acquire l g never", "busy");
        two.must("release g");
        assert_eq!(take(&mut more), 0);
        three.must_fail("acquire l g never", "busy");
        more.must("release g");
        assert_eq!((take(&mut three), take(&mut one)), (json!(0), json!(1)));
        two.must_fail("acquire l g never", "busy");
        // One of three and one of two leave room for neither.
        assert_eq!(three.must_fail("acquire l h never", "busy")["holder"], three.pid());
        one.must("release g");
        assert_eq!(three.must("acquire l h never")["slot"], 1);
        assert_eq!(three.must("acquire l i never")["slot"], 2);
        // It would wait for itself.
        three.must_fail("acquire l j 10000", "would-deadlock");
        for guard in ["g", "h", "i"] {
            three.must(&format!("release {guard}"));
        }
        assert_eq!(slots(&mut three, &target), [Value::Null; 0]);
        assert!(one.must("acquire l g never")["fence"].as_u64() > Some(0));
    }
}

#[test]
fn a_waiter_gets_the_slot_that_is_freed() {
    for server in servers() {
        let target = server.target("s", 20);
        let next = server.target("s.next", 20);
        let mut observer = Actor::start();
        let (mut one, mut two) = (opened(&target, 2), opened(&target, 2));
        assert_eq!([take(&mut one), take(&mut two)], [0, 1]);
        let (mut waits, mut behind) = (opened(&target, 2), opened(&target, 2));
        waits.must("begin l g forever");
        until_first(&mut observer, &next, &waits);
        behind.must("begin l g forever");
        until("the one behind it", || observer.must(&format!("inspect {next}"))["found"]["waiters"] == 1);
        two.must("release g");
        let got = granted(&mut waits);
        assert_eq!((&got["slot"], &got["crashed"]), (&json!(1), &Value::Null), "{got}");
        until_first(&mut observer, &next, &behind);
        one.must("release g");
        assert_eq!(granted(&mut behind)["slot"], 0);

        // By a future as well, which can be given up.
        one.must_fail("acquire l g 2000", "busy");
        one.must("async l g forever");
        until_first(&mut observer, &next, &one);
        waits.must("release g");
        assert_eq!(granted(&mut one)["slot"], 1);
        // A smaller number waits until enough have ended, whatever order they end in.
        let mut alone = opened(&target, 1);
        alone.must("begin l g forever");
        until_first(&mut observer, &next, &alone);
        one.must("release g");
        behind.must("release g");
        assert_eq!(granted(&mut alone)["slot"], 0);
        alone.must("release g");
        assert_eq!(slots(&mut observer, &target), [Value::Null; 0]);
    }
}

#[test]
fn a_crash_frees_its_slot_and_its_next_holder_hears_of_it() {
    for server in servers() {
        let target = server.target("s", 10);
        let next = server.target("s.next", 10);
        let (mut one, mut two, mut dies) = (opened(&target, 3), opened(&target, 3), opened(&target, 3));
        assert_eq!([take(&mut one), take(&mut dies), take(&mut two)], [0, 1, 2]);
        let mut waits = opened(&target, 3);
        waits.must("begin l g forever");
        until_first(&mut one, &next, &waits);
        let dead = dies.pid();
        dies.kill();
        let got = granted(&mut waits);
        assert_eq!((&got["slot"], &got["crashed"]["pid"]), (&json!(1), &dead.into()), "{got}");
        two.must("release g");
        // The waiter may have been granted this slot as well, and then gives it back.
        let fresh = two.must("acquire l g 60000");
        assert_eq!((&fresh["slot"], &fresh["crashed"]), (&json!(2), &Value::Null), "{fresh}");

        // A waiter that dies leaves its place, also in the queues of the slots.
        let mut first = opened(&target, 3);
        first.must("begin l g forever");
        until_first(&mut one, &next, &first);
        let mut second = opened(&target, 3);
        second.must("begin l g forever");
        first.kill();
        until_first(&mut one, &next, &second);
        waits.must("release g");
        let got = granted(&mut second);
        assert_eq!((&got["slot"], &got["crashed"]), (&json!(1), &Value::Null), "{got}");
    }
}

/// A count admits nobody if the right to count was broken meanwhile, and its process lives and goes on.
#[test]
fn a_count_that_was_broken_admits_none_too_many() {
    if !etcd::there() {
        return;
    }
    let cluster = etcd::Cluster::start(1);
    let target = cluster.target("s", 30);
    let (mut two, mut other) = (opened(&target, 2), opened(&target, 2));
    assert_eq!(take(&mut two), 0);
    let late = Late::going_on_at(cluster.address(0), 2379, |bytes| bytes == b"t-1/");
    let mut counts = opened(&format!("etcd://{}:2379/s?ttl=30s", late.address()), 3);
    counts.must("begin l g forever");
    let count = cluster.target("s.slots", 30);
    late.await_request();
    assert_eq!(other.must(&format!("break {count} force"))["broken"], true);
    assert_eq!(other.must("acquire l g forever")["slot"], 1);
    late.let_through();
    until_first(&mut two, &cluster.target("s.next", 30), &counts);
    assert_eq!(slots(&mut two, &target)[..2], [json!(["held", two.pid()]), json!(["held", other.pid()])]);
    two.must("release g");
    assert_eq!(granted(&mut counts)["slot"], 0);
}

/// The first waiter queues for several slots, each in a session, and leaves one to the other waiters of its process.
#[test]
fn a_waiter_for_a_slot_does_not_take_all_sessions_of_its_process() {
    if !postgres::there() {
        return;
    }
    let postgres = postgres::Postgres::start();
    let (target, plain) = (postgres.target("s", 30), postgres.target("plain", 30));
    let mut holders: Vec<Actor> = (0..3).map(|_| opened(&target, 3)).collect();
    for (number, holder) in holders.iter_mut().enumerate() {
        assert_eq!(take(holder), number);
    }
    holders[0].must(&format!("open p {plain}"));
    holders[0].must("acquire p p never");
    let queued = |name: &str| {
        let key = "(classid::bigint << 32) | objid::bigint";
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND";
        let names = format!(
            "SELECT hashtextextended('{name}' || suffix, 0) FROM (VALUES (''), ('.slot-0'), ('.slot-1'), ('.slot-2')) of (suffix)"
        );
        postgres.ask(&format!("{waits} {key} IN ({names})")).trim().to_owned()
    };
    let mut waits = opened(&format!("{target}&sessions=2"), 3);
    waits.must("begin l g forever");
    until("it queues for a slot", || queued("s") != "0");
    waits.must(&format!("open p {plain}&sessions=2"));
    waits.must("begin p p forever");
    until("it queues for the other lock", || queued("plain") == "1");
    assert_eq!(queued("s"), "1");
    // It looks for the slots in whose queues it is not.
    holders[2].must("release g");
    assert_eq!(granted(&mut waits)["slot"], 2);
    holders[0].must("release p");
    assert_eq!(granted(&mut waits)["guard"], "p");
}

/// The files for TLS are read when the lock is opened, as for a lock without slots.
#[test]
fn an_acquire_of_a_slot_reads_no_file() {
    if !etcd::there() {
        return;
    }
    let cluster = etcd::Cluster::start_with_tls();
    let file = |name: &str| cluster.path(name).display().to_string();
    let ca = cluster.path("ca-for-a-while.pem");
    std::fs::copy(cluster.path("ca.pem"), &ca).unwrap();
    let own = format!("&cert={}&key={}", file("client.pem"), file("client.key"));
    let mut actor = opened(&format!("{}&ca={}{own}", cluster.target("s", 15), ca.display()), 2);
    std::fs::remove_file(&ca).unwrap();
    assert_eq!(actor.must("acquire l g 60000")["slot"], 0);
    actor.must("release g");
}

/// Also an acquire that waits for its turn to count knows at its deadline that the server was silent.
#[test]
fn a_silent_server_is_unreachable_and_not_busy() {
    for (port, words) in [(2379, "s?ttl=300s"), (5432, "postgres?lock=s&ttl=300s")] {
        let silent = Silent::at(port);
        let scheme = if port == 2379 { "etcd" } else { "postgres" };
        let mut actor = opened(&format!("{scheme}://app@{}:{port}/{words}", silent.address()), 2);
        for line in ["acquire l g 1", "acquire l g 1000", "acquire l g never"] {
            let refused = soon(&mut actor, line);
            assert_eq!(refused["kind"], "unreachable", "{line}: {refused}");
        }
        actor.must("async l g 1000");
        assert_eq!(receive_soon(&mut actor, "the end of the wait")["kind"], "unreachable");
    }
}

#[test]
fn what_a_server_has_no_slots_for_is_refused_in_words() {
    let target = "etcd://127.0.0.1:1/s";
    let mut actor = Actor::start();
    for (words, text) in [
        ("slots=0", "from 1 to 1000"),
        ("slots=1001", "from 1 to 1000"),
        ("slots=2 reentrant=1", "takes a slot of its own"),
        ("slots=2 style=flock", "flock style is for files"),
        ("slots=2 steal_after_ms=1000", "break the lock"),
    ] {
        let refused = actor.must_fail(&format!("open l {target} {words}"), "unsupported");
        assert!(refused["error"].as_str().unwrap().contains(text), "{refused}");
    }
    actor.must(&format!("open l {target} slots=2"));
    actor.must_fail("acquire l g never", "unreachable");
    let refused = actor.must_fail("share l g never", "unsupported");
    assert!(refused["error"].as_str().unwrap().contains("cannot be shared"), "{refused}");
}
