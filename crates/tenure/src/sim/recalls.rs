//! In place of the watchdog's thread, which waits by the real clock: a thread of the script calls back, at some moment.

use std::sync::Arc;
use std::time::Instant;

use crate::sys::Seat;
use crate::sys::sim::world;

pub(crate) struct Recall;

/// The clock of deadlines does not go on in a script: one may be over at any moment.
pub(crate) fn recall_at(seat: &Arc<Seat>, deadline: Option<Instant>) -> Option<Recall> {
    if deadline.is_some() {
        recall(seat);
    }
    Some(Recall)
}

pub(crate) fn recall(seat: &Arc<Seat>) {
    let seat = Arc::clone(seat);
    world::with(|world| {
        world.spawn(world.process(), move || {
            world::step("calls the waiting thread back");
            seat.recall();
        })
    });
}
