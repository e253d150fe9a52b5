//! From one process's release, or death, to the next process's grant.
//!
//! A holder and a waiter, two processes, each candidate with its own. The holder's end and the waiter's grant are read
//! on the monotonic clock, which all processes of a machine share.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tenure::{Guard, Lock, Style, Wait};

use crate::bare;
use crate::stats::Row;

/// The word that makes this program a holder or waiter: `handoff-child CANDIDATE TARGET`.
pub(crate) const ROLE: &str = "handoff-child";

const FLOCK: &str = "flock";
const FOREIGN: &str = "foreign";
const LOCK_FILE: &str = "lock-file";
const FLOCK_STYLE: &str = "flock-style";

/// A name, who holds, and who waits.
const CANDIDATES: [(&str, &str, &str); 4] = [
    ("bare: flock", FLOCK, FLOCK),
    ("tenure, lock-file style", LOCK_FILE, LOCK_FILE),
    ("tenure, flock style", FLOCK_STYLE, FLOCK_STYLE),
    ("a foreign program that knows only the lock file, to tenure", FOREIGN, LOCK_FILE),
];

/// How long the waiter gets to fall asleep in its wait.
const SETTLE: Duration = Duration::from_millis(2);

/// How a tenure ends.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Ending {
    Release,
    Kill,
}

pub(crate) fn measure(folder: &Path, ending: Ending, rounds: usize) -> crate::Result<Vec<Row>> {
    let targets: Vec<PathBuf> = (0..CANDIDATES.len()).map(|at| folder.join(format!("handoff-{at}"))).collect();
    let mut samples = vec![Vec::with_capacity(rounds); CANDIDATES.len()];
    let holder = |at: usize| Peer::start(CANDIDATES[at].1, &targets[at]);
    let waiter = |at: usize| Peer::start(CANDIDATES[at].2, &targets[at]);
    let mut holders = (0..CANDIDATES.len()).map(holder).collect::<crate::Result<Vec<_>>>()?;
    let mut waiters = (0..CANDIDATES.len()).map(waiter).collect::<crate::Result<Vec<_>>>()?;
    for round in 0..rounds {
        for turn in 0..CANDIDATES.len() {
            let at = (round + turn) % CANDIDATES.len();
            let (holding, waiter) = (&mut holders[at], &mut waiters[at]);
            holding.tell(b'a')?;
            holding.time()?;
            waiter.tell(b'a')?;
            sleep(SETTLE);
            let ended = match ending {
                Ending::Release => {
                    holding.tell(b'r')?;
                    holding.time()?
                }
                Ending::Kill => {
                    let now = bare::now();
                    holding.0.kill()?;
                    now
                }
            };
            let granted = waiter.time()?;
            samples[at].push(granted.saturating_sub(ended));
            waiter.tell(b'r')?;
            waiter.time()?;
            if ending == Ending::Kill {
                *holding = holder(at)?; // Dropping the old one reaps it.
            }
        }
    }
    Ok(CANDIDATES.iter().zip(samples).map(|((name, ..), samples)| Row::new(name, samples)).collect())
}

/// A child that acquires and releases when told, and answers with the time.
struct Peer(Child);

impl Peer {
    fn start(candidate: &str, target: &Path) -> crate::Result<Peer> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([ROLE, candidate]).arg(target).stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Peer(command.spawn()?))
    }

    fn tell(&mut self, word: u8) -> crate::Result<()> {
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

/// The child's side: `a` acquires and answers when it has, `r` releases and answers when it began to.
pub(crate) fn child(args: &mut impl Iterator<Item = String>) -> crate::Result<()> {
    let (candidate, target) = (args.next().ok_or("no candidate")?, args.next().ok_or("no target")?);
    let target = PathBuf::from(target);
    if candidate == FLOCK {
        let file = bare::open(&bare::c_path(&target)?, libc::O_RDWR | libc::O_CREAT)?;
        return answer(|| Ok(bare::flock(&file, libc::LOCK_EX)?), |()| Ok(bare::flock(&file, libc::LOCK_UN)?));
    }
    if candidate == FOREIGN {
        return foreign(&target);
    }
    let style = if candidate == LOCK_FILE { Style::LockFile } else { Style::Flock };
    let lock = Lock::options().style(style).open(target)?;
    answer(|| Ok(lock.acquire(Wait::Forever)?), |guard: Guard| Ok(guard.release()?))
}

/// A holder by exclusive create. It never waits here, so it needs no polling.
fn foreign(target: &Path) -> crate::Result<()> {
    let mut path = target.as_os_str().to_owned();
    path.push(".lock");
    let path = bare::c_path(Path::new(&path))?;
    let folder = bare::open(&bare::c_path(target.parent().ok_or("no folder")?)?, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let pid = std::process::id();
    let start = tenure::process::start_time(pid).ok_or("no start time")?;
    let record = format!(
        "{{\n  \"pid\": {pid},\n  \"createdAt\": \"{}\",\n  \"starttime\": {start}\n}}",
        "2026-03-02T10:00:00.000Z", // Long ago: age alone must not matter.
    );
    let acquire = || {
        let file = bare::open(&path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)?;
        bare::write_at_start(&file, record.as_bytes())?;
        Ok(file)
    };
    answer(acquire, |file| {
        drop(file);
        Ok(bare::unlink_at(&folder, &path)?)
    })
}

fn answer<G>(
    mut acquire: impl FnMut() -> crate::Result<G>,
    mut release: impl FnMut(G) -> crate::Result<()>,
) -> crate::Result<()> {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut held = None;
    let mut word = [0];
    while input.read(&mut word)? == 1 {
        let time = match word[0] {
            b'a' => {
                held = Some(acquire()?);
                bare::now()
            }
            _ => {
                let now = bare::now();
                release(held.take().ok_or("not held")?)?;
                now
            }
        };
        output.write_all(&time.to_ne_bytes())?;
        output.flush()?;
    }
    Ok(())
}
