//! Very many locks in one process: the cost of an idle one, and whether the last is slower than the first.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use tenure::{Lock, Wait};

use crate::row::Row;
use crate::setup::Setup;

/// The arguments: `many-child FOLDER COUNT FOLDERS`.
pub(crate) const ROLE: &str = "many-child";
pub(crate) const TOPIC: &str = "many locks";
pub(crate) const ONE: &str = "one folder";
pub(crate) const SPREAD: &str = "100 folders";

/// The number of timed locks, which were used just before, as the first one was.
const SAMPLE: usize = 200;

pub(crate) fn measure(setup: &Setup) -> crate::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (case, folders) in [(ONE, 1), (SPREAD, 100)] {
        for count in setup.pick(&[1, 10, 100, 1_000, 10_000, 100_000][..], &[1, 1_000]) {
            let folder = tempfile::tempdir_in(setup.folder())?;
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(ROLE).arg(folder.path()).args([count.to_string(), folders.to_string()]);
            let output = command.stderr(Stdio::inherit()).output()?;
            let text = String::from_utf8(output.stdout)?;
            let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
            let [bytes, first, last, cold, files] = numbers[..] else { return Err("a child ended early".into()) };
            let numbers = [
                ("bytesEach", bytes),
                ("firstP50ns", first),
                ("lastP50ns", last),
                ("coldP50ns", cold),
                ("lastToFirst", last / first),
                ("openFiles", files),
            ];
            rows.push(Row::new(TOPIC, format!("{case}, {count}"), crate::candidate::LOCK_FILE, &numbers));
        }
    }
    Ok(rows)
}

/// Runs the child's side, in a process of its own, so that its memory is only that of the locks.
pub(crate) fn child(args: &mut impl Iterator<Item = String>) -> crate::Result<()> {
    let folder = PathBuf::from(args.next().ok_or("no folder")?);
    let count: usize = args.next().ok_or("how many?")?.parse()?;
    let folders: usize = args.next().ok_or("in how many folders?")?.parse()?;
    let target = |at: usize| folder.join(format!("{}/{at}", at % folders));
    for at in 0..folders {
        std::fs::create_dir(folder.join(at.to_string()))?;
    }
    // Another lock pays for the process's first use (identity, threads, allocator).
    let spare = Lock::open(folder.join("spare"))?;
    let first = timed(&spare, SAMPLE)?;
    let before = memory()?;
    let mut locks = Vec::with_capacity(count);
    for at in 0..count {
        let lock = Lock::open(target(at))?;
        lock.acquire_with(Wait::Never)?.release()?;
        locks.push(lock);
    }
    let after = memory()?;
    let files = std::fs::read_dir("/proc/self/fd")?.count();
    let last = timed(locks.last().ok_or("none")?, SAMPLE)?;
    let cold = cold(&locks)?;
    let each = (after.saturating_sub(before)) as f64 / count as f64 - size_of::<Lock>() as f64;
    println!("{each} {first} {last} {cold} {files}");
    Ok(())
}

/// Returns the median of that many pairs in a row.
fn timed(lock: &Lock, times: usize) -> crate::Result<u64> {
    let mut samples = Vec::new();
    for _ in 0..=times {
        let start = Instant::now();
        lock.acquire_with(Wait::Never)?.release()?;
        samples.push(start.elapsed().as_nanos() as u64);
    }
    // The first pair may have to reopen files that were closed meanwhile: `cold` measures that.
    Ok(crate::stats::Sorted::new(samples.split_off(1)).percentile(50))
}

/// Uses each lock once, far from one another: none was used recently.
fn cold(locks: &[Lock]) -> crate::Result<u64> {
    let mut samples = Vec::new();
    for lock in locks.iter().step_by((locks.len() / SAMPLE).max(1)) {
        let start = Instant::now();
        lock.acquire_with(Wait::Never)?.release()?;
        samples.push(start.elapsed().as_nanos() as u64);
    }
    Ok(crate::stats::Sorted::new(samples).percentile(50))
}

/// Returns the bytes that the allocator has given out (`mallinfo2(3)`); resident pages also count free memory.
fn memory() -> crate::Result<usize> {
    // SAFETY: no precondition.
    let info = unsafe { libc::mallinfo2() };
    Ok(info.uordblks + info.hblkhd)
}
