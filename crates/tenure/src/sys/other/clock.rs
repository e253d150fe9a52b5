//! The clock that leases are measured on.

use std::time::{Duration, Instant};

use crate::sys::ForkLocal;

/// Since the first call: no lease is held where there is no port.
pub(crate) fn since_boot() -> Duration {
    static START: ForkLocal<Instant> = ForkLocal::new();
    START.get(Instant::now).elapsed()
}
