//! The event of a file that a writer closed.

use rustix::event::kqueue::VnodeEvents;

/// A descriptor that could write was closed, as a process's death does too (`kqueue(2)`, `NOTE_CLOSE_WRITE`). The crate
/// `rustix` lacks it.
pub(crate) const CLOSED: VnodeEvents = VnodeEvents::from_bits_retain(0x0200);
