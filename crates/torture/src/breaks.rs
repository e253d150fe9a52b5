//! Breaks: an operator that breaks the lock without pause, and the holders that it breaks.
//!
//! A broken holder may work beside its successor, by the nature of a break. But `check()` must report the loss to the
//! broken holder, and a resource that checks fences must refuse it once the successor has written.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use tenure::Guard;

use crate::chance::Chance;
use crate::site::{Site, say};
use crate::team::TENURE;
use crate::workers::{Shown, how_long, refused, say_ready};

/// The error for a broken holder in flock style, which still has the target's own kernel lock; a break cannot end that.
const ONLY_FLOCK: &str = "a foreign program holds the target's kernel lock";

/// Holds with a lock that may be broken. It prints `kept FENCE` if `check()` reported no loss after its work, and else
/// `lost FENCE`.
pub fn hold_repeatedly(site: &Site, locks: &[Shown], seed: u64, last: &AtomicBool) {
    let mut chance = Chance(seed);
    for count in 1.. {
        let is_last = last.load(Ordering::SeqCst);
        let (lock, _) = &locks[chance.below(locks.len() as u64) as usize];
        let wait = how_long(&mut chance, is_last);
        match lock.acquire_with(wait) {
            Ok(guard) => hold(site, guard, &mut chance, count),
            Err(error) => refused(&error, wait),
        }
        if is_last {
            return;
        }
        if chance.one_in(2) {
            std::thread::sleep(chance.micros(2000));
        }
    }
}

fn hold(site: &Site, guard: Guard, chance: &mut Chance, count: u64) {
    let fence = guard.fence().unwrap_or_default();
    let written = site.work_beside(chance, fence, count);
    // The witness counts it as outside by now: an overlapping holder entered before this check.
    match guard.check() {
        Ok(()) if !written => {
            say(&format!("fault fence {fence} was refused for its age, but got no notice of its loss"))
        }
        Ok(()) => say(&format!("kept {fence}")),
        Err(error) if error.is_lost() => say(&format!("lost {fence}")),
        Err(error) => say(&format!("fault fence {fence} could not check: {error}")),
    }
    if written {
        let warned = u8::from(guard.previous().is_crashed());
        say(&format!("grant N {fence} {} {count} {warned}", std::process::id()));
    }
    match guard.release() {
        Err(error) if !error.is_lost() => say(&format!("fault fence {fence} could not release: {error}")),
        _ => {}
    }
}

/// Breaks with and without force, by the library and by the command. It prints `breaks` before a break by force, and
/// `broke` after a successful one.
pub fn break_repeatedly(folder: &Path, seed: u64, last: &AtomicBool) {
    let target = folder.join("transcript.jsonl");
    let command = std::env::var_os(TENURE);
    let mut chance = Chance(seed);
    say_ready();
    while !last.load(Ordering::SeqCst) {
        std::thread::sleep(chance.micros(40_000));
        let force = !chance.one_in(4);
        if force {
            say("breaks");
        }
        match &command {
            Some(command) if chance.one_in(4) => {
                let mut words = Command::new(command);
                words.arg("break").args(force.then_some("--force")).arg(&target);
                let ended = words.output().unwrap();
                let error = String::from_utf8_lossy(&ended.stderr).replace('\n', " ");
                // 75: the holder is alive, and the break is without force.
                if !matches!(ended.status.code(), Some(0 | 75)) && !error.contains(ONLY_FLOCK) {
                    say(&format!("fault `tenure break` ended with {}: {error}", ended.status));
                }
            }
            _ => match tenure::break_lock(&target, &tenure::BreakOptions::default().force(force)) {
                Ok(broken) if force && broken.broken => say("broke"),
                Ok(_) => {}
                Err(error) if error.is_busy() || error.to_string().contains(ONLY_FLOCK) => {}
                Err(error) => say(&format!("fault a break: {error}")),
            },
        }
    }
}
