//! Where a signal came from.

pub(crate) use libc::SI_QUEUE;

/// Returns whether the kernel sent the signal to the whole process group, as for a key at the terminal (`sigaction(2)`,
/// `SI_KERNEL`).
pub(crate) fn is_from_terminal(_signal: i32, code: i32, _sender: i32) -> bool {
    code == libc::SI_KERNEL
}
