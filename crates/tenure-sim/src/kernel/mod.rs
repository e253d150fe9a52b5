//! A test double of the kernel: files, locks, processes and a clock, all in memory, one system call at a time.
//!
//! Every call of the layer above comes to a *point* ([`world::point`]) before it touches what others can see. There the
//! simulated process stops, and whoever drives the simulation ([`crate::sim`]) says who goes on, who dies there, and
//! whose call fails. So the library's own code runs in every order that the kernel would allow, and in the same order
//! again whenever that is asked for.
//!
//! What is simulated, and where it was looked up: names, links, `rename` and its flags (`rename(2)`, `fs/namei.c`),
//! `flock` for each open file with its queue (`flock(2)`, `fs/locks.c`), read leases (`fcntl(2)`), descriptors that go
//! with their process, inode numbers that are given out again at once, modes and owners, `/proc/locks`, pidfds and start
//! times, inotify as far as [`wait`] uses it. [`conformance`] runs one script against this and against the real one.
//!
//! Not simulated: `fork`, descriptors that a child inherits, signal handlers, the watchdog's thread. A thread that would be
//! called back by a signal finds a mark ([`interrupt`]).

#![allow(unsafe_code, clippy::disallowed_methods)]
#![allow(missing_docs, reason = "not a part of the library: only its own tests see this")]

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
mod told;
mod wait;
pub(crate) mod world;

pub(crate) use clock::*;
pub(crate) use fork_local::ForkLocal;
pub(crate) use fs::*;
pub(crate) use interrupt::*;
pub(crate) use process::*;
pub(crate) use wait::*;
