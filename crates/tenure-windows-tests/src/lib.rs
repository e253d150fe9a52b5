//! The shared parts of the tests on Windows: actors, which are processes that lock by command, and a witness, which notices two
//! holders at one time. On other systems this is empty.
//!
//! `scripts/test --windows` runs the tests under wine.

#![cfg(windows)]
#![allow(clippy::disallowed_methods, reason = "the tests do what other programs do")]

pub mod actor;
pub mod witness;

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
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

/// Returns the folder of this kind that `scripts/test --windows` prepared, and that only Linux can make. Records a skip where
/// there is none.
///
/// - `full`: a file system with room for a few files
/// - `read-only`: one that is mounted read-only
/// - `denied`: a folder in which no program may make a file
/// - `exfat`: an exFAT file system, by FUSE
pub fn place(kind: &str) -> Option<PathBuf> {
    let place = std::env::var_os("TENURE_TEST_PLACES").map(|places| unix_path(&places).join(kind));
    let place = place.filter(|place| place.exists());
    if place.is_none() {
        let why = format!("needs root and a {kind} folder: scripts/test --windows");
        if let Some(log) = std::env::var_os("TENURE_SKIP_LOG") {
            let mut log = OpenOptions::new().append(true).open(unix_path(&log)).expect("the log is there");
            let test = std::thread::current().name().unwrap_or("?").to_owned();
            writeln!(log, "{test}: {why}").expect("the log can be written");
        }
        eprintln!("SKIPPED: {why}");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped under CI=true: {why}");
    }
    place
}

/// Returns a path of Unix as wine shows it.
fn unix_path(path: &OsStr) -> PathBuf {
    PathBuf::from(format!("Z:{}", path.to_string_lossy().replace('/', "\\")))
}
