//! Runs `torture leaks`: a process that has acquired very often, in every way, must have the same descriptors, threads
//! and memory as before.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tenure::{CleanOptions, Lock, Overrun, Style, Wait};
use tenure_tests::until;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Footprint {
    descriptors: usize,
    threads: usize,
}

impl Footprint {
    fn now() -> Footprint {
        // This count itself has one folder open, both times.
        let entries = |folder| std::fs::read_dir(folder).unwrap().count();
        Footprint { descriptors: entries("/proc/self/fd"), threads: entries("/proc/self/task") }
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Acquires `times` times; returns 1 if anything remains, or if the memory grew by more than `slack_kib`.
pub fn run(dir: &Path, times: u64, slack_kib: u64) -> i32 {
    let base = tempfile::Builder::new().prefix("leaks-").tempdir_in(dir).unwrap();
    let alone = Footprint::now();
    // Objects that are created once, and the allocator's reserve, exist after this.
    acquire_in_every_way(base.path(), (times / 10).clamp(50, 5000));
    let before = settled(alone);
    let resident = resident_kib();
    let acquires = acquire_in_every_way(base.path(), times);
    let after = settled(before);
    let grown = resident_kib().saturating_sub(resident);
    let fine = before == after && grown <= slack_kib;
    println!(
        "{}",
        json!({
            "acquires": acquires,
            "descriptors": [before.descriptors, after.descriptors],
            "threads": [before.threads, after.threads],
            "residentGrewKiB": grown,
            "fine": fine,
        })
    );
    i32::from(!fine)
}

/// Waits for the idle helper threads and the watchdog, which stay for a moment.
fn settled(wanted: Footprint) -> Footprint {
    until("the threads end", || Footprint::now().threads <= wanted.threads);
    Footprint::now()
}

/// Acquires at least `times` times, divided among the ways. Returns the actual number.
fn acquire_in_every_way(folder: &Path, times: u64) -> u64 {
    let target = folder.join("t");
    let options = || Lock::options().deadlock_check(false);
    let lock_file = options().open(&target).unwrap();
    let flock = options().style(Style::Flock).open(&target).unwrap();
    let refreshing = options().refresh_interval(Duration::from_millis(20)).open(&target).unwrap();
    let rounds = times.div_ceil(10);
    let mut acquires = 0;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for round in 0..rounds {
        for lock in [&lock_file, &flock, &refreshing] {
            lock.acquire_with(Wait::Never).unwrap().release().unwrap();
            drop(lock.acquire_with(Wait::Forever).unwrap());
        }
        flock.acquire_shared(Wait::Never).unwrap().release().unwrap();
        runtime.block_on(lock_file.acquire_async(Wait::Forever)).unwrap().release().unwrap();
        // Reopened, and refused without and with waiting.
        let held = options().open(&target).unwrap().acquire_with(Wait::Never).unwrap();
        assert!(flock.acquire_with(Wait::Never).unwrap_err().is_busy());
        held.release().unwrap();
        acquires += 9;
        match round % 50 {
            0 => acquires += wait_in_every_way(&lock_file, &flock, &runtime),
            1 => look(folder, &target),
            _ => {}
        }
        acquires += 1;
        lock_file.acquire_with(Wait::For(Duration::from_secs(60))).unwrap().release().unwrap();
    }
    acquires + revoke(&target)
}

/// Waits with a helper thread: one waiter is granted, one times out, one future is dropped.
fn wait_in_every_way(lock_file: &Lock, flock: &Lock, runtime: &tokio::runtime::Runtime) -> u64 {
    for lock in [lock_file, flock] {
        let held = lock.acquire_with(Wait::Never).unwrap();
        assert!(lock.acquire_with(Wait::For(Duration::from_micros(200))).unwrap_err().is_busy());
        runtime.block_on(async {
            let waits = lock.acquire_async(Wait::Forever);
            assert!(tokio::time::timeout(Duration::from_micros(200), waits).await.is_err());
        });
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| drop(lock.acquire_with(Wait::Forever).unwrap()));
            held.release().unwrap();
            waiter.join().unwrap();
        });
    }
    4
}

fn look(folder: &Path, target: &Path) {
    tenure::status(target).unwrap();
    tenure::list(folder, &tenure::ListOptions::default().recursive(true)).unwrap();
    tenure::clean(folder, &CleanOptions::default()).unwrap();
    tenure::break_lock(target, &tenure::BreakOptions::default()).unwrap();
}

/// Has the watchdog revoke a lock, once.
fn revoke(target: &Path) -> u64 {
    let options = Lock::options().max_hold(Duration::from_millis(20)).overrun(Overrun::Revoke).deadlock_check(false);
    let guard = options.open(target).unwrap().acquire_with(Wait::Forever).unwrap();
    until("the lock is revoked", || guard.check().is_err());
    assert!(guard.release().is_err_and(|error| error.is_lost()));
    1
}
