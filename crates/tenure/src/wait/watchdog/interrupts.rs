//! Threads that are to be called back, now or at their deadline: again and again until they have left their seat.

use std::sync::Arc;
use std::time::Instant;

use super::watchdog;
use crate::sys::InterruptHandle;

/// A recall that was asked for, until this is dropped.
pub(crate) struct ScheduledInterrupt<'a>(Option<&'a Arc<InterruptHandle>>);

impl Drop for ScheduledInterrupt<'_> {
    fn drop(&mut self) {
        if let Some(interrupt) = self.0 {
            watchdog().state().interrupts.retain(|(_, known)| !Arc::ptr_eq(known, interrupt));
        }
    }
}

/// Who sits there is to be called back at `deadline`, if there is one. `None`: nobody could do that.
pub(crate) fn interrupt_at(
    interrupt: &Arc<InterruptHandle>,
    deadline: Option<Instant>,
) -> Option<ScheduledInterrupt<'_>> {
    let Some(deadline) = deadline else { return Some(ScheduledInterrupt(None)) };
    if interrupt.schedule(Some(deadline)) {
        return Some(ScheduledInterrupt(None));
    }
    let watchdog = watchdog();
    let mut state = watchdog.state();
    state.interrupts.push((deadline, Arc::clone(interrupt)));
    let scheduled = ScheduledInterrupt(Some(interrupt));
    let runs = watchdog.rouse(&mut state, deadline);
    drop(state);
    runs.then_some(scheduled)
}

/// Calls back who sits there, now.
pub(crate) fn interrupt(interrupt: &Arc<InterruptHandle>) {
    if interrupt.schedule(None) {
        return;
    }
    let now = Instant::now();
    let watchdog = watchdog();
    let mut state = watchdog.state();
    state.interrupts.push((now, Arc::clone(interrupt)));
    watchdog.rouse(&mut state, now);
}
