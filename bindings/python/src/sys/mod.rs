//! The descriptors that waits sleep at, where the package has a port. Elsewhere a wait is unsupported.

#[cfg(all(target_os = "linux", not(feature = "pipes")))]
mod linux;
#[cfg(not(unix))]
mod other;
#[cfg(all(unix, any(not(target_os = "linux"), feature = "pipes")))]
mod piped;
#[cfg(unix)]
mod unix;

#[cfg(all(target_os = "linux", not(feature = "pipes")))]
pub(crate) use linux::Event;
#[cfg(not(unix))]
pub(crate) use other::{Event, Pipe, is_out_of_descriptors};
#[cfg(all(unix, any(not(target_os = "linux"), feature = "pipes")))]
pub(crate) use piped::Event;
#[cfg(unix)]
pub(crate) use unix::{Pipe, is_out_of_descriptors};
