//! The environment of the measurements: folders, the command, the peers.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::bare;

/// The argument of every topic.
pub(crate) struct Setup {
    pub(crate) quick: bool,
    /// A folder on the disk.
    pub(crate) disk: TempDir,
    /// A folder in memory; `None` if the machine has none.
    pub(crate) memory: Option<TempDir>,
    /// The `tenure` binaries: dynamically linked, and static.
    pub(crate) commands: Vec<PathBuf>,
    /// The folder with `venv` and `node_modules`.
    pub(crate) peers: PathBuf,
    /// `bench/` of the repository.
    pub(crate) source: PathBuf,
}

impl Setup {
    pub(crate) fn new(
        dir: &Path,
        quick: bool,
        commands: Vec<PathBuf>,
        peers: PathBuf,
        source: PathBuf,
    ) -> crate::Result<Setup> {
        bare::allow_many_files()?;
        let shm = Path::new("/dev/shm");
        let memory = if shm.is_dir() { Some(tempfile::tempdir_in(shm)?) } else { None };
        Ok(Setup { quick, disk: tempfile::tempdir_in(dir)?, memory, commands, peers, source })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.disk.path()
    }

    /// Returns the folders, each with its file system's name.
    pub(crate) fn folders(&self) -> crate::Result<Vec<(String, &Path)>> {
        let all = [Some(&self.disk), self.memory.as_ref()];
        all.into_iter().flatten().map(|dir| Ok((bare::file_system(dir.path())?, dir.path()))).collect()
    }

    pub(crate) fn python(&self) -> PathBuf {
        self.peers.join("venv/bin/python")
    }

    pub(crate) fn driver(&self, name: &str) -> PathBuf {
        self.source.join("peers").join(name)
    }

    /// Returns one of two amounts: for a measurement, or for a smoke test.
    pub(crate) fn pick<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}
