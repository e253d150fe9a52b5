//! The lock files go when a signal or exit(3) ends the process.

use std::sync::atomic::{AtomicU32, Ordering};

/// The process that has asked for it last: a forked child asks for itself.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Asks for it, and again for signals that have their default action since. A handler of the program's is left alone, and
/// decides. Where it cannot be had, a lock file that stays is taken over all the same.
pub(crate) fn install() {
    ASKED.store(std::process::id(), Ordering::Relaxed);
    let _ = tenure::cleanup::install();
}

/// Asks for it in a process that has not: a forked child with a lock that its parent opened.
pub(crate) fn install_once() {
    if ASKED.load(Ordering::Relaxed) != std::process::id() {
        install();
    }
}
