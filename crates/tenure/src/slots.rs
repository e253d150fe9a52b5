//! The status of all slots of a target.

use std::path::Path;

use crate::model::error::Result;
use crate::model::status::Status;
use crate::schedule::slots;
use crate::server;

/// Returns the status of each slot of `target` ([`Options::slots`](crate::Options::slots)) that is held or stale, in the order
/// of their numbers, without touching them. A slot is a lock of its own: [`Status::target`] is `<target>.slot-0` and so on, and
/// may be given to [`break_lock`](crate::break_lock()).
///
/// ```
/// use tenure::Lock;
///
/// # if cfg!(target_os = "linux") {
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("gpu");
/// let _guard = Lock::options().slots(4).open(&path)?.acquire()?;
/// let held = tenure::slots(&path)?;
/// assert_eq!(held[0].target, dir.path().join("gpu.slot-0"));
/// assert_eq!(held[0].holder.as_ref().unwrap().slots, Some(4));
/// # Ok(())
/// # }
/// # main().unwrap();
/// # }
/// ```
///
/// # Errors
///
/// As [`status`](crate::status()).
pub fn slots(target: impl AsRef<Path>) -> Result<Vec<Status>> {
    let target = target.as_ref();
    match server::open_lock(target)? {
        Some(server) => server::list_slots(&*server),
        None => slots::list(target),
    }
}
