//! Threads that are to be called back, now or at their deadline: again and again until they have left their seat.

use std::sync::Arc;
use std::time::Instant;

use super::watchdog;
use crate::sys::Seat;

/// A recall that was asked for, until this is dropped.
pub(crate) struct Recall<'a>(Option<&'a Arc<Seat>>);

impl Drop for Recall<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.0 {
            watchdog().state().recalls.retain(|(_, known)| !Arc::ptr_eq(known, seat));
        }
    }
}

/// Who sits there is to be called back at `deadline`, if there is one. `None`: nobody could do that.
pub(crate) fn recall_at(seat: &Arc<Seat>, deadline: Option<Instant>) -> Option<Recall<'_>> {
    let Some(deadline) = deadline else { return Some(Recall(None)) };
    let watchdog = watchdog();
    let mut state = watchdog.state();
    state.recalls.push((deadline, Arc::clone(seat)));
    let recall = Recall(Some(seat));
    let runs = watchdog.rouse(&mut state, deadline);
    drop(state);
    runs.then_some(recall)
}

/// Calls back who sits there, now.
pub(crate) fn recall(seat: &Arc<Seat>) {
    let now = Instant::now();
    let watchdog = watchdog();
    let mut state = watchdog.state();
    state.recalls.push((now, Arc::clone(seat)));
    watchdog.rouse(&mut state, now);
}
