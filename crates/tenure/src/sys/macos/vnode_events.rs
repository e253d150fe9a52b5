//! The event of a file that a writer closed, which macOS does not have.

use rustix::event::kqueue::VnodeEvents;

/// No event: `kqueue(2)` of macOS has none for a close. The end of the holder's process is watched besides.
pub(crate) const CLOSED: VnodeEvents = VnodeEvents::empty();
