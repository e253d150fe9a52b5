//! The standard library's types that threads share, in one place, so that other crates can replace them: `crates/tenure-loom`
//! compiles the concurrent parts with loom's types, `crates/tenure-sim` the whole library with those of its coroutines.

pub(crate) use std::sync::PoisonError;
pub(crate) use std::sync::atomic::{AtomicPtr, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

// For the table of a signal's handler.
#[cfg(target_os = "linux")]
pub(crate) use std::sync::atomic::AtomicU32;
#[cfg(target_os = "linux")]
pub(crate) use std::thread::yield_now;
