//! The version of the operating system.

/// Returns the kernel's release (`uname(2)`). `None` where there is no such call.
pub(crate) fn release() -> Option<String> {
    #[cfg(unix)]
    return Some(rustix::system::uname().release().to_string_lossy().into_owned());
    #[cfg(not(unix))]
    None
}
