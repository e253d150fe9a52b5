//! The Rust half of the package for Node: the library's calls as Node can make them, and no more.
//!
//! What fails comes back as a [`Failure`](report::Failure), which the TypeScript half (`lib/`) makes an error of. No call
//! blocks: one try makes a few system calls, and a wait is a future of the library that Node's own thread polls whenever
//! its waker says so ([`wait`]). So a wait costs no thread of libuv's pool, and ends the moment that it is cancelled.

mod guard;
mod lock;
mod looking;
mod report;
mod wait;
mod wake;
