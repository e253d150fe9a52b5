//! Workers that use the library: each is a process that the driver starts, controls by its input, and kills.
//!
//! A worker prints one line at a time: `ready PID`, `grant KIND FENCE PID COUNT CRASHED` (the append is done),
//! `shared`, `busy`, `double PAIR TEXT`, `fault TEXT`, and lines of its round. After it has read `last` and was granted
//! once more, it prints `last`. It ends with its input.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenure::{CleanOptions, Guard, Lock, Options, Style, Wait};

use crate::chance::Chance;
use crate::phase::Phase;
use crate::site::{Entry, Site, say};
use crate::{breaks, forks};

/// A lock, and whether foreign programs can see its holders.
pub type Shown = (Lock, bool);

/// Runs a worker until it is asked to end; never returns.
pub fn work(kind: &str, folder: &Path, phase: Phase, seed: u64) -> ! {
    let last = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&last);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            ends.store(line.is_ok_and(|line| line == "last"), Ordering::SeqCst);
        }
        std::process::exit(1);
    });
    let mix = seed ^ (u64::from(std::process::id()) << 32);
    half_wait_directly(mix);
    match kind {
        "cleaner" => clean(folder, mix, &last),
        "breaker" => breaks::break_repeatedly(folder, mix, &last),
        _ => hold_repeatedly(kind, &Site::open(folder, phase), mix, &last),
    }
    say("last");
    std::process::exit(0);
}

/// Makes the threads of half of the processes wait in the kernel themselves.
pub fn half_wait_directly(seed: u64) {
    if Chance(seed).one_in(2) {
        tenure::interrupts::install().unwrap();
    }
}

pub fn say_ready() {
    say(&format!("ready {}", std::process::id()));
}

fn hold_repeatedly(kind: &str, site: &Site, mix: u64, last: &AtomicBool) {
    // A foreign program that was killed between create and write should not delay all others for five seconds.
    let options = Lock::options().malformed_grace(Duration::from_millis(100)).label(format!("torture {kind}"));
    let open = |options: &Options| options.clone().open(&site.target).unwrap();
    let refreshed = options.clone().refresh_interval(Duration::from_millis(20));
    let lock_file = (open(&options), true);
    let refreshing = (open(&refreshed), true);
    let flock = (open(&refreshed.style(Style::Flock)), false);
    say_ready();
    match kind {
        "reopening" => work_reopening(site, &[options.clone(), options.style(Style::Flock)], mix, last),
        "lock-file" => work_with(site, &[lock_file, refreshing], false, mix, last),
        "flock" => work_with(site, &[flock], false, mix, last),
        "mixed" => work_with(site, &[lock_file, flock], false, mix, last),
        "crowd" => crowd(site, &[lock_file, refreshing], mix, last),
        "mixed-crowd" => crowd(site, &[lock_file, refreshing, flock], mix, last),
        "sharer" => share(site, &flock.0, mix, last),
        "forker" => forks::fork_repeatedly(site, &[lock_file, flock], mix, last),
        "breakable" => breaks::hold_repeatedly(site, &[lock_file, flock], mix, last),
        other => panic!("no worker {other}"),
    }
}

/// Runs three threads, each with blocking calls and futures, which are occasionally dropped before their end.
fn crowd(site: &Site, locks: &[Shown], mix: u64, last: &AtomicBool) {
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || work_with(site, locks, true, mix.wrapping_add(thread), last));
        }
    });
}

fn work_with(site: &Site, locks: &[Shown], futures: bool, seed: u64, last: &AtomicBool) {
    let mut chance = Chance(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for count in 1.. {
        let is_last = last.load(Ordering::SeqCst);
        let (lock, visible) = &locks[chance.below(locks.len() as u64) as usize];
        let wait = how_long(&mut chance, is_last);
        let outcome = match futures && chance.one_in(3) {
            true if !is_last && chance.one_in(3) => runtime
                .block_on(async { tokio::time::timeout(chance.micros(10_000), lock.acquire_async(wait)).await.ok() }),
            true => Some(runtime.block_on(lock.acquire_async(wait))),
            false => Some(lock.acquire_with(wait)),
        };
        match outcome {
            Some(Ok(guard)) => {
                hold(site, guard, &mut chance, count, *visible);
                if is_last {
                    return;
                }
            }
            Some(Err(error)) => refused(&error, wait),
            None => {}
        }
        if chance.one_in(2) {
            std::thread::sleep(chance.micros(2000));
        }
    }
}

/// Returns mostly an endless wait, occasionally none or a short one.
pub fn how_long(chance: &mut Chance, is_last: bool) -> Wait {
    match chance.below(10) {
        _ if is_last => Wait::Forever,
        0 => Wait::Never,
        1 | 2 => Wait::For(chance.micros(20_000)),
        _ => Wait::Forever,
    }
}

pub fn refused(error: &tenure::Error, wait: Wait) {
    if error.is_busy() && wait != Wait::Forever {
        say("busy");
    } else {
        say(&format!("fault pid {} could not acquire: {error}", std::process::id()));
    }
}

/// Reopens the lock each time, and closes it: its anchor may be pruned in between.
fn work_reopening(site: &Site, options: &[Options], seed: u64, last: &AtomicBool) {
    let mut chance = Chance(seed);
    for count in 1.. {
        let is_last = last.load(Ordering::SeqCst);
        let at = chance.below(options.len() as u64) as usize;
        let lock = options[at].clone().open(&site.target).unwrap();
        match lock.acquire_with(Wait::Forever) {
            Ok(guard) => hold(site, guard, &mut chance, count, at == 0),
            Err(error) => refused(&error, Wait::Forever),
        }
        drop(lock);
        if is_last {
            return;
        }
        std::thread::sleep(chance.micros(2000));
    }
}

/// Shares, or holds alone, in flock style.
fn share(site: &Site, lock: &Lock, seed: u64, last: &AtomicBool) {
    let mut chance = Chance(seed);
    for count in 1.. {
        let is_last = last.load(Ordering::SeqCst);
        let wait = how_long(&mut chance, is_last);
        if chance.one_in(3) {
            match lock.acquire_with(wait) {
                Ok(guard) => hold(site, guard, &mut chance, count, false),
                Err(error) => refused(&error, wait),
            }
        } else {
            match lock.acquire_shared(wait) {
                Ok(guard) => {
                    site.look(&mut chance);
                    if let Err(error) = guard.check().and_then(|()| guard.release()) {
                        say(&format!("fault pid {} lost a share: {error}", std::process::id()));
                    }
                }
                Err(error) => refused(&error, wait),
            }
        }
        if is_last {
            return;
        }
        std::thread::sleep(chance.micros(2000));
    }
}

/// Works under a guard, and releases it.
pub fn hold(site: &Site, guard: Guard, chance: &mut Chance, count: u64, visible: bool) {
    let fence = guard.fence().unwrap_or_default();
    site.work(chance, Entry { fence, crashed: Some(guard.previous().is_crashed()), count, visible });
    let fault = |what: &str, error: &dyn std::fmt::Display| {
        say(&format!("fault pid {} fence {fence} {what}: {error}", std::process::id()));
    };
    if chance.one_in(8)
        && let Err(error) = guard.set_label(&format!("label {}", "x".repeat(chance.below(40) as usize)))
    {
        fault("could not change its label", &error);
    }
    // In a round with OpenClaw's whole protocol lock files are removed; the anchor never is.
    match guard.check() {
        Err(error) if site.phase != Phase::OpenClaw || !error.is_lost() => fault("lost the lock", &error),
        _ if !guard.excludes_natives() => fault("lost the lock", &"its anchor was removed"),
        _ => {}
    }
    match guard.release() {
        Err(error) if site.phase != Phase::OpenClaw || !error.is_lost() => fault("could not release", &error),
        _ => {}
    }
}

/// Sweeps without pause, prunes every anchor that it may, and reads the status.
fn clean(folder: &Path, seed: u64, last: &AtomicBool) {
    say_ready();
    let mut chance = Chance(seed);
    let options = CleanOptions::default().idle_anchor_age(Duration::ZERO).malformed_grace(Duration::from_millis(100));
    while !last.load(Ordering::SeqCst) {
        match tenure::clean(folder, &options) {
            Ok(report) if report.pruned > 0 => say("pruned"),
            Ok(_) => {}
            Err(error) => say(&format!("fault the cleaner: {error}")),
        }
        if let Err(error) = tenure::status(folder.join("transcript.jsonl")) {
            say(&format!("fault a status: {error}"));
        }
        std::thread::sleep(chance.micros(1000));
    }
}

/// Does one piece of work under the lock of `tenure run` or flock(1).
pub fn inside(style: &str, folder: &Path, phase: Phase, seed: u64) {
    let fence = std::env::var("TENURE_FENCE").map_or(0, |fence| fence.parse().unwrap());
    let mut chance = Chance(seed ^ (u64::from(std::process::id()) << 32));
    let entry = Entry { fence, crashed: None, count: 1, visible: style == "lock-file" };
    Site::open(folder, phase).work(&mut chance, entry);
}
