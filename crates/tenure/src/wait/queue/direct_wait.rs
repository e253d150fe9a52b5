//! A thread that asks, and is the queue's first, may wait in the kernel itself: where it [can be called
//! back](crate::interrupt), at its deadline or when the lock's file was replaced. So its grant takes one wake-up, not two.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::{Phase, State, TargetQueue, Waiter};
use crate::model::error::Result;
use crate::sys::{InterruptHandle, InterruptibleWait};
use crate::util::wait_queue::Waits;
use crate::wait::tenure::FileTenure;
use crate::wait::watchdog;

/// What giving up ended with: a grant or a failure that had come by then.
pub(super) type TimedOut = Option<Result<Arc<FileTenure>>>;

/// On whose behalf a thread serves the queue: its own, for as long as it waits.
pub(super) struct DirectWaiter<'a> {
    waiter: &'a Arc<Waiter>,
    pub(super) interrupt: &'a InterruptHandle,
    deadline: Option<Instant>,
}

impl DirectWaiter<'_> {
    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Somebody else is to go on with the queue.
    pub(super) fn is_done(&self) -> bool {
        self.interrupt.is_interrupted() || !self.waiter.waits()
    }
}

impl TargetQueue {
    /// The caller asked for `waiter`, and is the helper of `epoch`. It serves the queue until its own turn. `Break`: it
    /// gave up at its deadline. Otherwise its turn has come, or somebody else serves the queue from here on.
    pub(super) fn serve(
        self: &Arc<TargetQueue>,
        epoch: u32,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
    ) -> ControlFlow<TimedOut> {
        let Some(interruptible) = InterruptibleWait::enter() else {
            self.hand_over(epoch);
            return ControlFlow::Continue(());
        };
        // Its thread is awake: nobody has to wake it for the grant.
        let _ = waiter.ticket.look();
        if let Phase::Waiting(waiting) = &mut self.state().phase {
            waiting.interrupt = Some(Arc::clone(interruptible.interrupt()));
        }
        let Some(_scheduled) = watchdog::interrupt_at(interruptible.interrupt(), deadline) else {
            self.hand_over(epoch);
            return ControlFlow::Continue(());
        };
        self.help(epoch, Some(&DirectWaiter { waiter, interrupt: interruptible.interrupt(), deadline }))
    }

    /// Its thread was called back. At its deadline it leaves the queue.
    pub(super) fn interrupted(self: &Arc<TargetQueue>, direct: &DirectWaiter<'_>) -> ControlFlow<TimedOut> {
        match direct.is_late() && direct.waiter.waits() {
            true => ControlFlow::Break(self.give_up(direct.waiter)),
            false => ControlFlow::Continue(()),
        }
    }

    fn hand_over(self: &Arc<TargetQueue>, epoch: u32) {
        let mut state = self.state();
        if state.epoch == epoch {
            self.start_helper(&mut state);
        }
        super::wake(state);
    }
}

/// Whoever waits in the kernel waits for nobody any more.
pub(super) fn detach_helper(state: &mut State) {
    state.epoch = state.epoch.wrapping_add(1);
    if let Phase::Waiting(waiting) = &mut state.phase
        && let Some(interrupt) = waiting.interrupt.take()
    {
        watchdog::interrupt(&interrupt);
    }
}
