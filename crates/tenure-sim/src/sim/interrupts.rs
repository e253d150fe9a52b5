//! In place of the watchdog's thread, which waits by the real clock: a thread of the script calls back, at some moment.

use std::sync::Arc;
use std::time::Instant;

use crate::kernel::world;
use crate::sys::InterruptHandle;

pub(crate) struct ScheduledInterrupt;

/// The clock of deadlines does not go on in a script: one may be over at any moment.
pub(crate) fn interrupt_at(handle: &Arc<InterruptHandle>, deadline: Option<Instant>) -> Option<ScheduledInterrupt> {
    if deadline.is_some() {
        interrupt(handle);
    }
    Some(ScheduledInterrupt)
}

pub(crate) fn interrupt(handle: &Arc<InterruptHandle>) {
    let handle = Arc::clone(handle);
    world::with(|world| {
        world.spawn(world.process(), move || {
            world::step("calls the waiting thread back");
            handle.interrupt();
        })
    });
}
