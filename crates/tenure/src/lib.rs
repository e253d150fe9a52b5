//! A lock between programs: never held by two at once, free as soon as its holder is dead, and it always knows its holder.
//!
//! A lock protects a *target*, any path: `sessions/main.jsonl`. While it is held, `sessions/main.jsonl.lock`
//! exists: a JSON record of the holder. The lock itself is the kernel's (`flock(2)`), on an *anchor* in
//! `sessions/.tenure/`, because only the kernel always knows whether a holder lives. Programs that know only the lock file
//! exclude a holder, and are excluded by it.
//!
//! # Pitfalls
//!
//! - **Keep the guard.** `lock.acquire(..)?;` as a statement releases at once; `let _ = ..` too. Write
//!   `let guard = ..`.
//! - **The lock is advisory.** It only stops programs that also use it. Any user who may open its files may hold it.
//! - **`check()` is about this moment.** An operator may break a lock; a process may be stopped for an hour right after
//!   a check. Where a late write must not succeed, hand the [`fence`](Guard::fence) to the resource, which refuses an older
//!   one.
//! - **A crash leaves data half-written.** The lock of a dead holder is granted at once, and
//!   [`previous()`](Guard::previous) reports the crash. Check it before you trust the protected data.
//! - **One thread, one guard.** A second acquire by the thread that holds the lock is an error
//!   ([`is_would_deadlock`](Error::is_would_deadlock)), unless both are [`reentrant`](Options::reentrant). So is a wait that
//!   would close a [circle](Error::circle) of waiting threads and processes. Two *tasks* on one thread exclude each other, and
//!   both errors are found for tasks that run in a scope ([`task`](task())).
//! - **A fork shares nothing.** A guard in a forked child holds nothing there and releases nothing.
//! - **A signal runs no destructors.** The lock is free all the same. [`cleanup::install`] removes the lock file too.
//! - **File systems differ.** Where two machines may mount one, a holder of another machine is
//!   [`Unknown`](process::Liveness::Unknown), never dead. Where locks, links or exchanges are missing, the error names them
//!   ([`is_unsupported`](Error::is_unsupported)).
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use tenure::Lock;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("main.jsonl");
//! let lock = Lock::open(&path)?;
//! let guard = lock.acquire_timeout(Duration::from_secs(10))?;
//! if guard.previous().is_crashed() {
//!     // The last holder died while it held the lock: cut off its half-written line, for example.
//! }
//! // .. append to the transcript, with guard.fence() ..
//! guard.check()?;
//! guard.release()?;
//! # Ok(())
//! # }
//! ```
//!
//! If another program holds the lock, the error names the holder:
//!
//! ```
//! use tenure::{Lock, Wait};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("main.jsonl");
//! # let _held = Lock::open(&path)?.acquire()?;
//! match Lock::options().label("nightly job").open(&path)?.acquire_with(Wait::Never) {
//!     Ok(_guard) => { /* ours */ }
//!     Err(error) if error.is_busy() => {
//!         let holder = error.holder().expect("a live native records itself");
//!         eprintln!("not now: {holder}");
//!     }
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `etcd`, `postgres`: locks on a server, for more than one machine: [`server`].
//! - `tokio`: `Lock::acquire_async`, which is cancel-safe.
//! - `tracing`: events under the target `tenure`. A subscriber must not block, and must not use a lock: it runs on the library's threads
//!   too, and while a queue of the library is locked.
//!
//! # Platforms
//!
//! Linux; Windows 10 and later, tested under wine and not yet on Windows. macOS and FreeBSD (13 and later), built and never run
//! by us: there the first [`Lock::open`] in a folder makes a [trial](probe::trial) of locks, and a folder that does not pass is
//! [unsupported](Error::is_unsupported). Elsewhere the crate compiles and every operation on a file is unsupported.

#![deny(unsafe_code)]

mod acquire_future;
pub mod cleanup;
#[doc(hidden)]
pub mod command;
mod file;
#[cfg(feature = "tokio")]
mod future;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
pub mod interrupts;
mod lock;
mod maintenance;
mod model;
mod operations;
pub mod process;
mod record;
mod schedule;
pub mod server;
mod several;
mod slots;
mod suspended;
mod sys;
mod task;
mod util;
mod wait;

pub use acquire_future::{AcquireFuture, Requester};
pub use guard::Guard;
pub use lock::Lock;
pub use maintenance::clean::{CleanOptions, CleanReport, Cleaned};
pub use maintenance::walk::ListOptions;
pub use model::circle::{Circle, Waiting};
pub use model::error::{Advice, Error, ErrorKind, Result};
pub use model::history::{Ending, PastTenure};
pub use model::holder::{Holder, HolderKind, Previous};
pub use model::options::{Event, IfBusy, Options, Overrun, StalePolicy, Style, Wait};
pub use model::stale_reason::StaleReason;
pub use model::status::{State, Status, SuspendedHolder};
pub use model::tenure::Meanwhile;
pub use operations::{BreakOptions, Broken, break_lock, clean, deadlocks, history, list, status};
pub use several::acquire_all;
pub use slots::slots;
pub use suspended::{ResumeFuture, Resumed, Suspended};
pub use task::{Task, task};

/// Escapes text of other programs for a terminal, and paths for a shell.
pub mod escape {
    pub use crate::util::text::*;
}

/// Tests which features of a folder's file system a lock can use.
pub mod probe {
    pub use crate::maintenance::gate::tries_folders;
    pub use crate::maintenance::probe::*;
    pub use crate::maintenance::trial::trial;
}

/// The documents of the repository.
#[cfg(doc)]
pub mod _docs {
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/design.md")]
    pub mod design {}

    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/pitfalls.md")]
    pub mod pitfalls {}

    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/platforms.md")]
    pub mod platforms {}

    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/distributed.md")]
    pub mod distributed {}

    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/reliability.md")]
    pub mod reliability {}

    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/testing.md")]
    pub mod testing {}
}
