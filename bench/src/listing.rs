//! Lists and cleans a folder of ten thousand lock files, half of them with dead holders: Tenure's, and those of programs
//! that know only the lock file.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::candidate;
use crate::row::Row;
use crate::setup::Setup;

/// The arguments: `holder-child CANDIDATE FOLDER FROM TO`, which holds these locks until it is killed.
pub(crate) const ROLE: &str = "holder-child";
pub(crate) const TOPIC: &str = "listing";

/// The holders of a folder's locks, each with the words for its lock files.
const HOLDERS: [(&str, &str); 2] =
    [(candidate::LOCK_FILE, "lock files"), (candidate::FOREIGN, "lock files of programs that know only those")];

pub(crate) fn measure(setup: &Setup) -> crate::Result<Vec<Row>> {
    let count = setup.pick(10_000, 200);
    let mut rows = Vec::new();
    for (fs, folder) in setup.folders()? {
        for (candidate, files) in HOLDERS {
            let (mut listed, mut cleaned) = (Vec::new(), Vec::new());
            for _ in 0..setup.pick(5, 1) {
                let folder = tempfile::tempdir_in(folder)?;
                let dead = hold(candidate, folder.path(), 0, count / 2)?;
                let alive = hold(candidate, folder.path(), count / 2, count)?;
                drop(dead);
                for (word, times) in [("ls", &mut listed), ("clean", &mut cleaned)] {
                    times.push(run(setup, word, folder.path(), count)?);
                }
                let lock_files = std::fs::read_dir(folder.path())?.filter(|entry| {
                    entry.as_ref().is_ok_and(|entry| entry.file_name().as_encoded_bytes().ends_with(b".lock"))
                });
                let left = lock_files.count();
                if left != count / 2 {
                    return Err(format!("clean left {left} lock files of {}", count / 2).into());
                }
                drop(alive);
            }
            let case = format!("{count} {files} on {fs}, half of them dead");
            rows.push(Row::times(TOPIC, &case, "tenure ls", listed));
            rows.push(Row::times(TOPIC, &case, "tenure clean", cleaned));
        }
    }
    Ok(rows)
}

/// Runs `tenure WORD` for a folder of `count` locks, and returns how long that took.
fn run(setup: &Setup, word: &str, folder: &Path, count: usize) -> crate::Result<u64> {
    let mut command = Command::new(setup.commands.first().ok_or("no command")?);
    let start = Instant::now();
    let output = command.arg(word).arg(folder).output()?;
    let took = start.elapsed().as_nanos() as u64;
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    if !output.status.success() || lines < count {
        return Err(format!("tenure {word}: {lines} lines, {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(took)
}

struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hold(candidate: &str, folder: &Path, from: usize, to: usize) -> crate::Result<Holder> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([ROLE, candidate]).arg(folder).args([from.to_string(), to.to_string()]);
    let mut holder = Holder(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
    holder.0.stdout.as_mut().ok_or("no pipe")?.read_exact(&mut [0])?;
    Ok(holder)
}

/// Runs the child's side.
pub(crate) fn child(args: &mut impl Iterator<Item = String>) -> crate::Result<()> {
    // Otherwise ten thousand locks would stay in the kernel's table during all later measurements.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let candidate = args.next().ok_or("no candidate")?;
    let folder = PathBuf::from(args.next().ok_or("no folder")?);
    let from: usize = args.next().ok_or("from where?")?.parse()?;
    let to: usize = args.next().ok_or("to where?")?.parse()?;
    let mut held = Vec::new();
    for at in from..to {
        let mut lock = candidate::open(&candidate, &folder.join(format!("{at:05}")))?;
        lock.acquire()?;
        held.push(lock);
    }
    std::io::stdout().write_all(b"r")?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
