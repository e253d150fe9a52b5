//! Locks beyond one machine: a server holds the lock, and the target names the server.
//!
//! ```text
//! etcd://etcd-1:2379,etcd-2:2379/sessions/main        feature `etcd`
//! postgres://app@db/prod?lock=sessions/main           feature `postgres`
//! ```
//!
//! [`Lock::open`](crate::Lock::open) and [`Options::open`](crate::Options::open) take such a target as they take a path,
//! and give the same [`Guard`](crate::Guard). [`status`](crate::status()), [`list`](crate::list) and
//! [`break_lock`](crate::break_lock) accept them too. The server does the distributed work; this module has no consensus
//! protocol of its own.
//!
//! # What is promised
//!
//! A tenure is a *lease* of `ttl` (in the target; 10 seconds by default). A thread of the library renews it at a third.
//! Where that fails, the tenure is [lost](crate::Error::is_lost) at three quarters, *before* the server may grant the lock to
//! the next waiter. The time counts from when the last confirmed renewal was sent, on a clock that counts suspension. So no
//! two holders see [`check`](crate::Guard::check) succeed at once, unless an operator breaks the lock by force.
//!
//! A holder that is stopped right after its check still writes late. A resource that refuses an older
//! [`fence`](crate::Guard::fence) closes that gap.
//!
//! # What is different from a file
//!
//! - There is no flock style, there are no exclusive locks without a record, and none that a child inherits.
//! - [`Guard::release`](crate::Guard::release), and dropping a guard, call the server and wait for its answer, for a
//!   few seconds at most. A release [fails as lost](crate::Error::is_lost) where another holder has the lock by then, as
//!   after a break by an operator: the work of the two may have overlapped.
//! - An acquire ends at its deadline also where the server does not answer. But it waits for the server's first answer for
//!   a second, however soon the deadline is, and for a few seconds with [`Wait::Never`](crate::Wait::Never).
//! - A program that ends while one of its threads waits leaves its place in etcd's queue for `ttl`. Call [`give_up_waits`]
//!   before the end.
//! - On etcd all locks of a process with the same `ttl` share a lease: they are lost together, where that is lost. On
//!   PostgreSQL they share a few sessions.
//! - After a crash the next waiter gets the lock when the dead holder's lease is over. On PostgreSQL that is at once, where
//!   the holder ran on this machine and is proven dead.

#![cfg_attr(
    not(all(feature = "etcd", feature = "postgres")),
    allow(dead_code, reason = "what one kind of server alone needs is not used where that is left out")
)]

mod acquire;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod clock;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod delivery;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(all(test, any(feature = "etcd", feature = "postgres")))]
mod fake;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod io_thread;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod keeps_tenures;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod last_answer;
mod lease;
mod lock;
mod lock_server;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod names;
mod open;
mod pending;
#[cfg(feature = "postgres")]
mod postgres;
mod registry;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod reports;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod sharers;
mod slots;
mod tenure;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod tls;
mod url;

pub use self::registry::give_up_waits;
pub use self::url::{below, scheme};
pub use crate::model::status::Scheme;
pub use crate::model::tenure::LeaseLeft;

pub(crate) use self::lock::ServerLock;
pub(crate) use self::open::{open, open_lock};
pub(crate) use self::slots::{ServerSlots, list as list_slots};
pub(crate) use self::url::name;
