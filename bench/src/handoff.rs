//! The time from one process's release, or death, to the next process's grant.
//!
//! A holder and a waiter are two processes. The holder's end and the waiter's grant are read on the monotonic clock,
//! which all processes of a machine share.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::bare;
use crate::candidate::{
    self, FLOCK, FLOCK_STYLE, FLOCK_STYLE_INTERRUPTS, FOREIGN, LINK, LOCK_FILE, LOCK_FILE_INTERRUPTS,
};
use crate::driver::{self, FROM_PYTHON};
use crate::row::Row;
use crate::setup::Setup;
use crate::uncontended::{NODE, NODE_PEERS};

/// The argument that makes this program a holder or waiter: `handoff-child CANDIDATE TARGET`.
pub(crate) const ROLE: &str = "handoff-child";
pub(crate) const TOPIC: &str = "hand-off";
pub(crate) const RELEASE: &str = "release";
pub(crate) const KILL: &str = "SIGKILL";
/// A foreign holder, a native waiter.
pub(crate) const FOREIGN_TO_US: &str = "a program that knows only the lock file, to tenure";

/// A name, the holder, and the waiter.
type Candidate = (&'static str, &'static str, &'static str);
const CANDIDATES: [Candidate; 7] = [
    (FLOCK, FLOCK, FLOCK),
    (FLOCK_STYLE, FLOCK_STYLE, FLOCK_STYLE),
    (FLOCK_STYLE_INTERRUPTS, FLOCK_STYLE_INTERRUPTS, FLOCK_STYLE_INTERRUPTS),
    (LINK, LINK, LINK),
    (LOCK_FILE, LOCK_FILE, LOCK_FILE),
    (LOCK_FILE_INTERRUPTS, LOCK_FILE_INTERRUPTS, LOCK_FILE_INTERRUPTS),
    (FOREIGN_TO_US, FOREIGN, LOCK_FILE),
];
/// The peers that wait: they poll, so a few rounds suffice.
const PEERS: [&str; 5] =
    ["filelock FileLock", "filelock SoftFileLock", "filelock ReadWriteLock", NODE_PEERS[0], NODE_PEERS[1]];

/// The time that the waiter gets to fall asleep.
const SETTLE: Duration = Duration::from_millis(2);

pub(crate) fn measure(setup: &Setup) -> crate::Result<Vec<Row>> {
    let mut own = CANDIDATES.to_vec();
    own.push((NODE, NODE, NODE));
    let peers: Vec<_> = PEERS.iter().map(|name| (*name, *name, *name)).collect();
    let python: Vec<_> = FROM_PYTHON.iter().map(|name| (*name, *name, *name)).collect();
    let mut rows = Vec::new();
    for (fs, folder) in setup.folders()? {
        let mut add = |ending: &str, candidates: &[Candidate], count| -> crate::Result<()> {
            let case = format!("{ending}, {fs}");
            rows.extend(rounds(setup, folder, &case, ending, candidates, count)?);
            Ok(())
        };
        add(RELEASE, &own, setup.pick(1000, 5))?;
        add(RELEASE, &python, setup.pick(1000, 5))?;
        add(RELEASE, &peers, setup.pick(60, 2))?;
        add(KILL, &own, setup.pick(200, 3))?;
    }
    Ok(rows)
}

fn rounds(
    setup: &Setup,
    folder: &Path,
    case: &str,
    ending: &str,
    candidates: &[Candidate],
    rounds: usize,
) -> crate::Result<Vec<Row>> {
    let folder = tempfile::tempdir_in(folder)?;
    let targets: Vec<PathBuf> = (0..candidates.len()).map(|at| folder.path().join(format!("handoff-{at}"))).collect();
    let mut samples = vec![Vec::with_capacity(rounds); candidates.len()];
    let holder = |at: usize| Peer::start(setup, candidates[at].1, &targets[at]);
    let waiter = |at: usize| Peer::start(setup, candidates[at].2, &targets[at]);
    let mut holders = (0..candidates.len()).map(holder).collect::<crate::Result<Vec<_>>>()?;
    let mut waiters = (0..candidates.len()).map(waiter).collect::<crate::Result<Vec<_>>>()?;
    for round in 0..rounds {
        for turn in 0..candidates.len() {
            let at = (round + turn) % candidates.len();
            let (holding, waiter) = (&mut holders[at], &mut waiters[at]);
            holding.send(b'a')?;
            holding.time()?;
            waiter.send(b'a')?;
            sleep(SETTLE);
            let ended = if ending == RELEASE {
                holding.send(b'r')?;
                holding.time()?
            } else {
                let now = bare::now();
                holding.0.kill()?;
                now
            };
            let granted = waiter.time()?;
            samples[at].push(granted.saturating_sub(ended));
            waiter.send(b'r')?;
            waiter.time()?;
            if ending == KILL {
                *holding = holder(at)?; // Dropping the old one reaps it.
            }
        }
    }
    let named = candidates.iter().zip(samples);
    Ok(named.map(|((name, ..), samples)| Row::times(TOPIC, case, name, samples)).collect())
}

/// A child that acquires and releases on request, and answers with the time.
struct Peer(Child);

impl Peer {
    fn start(setup: &Setup, candidate: &str, target: &Path) -> crate::Result<Peer> {
        let mut command = if let Some(class) = driver::python_class(candidate) {
            let mut command = Command::new(setup.python());
            command.arg(setup.driver("filelock_driver.py")).arg(class).arg(target).arg("holder");
            command
        } else if candidate == NODE || NODE_PEERS.contains(&candidate) {
            let mut command = driver::node(setup, candidate.strip_prefix("Node: ").unwrap_or(candidate), target);
            command.arg("holder");
            command
        } else {
            let mut command = Command::new(std::env::current_exe()?);
            command.args([ROLE, candidate]).arg(target);
            command
        };
        Ok(Peer(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    fn send(&mut self, word: u8) -> crate::Result<()> {
        self.0.stdin.as_mut().ok_or("no pipe")?.write_all(&[word])?;
        Ok(())
    }

    fn time(&mut self) -> crate::Result<u64> {
        let mut time = [0; 8];
        self.0.stdout.as_mut().ok_or("no pipe")?.read_exact(&mut time)?;
        Ok(u64::from_ne_bytes(time))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the child's side: `a` acquires and answers with the time of the grant, `r` releases and answers with the time
/// before.
pub(crate) fn child(args: &mut impl Iterator<Item = String>) -> crate::Result<()> {
    let (candidate, target) = (args.next().ok_or("no candidate")?, args.next().ok_or("no target")?);
    let mut lock = candidate::open(&candidate, Path::new(&target))?;
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut word = [0];
    while input.read(&mut word)? == 1 {
        let time = if word[0] == b'a' {
            lock.acquire()?;
            bare::now()
        } else {
            let now = bare::now();
            lock.release()?;
            now
        };
        output.write_all(&time.to_ne_bytes())?;
        output.flush()?;
    }
    Ok(())
}
