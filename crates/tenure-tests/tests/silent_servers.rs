//! A server that falls silent while acquires wait: at their deadline it is not known whether the lock is still held.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use serde_json::Value;
use tenure_tests::servers::etcd::{self, Cluster};
use tenure_tests::servers::postgres::{self, Postgres};
use tenure_tests::servers::{found, opened, receive_soon, said};
use tenure_tests::{Actor, until};

/// So long a lease, in seconds, that none ends during a test.
const LONG: u64 = 3600;

/// Acquires that wait, each with the line that begins it.
struct Waiting {
    waiters: Vec<(Actor, &'static str)>,
}

impl Waiting {
    /// Acquires of a lock, shared too, and of a slot.
    fn of(target: &str, slotted: &str) -> Waiting {
        let mut waiting = Waiting { waiters: Vec::new() };
        waiting.add(target, "", "begin");
        waiting.add(target, "", "begin-share");
        waiting.add(slotted, " slots=1", "begin");
        waiting
    }

    fn add(&mut self, target: &str, keys: &str, line: &'static str) {
        let mut actor = Actor::start();
        actor.must(&format!("open l {target}{keys}"));
        self.waiters.push((actor, line));
    }

    /// Begins all of them with one deadline, and calls `falls_silent` once `all_wait`. Returns their answers. Where the machine
    /// is so slow that the deadline comes before that, they begin again with a later one.
    fn outcomes(&mut self, mut all_wait: impl FnMut() -> bool, falls_silent: impl Fn(bool)) -> Vec<Value> {
        for seconds in [20, 60] {
            for (actor, line) in &mut self.waiters {
                actor.must(&format!("{line} l g {seconds}000"));
            }
            until("all wait", || all_wait() || self.waiters.iter().any(|(actor, _)| actor.has_answered()));
            falls_silent(true);
            let is_late = self.waiters.iter().any(|(actor, _)| actor.has_answered());
            let answers = self.waiters.iter_mut().map(|(actor, line)| receive_soon(actor, line)).collect();
            falls_silent(false);
            if !is_late {
                return answers;
            }
        }
        panic!("they were never seen to wait");
    }
}

/// Starts the holder of a lock and that of a slot.
fn holders(target: &str, slotted: &str) -> (Actor, Actor) {
    let (mut holder, mut slot) = (opened(target), Actor::start());
    slot.must(&format!("open l {slotted} slots=1"));
    slot.must("acquire l g never");
    holder.must("acquire l g never");
    // While the server answers, the lock is busy, however little time there is.
    opened(target).must_fail("acquire l g 1", "busy");
    opened(target).must_fail("acquire l g never", "busy");
    (holder, slot)
}

fn is_unknown(answers: &[Value]) {
    for answer in answers {
        assert_eq!((&answer["event"], &answer["kind"]), (&"refused".into(), &"unreachable".into()), "{answers:?}");
    }
}

#[test]
fn a_waiter_at_a_silent_etcd_does_not_say_that_the_lock_is_held() {
    if !etcd::there() {
        return;
    }
    let cluster = Cluster::start(1);
    let (target, slotted) = (cluster.target("a", LONG), cluster.target("s", LONG));
    let ((mut holder, _slot), mut observer) = (holders(&target, &slotted), Actor::start());

    let mut waiting = Waiting::of(&target, &slotted);
    let mut all_wait = || {
        let waiters = |observer: &mut Actor, name: &str| {
            found(observer, &cluster.target(name, LONG))["waiters"].as_u64().unwrap_or_default()
        };
        waiters(&mut observer, "a") == 2 && waiters(&mut observer, "s.slot-0") == 1
    };
    let stop = |stops: bool| cluster.signal(0, if stops { libc::SIGSTOP } else { libc::SIGCONT });
    let answers = waiting.outcomes(&mut all_wait, stop);
    is_unknown(&answers);
    assert!(said(&answers[0]).contains("not known"), "{}", answers[0]);

    // The holder's process knows that it holds, by its clock.
    let target = target.clone();
    let mut observer = Actor::start();
    holder.must("begin l h 20000");
    until("it waits", || holder.has_answered() || found(&mut observer, &target)["waiters"] == 1);
    stop(true);
    assert_eq!(receive_soon(&mut holder, "the holder's other thread")["kind"], "busy");
    stop(false);
    holder.must("check g");
    // What waits now is answered again.
    opened(&target).must_fail("acquire l g 1", "busy");
}

#[test]
fn a_waiter_at_a_silent_postgres_does_not_say_that_the_lock_is_held() {
    if !postgres::there() {
        return;
    }
    let postgres = Postgres::start();
    let target_of = |name: &str| format!("{}&sessions=1", postgres.target(name, LONG));
    let (target, slotted) = (target_of("a"), target_of("s"));
    let (_holders, mut observer) = (holders(&target, &slotted), Actor::start());

    let mut waiting = Waiting::of(&target, &slotted);
    let waiters =
        |observer: &mut Actor, name: &str| found(observer, &target_of(name))["waiters"].as_u64().unwrap_or_default();
    let mut all_wait = || waiters(&mut observer, "a") == 2 && waiters(&mut observer, "s.slot-0") == 1;
    let stop = |stops: bool| if stops { postgres.freeze() } else { postgres.thaw() };
    let answers = waiting.outcomes(&mut all_wait, stop);
    is_unknown(&answers);

    // A second acquire of a process whose one session waits for another is tried again and again by the process.
    let mut both = opened(&target);
    both.must("begin l g forever");
    let mut observer = Actor::start();
    until("its session waits", || waiters(&mut observer, "a") == 1);
    for seconds in [20, 60] {
        both.must(&format!("begin l h {seconds}000"));
        stop(true);
        let is_late = both.has_answered();
        let answer = receive_soon(&mut both, "the second");
        stop(false);
        if !is_late {
            is_unknown(&[answer]);
            break;
        }
    }
}
