//! Acquires the locks of a call, announces the holder that it waits for, and ends the process by signals.

mod acquire;
mod announcer;
mod readers;
mod signals;

pub(crate) use acquire::{Held, Refresh, acquire, check_interval, failure};
pub(crate) use announcer::{Announcer, TenureId};
pub(crate) use readers::{Readers, linger};
pub(crate) use signals::{Stop, die_by, next_ending_signal};
