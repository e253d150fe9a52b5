//! Many processes that reacquire one lock without pause, and a greedy process beside a waiter.
//!
//! Each process holds for 20 µs, spinning, and acquires again at once. A word of shared memory has the time of the last
//! release. From it the next holder computes the hand-off, if another process held before.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::bare;
use crate::candidate::{self, INTERRUPTS, STYLES};
use crate::driver;
use crate::row::Row;
use crate::setup::Setup;
use crate::stats::{BUCKETS, Histogram};

/// The arguments: `crowd-child CANDIDATE TARGET HELD_NS PAUSE_NS`.
pub(crate) const ROLE: &str = "crowd-child";
pub(crate) const TOPIC: &str = "crowd";
pub(crate) const GROWTH: &str = "growth";
pub(crate) const GREEDY: &str = "greedy";

const HELD: Duration = Duration::from_micros(20);
/// The pause of the waiter beside a greedy process between its acquires.
const REST: Duration = Duration::from_millis(1);
/// The word in the shared page with the time of the last release, which also encodes the releasing process.
const WORD: &str = "released-at";

/// Measures throughput and fairness, 10 seconds each on the disk, and 5 in memory.
pub(crate) fn measure(setup: &Setup) -> crate::Result<Vec<Row>> {
    let mut all = Vec::new();
    for (fs, folder) in setup.folders()? {
        // Interrupts save a wake-up of a thread, on whichever file system: once suffices.
        let on_disk = folder == setup.folder();
        let time = Duration::from_secs(if on_disk { 10 } else { 5 });
        let time = setup.pick(time, Duration::from_millis(300));
        let candidates: Vec<_> = STYLES.into_iter().filter(|name| on_disk || !name.ends_with(INTERRUPTS)).collect();
        for size in setup.pick(&[2, 8, 32, 128][..], &[2, 8]) {
            all.extend(rows(setup, TOPIC, folder, &format!("{size}, {fs}"), *size, &candidates, time)?);
        }
    }
    Ok(all)
}

/// Measures growth with the number of processes, one second each.
pub(crate) fn growth(setup: &Setup) -> crate::Result<Vec<Row>> {
    let time = setup.pick(Duration::from_secs(1), Duration::from_millis(200));
    let mut all = Vec::new();
    for size in setup.pick(&[1, 2, 4, 8, 16, 32, 64, 128, 256][..], &[1, 4]) {
        all.extend(rows(setup, GROWTH, setup.folder(), &size.to_string(), *size, &STYLES, time)?);
    }
    Ok(all)
}

fn rows(
    setup: &Setup,
    topic: &str,
    folder: &Path,
    case: &str,
    size: usize,
    candidates: &[&'static str],
    time: Duration,
) -> crate::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for candidate in candidates {
        let folder = tempfile::tempdir_in(folder)?;
        let members = vec![Member { candidate, pause: Duration::ZERO }; size];
        let outcomes = run(setup, folder.path(), &members, time)?;
        let mut histogram = Histogram::new();
        outcomes.iter().for_each(|outcome| histogram.merge(&outcome.histogram));
        let grants: Vec<u64> = outcomes.iter().map(|outcome| outcome.grants).collect();
        let (most, least) = (grants.iter().max().copied().unwrap_or(0), grants.iter().min().copied().unwrap_or(0));
        let longest = outcomes.iter().map(|outcome| outcome.longest).max().unwrap_or(0);
        let row = Row::new(
            topic,
            case,
            candidate,
            &[
                ("grantsPerSecond", grants.iter().sum::<u64>() as f64 / time.as_secs_f64()),
                ("mostToLeast", most as f64 / least.max(1) as f64),
                ("longestWaitMs", longest as f64 / 1e6),
                ("handOffP50ns", histogram.percentile(50) as f64),
                ("handOffP99ns", histogram.percentile(99) as f64),
            ],
        );
        rows.push(row);
    }
    Ok(rows)
}

/// Measures one process that acquires as often as possible beside one that acquires occasionally.
pub(crate) fn greedy(setup: &Setup) -> crate::Result<Vec<Row>> {
    let time = setup.pick(Duration::from_secs(10), Duration::from_millis(300));
    let peers = ["filelock FileLock", "filelock SoftFileLock", "filelock StrictSoftFileLock"];
    let mut rows = Vec::new();
    for candidate in STYLES.into_iter().chain(peers) {
        let folder = tempfile::tempdir_in(setup.folder())?;
        let members = [Member { candidate, pause: Duration::ZERO }, Member { candidate, pause: REST }];
        let outcomes = run(setup, folder.path(), &members, time)?;
        rows.push(Row::new(
            GREEDY,
            "one waiter",
            candidate,
            &[
                ("longestWaitMs", outcomes[1].longest as f64 / 1e6),
                ("grants", outcomes[1].grants as f64),
                ("greedyGrants", outcomes[0].grants as f64),
            ],
        ));
    }
    Ok(rows)
}

#[derive(Clone, Copy)]
struct Member {
    candidate: &'static str,
    pause: Duration,
}

struct Outcome {
    grants: u64,
    longest: u64,
    histogram: Vec<u8>,
}

fn run(setup: &Setup, folder: &Path, members: &[Member], time: Duration) -> crate::Result<Vec<Outcome>> {
    bare::shared_word(&folder.join(WORD))?;
    let target = folder.join("target");
    let mut crowd = members.iter().map(|member| start(setup, *member, &target)).collect::<crate::Result<Vec<_>>>()?;
    for child in &mut crowd {
        pipe(child)?.read_exact(&mut [0])?; // Ready.
    }
    let begin = bare::now() + 50_000_000;
    let end = begin + time.as_nanos() as u64;
    for child in &mut crowd {
        let input = child.stdin.as_mut().ok_or("no pipe")?;
        input.write_all(&[begin.to_ne_bytes(), end.to_ne_bytes()].concat())?;
    }
    let mut outcomes = Vec::new();
    for child in &mut crowd {
        let (mut numbers, mut histogram) = ([0; 16], Vec::new());
        pipe(child)?.read_exact(&mut numbers)?;
        pipe(child)?.read_to_end(&mut histogram)?;
        child.wait()?;
        let number = |at: usize| u64::from_ne_bytes(numbers[at..at + 8].try_into().expect("eight bytes"));
        outcomes.push(Outcome { grants: number(0), longest: number(8), histogram });
    }
    Ok(outcomes)
}

fn pipe(child: &mut Child) -> crate::Result<&mut std::process::ChildStdout> {
    child.stdout.as_mut().ok_or_else(|| "no pipe".into())
}

fn start(setup: &Setup, member: Member, target: &Path) -> crate::Result<Child> {
    let mut command = match driver::python_class(member.candidate) {
        Some(class) => {
            let mut command = Command::new(setup.python());
            command.arg(setup.driver("filelock_driver.py")).arg(class).arg(target).arg("crowd");
            command
        }
        None => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args([ROLE, member.candidate]).arg(target);
            command
        }
    };
    command.args([HELD.as_nanos().to_string(), member.pause.as_nanos().to_string()]);
    Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

/// Runs the child's side.
pub(crate) fn child(args: &mut impl Iterator<Item = String>) -> crate::Result<()> {
    let (candidate, target) = (args.next().ok_or("no candidate")?, args.next().ok_or("no target")?);
    let held: u64 = args.next().ok_or("held for how long?")?.parse()?;
    let pause: u64 = args.next().ok_or("a pause of how long?")?.parse()?;
    let released = bare::shared_word(&Path::new(&target).with_file_name(WORD))?;
    let own = u64::from(std::process::id());
    let mut lock = candidate::open(&candidate, Path::new(&target))?;
    std::io::stdout().write_all(b"r")?;
    std::io::stdout().flush()?;
    let mut times = [0; 16];
    std::io::stdin().read_exact(&mut times)?;
    let begin = u64::from_ne_bytes(times[..8].try_into()?);
    let end = u64::from_ne_bytes(times[8..].try_into()?);
    std::thread::sleep(Duration::from_nanos(begin.saturating_sub(bare::now())));

    let (mut grants, mut longest, mut histogram) = (0_u64, 0, Histogram::new());
    loop {
        let before = bare::now();
        if before >= end {
            break;
        }
        lock.acquire()?;
        let at = bare::now();
        // The low bits of the time identify the process; single nanoseconds matter less.
        let last = released.load(Ordering::Relaxed);
        if last != 0 && last % SHARE != own % SHARE {
            histogram.add(at.saturating_sub(last / SHARE * SHARE));
        }
        longest = longest.max(at - before);
        grants += 1;
        let mut now = at;
        while now < at + held {
            std::hint::spin_loop();
            now = bare::now();
        }
        released.store(now / SHARE * SHARE + own % SHARE, Ordering::Relaxed);
        lock.release()?;
        if pause > 0 {
            std::thread::sleep(Duration::from_nanos(pause));
        }
    }
    let mut output = std::io::stdout().lock();
    output.write_all(&[grants.to_ne_bytes(), longest.to_ne_bytes()].concat())?;
    output.write_all(&histogram.bytes())?;
    debug_assert_eq!(histogram.bytes().len(), BUCKETS * 4);
    Ok(output.flush()?)
}

/// The number of processes that the time of a release distinguishes.
const SHARE: u64 = 1024;
