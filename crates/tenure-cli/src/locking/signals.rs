//! Signals that end this process.

use crate::output::Failure;
use crate::output::exit;
use crate::sys::{self, Note, Signals};

/// The reason why a call has no result.
pub(crate) enum Stop {
    Failed(Failure),
    /// A signal arrived that ends this process.
    Signalled(i32),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// Returns the next signal that ends this process, if one arrived. Discards the other notes before it.
pub(crate) fn next_ending_signal(signals: &Signals) -> Option<i32> {
    while let Some(note) = signals.next() {
        if let Note::Signal(arrival) = note
            && sys::ENDING.contains(&arrival.signal)
        {
            return Some(arrival.signal);
        }
    }
    None
}

/// Ends this process by `signal`, and removes the lock file of an acquire that is under way in another thread.
///
/// Returns the exit code for the case that the kernel spares the process.
pub(crate) fn die_by(signal: i32) -> u8 {
    sys::die_by(signal, || {
        let _ = tenure::cleanup::install(tenure::cleanup::Handlers::Keep);
    });
    exit::of_signal(signal)
}
