//! The processes of a holder, where they are proven to be those that its record names.

use std::time::Duration;

use crate::model::holder::{Holder, HolderKind};
use crate::process::{self, Identity};
use crate::sys::{self, ProcessHandle};

/// A handle of a process that is proven to be the recorded one.
#[derive(Debug)]
pub(crate) struct ProvenProcess {
    pub(crate) pid: i64,
    handle: ProcessHandle,
}

/// Why a process is not proven.
pub(crate) enum Unproven {
    /// It has ended.
    Ended,
    /// The reason, in words.
    Because(String),
}

impl ProvenProcess {
    /// Opens the process with this identity. Boot, pid namespace and start time must all be recorded and agree. The handle
    /// is opened first and asked last whether its process lives, so all that was read by pid in between was of that process.
    pub(crate) fn open(identity: &Identity) -> Result<ProvenProcess, Unproven> {
        let because = |why: &str| Err(Unproven::Because(why.to_owned()));
        let pid = identity.pid;
        if identity.boot_id.is_none() || identity.boot_id != sys::boot_id() {
            return because("its record is not of this boot of this machine");
        }
        if identity.pid_namespace.is_none() || identity.pid_namespace != sys::pid_namespace() {
            return because("it runs in another pid namespace, where its pid means another process");
        }
        if pid == i64::from(sys::pid()) {
            return because("it is this process");
        }
        let Some(recorded) = identity.start_time else { return because("its record has no start time") };
        let handle = match ProcessHandle::open(pid) {
            Ok(handle) => handle,
            Err(error) if sys::is_no_such_process(&error) => return Err(Unproven::Ended),
            Err(error) => return Err(Unproven::Because(format!("pid {pid} cannot be opened: {error}"))),
        };
        let other_inode =
            identity.pidfd_inode.zip(handle.unique_id()).is_some_and(|(recorded, found)| recorded != found);
        let found = process::start_time(pid);
        match handle.exited() {
            Ok(true) => return Err(Unproven::Ended),
            Ok(false) => {}
            Err(error) => return Err(Unproven::Because(format!("pid {pid} cannot be watched: {error}"))),
        }
        match found {
            // Another process has the pid, so the recorded one has ended.
            _ if other_inode => Err(Unproven::Ended),
            Some(found) if found == recorded => Ok(ProvenProcess { pid, handle }),
            Some(_) => Err(Unproven::Ended),
            None => Err(Unproven::Because(format!("the start time of pid {pid} cannot be read"))),
        }
    }

    /// Asks the process to end within `grace`.
    pub(crate) fn request_end(&self, grace: Duration) -> std::io::Result<()> {
        self.handle.request_end(grace)
    }

    pub(crate) fn kill(&self) -> std::io::Result<()> {
        self.handle.kill()
    }
}

/// The processes of a holder: the one that its record names, and the command that it runs under the lock.
pub(crate) struct HolderProcesses {
    pub(crate) holder: Option<ProvenProcess>,
    pub(crate) command: Option<ProvenProcess>,
}

impl HolderProcesses {
    /// Opens the processes of `found`. Fails where none that lives is proven.
    pub(crate) fn open(found: &Holder) -> Result<HolderProcesses, Unproven> {
        let because = |why: &str| Err(Unproven::Because(why.to_owned()));
        if found.kind != HolderKind::Native {
            return because("it does not use Tenure, so its record proves no process");
        }
        let Some(identity) = &found.identity else { return because("its record names no process") };
        let command = found.command_identity.as_ref();
        // Until it has its pid, the command is recorded with the holder's own.
        let command = command.filter(|command| command.pid != identity.pid).map(ProvenProcess::open);
        let command = command.and_then(Result::ok);
        match ProvenProcess::open(identity) {
            Ok(holder) => Ok(HolderProcesses { holder: Some(holder), command }),
            // The command has inherited the lock.
            Err(Unproven::Ended) if command.is_some() => Ok(HolderProcesses { holder: None, command }),
            Err(unproven) => Err(unproven),
        }
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    type Change = fn(&mut Identity);

    #[test]
    fn a_process_is_proven_by_all_parts_of_its_identity_or_not_at_all() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        assert!(ProvenProcess::open(&identity).is_ok_and(|proven| proven.pid == i64::from(child.id())));
        let unproven: [(&str, Change); 5] = [
            ("no start time", |identity| identity.start_time = None),
            ("no boot", |identity| identity.boot_id = None),
            ("another boot", |identity| identity.boot_id = Some("other".to_owned())),
            ("no namespace", |identity| identity.pid_namespace = None),
            ("another namespace", |identity| identity.pid_namespace = Some(1)),
        ];
        for (name, change) in unproven {
            let mut changed = identity.clone();
            change(&mut changed);
            assert!(matches!(ProvenProcess::open(&changed), Err(Unproven::Because(_))), "{name}");
        }
        let recycled = Identity { start_time: identity.start_time.map(|at| at + 1), ..identity.clone() };
        assert!(matches!(ProvenProcess::open(&recycled), Err(Unproven::Ended)));
        let recycled = Identity { pidfd_inode: identity.pidfd_inode.map(|inode| inode + 1), ..identity.clone() };
        if recycled.pidfd_inode.is_some() {
            assert!(matches!(ProvenProcess::open(&recycled), Err(Unproven::Ended)));
        }
        assert!(matches!(ProvenProcess::open(&Identity::current()), Err(Unproven::Because(_))), "this process");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(ProvenProcess::open(&identity), Err(Unproven::Ended)));
    }
}
