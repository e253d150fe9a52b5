//! Calling a thread back from a wait. In place of the signal, which comes again and again until the thread has left its
//! seat, a mark that it finds there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::world;

pub(crate) fn install_recall() -> io::Result<i32> {
    Ok(libc::SIGRTMAX())
}

/// Does this process's script say so?
pub(crate) fn may_sit() -> bool {
    world::with(|world| world.may_sit())
}

#[derive(Debug)]
pub(crate) struct Seat {
    thread: usize,
    left: AtomicBool,
}

impl Seat {
    pub(crate) fn recall(&self) -> bool {
        let there = !self.left.load(Ordering::Relaxed);
        if there {
            world::call_back(self.thread, true);
        }
        there
    }

    /// Asked by the thread that sits there.
    pub(crate) fn is_recalled(&self) -> bool {
        world::is_called_back(self.thread)
    }
}

#[derive(Debug)]
pub(crate) struct Seated(Arc<Seat>);

impl Seated {
    pub(crate) fn sit() -> Option<Seated> {
        let thread = world::current()?;
        Some(Seated(Arc::new(Seat { thread, left: AtomicBool::new(false) })))
    }

    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.0
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.0.left.store(true, Ordering::Relaxed);
        world::call_back(self.0.thread, false);
    }
}
