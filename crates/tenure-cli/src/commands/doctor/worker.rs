//! A process of a stress run, or the second process of a check: `tenure doctor-worker`, which only `doctor` starts.

use std::hint;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tenure::{Lock, Wait};

use super::random::Random;
use super::tally::{Grant, Tally, WORDS};
use crate::output::{Failure, exit};
use crate::sys::{self, SharedWords};

/// The name of the hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "doctor-worker";

/// The timeout of an acquire, longer than any queue here takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A process of `tenure doctor`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The lock's target
    target: PathBuf,

    /// Take part in a stress run, with shared memory as standard input; without this, try once
    #[arg(long, num_args = 3, value_names = ["INCARNATION", "SEED", "PARENT"])]
    part: Option<Vec<u64>>,
}

/// The role of this process in a stress run.
struct Part {
    incarnation: u64,
    seed: u64,
    /// The doctor's pid. This process is killed when the doctor ends.
    parent: u32,
}

impl Part {
    fn read(words: &[u64]) -> Option<Part> {
        let &[incarnation, seed, parent] = words else { return None };
        Some(Part { incarnation, seed, parent: parent.try_into().ok()? })
    }
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    // Must not recreate a folder that the doctor has just removed.
    let lock = Lock::options().create_parents(false).label("tenure doctor").open(&args.target)?;
    match &args.part {
        Some(words) => {
            let part = Part::read(words).ok_or_else(|| Failure::new(exit::USAGE, "no such part"))?;
            take_part(&part, &lock)
        }
        None => {
            lock.acquire_with(Wait::Never)?.release()?;
            Ok(exit::OK)
        }
    }
}

fn take_part(part: &Part, lock: &Lock) -> Result<u8, Failure> {
    sys::die_with(part.parent).map_err(|error| Failure::io("the doctor", &error))?;
    let memory = SharedWords::of_stdin(WORDS).map_err(|error| Failure::io("memory", &error))?;
    let tally = Tally::of(&memory);
    let mut random = Random::new(part.seed);
    while !tally.is_stopped() {
        let asked = sys::monotonic();
        tally.starts_waiting(part.incarnation, asked);
        let guard = lock.acquire_with(Wait::For(TIMEOUT))?;
        let granted = sys::monotonic();
        tally.enter(&Grant {
            incarnation: part.incarnation,
            fence: guard.fence().unwrap_or_default(),
            crashed: guard.previous().is_crashed(),
            asked,
            granted,
        });
        // Most holds are short, for many grants. Some are long enough for a kill, or for another process to arrive.
        match random.below(16) {
            0 => thread::sleep(Duration::from_micros(200 + random.below(1800))),
            1..=3 => thread::sleep(Duration::from_micros(random.below(100))),
            _ => spin(random.below(20)),
        }
        let kept = guard.check();
        tally.leave(part.incarnation, sys::monotonic());
        kept?;
        guard.release()?;
        // A process that acquires again at once is often granted the lock again, without a hand-off. So most pause.
        if random.below(4) > 0 {
            thread::sleep(Duration::from_micros(random.below(300)));
        }
    }
    Ok(exit::OK)
}

fn spin(microseconds: u64) {
    let end = Instant::now() + Duration::from_micros(microseconds);
    while Instant::now() < end {
        hint::spin_loop();
    }
}
