//! The same lock beyond one machine: a server keeps it, and the target's name says which.
//!
//! ```text
//! etcd://etcd-1:2379,etcd-2:2379/sessions/main        feature `etcd`
//! postgres://app@db/prod?lock=sessions/main           feature `postgres`
//! ```
//!
//! [`Lock::open`](crate::Lock::open) and [`Options::open`](crate::Options::open) take such a target as they take a path,
//! and give the same [`Guard`](crate::Guard). [`status`](crate::status()), [`list`](crate::list) and
//! [`break_lock`](crate::break_lock) know them too. The server does the distributed work; there is no consensus in here.
//!
//! # What is promised
//!
//! A tenure is a *lease* of `ttl` (in the target; 10 seconds by default). A thread of the library renews it at a third.
//! Where that fails, the tenure is [`Lost`](crate::Error::is_lost) at three quarters, *before* the server may give the
//! lock to another: measured from when the last confirmed renewal was sent, on a clock that counts suspension. So no two
//! holders see [`check`](crate::Guard::check) succeed at once, but where an operator breaks the lock by force.
//!
//! A holder that is stopped right after its check still writes late. What closes that gap is a resource that refuses an
//! older [`fence`](crate::Guard::fence).
//!
//! # What is different from a file
//!
//! - There is neither a shared lock, nor flock style, nor a lock without a record, nor a lock that a child inherits.
//! - [`Guard::release`](crate::Guard::release), and dropping a guard, speak to the server and wait for its answer, for a
//!   few seconds at most. A release [fails as lost](crate::Error::is_lost) where the lock was another's by then, as after
//!   a break by an operator: the work under it may have overlapped with another's.
//! - An acquire keeps its time also where the server says nothing; but for the server's first answer it waits for a
//!   second, however short that time is, and [`Wait::Never`](crate::Wait::Never) for a few.
//! - A program that ends while one of its threads waits leaves its place in etcd's queue for `ttl`:
//!   [`give_up_waits`] first.
//! - After a crash the next one gets the lock when the dead holder's lease is over. On PostgreSQL that is at once, where
//!   the holder ran on this machine and is proven dead.

#![cfg_attr(
    not(all(feature = "etcd", feature = "postgres", target_os = "linux")),
    allow(dead_code, reason = "what one kind of server alone needs is not used where that is left out")
)]

#[cfg(all(feature = "etcd", target_os = "linux"))]
mod etcd;
mod heartbeat;
mod lease;
mod lock;
mod lock_server;
#[cfg(all(any(feature = "etcd", feature = "postgres"), target_os = "linux"))]
mod names;
mod open;
mod pending;
#[cfg(all(feature = "postgres", target_os = "linux"))]
mod postgres;
mod registry;
mod tenure;
#[cfg(all(any(feature = "etcd", feature = "postgres"), target_os = "linux"))]
mod tls;
mod url;

pub use self::registry::give_up_waits;
pub use self::url::{below, scheme};
pub use crate::model::status::Scheme;
pub use crate::model::tenure::LeaseLeft;

pub(crate) use self::lock::ServerLock;
pub(crate) use self::open::{open, open_lock};
