mod cleanup;
mod clock;
mod fork;
mod fs;
mod interrupt;
mod process;
mod rights;
mod table;
mod thread;
mod wait;

pub(crate) use cleanup::*;
pub(crate) use clock::since_boot;
pub(crate) use fork::fork_generation;
pub(crate) use fs::*;
pub(crate) use interrupt::{InterruptHandle, InterruptibleWait, install_interrupts, interrupts_enabled};
pub(crate) use process::*;
pub(crate) use thread::{spawn, with_signals_blocked};
pub(crate) use wait::*;
