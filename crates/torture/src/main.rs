//! The torture: many programs on one lock, killed and stopped at random, and a witness that counts double holds.
//!
//! ```text
//! cargo run --release -p torture -- --for 10m [--round 15s] [--seed N] [--only ROUND,..] [--processes 16] [--fs all]
//! cargo run --release -p torture -- sweep [--scene TEXT]
//! cargo run --release -p torture -- leaks [--times 100000]
//! ```
//!
//! It runs rounds, each in a new folder:
//!
//! | round | members | what must not happen |
//! | --- | --- | --- |
//! | natives | natives of both styles, by the library (threads, dropped futures, forked children) and by `tenure run` |
//! two holders |
//! | careful | natives in lock-file style, foreign programs in Python and JavaScript that never remove another
//! program's lock file | two holders |
//! | commands | `tenure run` in lock-file style, foreign programs with OpenClaw's whole protocol; no member is killed
//! or stopped | two holders, of any kind |
//! | openclaw | natives of both styles, foreign programs with OpenClaw's whole protocol (which occasionally removes
//! live locks), a person who removes lock files, a cleaner | two native holders |
//! | pruned | natives of both styles that reopen the lock each time, a cleaner that prunes every anchor that it may |
//! two holders |
//! | flock | natives in flock style, sharers, flock(1) | two holders, unless both share |
//! | broken | natives of both styles, and an operator that breaks | two holders, unless the older one is notified of
//! its loss |
//! | apart | natives of both styles in three pid namespaces, whose pids are reused on purpose | two holders |
//! | careful-apart | as careful, without JavaScript, in three pid namespaces | two holders |
//! | hot | natives of both styles that do almost nothing with the lock | two holders |
//! | slots | natives with slots, of different numbers, by the library (threads, dropped futures) and by `tenure run --slots` |
//! more holders than any of them agreed to; two in one slot; a crash that its slot's next holder does not hear of |
//!
//! Every round also fails on: a waiter that waits although the lock is free; a fence that decreases; a torn line in the
//! transcript, except a killed holder's, which the next holder repairs; an acknowledged line that is missing; leftover
//! files. The last line of the output is JSON with the totals. On a fault the exit code is 1, and the folder stays.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test program")]

mod board;
mod breaks;
mod chance;
mod forks;
mod hot;
mod leaks;
mod mounts;
mod phase;
mod pods;
mod round;
mod site;
mod slots;
mod sum;
mod sweep;
mod team;
mod verdict;
mod witness;
mod workers;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use serde_json::json;

use mounts::{FileSystem, Ground};
use phase::Phase;
use sum::Sum;

#[derive(Parser)]
#[command(about = "Many programs on one lock, killed and stopped at random")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// How long to run, at least one round of each kind: 10s, 5m, 1h
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "60s")]
    length: Duration,
    /// How long each round lasts
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15s")]
    round: Duration,
    /// The random seed; by default the time
    #[arg(long)]
    seed: Option<u64>,
    /// The folder in which each round creates its own
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Run only these rounds
    #[arg(long, value_name = "ROUND,..", value_delimiter = ',')]
    only: Vec<Phase>,
    /// The least number of members of a round: up to 64
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=64))]
    processes: u64,
    /// Run on these file systems, in turn, mounted for this run; "all" for all of them
    #[arg(long, value_name = "KIND,..", value_delimiter = ',')]
    fs: Vec<String>,
    /// Run the round with slots on this server, below this name
    #[arg(long, value_name = "TARGET")]
    server: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Role {
    /// Kill at every system call of every scene, and make each call fail
    Sweep {
        /// Run only the scenes whose name contains this text
        #[arg(long, value_name = "TEXT", default_value = "")]
        scene: String,
    },
    /// Acquire very often, and look for leaks
    Leaks {
        #[arg(long, default_value_t = 100_000)]
        times: u64,
        /// How much the allocator may keep for itself: less than a word for each acquire
        #[arg(long, value_name = "KIB", default_value_t = 700)]
        slack: u64,
    },
    #[command(hide = true)]
    Worker { kind: String, folder: PathBuf, phase: Phase, seed: u64 },
    #[command(hide = true)]
    Inside { style: String, folder: PathBuf, phase: Phase, seed: u64 },
    #[command(hide = true)]
    Hot { folder: PathBuf, witness: PathBuf, worker: usize, target: usize, seed: u64 },
    #[command(hide = true)]
    Slots { target: PathBuf, witness: PathBuf, worker: usize, seed: u64 },
    #[command(hide = true)]
    InSlot { witness: PathBuf, worker: usize, slots: u32, seed: u64 },
    #[command(hide = true)]
    Init,
}

fn main() {
    let words = Args::parse();
    match &words.role {
        Some(Role::Worker { kind, folder, phase, seed }) => workers::work(kind, folder, *phase, *seed),
        Some(Role::Inside { style, folder, phase, seed }) => workers::inside(style, folder, *phase, *seed),
        Some(Role::Hot { folder, witness, worker, target, seed }) => {
            hot::work(folder, witness, *worker, *target, *seed)
        }
        Some(Role::Slots { target, witness, worker, seed }) => slots::work(target, witness, *worker, *seed),
        Some(Role::InSlot { witness, worker, slots, seed }) => slots::inside(witness, *worker, *slots, *seed),
        Some(Role::Init) => pods::init(),
        Some(Role::Leaks { times, slack }) => std::process::exit(leaks::run(&words.dir, *times, *slack)),
        Some(Role::Sweep { scene }) => std::process::exit(sweep::run(&words.dir, scene)),
        None => std::process::exit(drive(&words)),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| "300ms, 10s, 5m or 1h".to_owned())?;
    Ok(Duration::from_millis(match unit {
        "ms" => number,
        "s" | "" => number * 1000,
        "m" => number * 60_000,
        "h" => number * 3_600_000,
        other => return Err(format!("no unit of time: {other}")),
    }))
}

fn drive(words: &Args) -> i32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed: u64 = words.seed.unwrap_or(since.as_micros() as u64);
    let base = tempfile::Builder::new().prefix("torture-").tempdir_in(&words.dir).unwrap();
    println!("random seed {seed}, in {}", base.path().display());
    let grounds = grounds(&words.fs, base.path());
    let programs = team::Programs::find();
    let mut phases = if words.only.is_empty() { Phase::ALL.to_vec() } else { words.only.clone() };
    phases.retain(|phase| programs.namespaces || !phase.apart());
    // Commands that outlive their `tenure` become our children, so that a leftover one is noticed.
    // SAFETY: no precondition.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };

    let started = Instant::now();
    let mut all = Sum::default();
    let mut rounds = 0;
    for number in 0.. {
        // At least one round of each phase.
        if number >= phases.len() && started.elapsed() >= words.length {
            break;
        }
        let phase = phases[number % phases.len()];
        // Another file system for each phase the next time.
        let ground = &grounds[(number % phases.len() + number / phases.len()) % grounds.len()];
        if ground.is_shared() && phase.needs_takeover() {
            continue;
        }
        let seed = seed.wrapping_add(number as u64);
        let folder = ground.folder.join(format!("round-{number}"));
        let witness = base.path().join(format!("witness-{number}"));
        let size = words.processes as usize;
        let sum = match phase {
            Phase::Hot => hot::run(&programs, &folder, &witness, size, seed, words.round),
            Phase::Slots => {
                let server = words.server.as_deref();
                slots::run(&programs, &folder, server, &witness, size, seed, words.round)
            }
            _ => round::Round::new(&programs, &folder, &witness, phase, size, seed).run(words.round),
        };
        rounds += 1;
        println!("round {number} ({}, {}): {}", phase.name(), ground.name(), sum.json());
        let bad = !sum.faults.is_empty();
        all.add(sum);
        if bad {
            break;
        }
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::remove_dir_all(&witness).unwrap();
    }
    let mut totals = all.json();
    totals["seed"] = seed.into();
    totals["rounds"] = rounds.into();
    totals["processes"] = words.processes.into();
    totals["seconds"] = started.elapsed().as_secs().into();
    totals["fileSystems"] = json!(grounds.iter().map(Ground::name).collect::<Vec<_>>());
    println!("{totals}");
    if all.faults.is_empty() {
        drop(grounds);
        return 0;
    }
    for fault in &all.faults {
        eprintln!("{fault}");
    }
    eprintln!("random seed {seed}; its files are in {}", base.keep().display());
    1
}

/// Returns the folders for the rounds. File systems that this machine lacks are skipped, with a message.
fn grounds(names: &[String], base: &Path) -> Vec<Ground> {
    if names.is_empty() {
        return vec![Ground::here(base)];
    }
    let kinds: Vec<FileSystem> = match names {
        [all] if all == "all" => FileSystem::ALL.to_vec(),
        names => names.iter().map(|name| name.parse().unwrap_or_else(|error| panic!("--fs {name}: {error}"))).collect(),
    };
    mounts::alone();
    let grounds: Vec<Ground> = kinds.into_iter().filter_map(|kind| mounts::mount(kind, base)).collect();
    assert!(!grounds.is_empty(), "this machine has none of these file systems");
    grounds
}
