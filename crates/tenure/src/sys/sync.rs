//! What threads share, of the standard library. The parts that are explored in every order of their steps
//! (`crates/tenure-loom`) take it from here, and loom's in its place there.

pub(crate) use std::sync::PoisonError;
pub(crate) use std::sync::atomic::{AtomicPtr, Ordering};
#[cfg(not(tenure_sim))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

// Whose threads are coroutines, which must not sleep for anything that the simulation does not know of.
#[cfg(tenure_sim)]
pub(crate) use crate::kernel::sync::{Condvar, Mutex, MutexGuard};

// For the table of a signal's handler.
#[cfg(target_os = "linux")]
pub(crate) use std::sync::atomic::AtomicU32;
#[cfg(target_os = "linux")]
pub(crate) use std::thread::yield_now;
