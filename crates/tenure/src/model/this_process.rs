//! What every record of this process says of it.

use crate::model::options::Options;
use crate::process::Identity;
use crate::record::{Native, RecordState, Text};
use crate::sys::{self, ForkLocal};

/// What every record of this process says of it.
pub(crate) struct ThisProcess {
    pub(crate) identity: Identity,
    pub(crate) shown_start_time: Option<u64>,
    pub(crate) boot_id: Option<Text>,
    pub(crate) command: Option<Text>,
    pub(crate) host: Option<Text>,
}

impl ThisProcess {
    /// What natives read of this process while it holds: no fence and no time yet.
    pub(crate) fn native(&self, options: &Options) -> Native {
        Native {
            boot_id: self.boot_id.clone(),
            pid_namespace: self.identity.pid_namespace,
            pidfd_inode: self.identity.pidfd_inode,
            start_time: self.identity.start_time,
            host: self.host.clone(),
            command: self.command.clone(),
            label: options.label.clone(),
            ..Native::bare(RecordState::Held)
        }
    }
}

/// Read once a process, and again after a fork.
pub(crate) fn this_process() -> &'static ThisProcess {
    static OWN: ForkLocal<ThisProcess> = ForkLocal::new();
    OWN.get(|| {
        let identity = Identity::current();
        let shown_start_time = shown_start_time(&identity);
        ThisProcess {
            boot_id: identity.boot_id.as_deref().map(Into::into),
            identity,
            shown_start_time,
            command: sys::command_line(sys::pid()).map(Into::into),
            host: sys::host().map(Into::into),
        }
    })
}

/// The start time that foreign programs compare. The kernel shifts it by the reader's clock: what is read in a time
/// namespace of our own would look like a recycled pid outside, and they would rob us.
pub(crate) fn shown_start_time(identity: &Identity) -> Option<u64> {
    /// PROC_TIME_INIT_INO: the inode of the first time namespace is fixed.
    const FIRST: u64 = 0xefff_fffa;
    let ours = sys::time_namespace(i64::from(sys::pid()));
    identity.start_time.filter(|_| ours.is_none_or(|ours| ours == FIRST))
}
