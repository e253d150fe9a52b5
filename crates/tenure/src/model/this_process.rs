//! The fields that are the same in every record of this process.

use crate::model::options::Options;
use crate::process::Identity;
use crate::record::{Native, RecordState, Text};
use crate::sys::{self, ForkLocal};

/// The fields that are the same in every record of this process.
pub(crate) struct ThisProcess {
    pub(crate) identity: Identity,
    /// The start time for foreign programs.
    pub(crate) foreign_start_time: Option<u64>,
    pub(crate) boot_id: Option<Text>,
    pub(crate) command: Option<Text>,
    pub(crate) host: Option<Text>,
}

impl ThisProcess {
    /// Returns a record's native part for a tenure of this process, without its fence and time.
    pub(crate) fn native(&self, options: &Options) -> Native {
        Native {
            boot_id: self.boot_id.clone(),
            pid_namespace: self.identity.pid_namespace,
            pidfd_inode: self.identity.pidfd_inode,
            start_time: self.identity.start_time,
            host: self.host.clone(),
            command: self.command.clone(),
            slots: options.slots.map(Into::into),
            label: options.label.clone(),
            ..Native::bare(RecordState::Held)
        }
    }
}

/// Returns the fields of this process. They are read once, and again after a fork.
pub(crate) fn this_process() -> &'static ThisProcess {
    static OWN: ForkLocal<ThisProcess> = ForkLocal::new();
    OWN.get(|| {
        let identity = Identity::current();
        let foreign_start_time = foreign_start_time(&identity);
        ThisProcess {
            boot_id: identity.boot_id.as_deref().map(Into::into),
            identity,
            foreign_start_time,
            command: sys::command_line(sys::pid()).map(Into::into),
            host: sys::host().map(Into::into),
        }
    })
}

/// Returns the start time that foreign programs compare, or `None` outside the first time namespace. The kernel shifts start
/// times by the reader's time namespace, so such a value would look like a recycled pid, and a foreign program would steal
/// the lock.
fn foreign_start_time(identity: &Identity) -> Option<u64> {
    identity.start_time.filter(|_| sys::shows_its_start_time())
}
