//! Scripts that run the library's own code on a simulated kernel, in every order.
//!
//! A [`Script`] names processes and what each of them does: natives by the library's functions, foreign programs by
//! their own protocol, `clean`, a break, a person who removes files. [`explore`] runs it again and again, each time in
//! another order of system calls, with a process that dies at another one, or with another one that fails. After every
//! step the [`Witness`], which stands outside of the code, looks whether two hold; at the end a fresh native must get
//! the lock at once and find nothing in its way.
//!
//! # Every order, without doing all of it
//!
//! A process does what it does because of what it was told. So two runs that have come to the same state of the kernel,
//! and in which every process has been told the same, go on alike; the second is cut off there. That keeps the number of
//! runs near the number of such states instead of the number of orders, and nothing is lost by it (but for two states
//! whose 64-bit fingerprints happen to be equal).

#![allow(missing_docs, reason = "not a part of the library: only its own tests see this")]

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
pub use crate::kernel::state::FileSystemKind;
pub use explore::{Limits, Report, exhaustive, random, replay};
pub use run::Failure;
pub use schedule::{Choice, Schedule};
pub use script::{Actor, Left, Opening, Removes, Script, Waits};
pub use scripts::{SCRIPTS, UNSOUND, by_name};
