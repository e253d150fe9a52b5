//! The descriptors that waits sleep at, where the package has a port. Elsewhere a wait is unsupported.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub(crate) use linux::{Event, Pipe, is_out_of_descriptors};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{Event, Pipe, is_out_of_descriptors};
