//! The boot that this process runs in.

use crate::sys::bsd::sysctl;

/// The sources of facts, for messages.
pub(crate) const BOOT_ID_SOURCE: &str = "kern.bootsessionuuid";
pub(crate) const PID_NAMESPACE_SOURCE: &str = "the pid namespace (macOS has none)";

/// There are no pid namespaces.
pub(crate) const FIRST_PID_NAMESPACE: u64 = 0;

/// Identifies the machine's boot (`sysctl(3)`, `kern.bootsessionuuid`).
pub(crate) fn boot_id() -> Option<String> {
    sysctl::text(c"kern.bootsessionuuid").map(|id| id.to_ascii_lowercase())
}

/// Returns `None`: every process has one pid for all.
pub(crate) fn pid_namespace() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_boot_has_an_id() {
        assert_eq!(super::boot_id().unwrap().len(), 36);
    }
}
