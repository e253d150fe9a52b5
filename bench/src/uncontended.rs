//! Acquire and release without contention: Tenure, the peers, and the bare calls, in batches that rotate.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use tenure::{Lock, Style, Wait};

use crate::bare::{self, RECORD};
use crate::candidate;
use crate::driver::{Driver, FROM_PYTHON, python_class};
use crate::row::Row;
use crate::setup::Setup;

pub(crate) const TOPIC: &str = "uncontended";
pub(crate) const CREATE: &str = "bare: exclusive create + write + close + unlink";
pub(crate) const OPEN_FLOCK: &str = "bare: open + flock + unlock + close";
/// The library's lock that keeps no record: what the peers without one are compared with.
pub(crate) const NO_RECORD: &str = "tenure, flock style, no record";
/// Peers that keep a visible record of the holder, or a file that shows that there is one.
pub(crate) const VISIBLE: [&str; 4] =
    ["filelock SoftFileLock", "filelock StrictSoftFileLock", "proper-lockfile", "@openclaw/fs-safe"];
/// Tenure for Node: used as its peers are, and with a lock that stays open.
pub(crate) const NODE: &str = "Node: tenure";
pub(crate) const NODE_OPENED: &str = "Node: tenure, opened once";
/// The peers for Node.
pub(crate) const NODE_PEERS: [&str; 2] = ["proper-lockfile", "@openclaw/fs-safe"];
/// The peers without a record, used as their documentation shows: open, lock, unlock, close.
pub(crate) const KERNEL: [&str; 4] = ["fs4", "fd-lock", "fslock", "file-guard"];

/// The number of pairs of a candidate before the next one's turn.
const BATCH: usize = 50;
/// The same for slower candidates in other languages.
const DRIVEN_BATCH: usize = 5;

/// Runs the batch and adds its times.
type Batch = Box<dyn FnMut(&mut Vec<u64>) -> crate::Result<()>>;

pub(crate) fn measure(setup: &Setup) -> crate::Result<Vec<Row>> {
    let rounds = setup.pick(300, 5);
    let mut rows = Vec::new();
    for (fs, folder) in setup.folders()? {
        let mut candidates = candidates(folder)?;
        candidates.extend(driven(setup, folder)?);
        let mut samples = vec![Vec::new(); candidates.len()];
        for (_, batch) in &mut candidates {
            batch(&mut Vec::new())?; // Warm.
        }
        for round in 0..rounds {
            for turn in 0..candidates.len() {
                let at = (round + turn) % candidates.len();
                candidates[at].1(&mut samples[at])?;
            }
        }
        let named = candidates.iter().zip(samples);
        rows.extend(named.map(|((name, _), samples)| Row::times(TOPIC, &fs, name, samples)));
    }
    Ok(rows)
}

fn timed(mut once: impl FnMut() -> crate::Result<()> + 'static) -> Batch {
    Box::new(move |times| {
        for _ in 0..BATCH {
            let start = Instant::now();
            once()?;
            times.push(start.elapsed().as_nanos() as u64);
        }
        Ok(())
    })
}

fn candidates(folder: &Path) -> crate::Result<Vec<(&'static str, Batch)>> {
    let mut all = Vec::new();
    for name in [candidate::FLOCK, candidate::LINK, candidate::LOCK_FILE, candidate::FLOCK_STYLE] {
        let mut lock = candidate::open(name, &folder.join(name.replace([' ', ':', ','], "-")))?;
        all.push((name, timed(move || lock.acquire().and_then(|()| lock.release()))));
    }
    let no_record = Lock::options().style(Style::Flock).record(false).open(folder.join("no-record"))?;
    all.push((NO_RECORD, timed(move || Ok(no_record.acquire_with(Wait::Never)?.release()?))));

    let path = bare::c_path(&folder.join("reopened"))?;
    all.push((
        OPEN_FLOCK,
        timed(move || {
            let file = bare::open(&path, libc::O_RDWR | libc::O_CREAT)?;
            bare::flock(&file, libc::LOCK_EX)?;
            Ok(bare::flock(&file, libc::LOCK_UN)?)
        }),
    ));
    let dir = bare::open(&bare::c_path(folder)?, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let (path, name) = (bare::c_path(&folder.join("dotlock.lock"))?, c"dotlock.lock");
    all.push((
        CREATE,
        timed(move || {
            let file = bare::open(&path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)?;
            bare::write_at_start(&file, &RECORD)?;
            drop(file);
            Ok(bare::unlink_at(&dir, name)?)
        }),
    ));
    all.extend(peers(folder));
    Ok(all)
}

/// Returns the crates, used as their documentation shows.
fn peers(folder: &Path) -> Vec<(&'static str, Batch)> {
    let file = |name: &str| {
        let path = folder.join(name);
        move || File::options().read(true).write(true).create(true).truncate(false).open(&path)
    };
    let (fs4, fd_lock, file_guard) = (file("fs4"), file("fd-lock"), file("file-guard"));
    let fslock = folder.join("fslock");
    vec![
        (
            "fs4",
            timed(move || {
                let file = fs4()?;
                fs4::FileExt::lock(&file)?;
                Ok(fs4::FileExt::unlock(&file)?)
            }),
        ),
        (
            "fd-lock",
            timed(move || {
                let mut lock = fd_lock::RwLock::new(fd_lock()?);
                drop(lock.write()?);
                Ok(())
            }),
        ),
        (
            "fslock",
            timed(move || {
                let mut lock = fslock::LockFile::open(&fslock)?;
                lock.lock()?;
                Ok(lock.unlock()?)
            }),
        ),
        (
            "file-guard",
            timed(move || {
                let file = file_guard()?;
                drop(file_guard::lock(&file, file_guard::Lock::Exclusive, 0, 1)?);
                Ok(())
            }),
        ),
    ]
}

/// Returns the candidates in other languages, each in a process that times itself.
fn driven(setup: &Setup, folder: &Path) -> crate::Result<Vec<(&'static str, Batch)>> {
    let mut all: Vec<(&'static str, Batch)> = Vec::new();
    let mut add = |name: &'static str, mut driver: Driver| {
        let batch: Batch = Box::new(move |times: &mut Vec<u64>| {
            times.extend(driver.batch(DRIVEN_BATCH)?);
            Ok(())
        });
        all.push((name, batch));
    };
    let peers = [
        "Python fcntl.flock, bare",
        "filelock FileLock",
        "filelock SoftFileLock",
        "filelock StrictSoftFileLock",
        "filelock ReadWriteLock",
    ];
    for name in peers.into_iter().chain(FROM_PYTHON) {
        let class = python_class(name).ok_or("no such class")?;
        add(name, Driver::python(setup, class, &folder.join(class.replace(':', "-")))?);
    }
    for name in [NODE, NODE_OPENED, "proper-lockfile", "@openclaw/fs-safe"] {
        let package = name.strip_prefix("Node: ").unwrap_or(name);
        add(name, Driver::node(setup, package, &folder.join(name.replace(['@', '/', ':', ',', ' '], "-")))?);
    }
    Ok(all)
}
