//! The round with slots: several hold at once, each as one of the slots of one lock. Natives by the library, with threads and
//! dropped futures, and by `tenure run --slots`, of different numbers of slots.
//!
//! At any time at most as many may be inside as the smallest number that any of them asked for, and one in each slot. The
//! witness is one record lock for each holder inside; the numbers are in memory that the processes share
//! ([`crate::board`]). A holder enters alone, so that the holders that it finds are inside at once. On a server it is inside
//! until the lease is over that it had then.

use std::collections::HashSet;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tenure::{Guard, Lock, Previous, State, Wait};

use crate::board::{
    BUSY, Board, DOUBLES, ERRORS, FALSE_REPORTS, FENCES_DOWN, GRANTS, Inside, SEATS, TAKEOVERS, TOO_MANY, UNREPORTED,
};
use crate::chance::Chance;
use crate::round::reap_orphans;
use crate::sum::Sum;
use crate::team::{Programs, end_with_us};
use crate::verdict;
use crate::witness::Witness;
use crate::workers;

/// The longest time that the round may go without a grant, and that all workers may take for the last one, on a loaded
/// machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The number of grants from one kill or stop to the next, and the longest time.
const BETWEEN_STRIKES: u64 = 15;
const LONGEST_PEACE: Duration = Duration::from_secs(1);
/// The kinds of workers: one thread; several, with futures; `tenure run`.
const KINDS: [&str; 4] = ["alone", "crowd", "run", "crowd"];
const CROWD: usize = 3;
/// The numbers of slots, of which each acquire takes one.
const NUMBERS: [u32; 12] = [5, 5, 5, 5, 4, 4, 4, 3, 3, 3, 2, 1];
/// The largest of them.
const MOST: u32 = 5;
/// The byte that a holder locks while it enters.
const ENTRANCE: i64 = 9000;
/// The byte of the first seat of the first worker.
const INSIDE: i64 = 10_000;

/// A worker's view of the witness.
struct Site {
    board: Board,
    bytes: Witness,
    worker: usize,
    /// Record locks do not distinguish threads.
    door: Mutex<()>,
    /// Whether all holders of this worker are threads of this process.
    threads: bool,
}

/// A grant, as its holder knows it.
struct Entry {
    slots: u32,
    slot: u32,
    fence: u64,
    /// The fence of the crashed holder that the grant reported; `None` for a holder that cannot ask.
    crashed: Option<Option<u64>>,
    /// Until when the holder may rely on its lease.
    until: Option<Duration>,
}

/// What a holder finds that enters.
struct Found {
    /// How many are inside now.
    count: u32,
    /// The smallest number that any of them asked for.
    smallest: u32,
    /// Another one has the same slot.
    is_double: bool,
}

/// Returns the time of the clock that leases run on.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Site {
    fn open(witness: &Path, worker: usize, threads: bool) -> Site {
        let (board, bytes) = (Board::open(&witness.join("board")), Witness::open(&witness.join("bytes")));
        Site { board, bytes, worker, door: Mutex::new(()), threads }
    }

    fn add(&self, which: usize, entry: &Entry) {
        self.board.add(self.worker, which, entry.slot as usize);
    }

    fn byte(&self, worker: usize, seat: usize) -> i64 {
        INSIDE + (worker * SEATS + seat) as i64
    }

    /// Takes a seat, and returns who is inside now.
    fn enter(&self, seat: usize, entry: &Entry) -> Found {
        let _alone = self.door.lock().unwrap();
        self.bytes.wait(ENTRANCE);
        let (slots, slot) = (entry.slots, entry.slot);
        self.board.set_inside(self.worker, seat, Some(Inside { slots, slot, until: entry.until }));
        assert!(self.bytes.take(self.byte(self.worker, seat)), "the seat is another's");
        let mut found = Found { count: 1, smallest: slots, is_double: false };
        for worker in 0..Board::WORKERS {
            for other in (0..SEATS).filter(|other| (worker, *other) != (self.worker, seat)) {
                let Some(inside) = self.board.inside(worker, other) else { continue };
                let is_here = self.threads && worker == self.worker;
                if inside.until.is_none_or(|until| now() < until)
                    && (is_here || self.bytes.taken(self.byte(worker, other)))
                {
                    found.count += 1;
                    found.smallest = found.smallest.min(inside.slots);
                    found.is_double |= inside.slot == slot;
                }
            }
        }
        self.bytes.leave(ENTRANCE);
        found
    }

    fn leave(&self, seat: usize) {
        self.bytes.leave(self.byte(self.worker, seat));
        self.board.set_inside(self.worker, seat, None);
    }

    /// Returns a seat that no other command of this worker has: one may outlive the `tenure` that was killed.
    fn free_seat(&self) -> usize {
        (0..SEATS).find(|seat| !self.bytes.taken(self.byte(self.worker, *seat))).expect("a command that ended")
    }

    /// Does a holder's work: a little, mostly none.
    fn work(&self, seat: usize, entry: &Entry, chance: &mut Chance) {
        let me = || format!("pid {} fence {} of {} slots", std::process::id(), entry.fence, entry.slots);
        let fault = |which, text: String| {
            self.add(which, entry);
            eprintln!("slot {}: {}: {text}", entry.slot, me());
        };
        let Found { count, smallest, is_double } = self.enter(seat, entry);
        if count > smallest {
            fault(TOO_MANY, format!("{count} are inside, of which one agreed to {smallest}"));
        }
        let slot = entry.slot as usize;
        if entry.slot >= entry.slots {
            fault(ERRORS, "there is no such slot".into());
        }
        let died = self.board.open_fence(slot);
        if is_double {
            fault(DOUBLES, format!("fence {died} has it too"));
        }
        match entry.crashed {
            Some(None) if died > 0 => fault(UNREPORTED, format!("fence {died} died, which was not reported")),
            Some(Some(fence)) => {
                self.add(TAKEOVERS, entry);
                if fence <= self.board.released(slot) {
                    fault(FALSE_REPORTS, format!("fence {fence} was reported as crashed, and had released"));
                }
            }
            _ => {}
        }
        if !self.board.enter(slot, entry.fence) {
            fault(FENCES_DOWN, "a larger fence was there before".into());
        }
        // The death of a command is no crash of the holder.
        self.board.set_open(slot, if entry.crashed.is_some() { entry.fence } else { 0 });
        if chance.one_in(4) {
            std::thread::sleep(chance.micros(400));
        }
        self.board.set_open(slot, 0);
        self.leave(seat);
        self.add(GRANTS, entry);
    }
}

/// Runs a worker of this round, which acquires and releases until it is asked for its last grant.
pub fn work(target: &Path, witness: &Path, worker: usize, seed: u64) -> ! {
    workers::half_wait_directly(seed ^ (u64::from(std::process::id()) << 32));
    let site = Site::open(witness, worker, true);
    for seat in 0..SEATS {
        site.board.set_inside(worker, seat, None);
    }
    let locks: Vec<Lock> = (1..=MOST).map(|n| Lock::options().slots(n).open(target).unwrap()).collect();
    let threads = if KINDS[worker % KINDS.len()] == "crowd" { CROWD } else { 1 };
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (locks, site) = (&locks, &site);
            scope.spawn(move || {
                let mut chance = Chance(seed.wrapping_add(thread as u64) ^ (u64::from(std::process::id()) << 32));
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                while hold_once(locks, site, thread, threads > 1, &runtime, &mut chance) {}
            });
        }
    });
    std::process::exit(0);
}

fn number(chance: &mut Chance) -> u32 {
    NUMBERS[chance.below(NUMBERS.len() as u64) as usize]
}

/// Returns `false` after the last grant.
fn hold_once(
    locks: &[Lock],
    site: &Site,
    seat: usize,
    futures: bool,
    runtime: &tokio::runtime::Runtime,
    chance: &mut Chance,
) -> bool {
    let last = site.board.is_last();
    let slots = number(chance);
    let lock = &locks[slots as usize - 1];
    let wait = workers::how_long(chance, last);
    let outcome = match futures && chance.one_in(4) {
        true if !last && chance.one_in(2) => {
            runtime.block_on(async { tokio::time::timeout(chance.micros(10_000), lock.acquire_async(wait)).await.ok() })
        }
        true => Some(runtime.block_on(lock.acquire_async(wait))),
        false => Some(lock.acquire_with(wait)),
    };
    match outcome {
        Some(Ok(guard)) => {
            hold(site, seat, slots, guard, chance);
            return !last;
        }
        Some(Err(error)) if error.is_busy() && wait != Wait::Forever => site.board.add(site.worker, BUSY, 0),
        Some(Err(error)) => {
            site.board.add(site.worker, ERRORS, 0);
            eprintln!("slots: pid {} could not acquire: {error}", std::process::id());
        }
        None => {}
    }
    true
}

fn hold(site: &Site, seat: usize, slots: u32, guard: Guard, chance: &mut Chance) {
    let slot = guard.slot().unwrap();
    let crashed = match guard.previous() {
        Previous::Crashed(holder) => Some(holder.fence.unwrap_or(u64::MAX)),
        _ => None,
    };
    let fence = guard.fence().unwrap_or_default();
    let lease = guard.lease();
    let until = lease.map(|lease| now() + lease.lost_in);
    let entry = Entry { slots, slot, fence, crashed: Some(crashed), until };
    if guard.check().is_ok() {
        site.work(seat, &entry, chance);
    }
    match guard.check().and_then(|()| guard.release()) {
        Ok(()) => site.board.set_released(slot as usize, fence),
        // A lease may run out on a loaded machine, and a server be silent.
        Err(error) if until.is_some() && (error.is_lost() || error.is_unreachable()) => {}
        Err(error) => {
            site.add(ERRORS, &entry);
            eprintln!("slot {slot}: pid {} fence {fence} lost it: {error}", std::process::id());
        }
    }
}

/// Does the work of a holder by `tenure run --slots`.
pub fn inside(witness: &Path, worker: usize, slots: u32, seed: u64) {
    let from = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let site = Site::open(witness, worker, false);
    let seat = site.free_seat();
    let entry =
        Entry { slots, slot: from("TENURE_SLOT") as u32, fence: from("TENURE_FENCE"), crashed: None, until: None };
    site.work(seat, &entry, &mut Chance(seed));
}

struct Worker {
    child: Option<Child>,
    goes_on_at: Option<Instant>,
    killed: bool,
}

/// The driver of the round.
struct Round<'a> {
    programs: &'a Programs,
    target: PathBuf,
    /// A server keeps the lock, and a crash frees a slot when a lease is over.
    is_on_server: bool,
    witness: &'a Path,
    board: Board,
    workers: Vec<Worker>,
    chance: Chance,
    sum: Sum,
}

fn kind(worker: usize, programs: &Programs) -> &'static str {
    match KINDS[worker % KINDS.len()] {
        "run" if programs.tenure.is_none() => "alone",
        kind => kind,
    }
}

/// Runs the round with that many processes, with a lock in `folder`, or below a name on a server.
pub fn run(
    programs: &Programs,
    folder: &Path,
    server: Option<&Path>,
    witness: &Path,
    size: usize,
    seed: u64,
    length: Duration,
) -> Sum {
    for made in [folder, witness] {
        std::fs::create_dir_all(made).unwrap();
    }
    Witness::create(&witness.join("bytes"));
    let board = Board::create(&witness.join("board"));
    let (workers, chance) = (Vec::new(), Chance(seed));
    let target = match server {
        Some(server) => tenure::server::below(server, &format!("slots-{seed}")).unwrap(),
        None => folder.join("slots"),
    };
    let is_on_server = server.is_some();
    let mut round = Round { programs, target, is_on_server, witness, board, workers, chance, sum: Sum::default() };
    for worker in 0..size.min(Board::WORKERS) {
        let started = round.start(worker);
        round.workers.push(started);
    }
    round.strike_for(length);
    round.last_grants();
    round.end();
    round.settle();
    for fault in &mut round.sum.faults {
        fault.insert_str(0, &format!("slots round with random seed {seed}: "));
    }
    round.sum
}

impl Round<'_> {
    fn start(&mut self, worker: usize) -> Worker {
        let seed = self.chance.next().to_string();
        let mut command = match kind(worker, self.programs) {
            "run" => {
                let mut command = Command::new(self.programs.tenure.as_ref().unwrap());
                let slots = number(&mut self.chance).to_string();
                command.args(["run", "--quiet", "--slots", &slots]).arg(&self.target).arg("--");
                command.arg(self.programs.worker().get_program()).arg("in-slot").arg(self.witness);
                command.args([&worker.to_string(), &slots, &seed]).process_group(0);
                command
            }
            _ => {
                let mut command = self.programs.worker();
                command.arg("slots").arg(&self.target).arg(self.witness).args([&worker.to_string(), &seed]);
                command
            }
        };
        command.stdin(Stdio::null());
        end_with_us(&mut command);
        Worker { child: Some(command.spawn().unwrap()), goes_on_at: None, killed: false }
    }

    fn grants(&self) -> u64 {
        (0..self.workers.len()).map(|at| self.board.counts(at).grants).sum()
    }

    /// Kills and stops workers at random.
    fn strike_for(&mut self, length: Duration) {
        let end = Instant::now() + length;
        let mut seen = (0, Instant::now());
        let mut struck = seen;
        while Instant::now() < end && self.sum.faults.is_empty() {
            std::thread::sleep(self.chance.micros(5000));
            for at in 0..self.workers.len() {
                self.tend(at, false);
                if self.workers[at].child.is_none() {
                    self.workers[at] = self.start(at);
                }
            }
            self.reap();
            let now = self.grants();
            // On a busy machine workers must not die before they have done anything.
            if now >= struck.0 + BETWEEN_STRIKES || struck.1.elapsed() > LONGEST_PEACE {
                self.strike();
                struck = (now, Instant::now());
            }
            if now != seen.0 {
                self.sum.longest_gap = self.sum.longest_gap.max(seen.1.elapsed());
                seen = (now, Instant::now());
            } else if seen.1.elapsed() > PATIENCE {
                self.stuck("no worker was granted a slot");
            }
        }
    }

    fn strike(&mut self) {
        let at = self.chance.below(self.workers.len() as u64) as usize;
        let is_run = kind(at, self.programs) == "run";
        let worker = &mut self.workers[at];
        let Some(child) = &mut worker.child else { return };
        if self.chance.one_in(4) {
            signal(child, libc::SIGSTOP);
            worker.goes_on_at = Some(Instant::now() + self.chance.micros(30_000));
            self.sum.stops += 1;
            return;
        }
        if is_run && self.chance.one_in(2) {
            // With its command. The leader is not reaped, so the group still belongs to this worker.
            // SAFETY: no precondition.
            unsafe { libc::killpg(child.id() as i32, libc::SIGKILL) };
        } else {
            child.kill().unwrap();
        }
        worker.killed = true;
        self.sum.kills += 1;
    }

    /// Resumes a stopped worker, and notices one that ended.
    fn tend(&mut self, at: usize, may_end: bool) {
        let is_run = kind(at, self.programs) == "run";
        let worker = &mut self.workers[at];
        let Some(child) = &mut worker.child else { return };
        if worker.goes_on_at.is_some_and(|then| may_end || Instant::now() >= then) {
            worker.goes_on_at = None;
            signal(child, libc::SIGCONT);
        }
        if let Some(status) = child.try_wait().unwrap() {
            let expected = worker.killed || ((may_end || is_run) && status.success());
            if !expected {
                let name = kind(at, self.programs);
                self.sum.faults.push(format!("a worker ({name}) ended by itself: {status}, {:?}", status.signal()));
            }
            worker.child = None;
        }
    }

    /// Reaps commands whose `tenure` was killed. Returns whether one is left.
    fn reap(&self) -> bool {
        let known: HashSet<u32> = self.workers.iter().filter_map(|worker| Some(worker.child.as_ref()?.id())).collect();
        reap_orphans(&known)
    }

    /// All remaining workers are granted once more: none waits although there is room.
    fn last_grants(&mut self) {
        self.board.say_last();
        let started = Instant::now();
        loop {
            (0..self.workers.len()).for_each(|at| self.tend(at, true));
            let has_orphans = self.reap();
            let has_ended = self.workers.iter().all(|worker| worker.child.is_none()) && !has_orphans;
            if has_ended || !self.sum.faults.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
            if started.elapsed() > PATIENCE {
                self.stuck("not every worker was granted again");
            }
        }
    }

    fn stuck(&mut self, what: &str) {
        let place = tenure::status(self.part("next"));
        let late: Vec<_> = self.workers.iter().filter_map(|worker| Some(worker.child.as_ref()?.id())).collect();
        let found = tenure::slots(&self.target);
        self.sum.faults.push(format!("{what}: {late:?}: {found:?}; the first waiter: {place:?}"));
    }

    fn end(&mut self) {
        for worker in &mut self.workers {
            if let Some(child) = &mut worker.child {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    fn settle(&mut self) {
        for at in 0..self.workers.len() {
            let counts = self.board.counts(at);
            let name = kind(at, self.programs);
            *self.sum.grants.entry(format!("slots {name}")).or_default() += counts.grants;
            self.sum.takeovers += counts.takeovers;
            self.sum.busy += counts.busy;
            let doubles = counts.doubles + counts.too_many;
            if doubles > 0 {
                *self.sum.doubles.entry("native-native".to_owned()).or_default() += doubles;
            }
            if doubles + counts.fences_down + counts.errors + counts.unreported + counts.false_reports > 0 {
                self.sum.faults.push(format!("worker {at}, {name}: {counts:?}"));
            }
        }
        for slot in 0..MOST as usize {
            // A killed holder may have counted, but not acknowledged.
            let (count, acknowledged) = (self.board.count(slot), self.board.acknowledged(slot));
            if count < acknowledged || count > acknowledged + self.sum.kills {
                self.sum.faults.push(format!("slot {slot} counts {count} grants, {acknowledged} are acknowledged"));
            }
        }
        if self.sum.faults.is_empty() {
            self.sum.faults.extend(self.take_all().err());
        }
        if self.sum.faults.is_empty() {
            let mut parts: Vec<PathBuf> = (0..MOST).map(|slot| self.part(&format!("slot-{slot}"))).collect();
            parts.extend([self.target.clone(), self.part("slots"), self.part("next")]);
            for part in parts {
                if !self.is_on_server {
                    self.sum.faults.extend(verdict::of_lock(&part));
                } else if !tenure::status(&part).is_ok_and(|found| matches!(found.state, State::Free | State::Stale)) {
                    self.sum.faults.push(format!("not free at the end: {:?}", tenure::status(&part)));
                }
            }
        }
    }

    /// Returns the target of a lock of which the slots consist.
    fn part(&self, name: &str) -> PathBuf {
        if self.is_on_server {
            let text = self.target.to_str().unwrap();
            let (front, end) = match text.split_once("lock=") {
                Some((front, rest)) => {
                    let end = rest.find('&').unwrap_or(rest.len());
                    (format!("{front}lock={}", &rest[..end]), &rest[end..])
                }
                None => {
                    let end = text.find('?').unwrap_or(text.len());
                    (text[..end].to_owned(), &text[end..])
                }
            };
            return format!("{front}.{name}{end}").into();
        }
        self.target.with_extension(name)
    }

    /// Takes every slot, also of those that died last, whose crashes are reported now.
    fn take_all(&self) -> Result<(), String> {
        let lock = Lock::options().slots(MOST).open(&self.target).map_err(|error| error.to_string())?;
        let mut guards = Vec::new();
        for number in 0..MOST {
            let wait = if self.is_on_server { Wait::For(PATIENCE) } else { Wait::Never };
            let guard =
                lock.acquire_with(wait).map_err(|error| format!("slot {number} of {MOST} at the end: {error}"))?;
            let slot = guard.slot().unwrap_or(MOST) as usize;
            if self.board.open_fence(slot) > 0 && !guard.previous().is_crashed() {
                return Err(format!("slot {slot}: fence {} died, which was not reported", self.board.open_fence(slot)));
            }
            guards.push(guard);
        }
        match lock.try_acquire() {
            Ok(None) => Ok(()),
            other => Err(format!("one more than {MOST} slots at the end: {other:?}")),
        }
    }
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: our own child, not reaped yet: no other process has its pid.
    unsafe { libc::kill(child.id() as i32, signal) };
}
