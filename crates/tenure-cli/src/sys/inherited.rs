//! Linux: what this process inherited and Rust's runtime changes before `main`.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use super::linux::is_ignored;

/// Rust's runtime ignores SIGPIPE for this process, and sets it back to its default for each child.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    PIPE_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
}

// SAFETY: the C library calls each function of this section once, before `main`, with arguments that this one ignores. It
// makes one system call, and needs nothing that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Did this process get SIGPIPE as ignored, as a service of systemd does?
pub(super) fn pipe_is_ignored() -> bool {
    PIPE_IGNORED.load(Ordering::Relaxed)
}
