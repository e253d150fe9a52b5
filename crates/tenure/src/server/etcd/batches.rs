//! Transactions of acquires and releases, many in one call.
//!
//! A call costs the cluster a write to its log, and this process a round trip, however many keys it changes. So while some
//! calls are under way, further transactions wait, and are then sent as one: all their conditions, and all their operations.
//! If a condition does not hold, or the cluster refuses the call, nothing of it was executed, and each transaction is sent
//! alone. A transaction that finds no call under way is sent at once.
//!
//! The keys that one call creates have one create revision, by which a queue is ordered. So a call never has two
//! transactions of the same name, unless both only read. Where many wait for one name, they are sent in more calls.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::client::{Client, Outcome, TXN};
use super::messages::{TxnRequest, TxnResponse};
use crate::server::io_thread::within;
use crate::server::lease::ANSWER;

/// The maximum number of conditions, and of operations, of a transaction at a default etcd.
pub(super) const MOST_OPS: usize = 128;
/// The number of calls under way from which on transactions wait.
const FEW_CALLS: usize = 2;
/// The same where most of those that wait are of the same names. A server refuses calls if some thousands are under way.
const MANY_CALLS: usize = 64;
/// How many that wait are looked at for one call, because those of the same name cannot join it.
const LOOKED_AT: usize = 512;

/// The order in which transactions are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It ends a tenure or a place, or a place becomes a tenure by it: other acquires wait for it.
    First,
    /// It begins a place, or reads before it.
    Usual,
}

/// The transactions of a client.
pub(super) struct Batches {
    client: Arc<Client>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    first: VecDeque<Waiting>,
    usual: VecDeque<Waiting>,
    /// The number of those that wait, of each name.
    names: HashMap<Arc<str>, usize>,
    /// The number of calls under way.
    calls: usize,
}

/// A transaction that waits to be sent.
struct Waiting {
    name: Arc<str>,
    request: TxnRequest,
    /// It changes keys.
    changes: bool,
    since: Instant,
    /// How long the call may take.
    limit: Duration,
    /// When the caller wants its answer at the latest.
    by: Option<Instant>,
    is_sent: Arc<AtomicBool>,
    answer: oneshot::Sender<Outcome<TxnResponse>>,
}

impl Waiting {
    fn left(&self, now: Instant) -> Duration {
        self.by.map_or(self.limit, |by| self.limit.min(by.saturating_duration_since(now)))
    }

    /// Returns whether it would wait in vain where a call of `limit` had no answer. A call whose caller had little time left
    /// shows nothing of the cluster.
    fn shares_silence(&self, limit: Duration) -> bool {
        limit >= ANSWER.min(self.limit) || self.since.elapsed() >= self.limit
    }

    fn answer(self, outcome: Outcome<TxnResponse>) {
        // The caller may have gone on without it.
        let _ = self.answer.send(outcome);
    }
}

impl State {
    /// Returns how many calls may be under way for those that wait.
    fn most_calls(&self) -> usize {
        let are_alike = self.first.len() + self.usual.len() >= 2 * self.names.len();
        if are_alike { MANY_CALLS } else { FEW_CALLS }
    }

    fn leave(names: &mut HashMap<Arc<str>, usize>, name: &Arc<str>) {
        if let Some(count) = names.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                names.remove(name);
            }
        }
    }

    /// Takes out the transactions of the next call, in their order.
    fn next(&mut self) -> Batch {
        let now = Instant::now();
        let mut batch = Batch::new(now);
        let State { first, usual, names, .. } = self;
        for queue in [first, usual] {
            let mut stay = VecDeque::new();
            while stay.len() < LOOKED_AT
                && !batch.is_full()
                && let Some(waiting) = queue.pop_front()
            {
                if waiting.answer.is_closed() {
                    State::leave(names, &waiting.name);
                } else if batch.has_room_for(&waiting) {
                    State::leave(names, &waiting.name);
                    waiting.is_sent.store(true, Ordering::Relaxed);
                    batch.add(waiting);
                } else {
                    stay.push_back(waiting);
                }
            }
            while let Some(waiting) = stay.pop_back() {
                queue.push_front(waiting);
            }
        }
        batch
    }

    /// Takes out all transactions that a call without an answer speaks for, which began at that moment and had that much
    /// time.
    fn drain_older(&mut self, than: Instant, limit: Duration) -> Vec<Waiting> {
        let mut drained = Vec::new();
        let State { first, usual, names, .. } = self;
        for queue in [first, usual] {
            for waiting in std::mem::take(queue) {
                if waiting.since <= than && waiting.shares_silence(limit) {
                    State::leave(names, &waiting.name);
                    drained.push(waiting);
                } else {
                    queue.push_back(waiting);
                }
            }
        }
        drained
    }
}

/// Transactions that one call can execute.
struct Batch {
    now: Instant,
    all: Vec<Waiting>,
    /// The names, and whether the transaction of each changes anything.
    names: HashMap<Arc<str>, bool>,
    conditions: usize,
    operations: usize,
    /// The time that is left to each of them.
    least: Duration,
    most: Duration,
}

impl Batch {
    fn new(now: Instant) -> Batch {
        let (all, names, least, most) = (Vec::new(), HashMap::new(), Duration::MAX, Duration::ZERO);
        Batch { now, all, names, conditions: 0, operations: 0, least, most }
    }

    fn is_full(&self) -> bool {
        self.conditions >= MOST_OPS || self.operations >= MOST_OPS
    }

    fn has_room_for(&self, waiting: &Waiting) -> bool {
        if self.all.is_empty() {
            return true;
        }
        let left = waiting.left(self.now);
        // The call has the time of the one that has the least, so none gets less than half of its own.
        let suits = self.least.min(left) >= self.most.max(left) / 2;
        let may_join = self.names.get(&waiting.name).is_none_or(|changes| !changes && !waiting.changes);
        suits
            && may_join
            && self.conditions + waiting.request.compare.len() <= MOST_OPS
            && self.operations + waiting.request.success.len() <= MOST_OPS
    }

    fn add(&mut self, waiting: Waiting) {
        let left = waiting.left(self.now);
        (self.least, self.most) = (self.least.min(left), self.most.max(left));
        self.conditions += waiting.request.compare.len();
        self.operations += waiting.request.success.len();
        self.names.insert(Arc::clone(&waiting.name), waiting.changes);
        self.all.push(waiting);
    }
}

impl Batches {
    pub(super) fn new(client: &Arc<Client>) -> Batches {
        Batches { client: Arc::clone(client), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Executes a transaction on the lock of `name`, perhaps together with those of other names: within `limit` once it is
    /// sent, and `by` that moment at the latest. For tasks of the I/O thread.
    pub(super) async fn txn(
        self: &Arc<Self>,
        urgency: Urgency,
        name: &str,
        request: TxnRequest,
        limit: Duration,
        by: Option<Instant>,
    ) -> Outcome<TxnResponse> {
        let (answer, mut answered) = oneshot::channel();
        let (is_sent, name, since) = (Arc::new(AtomicBool::new(false)), Arc::<str>::from(name), Instant::now());
        let waiting = Waiting {
            name: Arc::clone(&name),
            changes: request.changes(),
            request,
            since,
            limit,
            by,
            is_sent: Arc::clone(&is_sent),
            answer,
        };
        {
            let mut state = self.state();
            *state.names.entry(name).or_default() += 1;
            match urgency {
                Urgency::First => state.first.push_back(waiting),
                Urgency::Usual => state.usual.push_back(waiting),
            }
            if state.calls < state.most_calls() {
                state.calls += 1;
                tokio::spawn(run(Calling { batches: Arc::clone(self), is_over: false }));
            }
        }
        let left = by.map_or(Duration::MAX, |by| by.saturating_duration_since(since));
        if let Some(outcome) = within(left, &mut answered).await {
            return outcome.unwrap_or_else(|_| Outcome::unanswered(vec!["the task that called failed".to_owned()]));
        }
        // Under the mutex, under which it is sent.
        let _state = self.state();
        answered.close();
        match is_sent.load(Ordering::Relaxed) {
            true => Outcome::unanswered(vec![format!("no answer within {} ms", left.as_millis())]),
            false => Outcome::not_sent(vec!["too many calls of this process wait for the cluster".to_owned()]),
        }
    }
}

/// One of the calls under way, which is over at the latest when this is dropped, by a panic.
struct Calling {
    batches: Arc<Batches>,
    is_over: bool,
}

impl Calling {
    /// Returns what is sent next. `None` if no call is needed for it, and then this one is over.
    fn next(&mut self) -> Option<Batch> {
        let mut state = self.batches.state();
        let batch = (state.calls <= state.most_calls()).then(|| state.next()).filter(|batch| !batch.all.is_empty());
        if batch.is_none() {
            state.calls -= 1;
            self.is_over = true;
        }
        batch
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        if !self.is_over {
            self.batches.state().calls -= 1;
        }
    }
}

/// Sends what waits, one call after the other.
async fn run(mut calling: Calling) {
    while let Some(batch) = calling.next() {
        send(&calling.batches, batch).await;
    }
}

/// Executes transactions by one call, or, if that is refused, each by a call of its own.
async fn send(batches: &Batches, batch: Batch) {
    let client = &batches.client;
    let Batch { now: began, least: limit, all, .. } = batch;
    let outcome = match &*all {
        [one] => client.call(&TXN, &one.request, limit).await,
        several => client.call(&TXN, &merged(several), limit).await,
    };
    if outcome.is_unanswered() {
        // Those behind it would wait in vain, one call after the other.
        let drained = batches.state().drain_older(began, limit);
        drained.into_iter().for_each(|waiting| waiting.answer(Outcome::not_sent(outcome.failures.clone())));
    }
    let is_merged = all.len() > 1;
    match outcome.answer {
        Ok(answer) if is_merged && answer.succeeded => {
            let counts: Vec<usize> = all.iter().map(|waiting| waiting.request.success.len()).collect();
            for (waiting, answer) in all.into_iter().zip(answer.split(&counts)) {
                waiting.answer(Outcome { answer: Ok(answer), failures: outcome.failures.clone(), is_sent: true });
            }
        }
        Ok(_) | Err(Some(_)) if is_merged => send_each(client, all, &outcome.failures).await,
        answer => {
            for waiting in all {
                let (answer, failures) = (answer.clone(), outcome.failures.clone());
                waiting.answer(Outcome { answer, failures, is_sent: true });
            }
        }
    }
}

fn merged(all: &[Waiting]) -> TxnRequest {
    let compare = all.iter().flat_map(|waiting| waiting.request.compare.clone()).collect();
    let success = all.iter().flat_map(|waiting| waiting.request.success.clone()).collect();
    TxnRequest { compare, success, failure: Vec::new() }
}

/// Executes each transaction by a call of its own. The `failures` are those of a call that may have executed them.
async fn send_each(client: &Arc<Client>, all: Vec<Waiting>, failures: &[String]) {
    let mut calls = JoinSet::new();
    for waiting in all {
        let (client, mut before) = (Arc::clone(client), failures.to_vec());
        calls.spawn(async move {
            let mut outcome = client.call(&TXN, &waiting.request, waiting.left(Instant::now())).await;
            before.append(&mut outcome.failures);
            outcome.failures = before;
            waiting.answer(outcome);
        });
    }
    while calls.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::super::messages::{Compare, RequestOp};
    use super::*;

    /// A transaction with a condition, and the caller's end of it.
    fn waiting(name: &str, operations: usize, limit: u64) -> (Waiting, oneshot::Receiver<Outcome<TxnResponse>>) {
        let (answer, answered) = oneshot::channel();
        let compare = vec![Compare::created(name.as_bytes(), 0)];
        let request = TxnRequest { compare, success: vec![RequestOp::delete(b"a"); operations], failure: Vec::new() };
        let (since, limit) = (Instant::now(), Duration::from_secs(limit));
        let (name, changes, is_sent) = (name.into(), request.changes(), Arc::default());
        let waiting = Waiting { name, request, changes, since, limit, by: None, is_sent, answer };
        (waiting, answered)
    }

    /// Adds a transaction, whose caller waits on.
    fn add(state: &mut State, name: &str, operations: usize, limit: u64) {
        let (waiting, answered) = waiting(name, operations, limit);
        std::mem::forget(answered);
        *state.names.entry(Arc::clone(&waiting.name)).or_default() += 1;
        state.usual.push_back(waiting);
    }

    fn next(state: &mut State) -> Vec<String> {
        let batch = state.next();
        assert!(batch.all.iter().all(|waiting| waiting.is_sent.load(Ordering::Relaxed)));
        batch.all.iter().map(|waiting| waiting.name.to_string()).collect()
    }

    #[test]
    fn a_call_has_one_transaction_of_each_name() {
        let mut state = State::default();
        ["a", "a", "b", "a", "c", "b"].into_iter().for_each(|name| add(&mut state, name, 3, 5));
        assert_eq!(next(&mut state), ["a", "b", "c"]);
        assert_eq!(next(&mut state), ["a", "b"]);
        assert_eq!(next(&mut state), ["a"]);
        assert!(next(&mut state).is_empty() && state.names.is_empty());
    }

    #[test]
    fn reads_of_one_name_share_a_call_that_changes_nothing() {
        let mut state = State::default();
        for (at, operations) in [("a", 0), ("a", 0), ("b", 1), ("a", 1), ("a", 0), ("b", 0)] {
            add(&mut state, at, operations, 5);
        }
        assert_eq!(next(&mut state), ["a", "a", "b", "a"]);
        assert_eq!(next(&mut state), ["a", "b"]);
    }

    #[test]
    fn many_of_one_name_are_sent_in_many_calls() {
        let mut state = State::default();
        (0..10).for_each(|at| add(&mut state, &at.to_string(), 3, 5));
        assert_eq!(state.most_calls(), FEW_CALLS);
        (0..10).for_each(|_| add(&mut state, "0", 3, 5));
        assert_eq!(state.most_calls(), MANY_CALLS);
        (0..3 * LOOKED_AT).for_each(|_| add(&mut state, "0", 3, 5));
        assert_eq!(next(&mut state).len(), 10);
        assert_eq!(next(&mut state), ["0"]);
    }

    #[test]
    fn a_call_has_as_many_operations_as_a_server_takes() {
        let mut state = State::default();
        (0..100).for_each(|at| add(&mut state, &at.to_string(), 3, 5));
        let sizes: Vec<usize> = (0..3).map(|_| next(&mut state).len()).collect();
        assert_eq!(sizes, [42, 42, 16]);
        // One that is larger than any call is sent alone, and the server refuses it.
        add(&mut state, "a", MOST_OPS + 1, 5);
        add(&mut state, "b", 1, 5);
        assert_eq!(next(&mut state), ["a"]);
    }

    #[test]
    fn a_call_leaves_each_at_least_half_of_its_time() {
        let mut state = State::default();
        for (name, limit) in [("a", 4), ("b", 9), ("c", 8), ("d", 3), ("e", 1), ("f", 4)] {
            add(&mut state, name, 1, limit);
        }
        assert_eq!(next(&mut state), ["a", "c", "f"]);
        assert_eq!(next(&mut state), ["b"]);
        assert_eq!(next(&mut state), ["d"]);
        assert_eq!(next(&mut state), ["e"]);
    }

    #[test]
    fn what_ends_a_place_comes_first_and_what_was_given_up_is_not_sent() {
        let mut state = State::default();
        add(&mut state, "a", 1, 5);
        let (given_up, answered) = waiting("b", 1, 5);
        drop(answered);
        state.names.insert(Arc::clone(&given_up.name), 1);
        state.usual.push_back(given_up);
        let (release, answered) = waiting("a", 1, 5);
        *state.names.get_mut("a").unwrap() += 1;
        let before = release.since;
        state.first.push_back(release);
        assert_eq!(next(&mut state), ["a"]);
        assert_eq!((state.first.len(), state.usual.len(), state.names.len()), (0, 1, 1));
        let limit = Duration::from_secs(5);
        assert_eq!(state.drain_older(before, limit).len(), 1, "it began before the release");
        assert!(state.names.is_empty());
        drop(answered);
    }

    #[test]
    fn only_a_call_that_had_time_speaks_for_those_that_wait() {
        let mut state = State::default();
        add(&mut state, "a", 1, 5);
        let now = Instant::now();
        assert!(state.drain_older(now, Duration::from_millis(3)).is_empty());
        assert_eq!(state.drain_older(now, ANSWER).len(), 1);
        // One that was to have less than that; and one whose time is over.
        let (short, moment) = (Duration::from_millis(600), Duration::from_millis(1));
        for (limit, age, had) in [(short, Duration::ZERO, short), (moment, moment, Duration::ZERO)] {
            add(&mut state, "a", 1, 5);
            state.usual[0].limit = limit;
            state.usual[0].since = Instant::now().checked_sub(age).unwrap();
            assert_eq!(state.drain_older(Instant::now(), had).len(), 1);
        }
        assert!(state.names.is_empty());
    }

    #[test]
    fn an_answer_is_split_as_its_transactions_were_merged() {
        let parts: Vec<Waiting> = [("a", 2), ("b", 0), ("c", 1)].map(|(name, count)| waiting(name, count, 5).0).into();
        let request = merged(&parts);
        assert_eq!((request.compare.len(), request.success.len(), request.failure.len()), (3, 3, 0));
        let mut answer = TxnResponse::of_pairs(&["1", "2", "3"]);
        answer.succeeded = true;
        let shown = |part: &TxnResponse| (0..3).map(|at| part.pairs(at).len()).sum::<usize>();
        let split = answer.split(&[2, 0, 1]);
        assert_eq!(split.iter().map(shown).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(split[2].pairs(0)[0].key, b"3");
        assert!(split.iter().all(|part| part.succeeded));
    }
}
