//! Tests which features of a folder, its file system and this kernel a lock can use, by trying each of them.
//!
//! The test creates files and a folder in the folder, whose names begin with `.tenure-probe-`, and removes them.
//! `docs/platforms.md` describes the purpose of each feature and the behaviour without it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::file::paths::{ANCHORS, PROBE_PREFIX, target_of};
use crate::model::error::{Error, Result};
use crate::record::Content;
use crate::record::io::read_stable;
use crate::sys::{
    self, Access, Dir, File, FileKind, FileWatch, LeaseOutcome, LockFileKind, LockKind, Name, ProcessHandle,
    TakeoverSteps,
};

/// A feature that a lock can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// `flock(2)` excludes another open file of the same inode.
    KernelLock,
    /// `link(2)` makes the lock file a second name of the anchor.
    HardLink,
    /// `RENAME_NOREPLACE` renames a file to a name that must be free.
    ExclusiveRename,
    /// `RENAME_EXCHANGE` swaps two names in one step.
    Exchange,
    /// A file is removed by its handle, whatever has its name by then, and the name is free at once. It takes the place of
    /// [`Feature::Exchange`] on systems that cannot swap two names.
    RemovalByHandle,
    /// `F_SETLEASE` is refused while a process has the file open for writing, and granted otherwise.
    Lease,
    /// A watch reports the removal of a file.
    Inotify,
    /// A handle that keeps naming its process.
    Pidfd,
    /// A handle's number distinguishes a process from every other of this boot.
    PidfdInode,
    /// The kernel identifies this boot of this machine.
    BootId,
    /// This process is in the first pid namespace, where `/proc/locks` and `/proc` show every process.
    FirstPidNamespace,
    /// A record can be written, and reaches the disk.
    Room,
}

impl Feature {
    /// Returns the feature's stable name: `kernel-lock`, `hard-link`, ..
    pub fn as_str(self) -> &'static str {
        match self {
            Feature::KernelLock => "kernel-lock",
            Feature::HardLink => "hard-link",
            Feature::ExclusiveRename => "exclusive-rename",
            Feature::Exchange => "exchange",
            Feature::RemovalByHandle => "removal-by-handle",
            Feature::Lease => "lease",
            Feature::Inotify => "inotify",
            Feature::Pidfd => "pidfd",
            Feature::PidfdInode => "pidfd-inode",
            Feature::BootId => "boot-id",
            Feature::FirstPidNamespace => "first-pid-namespace",
            Feature::Room => "room",
        }
    }
}

/// Whether a feature is available. "Unknown" does not mean "no".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The feature was tried and works.
    Yes,
    /// The feature was tried and does not work, with the observation.
    No(String),
    /// The feature could not be tried, with the reason.
    Unknown(String),
}

impl Answer {
    /// Returns whether the answer is [`Answer::Yes`].
    pub fn is_yes(&self) -> bool {
        *self == Answer::Yes
    }
}

/// The result of probing a folder: [`folder`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Probe {
    /// The file system's type: `ext4`, `nfs`, ..
    pub file_system: String,
    /// Whether two machines may mount the file system at once, judged by its type. Whether `flock` then works between
    /// machines depends on the file system, and cannot be tried on one of them.
    pub shared: bool,
    /// Every feature that the system can use, with its answer, the essential ones first.
    pub answers: Vec<(Feature, Answer)>,
    /// The number of bytes that this user may still write; `None` where the file system does not report it.
    pub free: Option<u64>,
}

impl Probe {
    /// Returns the answer for one feature. [`Answer::Unknown`] for one that the system does not use.
    pub fn answer(&self, feature: Feature) -> &Answer {
        static NOT_ASKED: Answer = Answer::Unknown(String::new());
        self.answers.iter().find(|(asked, _)| *asked == feature).map_or(&NOT_ASKED, |(_, answer)| answer)
    }

    /// Returns whether the folder has all features that a lock needs: the kernel lock, room for a record, and either hard links
    /// or exclusive renames to publish a lock file.
    pub fn is_fit(&self) -> bool {
        let yes = |feature| self.answer(feature).is_yes();
        yes(Feature::KernelLock) && yes(Feature::Room) && (yes(Feature::HardLink) || yes(Feature::ExclusiveRename))
    }
}

/// Tries every [`Feature`] in `dir`, a folder to which this user can write.
///
/// # Errors
///
/// The system's error where the folder cannot be opened or no file can be created in it;
/// [`is_unsupported`](crate::Error::is_unsupported) on a platform without a port.
///
/// # Examples
///
/// ```
/// # if cfg!(target_os = "linux") {
/// # let dir = tempfile::tempdir().unwrap();
/// # let sessions = dir.path();
/// let probe = tenure::probe::folder(sessions)?;
/// for (feature, answer) in &probe.answers {
///     println!("{}: {answer:?}", feature.as_str());
/// }
/// # }
/// # Ok::<(), tenure::Error>(())
/// ```
pub fn folder(dir: impl AsRef<Path>) -> Result<Probe> {
    let path = dir.as_ref();
    let open = Dir::open(path).map_err(|error| Error::io(path, "the folder cannot be opened", error))?;
    let bench = Bench::new(&open).map_err(|error| Error::io(path, "no file can be created in it", error))?;
    let file_system = open.file_system();
    let or_unknown = |answer: io::Result<Answer>| answer.unwrap_or_else(|error| Answer::Unknown(error.to_string()));
    let mut answers =
        vec![(Feature::KernelLock, or_unknown(bench.kernel_lock())), (Feature::Room, or_unknown(bench.room()))];
    if sys::lock_file_kind() == LockFileKind::Link {
        answers.push((Feature::HardLink, or_unknown(bench.hard_link())));
    }
    answers.push((Feature::ExclusiveRename, or_unknown(bench.exclusive_rename())));
    answers.push(match sys::takeover_steps() {
        TakeoverSteps::Exchange => (Feature::Exchange, or_unknown(bench.exchange())),
        TakeoverSteps::Removal => (Feature::RemovalByHandle, or_unknown(bench.removal_by_handle())),
    });
    answers.extend([
        (Feature::Lease, or_unknown(bench.lease())),
        (Feature::Inotify, or_unknown(bench.watch())),
        (Feature::Pidfd, process_handle()),
        (Feature::PidfdInode, unique_id()),
        (Feature::BootId, boot_id()),
        (Feature::FirstPidNamespace, sees_all()),
    ]);
    Ok(Probe { file_system: file_system.name.into_owned(), shared: file_system.shared, answers, free: open.free() })
}

/// Returns the largest fence in the records of a folder's locks, or `None` without records. A fence is in microseconds since
/// 1970, so one from the future shows that the clock was set back since, or that another machine's clock is ahead.
///
/// # Errors
///
/// The system's error where the folder or its `.tenure` cannot be read. A record that cannot be read is skipped.
pub fn newest_fence(dir: impl AsRef<Path>) -> Result<Option<u64>> {
    let path = dir.as_ref();
    let failed = |error| Error::io(path, "the folder cannot be read", error);
    let open = Dir::open(path).map_err(failed)?;
    let name = Name::new(OsStr::new(ANCHORS)).map_err(failed)?;
    let anchors = match open.open_dir(&name) {
        Ok(anchors) => anchors,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let fence_of = |name: &Name| {
        let file = anchors.open_at(name, Access::Read).ok()?;
        let regular = file.stat().is_ok_and(|stat| stat.kind == FileKind::Regular);
        match read_stable(&file).ok().filter(|_| regular)? {
            Content::Record(record) => record.previous_fence(),
            _ => None,
        }
    };
    let entries = anchors.entries().map_err(failed)?;
    let records = entries.iter().filter(|(name, _)| target_of(name.as_os_str()).is_some());
    Ok(records.filter_map(|(name, _)| fence_of(name)).max())
}

/// Returns whether this machine's clock is synchronized, by NTP or a hypervisor. `None` where the kernel does not report it.
pub fn clock_is_steered() -> Option<bool> {
    sys::clock_is_steered()
}

/// Two names for the trials. One is in a folder of its own, as an anchor is, because a link or a rename between two folders may
/// be refused where one within a folder is not. Dropping the bench removes all files.
struct Bench<'a> {
    dir: &'a Dir,
    folder: Name,
    names: [Name; 2],
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        self.clear();
        let _ = self.dir.remove_dir(&self.folder);
    }
}

impl Bench<'_> {
    /// Creates the folder, and a first file to verify that files can be created.
    fn new(dir: &Dir) -> io::Result<Bench<'_>> {
        let bench = loop {
            if let Some(bench) = Bench::under_the_next_name(dir)? {
                break bench;
            }
        };
        bench.file(0)?;
        Ok(bench)
    }

    /// Creates the folder under a name that no other probe of this process gets. Returns `None` where a probe that was killed has
    /// left a file or a folder under that name, because its process had the same pid.
    fn under_the_next_name(dir: &Dir) -> io::Result<Option<Bench<'_>>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let base = format!("{PROBE_PREFIX}{}-{}", sys::pid(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = |text: String| Name::new(OsStr::new(&text)).expect("no zero byte is in it");
        let names = [name(format!("{base}/0")), name(format!("{base}-1"))];
        let folder = name(base);
        match dir.make_dir(&folder, 0o700) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            made => made?,
        }
        // From here on the name is this probe's alone.
        if dir.stat_at(&names[1])?.is_some() {
            dir.remove_dir(&folder)?;
            return Ok(None);
        }
        Ok(Some(Bench { dir, folder, names }))
    }

    fn clear(&self) {
        for name in &self.names {
            let _ = self.dir.unlink(name);
        }
    }

    /// Creates a new file.
    fn file(&self, which: usize) -> io::Result<File> {
        let _ = self.dir.unlink(&self.names[which]);
        self.dir.create_new(&self.names[which], 0o600)
    }

    fn inode(&self, which: usize) -> io::Result<Option<sys::FileId>> {
        Ok(self.dir.stat_at(&self.names[which])?.map(|stat| stat.id))
    }

    fn kernel_lock(&self) -> io::Result<Answer> {
        let one = self.file(0)?;
        let other = self.dir.open_at(&self.names[0], Access::ReadWrite)?;
        let tried = (|| {
            if !one.try_lock(LockKind::Exclusive)? {
                return Ok(Answer::No("a new file is locked already".to_owned()));
            }
            if other.try_lock(LockKind::Exclusive)? {
                return Ok(Answer::No("two open files had the exclusive lock at once".to_owned()));
            }
            one.unlock()?;
            Ok(match other.try_lock(LockKind::Exclusive)? {
                true => Answer::Yes,
                false => Answer::No("it was refused after its release".to_owned()),
            })
        })();
        tried.or_else(missing)
    }

    fn room(&self) -> io::Result<Answer> {
        let file = self.file(0)?;
        match file.write_at(&[b' '; 64 * 1024], 0).and_then(|()| file.sync()) {
            Ok(()) => Ok(Answer::Yes),
            Err(error) => Ok(Answer::No(error.to_string())),
        }
    }

    fn hard_link(&self) -> io::Result<Answer> {
        self.clear();
        self.file(0)?;
        match self.dir.link(&self.names[0], &self.names[1]) {
            Ok(()) if self.inode(0)? == self.inode(1)? => Ok(Answer::Yes),
            Ok(()) => Ok(Answer::No("the link is another inode than the file".to_owned())),
            Err(error) if error.raw_os_error().is_some_and(sys::means_no_links) => Ok(Answer::No(error.to_string())),
            Err(error) => missing(error),
        }
    }

    fn exclusive_rename(&self) -> io::Result<Answer> {
        self.clear();
        self.file(0)?;
        let [from, to] = &self.names;
        let moved = self.inode(0)?;
        if let Err(error) = self.dir.rename_new(from, to) {
            return missing(error);
        }
        if self.inode(1)? != moved {
            return Ok(Answer::No("the file did not get its new name".to_owned()));
        }
        self.file(0)?;
        match self.dir.rename_new(from, to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Answer::Yes),
            Err(error) => Err(error),
            Ok(()) => Ok(Answer::No("it replaced a file that was there".to_owned())),
        }
    }

    fn exchange(&self) -> io::Result<Answer> {
        self.file(0)?;
        self.file(1)?;
        let before = (self.inode(0)?, self.inode(1)?);
        if let Err(error) = self.dir.exchange(&self.names[0], &self.names[1]) {
            return missing(error);
        }
        match (self.inode(1)?, self.inode(0)?) == before {
            true => Ok(Answer::Yes),
            false => Ok(Answer::No("the two names did not swap".to_owned())),
        }
    }

    fn removal_by_handle(&self) -> io::Result<Answer> {
        let judged = self.file(0)?;
        // Another program's file, which came to have the name.
        self.dir.unlink(&self.names[0])?;
        let others = self.file(0)?;
        let removed =
            (|| Ok::<_, io::Error>((self.dir.unlink_same(&self.names[0], &judged)?, self.inode(0)?.is_some())))();
        match removed {
            Err(error) => return missing(error),
            Ok((false, true)) => {}
            Ok(_) => return Ok(Answer::No("it removed another file".to_owned())),
        }
        Ok(match (self.dir.unlink_same(&self.names[0], &others)?, self.inode(0)?) {
            (true, None) => Answer::Yes,
            _ => Answer::No("the name was not free while the file was open".to_owned()),
        })
    }

    fn lease(&self) -> io::Result<Answer> {
        let writer = self.file(0)?;
        let reader = self.dir.open_at(&self.names[0], Access::Read)?;
        let written = reader.read_lease();
        drop(writer);
        Ok(match (written, reader.read_lease()) {
            (LeaseOutcome::Refused, LeaseOutcome::Granted) => Answer::Yes,
            (LeaseOutcome::Unavailable, _) | (_, LeaseOutcome::Unavailable) => {
                Answer::No("this file system, or this user, has no leases".to_owned())
            }
            (LeaseOutcome::Granted, _) => Answer::No("granted while the file was open for writing".to_owned()),
            (LeaseOutcome::Refused, LeaseOutcome::Refused) => {
                Answer::Unknown("refused although no process had the file open".to_owned())
            }
        })
    }

    fn watch(&self) -> io::Result<Answer> {
        let file = self.file(0)?;
        let watch = match FileWatch::new(&file) {
            Ok(watch) => watch,
            Err(error) => return missing(error),
        };
        self.dir.unlink(&self.names[0])?;
        // The event usually arrives at once. A slow file system has a second.
        match watch.wait(Duration::from_secs(1))? {
            true => Ok(Answer::Yes),
            false => Ok(Answer::No("no event came when a file was removed".to_owned())),
        }
    }
}

/// Converts an error into an answer, where the kernel or the file system lacks the call, or lacks it between two folders.
fn missing(error: io::Error) -> io::Result<Answer> {
    match error.kind() {
        io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput | io::ErrorKind::CrossesDevices => {
            Ok(Answer::No(error.to_string()))
        }
        _ => Err(error),
    }
}

fn process_handle() -> Answer {
    match ProcessHandle::open(sys::pid().into()).and_then(|own| own.exited()) {
        Ok(false) => Answer::Yes,
        Ok(true) => Answer::No("it reports that this process has ended".to_owned()),
        Err(error) => missing(error).unwrap_or_else(|error| Answer::Unknown(error.to_string())),
    }
}

fn unique_id() -> Answer {
    match ProcessHandle::open(sys::pid().into()) {
        Ok(own) if own.unique_id().is_some() => Answer::Yes,
        Ok(_) => Answer::No(sys::UNIQUE_ID_SINCE.to_owned()),
        Err(error) => Answer::No(error.to_string()),
    }
}

fn boot_id() -> Answer {
    match sys::boot_id() {
        Some(_) => Answer::Yes,
        None => Answer::No(format!("{} cannot be read", sys::BOOT_ID_SOURCE)),
    }
}

fn sees_all() -> Answer {
    match sys::pid_namespace() {
        Some(sys::FIRST_PID_NAMESPACE) => Answer::Yes,
        Some(_) => Answer::No("another pid namespace, as in a container".to_owned()),
        None => Answer::Unknown(format!("{} cannot be read", sys::PID_NAMESPACE_SOURCE)),
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::disallowed_methods, reason = "the tests read files directly")]
mod tests {
    use super::*;
    use crate::{Lock, Wait};

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_local_folder_is_fit_and_no_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let probe = folder(dir.path()).unwrap();
        assert!(probe.is_fit(), "{probe:?}");
        assert!(!probe.file_system.is_empty() && probe.free.is_some());
        let features = [Feature::KernelLock, Feature::HardLink, Feature::ExclusiveRename, Feature::Room];
        for feature in features {
            assert_eq!(probe.answer(feature), &Answer::Yes, "{feature:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(folder(dir.path().join("none")).unwrap_err().is_cannot_create());
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn what_a_killed_probe_left_stops_no_other_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |count: u32, more: &str| dir.path().join(format!("{PROBE_PREFIX}{}-{count}{more}", sys::pid()));
        // Of processes with this pid, killed at any step.
        for count in 0..300 {
            if count % 3 < 2 {
                std::fs::create_dir(at(count, "")).unwrap();
            }
            if count % 3 > 0 {
                std::fs::write(at(count, "-1"), "").unwrap();
            }
        }
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        let probe = folder(dir.path()).unwrap();
        for feature in [Feature::KernelLock, Feature::HardLink, Feature::ExclusiveRename, Feature::Room] {
            assert_eq!(probe.answer(feature), &Answer::Yes, "{feature:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), left);
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn one_way_to_publish_a_lock_file_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = folder(dir.path()).unwrap();
        let mut set = |feature, answer| {
            let found = probe.answers.iter_mut().find(|(asked, _)| *asked == feature).unwrap();
            found.1 = answer;
            probe.is_fit()
        };
        assert!(set(Feature::HardLink, Answer::No(String::new())));
        assert!(set(Feature::Exchange, Answer::No(String::new())));
        assert!(!set(Feature::ExclusiveRename, Answer::Unknown(String::new())));
        assert!(set(Feature::HardLink, Answer::Yes));
        assert!(!set(Feature::KernelLock, Answer::Unknown(String::new())));
        assert!(set(Feature::KernelLock, Answer::Yes));
        assert!(!set(Feature::Room, Answer::No(String::new())));
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn the_newest_fence_is_that_of_the_last_tenure() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(newest_fence(dir.path()).unwrap(), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no file is created");
        let mut newest = 0;
        for target in ["a", "b"] {
            let guard = Lock::open(dir.path().join(target)).unwrap().acquire_with(Wait::Never).unwrap();
            newest = newest.max(guard.fence().unwrap());
            guard.release().unwrap();
        }
        std::fs::write(dir.path().join(".tenure/c.lock"), "no record").unwrap();
        assert_eq!(newest_fence(dir.path()).unwrap(), Some(newest));
    }
}
