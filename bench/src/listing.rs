//! Lists and cleans a folder of ten thousand lock files, half of them with dead holders.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tenure::{Lock, Wait};

use crate::row::Row;
use crate::setup::Setup;

/// The arguments: `holder-child FOLDER FROM TO`, which holds these locks until it is killed.
pub(crate) const ROLE: &str = "holder-child";
pub(crate) const TOPIC: &str = "listing";

pub(crate) fn measure(setup: &Setup) -> crate::Result<Vec<Row>> {
    let count = setup.pick(10_000, 200);
    let (mut listed, mut cleaned) = (Vec::new(), Vec::new());
    for _ in 0..setup.pick(5, 1) {
        let folder = tempfile::tempdir_in(setup.folder())?;
        let dead = hold(folder.path(), 0, count / 2)?;
        let alive = hold(folder.path(), count / 2, count)?;
        drop(dead);
        for (word, times, expected) in [("ls", &mut listed, count), ("clean", &mut cleaned, count)] {
            let mut command = Command::new(setup.commands.first().ok_or("no command")?);
            let start = Instant::now();
            let output = command.arg(word).arg(folder.path()).output()?;
            times.push(start.elapsed().as_nanos() as u64);
            let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
            if !output.status.success() || lines < expected / 2 {
                return Err(format!("tenure {word}: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
        }
        let left = std::fs::read_dir(folder.path())?.count();
        if left != count / 2 + 1 {
            return Err(format!("clean left {left} entries of {}", count / 2 + 1).into());
        }
        drop(alive);
    }
    let case = format!("{count} lock files, half of them dead");
    Ok(vec![Row::times(TOPIC, &case, "tenure ls", listed), Row::times(TOPIC, &case, "tenure clean", cleaned)])
}

struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hold(folder: &Path, from: usize, to: usize) -> crate::Result<Holder> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ROLE).arg(folder).args([from.to_string(), to.to_string()]);
    let mut holder = Holder(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
    holder.0.stdout.as_mut().ok_or("no pipe")?.read_exact(&mut [0])?;
    Ok(holder)
}

/// Runs the child's side.
pub(crate) fn child(args: &mut impl Iterator<Item = String>) -> crate::Result<()> {
    // Otherwise ten thousand locks would stay in the kernel's table during all later measurements.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let folder = PathBuf::from(args.next().ok_or("no folder")?);
    let from: usize = args.next().ok_or("from where?")?.parse()?;
    let to: usize = args.next().ok_or("to where?")?.parse()?;
    let mut held = Vec::new();
    for at in from..to {
        held.push(Lock::open(folder.join(format!("{at:05}")))?.acquire_with(Wait::Never)?);
    }
    std::io::stdout().write_all(b"r")?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
