//! Asking the holder to end, while this acquire waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::patience::{Patience, Queued, Waited};
use super::process::{HolderProcesses, ProvenProcess, Unproven};
use crate::file::nested::{ancestor_holder, descends_from};
use crate::file::paths::LockPaths;
use crate::file::status::{anchor_holders, anchor_keepers, current_holder};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Holder;
use crate::model::tenure::Tenure;
use crate::process;
use crate::sys;
use crate::wait::file_lock::FileLock;

/// The interval at which a new holder is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The first such interval where no process held the lock at the last look. Each further one is twice as long.
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
    let mut soon = LOOK_SOON;
    loop {
        let mut again = soon;
        soon = (soon * 2).min(LOOK_AGAIN);
        if let Some(holder) = current_holder(paths).filter(is_asked) {
            match &mut asked {
                // This acquire's own grant, unless another guard of this process holds.
                _ if is_this_process(&holder) => {
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
                    (again, soon) = (LOOK_AGAIN, LOOK_SOON);
                }
                asked => {
                    *asked = Asked::ask(paths, &holder, grace)?;
                    if asked.is_some() {
                        (again, soon) = (LOOK_AGAIN, LOOK_SOON);
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
    !holder.liveness.is_dead() && (holder.is_foreign() || holder.fence.is_some())
}

/// Returns whether a holder is this very process. The number alone may be another container's.
fn is_this_process(holder: &Holder) -> bool {
    holder.identity.as_ref().is_some_and(|identity| {
        identity.pid == i64::from(sys::pid())
            && identity.boot_id == sys::boot_id()
            && identity.pid_namespace == sys::pid_namespace()
    })
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
        let proof = is_proven_to_hold(paths, &processes);
        // What was opened is the process of the record. The record must still be the holder's.
        if current_holder(paths).is_none_or(|now| now.fence != holder.fence) {
            return Ok(None);
        }
        if let Err(why) = proof {
            return Err(cannot_be_asked(paths, holder, why));
        }
        let process = processes.holder.as_ref().or(processes.command.as_ref());
        let Some(process) = process else { return Ok(None) };
        if !sent(process.request_end(grace), paths, holder, process)? {
            return Ok(None);
        }
        // A holder that runs a command ends it, with all its descendants, and then releases.
        let (command, holder_too) = match (&processes.holder, &processes.command) {
            (Some(_), Some(_)) => {
                let ends = grace.saturating_add(TO_END_ITS_COMMAND);
                (ends, ends.saturating_add(TO_RELEASE))
            }
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
        // It may have released meanwhile.
        if current_holder(paths).is_none_or(|now| now.fence != holder.fence) {
            return Ok(());
        }
        let late = [processes.command.filter(|_| command || holder_too), processes.holder.filter(|_| holder_too)];
        for process in late.into_iter().flatten() {
            sent(process.kill(), paths, holder, &process)?;
        }
        Ok(())
    }
}

/// Checks by the kernel that these processes hold the lock: any user who may write the record may name any process in it. And
/// that none of them waits for this process, which would end with it.
fn is_proven_to_hold(paths: &LockPaths, processes: &HolderProcesses) -> std::result::Result<(), &'static str> {
    match (&processes.holder, &processes.command) {
        (Some(holder), command) => {
            match anchor_holders(paths) {
                None => return Err("the kernel does not show who has the lock"),
                Some(holders) if !holders.contains(&holder.pid) => {
                    return Err("its record names a process that does not have the kernel lock");
                }
                Some(_) => {}
            }
            if command.as_ref().is_some_and(|command| process::parent(command.pid) != Some(holder.pid)) {
                return Err("its record names a command that is not its child");
            }
            if ancestor_holder(paths).is_some() || descends_from(holder.pid) {
                return Err("this process runs under it");
            }
        }
        // The holder has ended, and the command has inherited the lock.
        (None, Some(command)) => {
            if !anchor_keepers(paths).contains(&command.pid) {
                return Err("its record names a command that does not have the lock");
            }
            if descends_from(command.pid) {
                return Err("this process runs under it");
            }
        }
        (None, None) => {}
    }
    Ok(())
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
