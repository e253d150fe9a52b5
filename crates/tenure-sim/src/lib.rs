//! The library's own code on a simulated kernel: `crates/tenure`'s files are compiled here once more, with another `sys`.
//!
//! [`kernel`] is a test double of the operating system, [`sys`] offers it to the library in place of the platform's, and
//! [`sim`] runs the library on it in every order of system calls.

// The library's unit tests are its own crate's.
#![cfg(not(test))]
#![allow(dead_code, unreachable_pub, unused_imports, reason = "parts of a crate that uses more of them")]

#[path = "../../tenure/src/file/mod.rs"]
mod file;
mod kernel;
#[path = "../../tenure/src/maintenance/mod.rs"]
mod maintenance;
#[path = "../../tenure/src/model/mod.rs"]
mod model;
#[path = "../../tenure/src/operations.rs"]
mod operations;
#[path = "../../tenure/src/process/mod.rs"]
mod process;
#[path = "../../tenure/src/record/mod.rs"]
mod record;
#[path = "../../tenure/src/server/mod.rs"]
mod server;
pub mod sim;
mod sys;
#[path = "../../tenure/src/util/mod.rs"]
mod util;
#[path = "../../tenure/src/wait/mod.rs"]
mod wait;
