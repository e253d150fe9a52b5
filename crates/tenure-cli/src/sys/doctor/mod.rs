//! System calls of `tenure doctor`: its folder, memory that its processes share, and the terminal's width.

// As all of `sys`: the place where system calls are made.
#![allow(unsafe_code, clippy::disallowed_methods)]

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::*;
