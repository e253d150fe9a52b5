//! Whether the port to this system was run by its authors.

/// The system, as an error names it.
pub(crate) const SYSTEM: &str = std::env::consts::OS;

/// Returns whether this port was run by its authors, with real processes. A port that was not tries each folder before
/// the first lock in it.
pub(crate) const fn is_proven() -> bool {
    cfg!(any(target_os = "linux", windows))
}
