//! Reports what happens to a tenure: to the caller's callback, and as events for `tracing`.

use std::path::Path;
use std::time::Duration;

use crate::model::error::Error;
use crate::model::holder::Previous;
use crate::model::options::{Event, Options};
use crate::util::trace::event;

impl Options {
    /// Calls [`on_event`](Options::on_event)'s callback, if there is one. A panic in it is caught, so that it cannot end
    /// the thread that looks after this lock and others.
    pub(crate) fn report(&self, event: &Event<'_>) {
        if let Some(callback) = &self.on_event {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(event)));
        }
    }

    /// Reports a tenure that has lasted longer than its `max_hold`.
    pub(crate) fn report_overrun(&self, target: &Path, fence: u64, held_for: Duration, revoked: bool) {
        let max_hold = self.max_hold.unwrap_or_default();
        event!(WARN, target = ?target, ?held_for, ?max_hold, revoked, "held for longer than max_hold");
        self.report(&Event::Overrun { target, fence: (fence != 0).then_some(fence), held_for, max_hold, revoked });
    }

    /// Reports a tenure that began after a holder that died. Does nothing after any other.
    pub(crate) fn report_takeover(&self, target: &Path, previous: &Previous) {
        if let Previous::Crashed(holder) = previous {
            event!(WARN, target = ?target, "taken over from a holder that died");
            self.report(&Event::TakenOver { target, holder });
        }
    }

    /// Reports a line of the history that could not be written.
    #[cold]
    pub(crate) fn report_history_failure(&self, target: &Path, error: &Error) {
        event!(WARN, target = ?target, error = %error, "the history could not be written");
        self.report(&Event::HistoryFailed { target, error });
    }

    /// Reports a tenure that was lost.
    pub(crate) fn report_loss(&self, target: &Path, error: &Error) {
        event!(ERROR, target = ?target, error = %error, "lost");
        self.report(&Event::Lost { target, error });
    }
}
