//! A fenced resource and a witness in shared memory, independent of servers, leases and clocks.
//!
//! The witness keeps the newest fence whose holder has seen `check()` succeed. A holder that reads a newer fence than
//! its own *before* a check that then succeeds is a second holder that believes to hold. The resource accepts a write
//! unless it has seen a newer fence.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, ProtFlags, mmap};
use tenure::{Guard, Lock, Wait};

const WORDS: usize = 10;

/// The shared memory, with one accessor for each word.
pub struct Witness(&'static [AtomicU64; WORDS]);

impl Witness {
    /// Maps the file, which all participants share.
    pub fn of(path: &Path) -> Witness {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len((WORDS * 8) as u64).unwrap();
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping of a file as long as the words; it is never unmapped, and only atomics touch it.
        unsafe {
            let words = mmap(std::ptr::null_mut(), WORDS * 8, protection, flags, &file, 0).unwrap();
            Witness(&*words.cast::<[AtomicU64; WORDS]>())
        }
    }

    fn newest(&self) -> &AtomicU64 {
        &self.0[0]
    }

    fn last_write(&self) -> &AtomicU64 {
        &self.0[1]
    }

    fn stop_word(&self) -> &AtomicU64 {
        &self.0[2]
    }

    pub fn stop(&self) {
        self.stop_word().store(1, SeqCst);
    }

    pub fn grants(&self) -> u64 {
        self.0[3].load(SeqCst)
    }

    /// Returns the number of writes that the resource accepted.
    pub fn writes(&self) -> u64 {
        self.0[4].load(SeqCst)
    }

    /// Returns the number of writes that the resource refused, because the holder did not know yet that its lock was
    /// lost.
    pub fn refused(&self) -> u64 {
        self.0[5].load(SeqCst)
    }

    /// Returns the number of times that two processes believed to hold at once.
    pub fn double(&self) -> u64 {
        self.0[6].load(SeqCst)
    }

    /// Returns the number of refused writes whose writer still held, and whose fence was thus not the newest.
    pub fn wrongly_refused(&self) -> u64 {
        self.0[7].load(SeqCst)
    }

    /// Returns the pid of the last process that was granted the lock and has not released it, or 0.
    pub fn inside(&self) -> u32 {
        self.0[8].load(SeqCst) as u32
    }

    /// Returns the greatest number of other locks that a process held at once beside the contended one.
    pub fn most_beside(&self) -> u64 {
        self.0[9].load(SeqCst)
    }

    /// Writes with this fence; returns `false` if the resource has seen a newer fence.
    fn write(&self, fence: u64) -> bool {
        let newer = |last: u64| (last <= fence).then_some(fence);
        self.last_write().fetch_update(SeqCst, SeqCst, newer).is_ok()
    }

    /// Checks the guard, and counts a second holder that believes to hold.
    fn check(&self, guard: &Guard) -> bool {
        let newest = self.newest().load(SeqCst);
        if guard.check().is_err() {
            return false;
        }
        let fence = guard.fence().expect("a server's lock has a fence");
        if newest > fence {
            self.0[6].fetch_add(1, SeqCst);
        }
        self.newest().fetch_max(fence, SeqCst);
        true
    }
}

/// Holds other locks below a target, as many as are asked for, with the lease or in the sessions of the contended one. Those
/// that are lost are acquired again.
fn hold_beside(above: &str, count: usize, witness: &Witness) {
    let open = |at: usize| {
        let name = format!("{}/{at}", std::process::id());
        Lock::open(tenure::server::below(above, &name).unwrap()).unwrap()
    };
    let mut all: Vec<(Lock, Option<Guard>)> = (0..count).map(|at| (open(at), None)).collect();
    while witness.stop_word().load(SeqCst) == 0 {
        for (lock, guard) in all.iter_mut().filter(|(_, guard)| guard.as_ref().is_none_or(|held| held.check().is_err()))
        {
            if witness.stop_word().load(SeqCst) != 0 {
                break;
            }
            // Its release frees the name at once, where it was lost alone.
            *guard = None;
            *guard = lock.acquire_with(Wait::For(Duration::from_secs(5))).ok();
        }
        let held = all.iter().filter(|(_, guard)| guard.as_ref().is_some_and(|held| held.check().is_ok())).count();
        witness.0[9].fetch_max(held as u64, SeqCst);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Acquires, works and releases until the stop word is set: `fenced TARGET FILE [ABOVE COUNT]`. With COUNT, the process also holds
/// that many locks below the target ABOVE.
pub fn work() {
    let words: Vec<String> = std::env::args().collect();
    let witness = &Witness::of(Path::new(&words[2]));
    std::thread::scope(|scope| {
        if let [_, _, _, above, count] = &*words {
            scope.spawn(|| hold_beside(above, count.parse().unwrap(), witness));
        }
        compete(&words[1], witness);
    });
}

fn compete(target: &str, witness: &Witness) {
    let lock = Lock::open(target).unwrap();
    let mut round = u64::from(std::process::id());
    while witness.stop_word().load(SeqCst) == 0 {
        // A server that is being killed answers with any error; the next attempt decides.
        let Ok(guard) = lock.acquire_with(Wait::For(Duration::from_secs(5))) else { continue };
        witness.0[3].fetch_add(1, SeqCst);
        let own = u64::from(std::process::id());
        witness.0[8].store(own, SeqCst);
        round = round.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let end = Instant::now() + Duration::from_millis((round >> 33) % 40);
        while witness.check(&guard) {
            if witness.write(guard.fence().unwrap()) {
                witness.0[4].fetch_add(1, SeqCst);
            } else {
                witness.0[5].fetch_add(1, SeqCst);
                if witness.check(&guard) {
                    witness.0[7].fetch_add(1, SeqCst);
                }
            }
            if Instant::now() >= end {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let _ = witness.0[8].compare_exchange(own, 0, SeqCst, SeqCst);
        let _ = guard.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_witness_detects_an_older_holder_that_still_believes_to_hold() {
        let folder = tempfile::tempdir().unwrap();
        let witness = Witness::of(&folder.path().join("words"));
        let old = Lock::open(folder.path().join("a")).unwrap().acquire_with(Wait::Never).unwrap();
        let new = Lock::open(folder.path().join("b")).unwrap().acquire_with(Wait::Never).unwrap();
        assert!(new.fence() > old.fence() && witness.check(&old) && witness.check(&new));
        assert_eq!(witness.double(), 0);
        assert!(witness.check(&old));
        assert_eq!(witness.double(), 1);
        assert!(witness.write(new.fence().unwrap()) && !witness.write(old.fence().unwrap()));
    }
}
