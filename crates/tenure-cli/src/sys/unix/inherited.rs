//! Signal dispositions that this process inherited and that Rust's runtime changes before `main`.

use std::sync::atomic::{AtomicBool, Ordering};

use super::disposition::is_ignored;

/// Rust's runtime ignores SIGPIPE in this process, and sets it back to its default in each child.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn record() {
    PIPE_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
}

// SAFETY: the C library calls each function of this section once, before `main`, with arguments that this one ignores. It
// makes one system call, and needs nothing that is set up later.
#[used]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static RECORD: extern "C" fn() = record;

/// Returns whether this process inherited SIGPIPE as ignored, as a service of systemd does.
pub(super) fn pipe_is_ignored() -> bool {
    PIPE_IGNORED.load(Ordering::Relaxed)
}
