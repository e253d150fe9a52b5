//! Interrupting a waiting thread. In place of the signal, which is repeated until the thread has left the wait, it is a flag
//! that the thread reads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::world;

pub(crate) fn install_interrupts() -> io::Result<i32> {
    Ok(libc::SIGRTMAX())
}

/// Returns whether this process's script enables interrupts.
pub(crate) fn interrupts_enabled() -> bool {
    world::with(|world| world.interrupts_enabled())
}

#[derive(Debug)]
pub(crate) struct InterruptHandle {
    thread: usize,
    left: AtomicBool,
}

impl InterruptHandle {
    pub(crate) fn interrupt(&self) -> bool {
        let waits = !self.left.load(Ordering::Relaxed);
        if waits {
            world::set_interrupted(self.thread, true);
        }
        waits
    }

    /// Interrupts the wait from another thread of the process, at some moment. Returns `true`: in place of the watchdog's
    /// thread, which waits by the real clock. The clock of deadlines does not advance in a script, so a deadline may pass at
    /// any moment.
    pub(crate) fn schedule(self: &Arc<InterruptHandle>, _deadline: Option<Instant>) -> bool {
        let handle = Arc::clone(self);
        world::with(|world| {
            world.spawn(world.process(), move || {
                world::step("interrupts the waiting thread");
                handle.interrupt();
            })
        });
        true
    }

    /// Returns whether the wait was interrupted. Called by the waiting thread.
    pub(crate) fn is_interrupted(&self) -> bool {
        world::is_interrupted(self.thread)
    }
}

#[derive(Debug)]
pub(crate) struct InterruptibleWait(Arc<InterruptHandle>);

impl InterruptibleWait {
    pub(crate) fn enter() -> Option<InterruptibleWait> {
        let thread = world::current()?;
        Some(InterruptibleWait(Arc::new(InterruptHandle { thread, left: AtomicBool::new(false) })))
    }

    pub(crate) fn interrupt(&self) -> &Arc<InterruptHandle> {
        &self.0
    }
}

impl Drop for InterruptibleWait {
    fn drop(&mut self) {
        self.0.left.store(true, Ordering::Relaxed);
        world::set_interrupted(self.0.thread, false);
    }
}
