//! Systems without a port: the library compiles, and every operation is unsupported.

mod clock;
mod fs;
mod process;
mod wait;

pub(crate) use super::no_interrupts::{InterruptHandle, InterruptibleWait, install_interrupts, interrupts_enabled};
pub(crate) use clock::{moment, since_boot, since_epoch};
pub(crate) use fs::*;
pub(crate) use process::*;
pub(crate) use wait::*;
