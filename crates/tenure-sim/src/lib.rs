//! The library's own code on a simulated kernel: this crate compiles the files of `crates/tenure` with another `sys`.
//!
//! [`kernel`] is a test double of the operating system, [`sys`] is its interface for the library, and [`sim`] runs the library
//! in every order of system calls.

// The library's unit tests are its own crate's.
#![cfg(not(test))]
#![allow(dead_code, unreachable_pub, unused_imports, reason = "the library uses more of these parts")]

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
