//! A peer in another language: a process that runs and times its own batches.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::setup::Setup;

/// The library from Python.
pub(crate) const PYTHON_LOCK_FILE: &str = "tenure from Python, lock-file style";
pub(crate) const PYTHON_FLOCK: &str = "tenure from Python, flock style";
/// The same behind filelock's interface.
pub(crate) const PYTHON_FILE_LOCK: &str = "tenure.filelock FileLock";
pub(crate) const PYTHON_SOFT_LOCK: &str = "tenure.filelock SoftFileLock";
pub(crate) const FROM_PYTHON: [&str; 4] = [PYTHON_LOCK_FILE, PYTHON_FLOCK, PYTHON_FILE_LOCK, PYTHON_SOFT_LOCK];

/// Returns the name of a Python candidate in `filelock_driver.py`.
pub(crate) fn python_class(candidate: &str) -> Option<&str> {
    Some(match candidate {
        "Python fcntl.flock, bare" => "fcntl",
        PYTHON_LOCK_FILE => "tenure:lock-file",
        PYTHON_FLOCK => "tenure:flock",
        PYTHON_FILE_LOCK => "tenure.filelock:FileLock",
        PYTHON_SOFT_LOCK => "tenure.filelock:SoftFileLock",
        _ => candidate.strip_prefix("filelock ")?,
    })
}

pub(crate) struct Driver {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Driver {
    pub(crate) fn python(setup: &Setup, class: &str, target: &Path) -> crate::Result<Driver> {
        let mut command = Command::new(setup.python());
        command.arg(setup.driver("filelock_driver.py")).arg(class).arg(target);
        Driver::start(command)
    }

    pub(crate) fn node(setup: &Setup, package: &str, target: &Path) -> crate::Result<Driver> {
        Driver::start(node(setup, package, target))
    }

    fn start(mut command: Command) -> crate::Result<Driver> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Driver { child, answers })
    }

    /// Returns the nanoseconds of that many pairs.
    pub(crate) fn batch(&mut self, count: usize) -> crate::Result<Vec<u64>> {
        let input = self.child.stdin.as_mut().ok_or("no pipe")?;
        writeln!(input, "{count}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let times: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        if times.len() == count { Ok(times) } else { Err("a peer's driver ended early".into()) }
    }
}

/// Returns the command that runs a package of Node: in batches, or as a holder if `holder` follows.
pub(crate) fn node(setup: &Setup, package: &str, target: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(setup.driver("node_driver.mjs")).arg(package).arg(target).arg(&setup.peers);
    command
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
