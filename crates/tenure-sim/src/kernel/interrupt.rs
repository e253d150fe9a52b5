//! Calling a thread back from a wait. In place of the signal, which comes again and again until the thread has left its
//! seat, a mark that it finds there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::world;

pub(crate) fn install_interrupts() -> io::Result<i32> {
    Ok(libc::SIGRTMAX())
}

/// Does this process's script say so?
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
        let there = !self.left.load(Ordering::Relaxed);
        if there {
            world::call_back(self.thread, true);
        }
        there
    }

    /// Asked by the thread that sits there.
    pub(crate) fn is_interrupted(&self) -> bool {
        world::is_called_back(self.thread)
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
        world::call_back(self.0.thread, false);
    }
}
