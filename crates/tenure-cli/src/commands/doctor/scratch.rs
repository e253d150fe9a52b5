//! The temporary folder of the checks.

use std::io;
use std::path::{Path, PathBuf};

use super::random::Random;
use crate::output::{Failure, describe, exit};
use crate::sys;

/// The hidden temporary folder. Dropping this removes it.
pub(super) struct Scratch {
    pub(super) path: PathBuf,
    removed: bool,
}

impl Scratch {
    pub(super) fn create(dir: &Path) -> Result<Scratch, Failure> {
        let path = dir.join(format!(".tenure-doctor-{}-{}", std::process::id(), Random::any_seed()));
        match sys::make_folder(&path) {
            Ok(()) => Ok(Scratch { path, removed: false }),
            Err(error) => {
                let (code, hint) = match error.kind() {
                    io::ErrorKind::PermissionDenied => (
                        exit::PERMISSION,
                        "; run this as a user who may write there, or name another folder. In a read-only folder `tenure \
                         run --no-record` can still lock",
                    ),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                        (exit::CANNOT_CREATE, "; name a folder that exists")
                    }
                    io::ErrorKind::ReadOnlyFilesystem => {
                        (exit::CANNOT_CREATE, "; in a read-only folder only `tenure run --no-record` can lock")
                    }
                    _ => (Failure::io("", &error).code, ""),
                };
                let message =
                    format!("{}: a temporary folder cannot be created in it: {error}{hint}", describe::path(dir));
                Err(Failure::new(code, message))
            }
        }
    }

    /// Removes the folder, and reports a failure.
    pub(super) fn remove(mut self) -> Result<(), Failure> {
        self.removed = true;
        sys::remove_folder(&self.path).map_err(|error| {
            Failure::io(&format!("{}: the temporary folder cannot be removed", describe::path(&self.path)), &error)
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.removed {
            let _ = sys::remove_folder(&self.path);
        }
    }
}
