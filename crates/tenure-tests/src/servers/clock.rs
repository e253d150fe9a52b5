//! A clock that one process reads with an offset.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::output;
use crate::{has, needs};

/// A clock of a process, which the test sets.
pub struct Clock {
    folder: TempDir,
    id: libc::clockid_t,
}

/// Returns whether this machine can offset a clock.
pub fn there() -> bool {
    needs("cc (gcc)", has("cc"))
}

impl Clock {
    /// Creates a clock of that kind, without an offset.
    pub fn new(id: libc::clockid_t) -> Clock {
        let clock = Clock { folder: crate::folder(), id };
        let source = clock.path("clock.c");
        std::fs::write(&source, include_str!("../../foreign/clock.c")).unwrap();
        output(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(clock.path("clock.so")).arg(&source));
        clock.set_offset(0);
        clock
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a command that reads this clock.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", self.path("clock.so")).env("CLOCK_OFFSET", self.path("offset"));
        command.env("CLOCK_ID", self.id.to_string());
        command
    }

    /// Sets the offset, in seconds.
    pub fn set_offset(&self, seconds: i64) {
        // A reader never sees an empty file.
        std::fs::write(self.path("next"), seconds.to_ne_bytes()).unwrap();
        std::fs::rename(self.path("next"), self.path("offset")).unwrap();
    }
}
