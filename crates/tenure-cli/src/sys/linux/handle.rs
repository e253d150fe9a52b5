//! Handles of children.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags};

/// Opens a pidfd (`pidfd_open(2)`). `None` where the kernel has none or a container's profile forbids them.
pub(crate) fn open(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
}
