//! Breaks: an operator who breaks the lock all the time, and those who are broken.
//!
//! A broken holder may be at work beside the one that came after it. That is what a break is; but the broken one must be
//! told by `check()`, and a resource that checks fences must have refused it once the other has written.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use tenure::Guard;

use crate::chance::Chance;
use crate::site::{Site, say};
use crate::team::TENURE;
use crate::workers::{Shown, how_long, refused, say_ready};

/// Of a holder in flock style that is broken already, and still has the target's own kernel lock: no more can be done.
const ONLY_FLOCK: &str = "a foreign program holds the target's kernel lock";

/// Holds as one that may be broken. It says `kept FENCE` where `check()` had nothing to say after its work, and else
/// `lost FENCE`.
pub fn hold_again_and_again(site: &Site, locks: &[Shown], seed: u64, last: &AtomicBool) {
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
    // It is out by now as far as the witness knows: whoever met it came in before this look.
    match guard.check() {
        Ok(()) if !written => {
            say(&format!("fault fence {fence} was refused for its age, but was not told that it lost"))
        }
        Ok(()) => say(&format!("kept {fence}")),
        Err(error) if error.is_lost() => say(&format!("lost {fence}")),
        Err(error) => say(&format!("fault fence {fence} could not look: {error}")),
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

/// Breaks with and without force, by the library and by the command. It says `breaks` before a break by force, and `broke`
/// after one that came through.
pub fn break_again_and_again(folder: &Path, seed: u64, last: &AtomicBool) {
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
                // 75: it lives, and no force was given.
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
