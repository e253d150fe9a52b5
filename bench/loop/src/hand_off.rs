//! A lock that another process hands over to a thread that waits for it.
//!
//! The other process is this program again, as the holder. It is not profiled. Instructions are counted from just before
//! its release, when the helper thread is in the kernel's queue, until the helper thread has become idle after the grant.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use tenure::{Lock, Wait};

use crate::{Result, instrumentation};

/// The word in place of the count that makes this program the holder.
pub(crate) const HOLDER: &str = "holder";

/// The time that threads get to fall asleep, so that what they do before that is counted on the same side in each round.
const SETTLE: Duration = Duration::from_millis(20);

/// The words that the holder reads, and answers once it has done what they say.
const ACQUIRE: u8 = b'a';
const RELEASE: u8 = b'r';

/// Acquires and releases, as standard input says.
pub(crate) fn hold(lock: &Lock) -> Result<()> {
    let (mut input, mut output, mut guard, mut word) = (std::io::stdin(), std::io::stdout(), None, [0]);
    while input.read(&mut word)? == 1 {
        match word[0] {
            ACQUIRE => guard = Some(lock.acquire_with(Wait::Forever)?),
            RELEASE => guard.take().ok_or("not held")?.release()?,
            _ => return Err("an unknown word".into()),
        }
        output.write_all(&word)?;
        output.flush()?;
    }
    Ok(())
}

/// Waits `count` times for a lock that the holder releases.
pub(crate) fn wait(lock: &Lock, target: &str, count: u32, style: Option<&str>) -> Result<()> {
    let mut holder = Holder::start(target, style)?;
    // The first acquire creates the files.
    holder.order(ACQUIRE)?;
    holder.order(RELEASE)?;
    let anchor = anchor_inode(Path::new(target))?;
    let held = Barrier::new(2);
    thread::scope(|scope| {
        let held = &held;
        let releases = scope.spawn(move || -> std::result::Result<(), String> {
            for _ in 0..count {
                holder.order(ACQUIRE).map_err(|error| error.to_string())?;
                held.wait();
                while !has_waiter(anchor).map_err(|error| error.to_string())? {
                    thread::sleep(Duration::from_millis(1));
                }
                thread::sleep(SETTLE);
                instrumentation::start();
                holder.order(RELEASE).map_err(|error| error.to_string())?;
                held.wait();
            }
            Ok(())
        });
        for _ in 0..count {
            held.wait();
            let guard = lock.acquire_with(Wait::Forever)?;
            thread::sleep(SETTLE);
            instrumentation::stop();
            guard.release()?;
            held.wait();
        }
        Ok(releases.join().map_err(|_| "the thread that orders the releases panicked")??)
    })
}

/// Returns the inode of the target's anchor.
fn anchor_inode(target: &Path) -> Result<u64> {
    let name = target.file_name().ok_or("the target has no name")?.to_string_lossy();
    let anchor = target.with_file_name(".tenure").join(format!("{name}.lock"));
    Ok(fs::metadata(anchor)?.ino())
}

/// Returns whether a process waits for the kernel lock of the file with that inode (`/proc/locks`).
fn has_waiter(inode: u64) -> Result<bool> {
    let end = format!(":{inode}");
    let locks = fs::read_to_string("/proc/locks")?;
    Ok(locks.lines().any(|line| line.contains("-> FLOCK") && line.split_whitespace().any(|word| word.ends_with(&end))))
}

/// The other process.
struct Holder(Child);

impl Holder {
    fn start(target: &str, style: Option<&str>) -> Result<Holder> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([target, HOLDER]).args(style);
        Ok(Holder(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    /// Orders an acquire or a release, and waits until it is done.
    fn order(&mut self, word: u8) -> Result<()> {
        let Child { stdin: Some(orders), stdout: Some(answers), .. } = &mut self.0 else {
            return Err("no pipe".into());
        };
        let (orders, answers): (&mut ChildStdin, &mut ChildStdout) = (orders, answers);
        orders.write_all(&[word])?;
        answers.read_exact(&mut [0])?;
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
