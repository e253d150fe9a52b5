//! Detects a holder that waits for this process to end.
//!
//! A holder does so where it runs a command under its lock ([`Guard::set_command`](crate::Guard::set_command), `tenure
//! run`), and this process is that command or one of its descendants. The library reports that only where it is proven:
//! the record names the command with its start time, a process with both lives in this pid namespace, and the chain of
//! this process's parents leads to it. An orphan is no longer in that chain, and waits as any other process does.

use crate::file::paths::LockPaths;
use crate::file::status::current_record;
use crate::model::holder::Holder;
use crate::process::{self, Liveness};
use crate::record::{Record, RecordState};
use crate::sys;

/// Returns the holder, if it is proven to wait for this process. The caller was refused the kernel lock.
pub(crate) fn ancestor_holder(paths: &LockPaths) -> Option<Holder> {
    let record = current_record(paths)?;
    waits_for_this_process(&record)
        .then(|| Holder::from_record(Some(&record), Liveness::alive("it has the kernel lock")))
}

/// Returns whether the holder is proven to wait until the process with that pid and start time ends: because that is its command,
/// or because its command waits for a child that is, or that waits for such a child in turn. The process counts pids in the
/// namespace `pid_namespace`.
///
/// Another descendant of the command does not count: the command may end before the descendant does.
pub(crate) fn runs(record: &Record, pid: i64, start_time: Option<u64>, pid_namespace: Option<u64>) -> bool {
    let Some(command) = record.command_identity() else { return false };
    if start_time.is_none() || pid_namespace.is_none() || pid_namespace != sys::pid_namespace() {
        return false;
    }
    let is_command = || command.pid == pid && command.start_time == start_time;
    let is_awaited = || process::start_time(pid) == start_time && is_awaited_by(pid, command.pid);
    (is_command() || is_awaited()) && waits_for_process(record, pid)
}

/// Returns whether `ancestor` waits for the end of its only child, which does so as well, and so on to the process `pid`.
fn is_awaited_by(mut pid: i64, ancestor: i64) -> bool {
    /// Deeper than any nest of scripts.
    const DEEPEST: usize = 64;
    for _ in 0..DEEPEST {
        let parent = match process::parent(pid) {
            Some(parent) if sys::awaited_child(parent) == Some(pid) => parent,
            _ => return false,
        };
        if parent == ancestor {
            return true;
        }
        pid = parent;
    }
    false
}

/// Returns whether the holder is proven to run this process, or an ancestor of it, as its command.
pub(crate) fn waits_for_this_process(record: &Record) -> bool {
    waits_for_process(record, i64::from(sys::pid()))
}

fn waits_for_process(record: &Record, pid: i64) -> bool {
    let held = record.native.as_ref().is_some_and(|native| native.state == RecordState::Held);
    let Some(command) = record.command_identity().filter(|_| held) else { return false };
    let same_process = || command.start_time.is_some() && process::start_time(command.pid) == command.start_time;
    let holds = || record.identity().is_some_and(|identity| identity.verify().is_alive());
    // The chain is read once more at the end, to prove that it did not change meanwhile.
    let descends = || descends(pid, command.pid);
    descends() && same_process() && command.verify().is_alive() && holds() && descends()
}

/// Returns whether this process is `ancestor`, or a descendant of it at any depth.
pub(crate) fn descends_from(ancestor: i64) -> bool {
    descends(i64::from(sys::pid()), ancestor)
}

fn descends(mut pid: i64, ancestor: i64) -> bool {
    const DEEPEST: usize = 4096;
    for _ in 0..DEEPEST {
        if pid == ancestor {
            return true;
        }
        match process::parent(pid) {
            Some(parent) if parent > 0 => pid = parent,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
#[cfg(all(target_os = "linux", not(miri)))]
mod tests {
    use super::*;
    use crate::process::Identity;
    use crate::record::Native;

    /// Returns the record of a holder that runs this process, or its parent.
    fn record(command: i64) -> Record {
        let identity = Identity::of(command).unwrap();
        let own = Identity::current();
        let native = Native {
            boot_id: own.boot_id.clone().map(Into::into),
            pid_namespace: own.pid_namespace,
            start_time: own.start_time,
            command_pid: Some(command.try_into().unwrap()),
            command_start_time: identity.start_time,
            ..Native::bare(RecordState::Held)
        };
        Record { pid: Some(own.pid), native: Some(native), ..Record::default() }
    }

    #[test]
    fn only_a_proven_ancestor_is_reported() {
        let own = i64::from(sys::pid());
        let parent = process::parent(own).unwrap();
        for command in [own, parent] {
            let proven = record(command);
            assert!(waits_for_this_process(&proven), "{proven:?}");
            for change in [
                |native: &mut Native| native.command_start_time = None,
                |native: &mut Native| native.command_start_time = Some(1),
                |native: &mut Native| native.pid_namespace = Some(1),
                |native: &mut Native| native.boot_id = Some("another".into()),
                |native: &mut Native| native.command_pid = None,
                |native: &mut Native| native.state = RecordState::Aborted,
                // The holder has ended.
                |native: &mut Native| native.start_time = Some(1),
            ] {
                let mut other = proven.clone();
                change(other.native.as_mut().unwrap());
                assert!(!waits_for_this_process(&other), "{other:?}");
            }
        }
        // A process that is not an ancestor.
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let beside = waits_for_this_process(&record(child.id().into()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!beside);
    }
}
