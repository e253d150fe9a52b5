//! A peer in another language: a process that runs and times its own batches.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::setup::Setup;

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

    /// The nanoseconds of so many pairs.
    pub(crate) fn batch(&mut self, count: usize) -> crate::Result<Vec<u64>> {
        let input = self.child.stdin.as_mut().ok_or("no pipe")?;
        writeln!(input, "{count}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let times: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        if times.len() == count { Ok(times) } else { Err("a peer's driver ended early".into()) }
    }
}

/// What runs a package of Node: batches, or as a holder where that word follows.
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
