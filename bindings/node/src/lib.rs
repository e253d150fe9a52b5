//! The native half of the package for Node: the library's calls, in the shape that Node can make them.
//!
//! An error is returned as a [`Failure`](failure::Failure), which the TypeScript half (`lib/`) turns into a `TenureError`. No
//! call blocks Node's thread, but for those that wait for a server and whose JavaScript name ends in `Sync`, a `clean`, which reads
//! folders, and what a thread does at its end. An attempt makes a few system
//! calls. A wait, and a release that has to wait for a server, are futures of the library that Node's own thread polls when
//! their waker asks for it ([`wait`], [`release`]). They therefore take no thread of libuv's pool. Operations on locks that
//! are not open (`status`, `list`, `breakLock`) do ([`work`]).

mod circle;
mod clean;
mod convert;
mod deadlocks;
mod failure;
mod guard;
mod history;
mod holder;
mod lock;
mod options;
mod overrun;
mod process;
mod release;
mod status;
mod suspended;
mod task;
mod wait;
mod wake;
mod work;
