//! Wakes the tasks and greenlets that wait.
//!
//! A process has one [`Doorbell`], however many of them wait. Its descriptor becomes readable when some of them should poll
//! again, and it returns which.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use pyo3::prelude::*;

use crate::error;
use crate::sys::Event;

/// A descriptor that becomes readable when tasks or greenlets of this process should poll their Waiting.
#[pyclass(frozen, module = "tenure._tenure")]
pub(crate) struct Doorbell(Arc<Bells>);

struct Bells {
    event: Event,
    /// The numbers of the waiters to wake. Locked without the GIL, but only for a push or a move. A forked child never locks
    /// its parent's.
    rung: Mutex<Vec<u64>>,
    pid: u32,
}

struct Ringer {
    bells: Arc<Bells>,
    number: u64,
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        let mut rung = self.bells.rung.lock().unwrap_or_else(PoisonError::into_inner);
        rung.push(self.number);
        if rung.len() == 1 {
            // answer() resets it before the next of these calls.
            self.bells.event.signal();
        }
    }
}

impl Doorbell {
    /// Returns a waker that rings with this number.
    pub(crate) fn waker(&self, number: u64) -> Waker {
        Waker::from(Arc::new(Ringer { bells: Arc::clone(&self.0), number }))
    }
}

#[pymethods]
impl Doorbell {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Doorbell> {
        let event = Event::new().map_err(|refused| error::cannot_wait(py, Path::new("(this process)"), refused))?;
        Ok(Doorbell(Arc::new(Bells { event, rung: Mutex::default(), pid: std::process::id() })))
    }

    /// Returns the descriptor that becomes readable.
    fn fileno(&self) -> i32 {
        self.0.event.raw()
    }

    /// Returns the numbers of the waiters to wake, and resets the descriptor. In a forked child it returns none.
    fn answer(&self) -> Vec<u64> {
        if self.0.pid != std::process::id() {
            return Vec::new();
        }
        let mut rung = self.0.rung.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.event.reset();
        std::mem::take(&mut *rung)
    }
}
