//! Where a signal came from.

/// The code of a signal that a process queued with a value (`sys/signal.h`). The crate `libc` lacks it.
pub(crate) const SI_QUEUE: i32 = 0x10002;
/// `SI_KERNEL` (`sys/signal.h`). The crate `libc` lacks it.
const SI_KERNEL: i32 = 0x10006;

/// Returns whether the kernel sent the signal to the whole process group, as for a key at the terminal (`siginfo(3)`).
pub(crate) fn is_from_terminal(_signal: i32, code: i32, _sender: i32) -> bool {
    code == SI_KERNEL
}
