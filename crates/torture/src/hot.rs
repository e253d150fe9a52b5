//! The hot round: natives of both styles that do almost nothing with the lock, to reach high numbers.
//!
//! Several targets, several processes for each, with constant kills and stops. The witness is a record lock for each
//! target, with a count and a fence in memory that the processes share ([`crate::board`]): two system calls for each
//! grant.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenure::{Lock, Style, Wait};

use crate::board::{BUSY, Board, DOUBLE_THREADS, DOUBLES, ERRORS, FENCES_DOWN, GRANTS, TAKEOVERS, TARGETS};
use crate::chance::Chance;
use crate::sum::Sum;
use crate::team::{Programs, end_with_us};
use crate::verdict;
use crate::witness::Witness;
use crate::workers;

/// The longest time that a target may go without a grant, and that all workers may take for the last one, on a loaded
/// machine.
const PATIENCE: Duration = Duration::from_secs(120);
const KINDS: [&str; 4] = ["lock-file", "flock", "mixed", "crowd"];

/// Runs a worker of this round, which acquires and releases until it is asked for its last grant.
pub fn work(folder: &Path, witness: &Path, worker: usize, target: usize, seed: u64) -> ! {
    workers::half_wait_directly(seed ^ (u64::from(std::process::id()) << 32));
    let board = Board::open(&witness.join("board"));
    let bytes = Witness::open(&witness.join("bytes"));
    let path = folder.join(format!("hot-{target}"));
    let options = Lock::options();
    let lock_file = options.clone().open(&path).unwrap();
    let flock = options.style(Style::Flock).open(&path).unwrap();
    let locks = match KINDS[worker % KINDS.len()] {
        "lock-file" => vec![lock_file],
        "flock" => vec![flock],
        _ => vec![lock_file, flock],
    };
    let threads = if KINDS[worker % KINDS.len()] == "crowd" { 2 } else { 1 };
    let inside = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (locks, board, bytes, inside) = (&locks, &board, &bytes, &inside);
            scope.spawn(move || {
                let mut chance = Chance(seed.wrapping_add(thread) ^ (u64::from(std::process::id()) << 32));
                while hold_once(locks, board, bytes, inside, (worker, target), &mut chance) {}
            });
        }
    });
    std::process::exit(0);
}

/// Returns `false` after the last grant.
fn hold_once(
    locks: &[Lock],
    board: &Board,
    bytes: &Witness,
    inside: &AtomicBool,
    (worker, target): (usize, usize),
    chance: &mut Chance,
) -> bool {
    let last = board.is_last();
    let add = |which| board.add(worker, which, target);
    let lock = &locks[chance.below(locks.len() as u64) as usize];
    let wait = if !last && chance.one_in(8) { Wait::Never } else { Wait::Forever };
    match lock.acquire_with(wait) {
        Ok(guard) => {
            let alone = !inside.swap(true, Ordering::SeqCst);
            if !alone {
                add(DOUBLE_THREADS);
            }
            let mine = bytes.take(target as i64);
            if !mine {
                add(DOUBLES);
            }
            if !board.enter(target, guard.fence().unwrap_or_default()) {
                add(FENCES_DOWN);
            }
            if guard.previous().is_crashed() {
                add(TAKEOVERS);
            }
            if mine {
                bytes.leave(target as i64);
            }
            if alone {
                inside.store(false, Ordering::SeqCst);
            }
            add(GRANTS);
            if guard.release().is_err() {
                add(ERRORS);
            }
            !last
        }
        Err(error) if error.is_busy() && wait == Wait::Never => {
            add(BUSY);
            true
        }
        Err(error) => {
            add(ERRORS);
            eprintln!("hot worker: {error}");
            !last
        }
    }
}

struct Worker {
    child: Option<Child>,
    goes_on_at: Option<Instant>,
    killed: bool,
}

/// Runs the round with that many processes.
pub fn run(programs: &Programs, folder: &Path, witness: &Path, size: usize, seed: u64, length: Duration) -> Sum {
    for made in [folder, witness] {
        std::fs::create_dir_all(made).unwrap();
    }
    Witness::create(&witness.join("bytes"));
    let board = Board::create(&witness.join("board"));
    // Four processes for a target, one of each kind.
    let targets = (size / KINDS.len()).clamp(1, TARGETS);
    let mut chance = Chance(seed);
    let mut sum = Sum::default();
    let start = |at: usize, chance: &mut Chance| {
        let mut command = programs.worker();
        command.arg("hot").arg(folder).arg(witness);
        command.args([at as u64, (at / KINDS.len() % targets) as u64, chance.next()].map(|number| number.to_string()));
        command.stdin(Stdio::null());
        end_with_us(&mut command);
        Worker { child: Some(command.spawn().unwrap()), goes_on_at: None, killed: false }
    };
    let mut workers: Vec<Worker> = (0..size).map(|at| start(at, &mut chance)).collect();
    let mut watch: Vec<(u64, Instant)> = vec![(0, Instant::now()); targets];

    let end = Instant::now() + length;
    while Instant::now() < end && sum.faults.is_empty() {
        std::thread::sleep(chance.micros(20_000));
        for (at, worker) in workers.iter_mut().enumerate() {
            tend(worker, false, &mut sum);
            if worker.child.is_none() {
                *worker = start(at, &mut chance);
            }
        }
        let worker = &mut workers[chance.below(size as u64) as usize];
        if let Some(child) = &mut worker.child {
            if chance.one_in(4) {
                signal(child, libc::SIGSTOP);
                worker.goes_on_at = Some(Instant::now() + chance.micros(10_000));
                sum.stops += 1;
            } else {
                child.kill().unwrap();
                worker.killed = true;
                sum.kills += 1;
            }
        }
        for (target, (seen, at)) in watch.iter_mut().enumerate() {
            let now = board.count(target);
            if now != *seen {
                sum.longest_gap = sum.longest_gap.max(at.elapsed());
                (*seen, *at) = (now, Instant::now());
            } else if at.elapsed() > PATIENCE {
                sum.faults
                    .push(format!("no worker was granted hot-{target} for {PATIENCE:?}: {}", look(folder, target)));
            }
        }
    }

    // All remaining workers are granted once more: none waits although the lock is free.
    board.say_last();
    let started = Instant::now();
    while workers.iter().any(|worker| worker.child.is_some()) && sum.faults.is_empty() {
        workers.iter_mut().for_each(|worker| tend(worker, true, &mut sum));
        std::thread::sleep(Duration::from_millis(1));
        if started.elapsed() > PATIENCE {
            let found: Vec<_> = (0..targets).map(|target| look(folder, target)).collect();
            sum.faults.push(format!("not every worker was granted again: {found:?}"));
        }
    }
    for worker in &mut workers {
        if let Some(child) = &mut worker.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
    settle(&board, folder, targets, size, &mut sum);
    for fault in &mut sum.faults {
        fault.insert_str(0, &format!("hot round with random seed {seed}: "));
    }
    sum
}

fn look(folder: &Path, target: usize) -> String {
    format!("{:?}", tenure::status(folder.join(format!("hot-{target}"))))
}

/// Resumes stopped workers, and notices ended ones.
fn tend(worker: &mut Worker, may_end: bool, sum: &mut Sum) {
    let Some(child) = &mut worker.child else { return };
    if worker.goes_on_at.is_some_and(|at| may_end || Instant::now() >= at) {
        worker.goes_on_at = None;
        signal(child, libc::SIGCONT);
    }
    if let Some(status) = child.try_wait().unwrap() {
        let expected = worker.killed || (may_end && status.success());
        if !expected {
            sum.faults.push(format!("a hot worker ended by itself: {status}, signal {:?}", status.signal()));
        }
        worker.child = None;
    }
}

fn settle(board: &Board, folder: &Path, targets: usize, size: usize, sum: &mut Sum) {
    for at in 0..size {
        let counts = board.counts(at);
        *sum.grants.entry(format!("hot {}", KINDS[at % KINDS.len()])).or_default() += counts.grants;
        sum.takeovers += counts.takeovers;
        sum.busy += counts.busy;
        let doubles = counts.doubles + counts.double_threads;
        if doubles > 0 {
            *sum.doubles.entry("native-native".to_owned()).or_default() += doubles;
        }
        if doubles + counts.fences_down + counts.errors > 0 {
            sum.faults.push(format!("worker {at}, {}: {counts:?}", KINDS[at % KINDS.len()]));
        }
    }
    for target in 0..targets {
        // A killed holder may have counted, but not acknowledged.
        let (count, acknowledged) = (board.count(target), board.acknowledged(target));
        if count < acknowledged || count > acknowledged + sum.kills {
            sum.faults.push(format!("hot-{target} counts {count} grants, {acknowledged} are acknowledged"));
        }
        if sum.faults.is_empty() {
            sum.faults.extend(verdict::of_lock(&folder.join(format!("hot-{target}"))));
        }
    }
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: our own child, not reaped yet: no other process has its pid.
    unsafe { libc::kill(child.id() as i32, signal) };
}
