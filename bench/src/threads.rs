//! Threads of one process that reacquire one lock without pause: grants a second, beside a mutex.
//!
//! Such a process could use the mutex if it were the only one and kept the kernel lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use tenure::{Lock, Style, Wait};

use crate::row::Row;
use crate::setup::Setup;

pub(crate) const TOPIC: &str = "threads";
pub(crate) const MUTEX: &str = "parking_lot::Mutex, the kernel lock kept";
pub(crate) const FAIR: &str = "parking_lot::Mutex, unlock_fair, the kernel lock kept";

/// One acquire and release.
type Once = Arc<dyn Fn() + Send + Sync>;

pub(crate) fn measure(setup: &Setup) -> crate::Result<Vec<Row>> {
    let time = setup.pick(Duration::from_secs(1), Duration::from_millis(100));
    let mut rows = Vec::new();
    for threads in setup.pick(&[2, 4, 8, 16, 32, 64][..], &[2, 8]) {
        let folder = tempfile::tempdir_in(setup.folder())?;
        let mutex = parking_lot::Mutex::new(());
        let fair = parking_lot::Mutex::new(());
        let open = |style, name: &str| Lock::options().style(style).open(folder.path().join(name));
        let tenure = |lock: Lock| -> Once {
            Arc::new(move || {
                // A failed thread ends early, which is an error below.
                drop(lock.acquire_with(Wait::Forever).expect("a lock of our own"));
            })
        };
        let candidates: [(&str, Once); 4] = [
            (MUTEX, Arc::new(move || drop(mutex.lock()))),
            (FAIR, Arc::new(move || parking_lot::MutexGuard::unlock_fair(fair.lock()))),
            (crate::candidate::FLOCK_STYLE, tenure(open(Style::Flock, "flock")?)),
            (crate::candidate::LOCK_FILE, tenure(open(Style::LockFile, "lock-file")?)),
        ];
        for (name, once) in candidates {
            let (grants, longest) = run(*threads, time, once)?;
            let mean = time.as_nanos() as f64 * *threads as f64 / grants as f64;
            let numbers = [
                ("grantsPerSecond", grants as f64 / time.as_secs_f64()),
                ("longestWaitMs", longest as f64 / 1e6),
                ("meanTurnNs", mean),
                ("longestToMean", longest as f64 / mean),
            ];
            rows.push(Row::new(TOPIC, threads, name, &numbers));
        }
    }
    Ok(rows)
}

/// Returns the number of grants of all threads, and the longest wait of one.
fn run(threads: usize, time: Duration, once: Once) -> crate::Result<(u64, u64)> {
    let (all, longest, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let start = Barrier::new(threads + 1);
    let ended_early = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let (mut grants, mut worst) = (0, 0);
                    start.wait();
                    while !over.load(Ordering::Relaxed) {
                        let before = Instant::now();
                        once();
                        worst = worst.max(before.elapsed().as_nanos() as u64);
                        grants += 1;
                    }
                    all.fetch_add(grants, Ordering::Relaxed);
                    longest.fetch_max(worst, Ordering::Relaxed);
                })
            })
            .collect();
        start.wait();
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        workers.into_iter().any(|worker| worker.join().is_err())
    });
    if ended_early {
        return Err("a thread ended early".into());
    }
    Ok((all.into_inner(), longest.into_inner()))
}
