//! The processes, in virtual time. Each one follows the library's rules for renewals, calls and acquires
//! (`crates/tenure/src/server/etcd`: `session.rs`, `client.rs`, `place.rs`).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use super::cluster::{Cluster, MEMBERS, Time, Work, nanos};
use super::limits::Limits;

/// The number of keys that one transaction confirms.
const BATCH: usize = 128;
/// The time between two attempts to renew.
const PAUSE: Time = 100_000_000;
/// The maximum time of one call.
const CALL: Time = 5_000_000_000;
/// The number of acquires of a process under way at once.
const MOST_CALLS: usize = 128;
/// The time between two looks at the keys of waiters, and how many waiters one transaction looks after.
const LOOK_AGAIN: Time = 3_000_000_000;
const LOOKED_AFTER: usize = BATCH / 2;
/// How long a member that died is away.
const AWAY: Time = 10_000_000_000;

/// What happens.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// The processes that hold from the start, and how many locks each of them holds.
    pub(crate) processes: usize,
    pub(crate) holds: usize,
    pub(crate) ttl: Duration,
    /// The virtual time that is measured, after one `ttl` that is not.
    pub(crate) time: Duration,
    /// The member that all processes use leads and dies, this long after the measurement began.
    pub(crate) failover_after: Option<Duration>,
    /// Processes that begin to acquire as many locks, half a second later.
    pub(crate) newcomers: usize,
    /// Hand-offs a second in the whole cluster, and waiters of each process.
    pub(crate) hand_offs: f64,
    pub(crate) waiters: usize,
}

/// The result of a scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Requests but for those of hand-offs, renewals that succeeded and that failed, in the measured time.
    pub(crate) requests: u64,
    pub(crate) renewals: Vec<Time>,
    pub(crate) failed: u64,
    /// The processes whose lease was lost, each with all its locks.
    pub(crate) lost: usize,
    /// The longest time without a confirmed renewal.
    pub(crate) longest: Time,
    /// How long each newcomer took to acquire all its locks.
    pub(crate) acquired: Vec<Time>,
    /// How long each hand-off took.
    pub(crate) handed_off: Vec<Time>,
    /// The part of its time that the busiest member worked.
    pub(crate) busy: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake(usize),
    Answer { call: u64, attempt: usize, failovers: usize },
    Unanswered { call: u64, attempt: usize },
    Expired { process: usize, round: u64 },
    Look(usize),
    HandOff,
    Acquire(usize),
    FailOver,
    Measure,
    End,
}

struct Process {
    first: usize,
    keys: usize,
    /// When the last confirmed renewal was sent.
    confirmed: Time,
    again: Option<Time>,
    round: u64,
    renewal: Option<Renewal>,
    is_lost: bool,
    /// The locks that a newcomer has yet to ask for, and those that were not granted yet.
    to_ask: usize,
    to_get: usize,
    began: Time,
}

struct Renewal {
    sent: Time,
    end: Time,
    term: usize,
    unanswered: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    KeepAlive,
    Confirm,
    /// The first or the second transaction of an acquire.
    Acquire {
        second: bool,
    },
}

struct Call {
    process: usize,
    round: u64,
    kind: Kind,
    end: Time,
    share: Time,
    begun_at: usize,
    attempt: usize,
}

/// A generator whose numbers the random seed determines (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a time that is up to a fifth shorter or longer.
    fn about(&mut self, time: Time) -> Time {
        (time as f64 * (0.8 + 0.4 * self.part())) as Time
    }
}

struct Simulation<'a> {
    limits: &'a Limits,
    scenario: &'a Scenario,
    random: Random,
    now: Time,
    sequence: u64,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    cluster: Cluster,
    failovers: usize,
    processes: Vec<Process>,
    calls: HashMap<u64, Call>,
    last_call: u64,
    ttl: Time,
    /// The time that a request takes to its member.
    way: Time,
    measuring: bool,
    outcome: Outcome,
}

/// Runs a scenario to its end.
pub(crate) fn run(limits: &Limits, scenario: &Scenario) -> Outcome {
    let ttl = nanos(scenario.ttl);
    let work = nanos(limits.acquire) / 2;
    let mut simulation = Simulation {
        limits,
        scenario,
        random: Random(scenario.seed),
        now: 0,
        sequence: 0,
        events: BinaryHeap::new(),
        cluster: Cluster::new(limits.cores),
        failovers: 0,
        processes: Vec::new(),
        calls: HashMap::new(),
        last_call: 0,
        ttl,
        way: nanos(limits.call).saturating_sub(work) / 2,
        measuring: false,
        outcome: Outcome::default(),
    };
    simulation.begin();
    while simulation.step() {}
    simulation.outcome
}

/// Returns the requests of one renewal of that many locks.
pub(crate) fn requests_of_renewal(keys: usize) -> usize {
    1 + keys.div_ceil(BATCH).max(1)
}

impl Simulation<'_> {
    fn at(&mut self, time: Time, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }

    fn begin(&mut self) {
        let scenario = self.scenario;
        for process in 0..scenario.processes {
            // Each has confirmed its lease at some moment of the third of `ttl` before the start.
            let since = (self.random.part() * (self.ttl / 3) as f64) as Time;
            let wake = self.ttl / 3 - since;
            // Its next renewal is due then. The clock does not begin before 0.
            self.processes.push(Process { confirmed: 0, ..Process::new(scenario.holds) });
            self.processes[process].again = Some(wake);
            self.at(wake, Event::Wake(process));
            if scenario.waiters > 0 {
                let first = (self.random.part() * LOOK_AGAIN as f64) as Time;
                self.at(first, Event::Look(process));
            }
        }
        let (start, time) = (self.ttl, nanos(scenario.time));
        self.at(start, Event::Measure);
        self.at(start + time, Event::End);
        let failover = scenario.failover_after.map(|after| start + nanos(after));
        if let Some(at) = failover {
            self.at(at, Event::FailOver);
        }
        let began = failover.unwrap_or(start) + nanos(Duration::from_millis(500));
        for _ in 0..scenario.newcomers {
            let process = self.processes.len();
            let (to_ask, to_get) = (scenario.holds, scenario.holds);
            self.processes.push(Process { confirmed: began, to_ask, to_get, began, ..Process::new(0) });
            self.at(began, Event::Acquire(process));
            self.at(began + self.ttl / 3, Event::Wake(process));
        }
        if scenario.hand_offs > 0.0 {
            self.at(start, Event::HandOff);
        }
    }

    /// Handles the next event; `false` at the end.
    fn step(&mut self) -> bool {
        let Some(Reverse((time, _, event))) = self.events.pop() else { return false };
        self.now = time;
        match event {
            Event::Wake(process) => self.wake(process),
            Event::Answer { call, attempt, failovers } => self.answer(call, attempt, failovers),
            Event::Unanswered { call, attempt } => self.unanswered(call, attempt),
            Event::Expired { process, round } => {
                if self.processes[process].round == round && self.processes[process].renewal.is_some() {
                    self.fail(process);
                }
            }
            Event::Look(process) => self.look(process),
            Event::HandOff => self.hand_off(),
            Event::Acquire(process) => self.acquire(process),
            Event::FailOver => self.fail_over(),
            Event::Measure => {
                self.measuring = true;
                self.cluster.reset_busy();
            }
            Event::End => {
                self.outcome.busy = self.cluster.busy(nanos(self.scenario.time));
                for process in self.processes.iter().filter(|process| !process.is_lost) {
                    self.outcome.longest = self.outcome.longest.max(self.now - process.confirmed);
                }
                return false;
            }
        }
        true
    }

    fn wake(&mut self, at: usize) {
        let process = &mut self.processes[at];
        if process.is_lost || process.renewal.is_some() {
            return;
        }
        let lost_at = process.confirmed + self.ttl / 4 * 3;
        if self.now >= lost_at {
            process.is_lost = true;
            process.to_ask = 0;
            self.outcome.lost += 1;
            self.outcome.longest = self.outcome.longest.max(self.now - process.confirmed);
            return;
        }
        let due = process.again.unwrap_or(process.confirmed + self.ttl / 3);
        if self.now < due {
            return self.at(due.min(lost_at), Event::Wake(at));
        }
        process.round += 1;
        let (round, end) = (process.round, self.now + (self.ttl / 3).min(CALL).min(lost_at - self.now));
        process.renewal = Some(Renewal { sent: self.now, end, term: 0, unanswered: 1 });
        self.at(end, Event::Expired { process: at, round });
        self.call(at, round, Kind::KeepAlive, end);
    }

    /// Begins a call, at the member that answered last.
    fn call(&mut self, process: usize, round: u64, kind: Kind, end: Time) {
        self.last_call += 1;
        let begun_at = self.processes[process].first;
        let share = (end - self.now) / MEMBERS as u64;
        self.calls.insert(self.last_call, Call { process, round, kind, end, share, begun_at, attempt: 0 });
        self.attempt(self.last_call);
    }

    fn attempt(&mut self, number: u64) {
        let call = &self.calls[&number];
        let (attempt, share, end) = (call.attempt, call.share, call.end);
        let member = (call.begun_at + attempt) % MEMBERS;
        let work = match call.kind {
            Kind::KeepAlive => Work::Read(nanos(self.limits.keep_alive)),
            Kind::Confirm => Work::Read(nanos(self.limits.confirm)),
            Kind::Acquire { .. } => Work::Write(nanos(self.limits.acquire) / 2),
        };
        let work = match work {
            Work::Read(cost) => Work::Read(self.random.about(cost)),
            Work::Write(cost) => Work::Write(self.random.about(cost)),
        };
        if self.measuring {
            self.outcome.requests += 1;
        }
        let arrival = self.now + self.random.about(self.way);
        match self.cluster.serve(member, arrival, work) {
            Some(done) => {
                let failovers = self.failovers;
                self.at(done + self.way, Event::Answer { call: number, attempt, failovers });
                self.at((self.now + share).min(end), Event::Unanswered { call: number, attempt });
            }
            // The connection is refused at once.
            None => self.at(arrival + self.way, Event::Unanswered { call: number, attempt }),
        }
    }

    fn unanswered(&mut self, number: u64, attempt: usize) {
        let Some(call) = self.calls.get_mut(&number).filter(|call| call.attempt == attempt) else { return };
        let member = (call.begun_at + attempt) % MEMBERS;
        let process = call.process;
        call.attempt += 1;
        let is_over = call.attempt == MEMBERS || self.now >= call.end;
        let first = &mut self.processes[process].first;
        if *first == member {
            *first = (member + 1) % MEMBERS;
        }
        if !is_over {
            return self.attempt(number);
        }
        let Some(call) = self.calls.remove(&number) else { return };
        match call.kind {
            // It is repeated from the start.
            Kind::Acquire { .. } => {
                self.processes[process].to_ask += 1;
                self.at(self.now + PAUSE, Event::Acquire(process));
            }
            _ if self.processes[process].round == call.round => self.fail(process),
            _ => {}
        }
    }

    fn answer(&mut self, number: u64, attempt: usize, failovers: usize) {
        if failovers < self.failovers {
            // It was under way when the leader died, and is never answered.
            return;
        }
        let Some(call) = self.calls.get(&number).filter(|call| call.attempt == attempt) else { return };
        let (process, round, kind) = (call.process, call.round, call.kind);
        let member = (call.begun_at + attempt) % MEMBERS;
        if self.processes[process].first == call.begun_at {
            self.processes[process].first = member;
        }
        self.calls.remove(&number);
        if let Kind::Acquire { second } = kind {
            return self.acquired(process, second);
        }
        if self.processes[process].round != round {
            return;
        }
        let term = self.cluster.term(self.now);
        let keys = self.processes[process].keys;
        let Some(renewal) = &mut self.processes[process].renewal else { return };
        if kind == Kind::KeepAlive {
            renewal.term = term;
            renewal.unanswered = requests_of_renewal(keys) - 1;
            let (count, end) = (renewal.unanswered, renewal.end);
            for _ in 0..count {
                self.call(process, round, Kind::Confirm, end);
            }
            return;
        }
        if renewal.term != term {
            return self.fail(process);
        }
        renewal.unanswered -= 1;
        if renewal.unanswered > 0 {
            return;
        }
        let sent = renewal.sent;
        let process_state = &mut self.processes[process];
        if self.measuring {
            self.outcome.renewals.push(self.now - sent);
            self.outcome.longest = self.outcome.longest.max(self.now - process_state.confirmed);
        }
        process_state.confirmed = sent;
        process_state.again = None;
        process_state.renewal = None;
        let next = (sent + self.ttl / 3).max(self.now);
        self.at(next, Event::Wake(process));
    }

    /// Ends a renewal that failed. The calls of its that are under way are forgotten; the members do their work nevertheless.
    fn fail(&mut self, at: usize) {
        self.outcome.failed += u64::from(self.measuring);
        let process = &mut self.processes[at];
        process.round += 1;
        process.renewal = None;
        process.again = Some(self.now + PAUSE);
        let wake = (self.now + PAUSE).min(process.confirmed + self.ttl / 4 * 3).max(self.now);
        self.calls.retain(|_, call| call.process != at || matches!(call.kind, Kind::Acquire { .. }));
        self.at(wake, Event::Wake(at));
    }

    /// Looks after the waiters of a process.
    fn look(&mut self, process: usize) {
        let member = self.processes[process].first;
        let mut last = self.now;
        for _ in 0..self.scenario.waiters.div_ceil(LOOKED_AFTER) {
            self.outcome.requests += u64::from(self.measuring);
            let cost = self.random.about(nanos(self.limits.confirm));
            let done = self.cluster.serve(member, self.now + self.way, Work::Read(cost));
            last = last.max(done.unwrap_or(self.now) + self.way);
        }
        self.at(last + LOOK_AGAIN, Event::Look(process));
    }

    fn hand_off(&mut self) {
        let process = (self.random.next() % self.processes.len() as u64) as usize;
        let member = self.processes[process].first;
        // A place in the queue, a grant and a release are written; the rest is read.
        let written = (nanos(self.limits.acquire) / 2 * 3).min(nanos(self.limits.hand_off));
        let read = nanos(self.limits.hand_off) - written;
        for work in [Work::Read(self.random.about(read)), Work::Write(self.random.about(written))] {
            if let Some(done) = self.cluster.serve(member, self.now + self.way, work)
                && let Work::Write(_) = work
            {
                self.outcome.handed_off.push(done + self.way - self.now);
            }
        }
        let gap = self.random.about((1e9 / self.scenario.hand_offs) as Time);
        self.at(self.now + gap, Event::HandOff);
    }

    /// Asks for as many locks as may be asked for at once.
    fn acquire(&mut self, at: usize) {
        let under_way = |process: &Process| process.to_get - process.to_ask;
        while self.processes[at].to_ask > 0 && under_way(&self.processes[at]) < MOST_CALLS {
            self.processes[at].to_ask -= 1;
            self.call(at, 0, Kind::Acquire { second: false }, self.now + (self.ttl / 3).min(CALL));
        }
    }

    fn acquired(&mut self, at: usize, second: bool) {
        if !second {
            return self.call(at, 0, Kind::Acquire { second: true }, self.now + (self.ttl / 3).min(CALL));
        }
        let process = &mut self.processes[at];
        process.keys += 1;
        process.to_get -= 1;
        if process.to_get == 0 {
            self.outcome.acquired.push(self.now - process.began);
        }
        self.acquire(at);
    }

    fn fail_over(&mut self) {
        self.failovers += 1;
        let until = self.now + nanos(self.limits.failover);
        // All processes name the members in the same order, so they use the same one.
        let leader = self.processes.first().map_or(0, |process| process.first);
        self.cluster.fail_over(leader, self.now, until, self.now + AWAY);
        // Its connections end.
        let broken: Vec<(u64, usize)> = self
            .calls
            .iter()
            .filter(|(_, call)| (call.begun_at + call.attempt) % MEMBERS == leader)
            .map(|(number, call)| (*number, call.attempt))
            .collect();
        let mut broken = broken;
        broken.sort_unstable();
        for (call, attempt) in broken {
            self.at(self.now, Event::Unanswered { call, attempt });
        }
    }
}

impl Process {
    fn new(keys: usize) -> Process {
        let (again, renewal) = (None, None);
        let (first, confirmed, round, to_ask, to_get, began) = (0, 0, 0, 0, 0, 0);
        Process { first, keys, confirmed, again, round, renewal, is_lost: false, to_ask, to_get, began }
    }
}
