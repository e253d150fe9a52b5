//! A trial of a folder: locks in it with real processes, of which some are killed.
//!
//! [`probe`] asks what one process can see. The trial asks what the promises rest on: a second process is refused, its death
//! frees the lock, and a dead program's lock file is taken over, but no live one's. It works in a folder of its own in the
//! tried one, and removes that.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::file::paths::PROBE_PREFIX;
use crate::maintenance::probe::{self, Answer, Feature, Probe};
use crate::model::error::{Error, Result};
use crate::model::options::{Options, Wait};
use crate::model::tenure::Backend;
use crate::process::{Identity, Liveness};
use crate::sys::{self, Dir, File, FileKind, ForkLocal, LockKind, Name, SecondProcess};
use crate::util::text::date;
use crate::wait::file_lock::FileLock;

/// The longest time in which a waiter must be woken: many times what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many names for the folder are tried.
const NAMES: usize = 16;

/// How long a waiter is watched that must go on waiting. Shorter or longer, a kept promise is never found broken.
const A_WHILE: Duration = Duration::from_millis(100);

/// The end of a trial that did not pass.
enum Failed {
    /// A promise was broken, with the observation.
    Broken(String),
    /// The trial itself could not go on.
    Error(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Error(error)
    }
}

/// Tries locks in `dir`, a folder to which this user can write, with real processes: this one, and some that it forks and
/// kills. `Yes` if every promise was kept, `No` with the first that was not.
///
/// The processes are forks of this one, which make system calls only. [`folder`](probe::folder) tests single features.
///
/// # Errors
///
/// The system's error where the trial could not be made; [`is_unsupported`](crate::Error::is_unsupported) where a system has
/// no fork.
///
/// # Examples
///
/// ```
/// # if cfg!(target_os = "linux") {
/// # let dir = tempfile::tempdir().unwrap();
/// # let sessions = dir.path();
/// assert!(tenure::probe::trial(sessions)?.is_yes());
/// # }
/// # Ok::<(), tenure::Error>(())
/// ```
pub fn trial(dir: impl AsRef<Path>) -> Result<Answer> {
    /// Two children at a time would each keep the other's pipe open.
    static ONE_AT_A_TIME: ForkLocal<Mutex<()>> = ForkLocal::new();

    let path = dir.as_ref();
    let _alone = ONE_AT_A_TIME.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let open = Dir::open(path).map_err(|error| Error::io(path, "the folder cannot be opened", error))?;
    let bench = Bench::new(&open, path)?;
    match bench.all() {
        Ok(()) => Ok(Answer::Yes),
        Err(Failed::Broken(seen)) => Ok(Answer::No(seen)),
        Err(Failed::Error(error)) => Err(error),
    }
}

/// The folder of a trial. Dropping it removes it.
struct Bench<'a> {
    parent: &'a Dir,
    name: Name,
    path: PathBuf,
    dir: Dir,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        remove_all(self.parent, &self.name, &self.dir);
    }
}

/// Removes a folder with its files, and one level of folders in it: `.tenure`.
fn remove_all(parent: &Dir, name: &Name, dir: &Dir) {
    for (entry, kind) in dir.entries().unwrap_or_default() {
        match dir.open_dir(&entry) {
            Ok(below) if kind != FileKind::Regular => {
                for (file, _) in below.entries().unwrap_or_default() {
                    let _ = below.unlink(&file);
                }
                let _ = dir.remove_dir(&entry);
            }
            _ => drop(dir.unlink(&entry)),
        }
    }
    let _ = parent.remove_dir(name);
}

fn name(text: &str) -> Name {
    Name::new(OsStr::new(text)).expect("no zero byte is in it")
}

impl Bench<'_> {
    fn new<'a>(parent: &'a Dir, path: &Path) -> Result<Bench<'a>> {
        let mut made = Bench::unused_name();
        let mut result = parent.make_dir(&name(&made), 0o700);
        for _ in 1..NAMES {
            // Of a process with this pid that was killed, or of one in another container.
            if !result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
                break;
            }
            made = Bench::unused_name();
            result = parent.make_dir(&name(&made), 0o700);
        }
        let (name, path) = (name(&made), path.join(made));
        let failed = |error| Error::io(&path, "the folder for a trial of locks cannot be created", error);
        result.map_err(failed)?;
        match parent.open_dir(&name) {
            Ok(dir) => Ok(Bench { parent, name, dir, path }),
            Err(error) => {
                let _ = parent.remove_dir(&name);
                Err(failed(error))
            }
        }
    }

    /// Returns a name of this process, this moment and this call.
    fn unused_name() -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = sys::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        format!("{PROBE_PREFIX}{}-trial-{now}-{}", sys::pid(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    fn failed(&self, error: io::Error) -> Failed {
        Failed::Error(Error::io(&self.path, "a trial of locks failed", error))
    }

    fn all(&self) -> std::result::Result<(), Failed> {
        let probe = probe::folder(&self.path)?;
        lacks_nothing(&probe)?;
        self.kernel_lock()?;
        self.takeover(&probe)?;
        self.native()
    }

    fn second(&self, locked: &Name, opened: &Name) -> std::result::Result<SecondProcess, Failed> {
        SecondProcess::start(&self.dir, locked, opened).map_err(|error| self.failed(error))
    }

    /// Tries the kernel lock between two processes, and a waiter whose holder is killed.
    fn kernel_lock(&self) -> std::result::Result<(), Failed> {
        let failed = |error| self.failed(error);
        let locked = name("kernel-lock");
        let own = Arc::new(self.dir.create_new(&locked, 0o600).map_err(failed)?);
        let mut other = self.second(&locked, &locked)?;
        let tries = |file: &File| file.try_lock(LockKind::Exclusive).map_err(failed);
        expect(tries(&own)?, "a new file is locked already")?;
        expect(!other.try_lock().map_err(failed)?, "a second process had the kernel lock at the same time")?;
        own.unlock().map_err(failed)?;
        expect(other.try_lock().map_err(failed)?, "a second process was refused the kernel lock after its release")?;
        expect(!tries(&own)?, "this process had the kernel lock beside a second one")?;
        let (sender, granted) = channel();
        let waiter = Arc::clone(&own);
        sys::spawn("tenure-trial", move || {
            let _ = sender.send(waiter.lock(LockKind::Exclusive, None));
        })
        .map_err(failed)?;
        expect(granted.recv_timeout(A_WHILE).is_err(), "a waiter had the kernel lock beside a second process")?;
        other.kill().map_err(failed)?;
        match granted.recv_timeout(PATIENCE) {
            Ok(outcome) => expect(outcome.map_err(failed)?, "a wait for the kernel lock was cut short"),
            Err(_) => expect(false, "a waiter was not woken when the holder of the kernel lock was killed"),
        }
    }

    /// Tries a lock file that a live program made, and the same once that program was killed.
    fn takeover(&self, probe: &Probe) -> std::result::Result<(), Failed> {
        let failed = |error| self.failed(error);
        let (lock_file, lock) = (name("foreign.lock"), self.open("foreign")?);
        let mut foreign = self.second(&lock_file, &lock_file)?;
        let now = date(sys::now()).unwrap_or_default();
        let text = format!("{{\"pid\":{},\"createdAt\":\"{now}\"}}", foreign.pid());
        let file = self.dir.create_new(&lock_file, 0o600).map_err(failed)?;
        file.write_at(text.as_bytes(), 0).map_err(failed)?;
        drop(file);
        foreign.open().map_err(failed)?;
        match acquire(&lock) {
            Ok(tenure) => {
                tenure.abandon();
                return Err(Failed::Broken("a live program's lock file was taken over".to_owned()));
            }
            Err(error) if error.is_busy() => {}
            Err(error) => return Err(error.into()),
        }
        let pid = foreign.pid();
        foreign.kill().map_err(failed)?;
        match (Identity { pid, ..Identity::default() }).verify() {
            Liveness::Dead(_) => {}
            Liveness::Alive(why) => {
                return Err(Failed::Broken(format!("a process that was killed seems to live: {why}")));
            }
            // Processes are hidden from this one, as in a jail: no dead program's lock is taken over.
            Liveness::Unknown(_) => return Ok(()),
        }
        let means = [Feature::Exchange, Feature::RemovalByHandle];
        match acquire(&lock) {
            Ok(tenure) => {
                tenure.check()?;
                tenure.release()?;
                let left = self.dir.stat_at(&lock_file).map_err(failed)?;
                expect(left.is_none(), "a lock file stayed after the release")
            }
            Err(error) if error.is_busy() => {
                Err(Failed::Broken("a dead program's lock file was not taken over".to_owned()))
            }
            // Reported, and never done in another way.
            Err(error) if error.is_unsupported() && !means.iter().any(|means| probe.answer(*means).is_yes()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tries a whole lock beside a second process that locks its anchor, which is killed as well.
    fn native(&self) -> std::result::Result<(), Failed> {
        let failed = |error| self.failed(error);
        let lock = self.open("native")?;
        let held = acquire(&lock)?;
        let mut other = self.second(&name(".tenure/native.lock"), &name("native.lock"))?;
        expect(!other.try_lock().map_err(failed)?, "a second process had the anchor of a lock that this one held")?;
        held.check()?;
        held.release()?;
        expect(other.try_lock().map_err(failed)?, "a second process was refused the anchor after the release")?;
        match acquire(&lock) {
            Ok(tenure) => {
                tenure.abandon();
                expect(false, "the lock was granted while a second process had its anchor")?;
            }
            Err(error) if error.is_busy() => {}
            Err(error) => return Err(error.into()),
        }
        other.kill().map_err(failed)?;
        acquire(&lock)?.release()?;
        Ok(())
    }

    fn open(&self, target: &str) -> Result<FileLock> {
        FileLock::open(&self.path.join(target), Options::default().create_parents(false))
    }
}

fn acquire(lock: &FileLock) -> Result<Arc<dyn crate::model::tenure::Tenure>> {
    lock.acquire(LockKind::Exclusive, Wait::Never)
}

fn expect(kept: bool, broken: &str) -> std::result::Result<(), Failed> {
    if kept { Ok(()) } else { Err(Failed::Broken(broken.to_owned())) }
}

/// Fails where an essential feature is missing.
fn lacks_nothing(probe: &Probe) -> std::result::Result<(), Failed> {
    if probe.is_fit() {
        return Ok(());
    }
    let essential = [Feature::KernelLock, Feature::Room, Feature::HardLink, Feature::ExclusiveRename];
    let missing = essential.iter().filter_map(|feature| match probe.answer(*feature) {
        Answer::Yes => None,
        Answer::No(seen) | Answer::Unknown(seen) => Some(format!("{}: {seen}", feature.as_str())),
    });
    Err(Failed::Broken(missing.collect::<Vec<_>>().join("; ")))
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::disallowed_methods, reason = "the tests read files directly")]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_local_folder_passes_and_no_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(trial(dir.path()).unwrap(), Answer::Yes);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(trial(dir.path().join("none")).unwrap_err().is_cannot_create());
    }
}
