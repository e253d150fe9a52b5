//! The shared parts of the tests on Windows: actors, which are processes that lock by command, and a witness, which notices two
//! holders at one time. On other systems this is empty.
//!
//! `scripts/test --windows` runs the tests under wine.

#![cfg(windows)]

pub mod actor;
pub mod witness;

use std::path::PathBuf;

/// Returns the folder of the programs that were built with the tests.
pub fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // target/x86_64-pc-windows-gnu/debug/deps/locks-0123456789abcdef.exe
    test.ancestors().nth(2).expect("a test is in a folder of a folder").to_owned()
}

/// Returns whether this is wine, which has Unix's programs.
pub fn is_wine() -> bool {
    PathBuf::from("Z:\\bin\\sh").exists()
}
