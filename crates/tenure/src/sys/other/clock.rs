//! The clock that leases are measured on.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Since the first call: no lease is held where there is no port.
pub(crate) fn since_boot() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}
