//! Interrupts of threads that wait in the kernel, now or at their deadline. They are repeated until the thread has left
//! the wait.

use std::sync::Arc;
use std::time::Instant;

use super::watchdog;
use crate::sys::InterruptHandle;

/// An interrupt that is scheduled until this is dropped.
pub(crate) struct ScheduledInterrupt<'a>(Option<&'a Arc<InterruptHandle>>);

impl Drop for ScheduledInterrupt<'_> {
    fn drop(&mut self) {
        if let Some(interrupt) = self.0 {
            watchdog().state().interrupts.retain(|(_, known)| !Arc::ptr_eq(known, interrupt));
        }
    }
}

/// Schedules an interrupt at `deadline`, if there is one. Returns `None` if the watchdog cannot be started.
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
    let runs = watchdog.ensure_awake_by(&mut state, deadline);
    drop(state);
    runs.then_some(scheduled)
}

/// Interrupts the thread now.
pub(crate) fn interrupt(interrupt: &Arc<InterruptHandle>) {
    if interrupt.schedule(None) {
        return;
    }
    let now = Instant::now();
    let watchdog = watchdog();
    let mut state = watchdog.state();
    state.interrupts.push((now, Arc::clone(interrupt)));
    watchdog.ensure_awake_by(&mut state, now);
}
