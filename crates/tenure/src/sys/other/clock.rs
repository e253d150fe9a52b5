//! The clock on which leases are measured.

use std::time::{Duration, Instant};

use crate::sys::fork_local::ForkLocal;

/// Returns the time since the first call: no lease is held without a port.
pub(crate) fn since_boot() -> Duration {
    static START: ForkLocal<Instant> = ForkLocal::new();
    START.get(Instant::now).elapsed()
}
