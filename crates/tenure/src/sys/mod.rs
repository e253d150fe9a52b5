//! Every system call, one folder a platform: the only place with unsafe code.
//!
//! What lies above names no platform: it works with `Dir`, `File` and their like, and takes
//! `io::ErrorKind::Unsupported` for an answer. A platform without a port answers that to everything.

#![allow(unsafe_code, clippy::disallowed_methods)]

#[cfg(not(tenure_sim))]
mod clock;
#[cfg(all(target_os = "linux", not(tenure_sim)))]
mod credentials;
#[cfg(not(tenure_sim))]
mod fork_local;
pub(crate) mod kernel_locks;
pub(crate) mod stat;
pub(crate) mod sync;
mod types;

#[cfg(all(target_os = "linux", not(tenure_sim)))]
mod linux;
#[cfg(all(target_os = "linux", not(tenure_sim)))]
pub(crate) use linux::*;

#[cfg(not(any(target_os = "linux", tenure_sim)))]
mod other;
#[cfg(not(any(target_os = "linux", tenure_sim)))]
pub(crate) use other::*;

#[cfg(not(any(target_os = "linux", tenure_sim)))]
mod no_interrupts;
#[cfg(not(any(target_os = "linux", tenure_sim)))]
pub(crate) use no_interrupts::*;

// The simulated kernel, and beside it the real one that it is compared with: `crates/tenure-sim`.
#[cfg(tenure_sim)]
pub(crate) mod sim;
#[cfg(tenure_sim)]
pub(crate) use sim::*;
#[cfg(all(tenure_sim, target_os = "linux"))]
#[allow(dead_code, unused_imports, reason = "only what the comparison needs is used")]
mod linux;

#[cfg(not(tenure_sim))]
pub(crate) use clock::*;
#[cfg(all(target_os = "linux", not(tenure_sim)))]
#[allow(unused_imports, reason = "each engine has credentials of its own kind")]
pub(crate) use credentials::*;
#[cfg(not(tenure_sim))]
pub(crate) use fork_local::ForkLocal;
pub(crate) use types::*;
