//! The descriptors that waits sleep at, where the package has a port. Elsewhere a wait is unsupported.

#[cfg(all(target_os = "linux", not(feature = "pipes")))]
mod linux;
#[cfg(not(any(unix, windows)))]
mod other;
#[cfg(any(windows, all(unix, any(not(target_os = "linux"), feature = "pipes"))))]
mod piped;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(all(target_os = "linux", not(feature = "pipes")))]
pub(crate) use linux::Event;
#[cfg(not(any(unix, windows)))]
pub(crate) use other::{Event, Pipe, is_out_of_descriptors};
#[cfg(any(windows, all(unix, any(not(target_os = "linux"), feature = "pipes"))))]
pub(crate) use piped::Event;
#[cfg(unix)]
pub(crate) use unix::{Pipe, is_out_of_descriptors};
#[cfg(windows)]
pub(crate) use windows::{Pipe, is_out_of_descriptors};
