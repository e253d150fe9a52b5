//! Asking the holder to end, while this acquire waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::patience::{Patience, Queued, Waited};
use super::process::{HolderProcesses, ProvenProcess, Unproven};
use crate::file::paths::LockPaths;
use crate::file::status::current_holder;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::{Holder, HolderKind};
use crate::model::tenure::Tenure;
use crate::sys;
use crate::wait::file_lock::FileLock;

/// The interval at which a new holder is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The same where no process held the lock at the last look.
const LOOK_SOON: Duration = Duration::from_millis(5);
/// How much longer than the grace a holder has that ends its command and all its descendants by itself, before its command is
/// killed from here.
const TO_END_ITS_COMMAND: Duration = Duration::from_secs(1);
/// How much longer it has, then, before it is killed itself.
const TO_RELEASE: Duration = Duration::from_secs(10);

/// Waits for the lock, and asks each holder to end that has it meanwhile. `None` at the end of the patience.
pub(crate) fn wait(
    file: &FileLock,
    paths: &LockPaths,
    mut queued: Queued,
    patience: &Patience,
    grace: Duration,
) -> Result<Option<Arc<dyn Tenure>>> {
    let mut asked: Option<Asked> = None;
    loop {
        let mut again = LOOK_SOON;
        if let Some(holder) = current_holder(paths).filter(is_asked) {
            match &mut asked {
                // This acquire's own grant, unless another guard of this process holds.
                _ if holder.pid() == Some(i64::from(sys::pid())) => {
                    if file.is_held() {
                        return match patience.wait(&mut queued, Some(Instant::now()))? {
                            Waited::Outcome(outcome) => outcome.map(Some),
                            Waited::Tick => Err(cannot_be_asked(paths, &holder, "it is this process")),
                            Waited::Over => Ok(None),
                        };
                    }
                }
                Some(asked) if asked.is_of(&holder) => {
                    asked.kill_if_late(paths, &holder)?;
                    again = LOOK_AGAIN;
                }
                asked => {
                    *asked = Asked::ask(paths, &holder, grace)?;
                    if asked.is_some() {
                        again = LOOK_AGAIN;
                    }
                }
            }
        }
        match patience.wait(&mut queued, Some(Instant::now() + again))? {
            Waited::Outcome(outcome) => return outcome.map(Some),
            Waited::Tick => {}
            Waited::Over => return Ok(None),
        }
    }
}

/// Returns whether a holder is asked. A dead one is taken over, and a native without a fence does not hold yet.
fn is_asked(holder: &Holder) -> bool {
    !holder.liveness.is_dead() && (holder.kind == HolderKind::Foreign || holder.fence.is_some())
}

/// A tenure whose holder was asked to end.
struct Asked {
    fence: Option<u64>,
    /// When the command is killed, and then the holder; `None` once it was.
    kill_command_at: Option<Instant>,
    kill_at: Option<Instant>,
}

impl Asked {
    fn is_of(&self, holder: &Holder) -> bool {
        self.fence == holder.fence
    }

    /// Asks a holder to end. `None` if it has ended or released meanwhile.
    fn ask(paths: &LockPaths, holder: &Holder, grace: Duration) -> Result<Option<Asked>> {
        let processes = match HolderProcesses::open(holder) {
            Ok(processes) => processes,
            Err(Unproven::Ended) => return Ok(None),
            Err(Unproven::Because(why)) => return Err(cannot_be_asked(paths, holder, &why)),
        };
        // What was opened is the process of the record. The record must still be the holder's.
        if current_holder(paths).is_none_or(|now| now.fence != holder.fence) {
            return Ok(None);
        }
        let process = processes.holder.as_ref().or(processes.command.as_ref());
        let Some(process) = process else { return Ok(None) };
        if !sent(process.request_end(grace), paths, holder, process)? {
            return Ok(None);
        }
        // A holder that runs a command ends it, with all its descendants, and then releases.
        let (command, holder_too) = match (&processes.holder, &processes.command) {
            (Some(_), Some(_)) => (grace + TO_END_ITS_COMMAND, grace + TO_END_ITS_COMMAND + TO_RELEASE),
            _ => (grace, grace),
        };
        let now = Instant::now();
        let (kill_command_at, kill_at) = (now.checked_add(command), now.checked_add(holder_too));
        Ok(Some(Asked { fence: holder.fence, kill_command_at, kill_at }))
    }

    /// Kills the command, and then the holder, once their time is over.
    fn kill_if_late(&mut self, paths: &LockPaths, holder: &Holder) -> Result<()> {
        let is_over = |at: &mut Option<Instant>| at.take_if(|at| Instant::now() >= *at).is_some();
        let (command, holder_too) = (is_over(&mut self.kill_command_at), is_over(&mut self.kill_at));
        if !command && !holder_too {
            return Ok(());
        }
        // The processes are opened again: the command may have begun since.
        let Ok(processes) = HolderProcesses::open(holder) else { return Ok(()) };
        let late = [processes.command.filter(|_| command || holder_too), processes.holder.filter(|_| holder_too)];
        for process in late.into_iter().flatten() {
            sent(process.kill(), paths, holder, &process)?;
        }
        Ok(())
    }
}

/// Returns whether a signal was sent: `false` if the process has ended.
fn sent(result: std::io::Result<()>, paths: &LockPaths, holder: &Holder, process: &ProvenProcess) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if sys::is_no_such_process(&error) => Ok(false),
        Err(error) => {
            let action = format!("the holder cannot be asked to end (pid {})", process.pid);
            Err(Error::io(&paths.target_path, action, error).with_holder(Some(holder.clone())))
        }
    }
}

fn cannot_be_asked(paths: &LockPaths, holder: &Holder, why: &str) -> Error {
    let detail = format!("the holder cannot be asked to end: {why}");
    Error::new(ErrorKind::Unsupported, &paths.target_path, detail)
        .with_holder(Some(holder.clone()))
        .with_hint("wait for it, or end it by hand")
}
