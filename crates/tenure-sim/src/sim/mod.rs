//! Scripts that run the library's own code on a simulated kernel, in every order.
//!
//! A [`Script`] names processes and their work: natives, by the library's functions; foreign programs, by their own protocol;
//! `clean`; a break; a person who removes files. [`explore`] runs a script many times, each time in another order of system
//! calls, with another death or another failing call. After every step the [`witness`], which is not part of the library,
//! checks that no two processes hold. At the end a new native must get the lock at once.
//!
//! # Every order, without every run
//!
//! The steps of a process depend only on the results of its calls. So two runs with the same state of the kernel and the same
//! results in every process continue alike, and the second is cut off there. The number of runs is then near the number of
//! states, not of orders. Nothing is lost, except where two states have the same 64-bit fingerprint.

#![allow(missing_docs, reason = "not part of the library: only its own tests use it")]

mod actors;
mod explore;
mod run;
mod schedule;
mod script;
mod scripts;
mod witness;

pub use crate::kernel::arena::Arena;
pub use crate::kernel::call::Call;
#[cfg(target_os = "linux")]
pub use crate::kernel::conformance;
pub use crate::kernel::state::{Face, FileSystemKind};
pub use explore::{Limits, Report, exhaustive, random, replay};
pub use run::Failure;
pub use schedule::{Choice, Schedule};
pub use script::{Actor, Left, Opening, Removes, Script, Waits};
pub use scripts::{SCRIPTS, UNSOUND, by_name};
