//! The native half of the package for Node: the library's calls, in the shape that Node can make them.
//!
//! An error is returned as a [`Failure`](failure::Failure), which the TypeScript half (`lib/`) turns into a `TenureError`. No
//! call blocks. An attempt makes a few system calls, and a wait is a future of the library that Node's own thread polls when
//! its waker asks for it ([`wait`]). A wait therefore takes no thread of libuv's pool, and ends immediately when it is
//! cancelled.

mod clean;
mod convert;
mod failure;
mod guard;
mod holder;
mod lock;
mod options;
mod overdue;
mod process;
mod status;
mod wait;
mod wake;
