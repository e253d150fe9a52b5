//! When the last successful tenure began: `.tenure/<lock file's name>.<user's number>.success`.
//!
//! It is a file of its own, because each acquire writes the whole record, and one by a lock without this option, or by an
//! earlier version, would forget it. Only the process that holds the lock writes it, and replaces it in one step. Each user
//! has one, because in a sticky folder no user may replace another's. The latest of all counts.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::file::history::is_own;
use crate::file::paths::{ANCHORS, LockPaths, joined, shortened};
use crate::model::error::{Error, ErrorKind, Result};
use crate::sys::{self, Access, FileKind, Name};

const SUFFIX: &str = ".success";
const NEW_SUFFIX: &str = ".success.new";
/// A longer file is none of these.
const MAX_BYTES: usize = 1024;

/// The moment at which a tenure began, by both clocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Moment {
    /// The time of day, in milliseconds since 1970.
    began_ms: u64,
    /// The time since the machine booted, and which boot that was.
    since_boot_ms: u64,
    boot_id: Option<String>,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Moment {
    pub(crate) fn now() -> Moment {
        Moment {
            began_ms: milliseconds(sys::since_epoch()),
            since_boot_ms: milliseconds(sys::since_boot()),
            boot_id: sys::boot_id(),
        }
    }

    /// Returns how long before `now` this was. `None` if that cannot be known: only the time of day can be compared, and
    /// this is in its future.
    fn age(&self, now: &Moment) -> Option<Duration> {
        let same_boot = self.boot_id.is_some() && self.boot_id == now.boot_id;
        // The clock of a container may have begun at another time.
        let since_boot = now.since_boot_ms.checked_sub(self.since_boot_ms).filter(|_| same_boot);
        since_boot.or_else(|| now.began_ms.checked_sub(self.began_ms)).map(Duration::from_millis)
    }
}

/// Returns how long ago the last successful tenure began, if that was less than `interval` ago.
pub(crate) fn recent(paths: &LockPaths, interval: Duration) -> Result<Option<Duration>> {
    let now = Moment::now();
    let age = read(paths)?.iter().filter_map(|last| last.age(&now)).min();
    Ok(age.filter(|age| *age < interval))
}

/// Returns the error of an acquire that is not needed, because the last successful tenure is recent.
pub(crate) fn is_recent(paths: &LockPaths, age: Duration) -> Error {
    let ago = crate::util::text::duration(age);
    let detail = format!("not needed: the last successful run began {ago} ago");
    Error::new(ErrorKind::Skipped, &paths.target_path, detail)
}

/// Returns the name of a user's file.
fn name(paths: &LockPaths, user: u32, suffix: &str) -> Result<Name> {
    let suffix = format!(".{user}{suffix}");
    let mut path = std::ffi::OsString::from(ANCHORS);
    path.push("/");
    path.push(shortened(joined(paths.lock.as_os_str(), &suffix), &suffix));
    Name::new(&path).map_err(|error| failed(paths, "has no name", error))
}

/// Returns the user's number in a file name of `.tenure`, if it is that user's file for this lock.
fn user_of(paths: &LockPaths, found: &OsStr) -> Option<u32> {
    let path = Path::new(found);
    let numbered = path.file_stem().filter(|_| path.extension().is_some_and(|word| word == &SUFFIX[1..]))?;
    let user = Path::new(numbered).extension()?.to_str()?.parse().ok()?;
    let own = name(paths, user, SUFFIX).ok()?;
    (Path::new(own.as_os_str()).file_name() == Some(found)).then_some(user)
}

fn failed(paths: &LockPaths, what: &str, error: io::Error) -> Error {
    Error::io(&paths.target_path, format!("the time of the last success {what}"), error)
}

/// Reads the moments of all users. Any other content is none.
fn read(paths: &LockPaths) -> Result<Vec<Moment>> {
    let unreadable = |error| failed(paths, "cannot be read", error);
    let names = match paths.dir.open_dir(&paths.anchors) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        dir => dir.and_then(|dir| dir.entries()).map_err(unreadable)?,
    };
    let mut moments = Vec::new();
    for user in names.iter().filter_map(|(name, _)| user_of(paths, name.as_os_str())) {
        match read_of(paths, user, &name(paths, user, SUFFIX)?) {
            Ok(moment) => moments.extend(moment),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Another user's file, which that user may have closed to others.
            Err(_) if user != sys::effective_user() => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(moments)
}

fn read_of(paths: &LockPaths, user: u32, name: &Name) -> io::Result<Option<Moment>> {
    // The kind first: opening a device can have an effect, and another user's file may have this user's name.
    match paths.dir.stat_at(name)? {
        Some(stat) if stat.kind == FileKind::Regular && is_own(paths, &stat, user) => {}
        _ => return Ok(None),
    }
    let mut bytes = [0; MAX_BYTES];
    let length = paths.dir.open_at(name, Access::Read)?.read_part(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes[..length]).ok())
}

/// Writes the moment. The caller holds the lock.
pub(crate) fn write(paths: &LockPaths, moment: &Moment, mode: Option<u32>) -> Result<()> {
    let user = sys::effective_user();
    let (new, last) = (name(paths, user, NEW_SUFFIX)?, name(paths, user, SUFFIX)?);
    let text = serde_json::to_vec(moment).unwrap_or_default();
    let written = (|| {
        let file = match paths.dir.create_new(&new, mode.unwrap_or(0o644)) {
            // A holder died here.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                paths.dir.unlink(&new)?;
                paths.dir.create_new(&new, mode.unwrap_or(0o644))?
            }
            created => created?,
        };
        if let Some(mode) = mode {
            file.chmod(mode)?;
        }
        file.write_at(&text, 0)?;
        drop(file);
        paths.dir.rename_over(&new, &last)
    })();
    written.map_err(|error| {
        let _ = paths.dir.unlink(&new);
        failed(paths, "cannot be written", error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(began_ms: u64, since_boot_ms: u64, boot: Option<&str>) -> Moment {
        Moment { began_ms, since_boot_ms, boot_id: boot.map(str::to_owned) }
    }

    #[test]
    fn no_change_of_the_time_of_day_matters_within_one_boot() {
        let now = moment(1_000_000, 500_000, Some("a"));
        let age = |then: Moment| then.age(&now).map(milliseconds);
        // The clock was set forward by a year, or back.
        assert_eq!(age(moment(1, 499_000, Some("a"))), Some(1000));
        assert_eq!(age(moment(u64::MAX, 499_000, Some("a"))), Some(1000));
        // Another boot, or none that is known: the time of day counts, and its future does not.
        assert_eq!(age(moment(990_000, 499_000, Some("b"))), Some(10_000));
        assert_eq!(age(moment(990_000, 499_000, None)), Some(10_000));
        assert_eq!(age(moment(1_000_001, 499_000, Some("b"))), None);
        // A container whose clock began later.
        assert_eq!(age(moment(990_000, 600_000, Some("a"))), Some(10_000));
        assert_eq!(age(moment(1_000_001, 600_000, Some("a"))), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    #[cfg_attr(miri, ignore = "makes system calls")]
    #[allow(clippy::disallowed_methods, reason = "a test writes what another program could")]
    fn any_other_content_is_no_success() {
        let dir = tempfile::tempdir().unwrap();
        let paths = LockPaths::open(&dir.path().join("t"), false).unwrap();
        let interval = Duration::from_secs(3600);
        assert_eq!(recent(&paths, interval).unwrap(), None);
        std::fs::create_dir(dir.path().join(".tenure")).unwrap();
        // As a holder leaves it that died.
        let user = sys::effective_user();
        let path = |name: &str| dir.path().join(format!(".tenure/t.lock.{user}.{name}"));
        std::fs::write(path("success.new"), "torn").unwrap();
        write(&paths, &Moment::now(), None).unwrap();
        assert!(recent(&paths, interval).unwrap().is_some());
        assert_eq!(recent(&paths, Duration::ZERO).unwrap(), None);
        let file = path("success");
        for text in [
            "",
            "{",
            "null",
            "[1]",
            "{\"beganMs\":-1,\"sinceBootMs\":0}",
            "{\"beganMs\":\"x\"}",
            "\0\0\0",
            &"9".repeat(5000),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(recent(&paths, interval).unwrap(), None, "{text:?}");
        }
    }
}
