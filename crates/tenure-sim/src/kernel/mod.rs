//! A test double of the kernel: files, locks, processes and a clock, all in memory, one system call at a time.
//!
//! Every call of the layer above reaches a *point* ([`world::point`]) before it touches anything that other processes can
//! see. The simulated process stops there, and the driver of the simulation ([`crate::sim`]) decides which thread continues,
//! which process dies and which call fails. So the library's own code runs in every order that the kernel would allow, and
//! each order can be repeated.
//!
//! Simulated, with the sources: names, links, `rename` and its flags (`rename(2)`, `fs/namei.c`), `flock` for each open file
//! with its queue (`flock(2)`, `fs/locks.c`), leases (`fcntl(2)`), descriptors that are closed with their process, inode
//! numbers that are reused at once, modes and owners, `/proc/locks`, pidfds and start times, inotify as far as [`wait`] uses
//! it. [`conformance`] runs one script against this kernel and the real one.
//!
//! Not simulated: `fork`, descriptors that a child inherits, signal handlers, the watchdog's thread. In place of a signal, an
//! interrupted thread finds a flag ([`interrupt`]).

#![allow(unsafe_code, clippy::disallowed_methods)]
#![allow(missing_docs, reason = "not part of the library: only its own tests use it")]

mod answer;
pub(crate) mod arena;
pub(crate) mod call;
mod clock;
#[cfg(target_os = "linux")]
pub mod conformance;
mod fork_local;
mod fs;
mod interrupt;
mod process;
pub(crate) mod state;
pub(crate) mod sync;
mod trial;
mod wait;
pub(crate) mod world;

pub(crate) use clock::*;
pub(crate) use fork_local::ForkLocal;
pub(crate) use fs::*;
pub(crate) use interrupt::*;
pub(crate) use process::*;
pub(crate) use trial::*;
pub(crate) use wait::*;
