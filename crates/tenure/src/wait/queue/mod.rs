//! The queue of one target within this process, and the one thread of it that waits in the kernel's queue.
//!
//! # Phases
//!
//! | phase | changed by |
//! | --- | --- |
//! | `Idle` | any thread, under the mutex |
//! | `Working` | the thread that set it, while it makes the system calls of an acquire or a release |
//! | `Waiting` | the helper of the current epoch, which waits in the kernel for the queue's head |
//! | `Held`, `Shared` | the release of the tenure, or of the last share |
//! | `Open` | a thread that acquires the lock; the queue's head, which was notified; a waiter that leaves the queue |
//!
//! The mutex is never held over a system call that may block. Waiters are served first come, first served. A waiter
//! that gives up leaves the queue at once and is never granted the lock: a helper that was waiting for it serves the
//! next waiter, or unlocks. Lock order: the queue's state, then a waiter's ticket.
//!
//! A grant may be handed off between waiters of one process without the kernel, [`MAX_HANDOFFS`](release) times in a
//! row or for a [`BURST`](release). Then the kernel lock is released, so that other processes get their turn. Waking a
//! thread takes longer than most tenures last, so between threads the lock is left *open* for a few tenures
//! ([`MAX_BARGES`](release)): a running thread may barge in while the queue's head wakes up. Then the lock is handed to
//! the head.
//!
//! Once a second the watchdog compares the file that a helper waits for with the file's path
//! ([`TargetQueue::recheck`]). If an operator broke the lock, the helper is detached with its orphaned file, and a new
//! helper (of a new *epoch*) waits for the new anchor.

mod acquire;
mod barging;
mod direct_wait;
mod grant;
mod helper;
mod release;
mod state;

pub(crate) use acquire::{Entry, Start};
pub(crate) use state::{TargetQueue, WaitEnd, WaitedFile, Waiter};
