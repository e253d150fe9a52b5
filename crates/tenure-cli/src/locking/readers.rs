//! Protects programs that judge a lock file by its text.
//!
//! Such a program reads the record, then checks whether the recorded process lives, and where it does not, removes the file
//! that has the lock file's name. If a `tenure` released and ended between these steps, the program would remove the next
//! holder's lock file. So this process stays for a moment where its lock file was read while it held the lock, which the
//! file's access time shows. The lock is free meanwhile.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tenure::Guard;

use crate::sys::{self, AccessTime};

/// The time that such a program may take from its read to its check.
const LINGER: Duration = Duration::from_millis(100);

/// The lock files of a call, each with the access time that it was given.
pub(crate) struct Readers {
    files: Vec<(PathBuf, AccessTime)>,
    /// One of the files was read before it was given its access time.
    read: bool,
}

impl Readers {
    /// Sets the access times so that later reads show. Does nothing where the file system keeps no access times.
    pub(crate) fn watch<'a>(guards: impl IntoIterator<Item = &'a Guard>) -> Readers {
        let files = guards.into_iter().filter(|guard| guard.lease().is_none()).map(Guard::lock_file);
        let aged = files.filter_map(|file| Some((file, sys::age_access_time(file)?)));
        let mut readers = Readers { files: Vec::new(), read: false };
        for (file, (time, read)) in aged {
            readers.files.push((file.to_owned(), time));
            readers.read |= read;
        }
        readers
    }

    /// Returns until when this process should stay after the release. Must be called before the release.
    pub(crate) fn linger_until(&self) -> Option<Instant> {
        let was_read = |(file, then): &(PathBuf, AccessTime)| sys::access_time(file).is_some_and(|now| now != *then);
        (self.read || self.files.iter().any(was_read)).then(|| Instant::now() + LINGER)
    }
}

/// Sleeps until the given time, if any.
pub(crate) fn linger(until: Option<Instant>) {
    if let Some(until) = until {
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}
