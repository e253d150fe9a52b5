//! A waiting thread as its own helper.
//!
//! A thread that acquires, and is the queue's head, may wait in the kernel itself where it [can be
//! interrupted](crate::interrupts): at its deadline, or when the lock's file was replaced. So its grant takes one
//! wake-up instead of two.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::state::{Phase, State, TargetQueue, Waiter, unlock_and_wake};
use crate::model::error::Result;
use crate::sys::{InterruptHandle, InterruptibleWait};
use crate::util::wait_queue::Waits;
use crate::wait::tenure::FileTenure;
use crate::wait::watchdog::interrupts;

/// The outcome that a waiter had by the time it gave up.
pub(super) type TimedOut = Option<Result<Arc<FileTenure>>>;

/// A thread that serves the queue on its own behalf, for as long as its waiter waits.
pub(super) struct DirectWaiter<'a> {
    waiter: &'a Arc<Waiter>,
    pub(super) interrupt: &'a InterruptHandle,
    deadline: Option<Instant>,
}

impl DirectWaiter<'_> {
    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns whether another helper must go on with the queue.
    pub(super) fn is_done(&self) -> bool {
        self.interrupt.is_interrupted() || !self.waiter.waits()
    }
}

impl TargetQueue {
    /// Serves the queue as the helper of `epoch`, on the thread that waits for `waiter`. Returns `Break` where the
    /// waiter gave up at its deadline. Otherwise the waiter was resolved, or another helper serves the queue from here
    /// on.
    pub(super) fn serve(
        self: &Arc<TargetQueue>,
        epoch: u32,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
    ) -> ControlFlow<TimedOut> {
        let Some(interruptible) = InterruptibleWait::enter() else {
            self.hand_over_to_helper(epoch);
            return ControlFlow::Continue(());
        };
        // Marks the waiter's thread as awake, so that a grant need not wake it.
        let _ = waiter.ticket.look();
        let mut state = self.state();
        // Another helper may have taken its place, whose interrupt this must not replace.
        if state.epoch == epoch
            && let Phase::Waiting(waiting) = &mut state.phase
        {
            waiting.interrupt = Some(Arc::clone(interruptible.interrupt()));
        }
        drop(state);
        let Some(_scheduled) = interrupts::interrupt_at(interruptible.interrupt(), deadline) else {
            self.hand_over_to_helper(epoch);
            return ControlFlow::Continue(());
        };
        self.help(epoch, Some(&DirectWaiter { waiter, interrupt: interruptible.interrupt(), deadline }))
    }

    /// Handles an interrupt of the direct waiter: at its deadline the waiter gives up.
    pub(super) fn interrupted(self: &Arc<TargetQueue>, direct: &DirectWaiter<'_>) -> ControlFlow<TimedOut> {
        match direct.is_late() && direct.waiter.waits() {
            true => ControlFlow::Break(self.give_up(direct.waiter)),
            false => ControlFlow::Continue(()),
        }
    }

    /// Starts a helper thread in place of the calling thread.
    pub(super) fn hand_over_to_helper(self: &Arc<TargetQueue>, epoch: u32) {
        let mut state = self.state();
        if state.epoch == epoch {
            self.start_helper(&mut state);
        }
        unlock_and_wake(state);
    }
}

/// Detaches the current helper: what it still waits for in the kernel is no longer used. A direct waiter is
/// interrupted.
pub(super) fn detach_helper(state: &mut State) {
    state.epoch = state.epoch.wrapping_add(1);
    if let Phase::Waiting(waiting) = &mut state.phase
        && let Some(interrupt) = waiting.interrupt.take()
    {
        interrupts::interrupt(&interrupt);
    }
}
