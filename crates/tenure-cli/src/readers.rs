//! Programs that judge a lock file by its text.
//!
//! Such a program reads the record, then asks whether the recorded process lives, and where it does not removes whatever
//! has the lock file's name. A `tenure` that releases and ends between these steps makes it remove the next holder's lock
//! file. So the process stays for a moment where its lock file was read while it held, as the file's access time tells.
//! The lock is free meanwhile.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tenure::Guard;

use crate::sys::{self, AccessTime};

/// How long such a program may take from its reading to its question.
const LINGER: Duration = Duration::from_millis(100);

/// The lock files of a call, each with the access time that it was given.
pub(crate) struct Readers {
    files: Vec<(PathBuf, AccessTime)>,
    /// One of them was read before it was given that.
    read: bool,
}

impl Readers {
    /// From here on the access times tell of readers. Nothing tells of them where no such times are kept.
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

    /// To be asked before the release: until when this process should stay.
    pub(crate) fn stay_until(&self) -> Option<Instant> {
        let was_read = |(file, then): &(PathBuf, AccessTime)| sys::access_time(file).is_some_and(|now| now != *then);
        (self.read || self.files.iter().any(was_read)).then(|| Instant::now() + LINGER)
    }
}

/// Stays until then.
pub(crate) fn stay(until: Option<Instant>) {
    if let Some(until) = until {
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}
