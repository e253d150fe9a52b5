//! When the last successful tenure began: `.tenure/<lock file's name>.success`.
//!
//! It is a file of its own, because each acquire writes the whole record, and one by a lock without this option, or by an
//! earlier version, would forget it. Only the process that holds the lock writes it, and replaces it in one step.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::file::paths::{ANCHORS, LockPaths, joined, shortened};
use crate::model::error::{Error, ErrorKind, Result};
use crate::sys::{self, Access, Name};

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
    let age = read(paths)?.and_then(|last| last.age(&Moment::now()));
    Ok(age.filter(|age| *age < interval))
}

/// Returns the error of an acquire that is not needed, because the last successful tenure is recent.
pub(crate) fn is_recent(paths: &LockPaths, age: Duration) -> Error {
    let ago = crate::util::text::duration(age);
    let detail = format!("not needed: the last successful run began {ago} ago");
    Error::new(ErrorKind::Skipped, &paths.target_path, detail)
}

fn name(paths: &LockPaths, suffix: &str) -> Result<Name> {
    let mut path = std::ffi::OsString::from(ANCHORS);
    path.push("/");
    path.push(shortened(joined(paths.lock.as_os_str(), suffix), suffix));
    Name::new(&path).map_err(|error| failed(paths, "has no name", error))
}

fn failed(paths: &LockPaths, what: &str, error: io::Error) -> Error {
    Error::io(&paths.target_path, format!("the time of the last success {what}"), error)
}

/// Reads the moment. Any other content is none.
fn read(paths: &LockPaths) -> Result<Option<Moment>> {
    let file = match paths.dir.open_at(&name(paths, SUFFIX)?, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(paths, "cannot be opened", error)),
    };
    let mut bytes = [0; MAX_BYTES];
    let length = file.read_part(&mut bytes).map_err(|error| failed(paths, "cannot be read", error))?;
    Ok(serde_json::from_slice(&bytes[..length]).ok())
}

/// Writes the moment. The caller holds the lock.
pub(crate) fn write(paths: &LockPaths, moment: &Moment, mode: Option<u32>) -> Result<()> {
    let (new, last) = (name(paths, NEW_SUFFIX)?, name(paths, SUFFIX)?);
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
        std::fs::write(dir.path().join(".tenure/t.lock.success.new"), "torn").unwrap();
        write(&paths, &Moment::now(), None).unwrap();
        assert!(recent(&paths, interval).unwrap().is_some());
        assert_eq!(recent(&paths, Duration::ZERO).unwrap(), None);
        let file = dir.path().join(".tenure/t.lock.success");
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
