//! Identifies processes beyond their pids, and determines whether they live.
//!
//! A pid alone identifies no process: it is recycled, and it means another process in another pid namespace. An
//! [`Identity`] carries what distinguishes one process from all others, and [`Identity::verify`] answers in three
//! values, because "unknown" is not "dead".

mod identity;
mod known;
mod liveness;
mod pid;
mod verify;

pub use identity::Identity;
pub(crate) use known::{Known, Look};
pub use liveness::Liveness;
pub use pid::start_time;
pub(crate) use pid::{comparable_start_time, parent};
pub use verify::is_alive;
