//! Lock files that go when a signal ends the process.
//!
//! Without this nothing is ever stuck either: a dead holder's lock is taken over at once. It is for the eyes: a Ctrl-C
//! leaves no `*.lock` behind, for people and for foreign programs.
//!
//! # Pitfalls
//!
//! - A signal for which the program has a handler of its own is left to that handler, whichever was installed first: a
//!   SIGHUP that reloads a configuration must not uncover a lock that is still held. If the handler ends the process
//!   through `exit(3)`, or lets the guards be dropped, the lock files go there.
//! - SIGKILL cannot be caught; neither can `_exit(2)`.
//! - The next holder still learns that the one before was cut off: [`Guard::previous`](crate::Guard::previous) is
//!   `Crashed`.

use std::path::Path;

use crate::model::error::{Error, Result};
use crate::sys;

/// Removes this process's lock files when SIGINT, SIGTERM, SIGHUP, SIGQUIT or SIGABRT is about to end it, and at
/// `exit(3)`. The process ends with the status that it would have had. Called again, it adds
/// those of the signals that have had their default action since; a forked child has to call it for itself.
///
/// # Errors
///
/// [`is_unsupported`](crate::Error::is_unsupported) where the platform has no port.
pub fn install() -> Result<()> {
    sys::install_cleanup().map_err(cannot)
}

/// As [`install`], and for those of `signals` too that have a handler of the program's, where that one is known to end
/// the process: a language's runtime that resets the terminal and then dies of the signal. It runs after the files are
/// gone. Of signals that are not [`install`]'s, nothing is done.
///
/// # Errors
///
/// As there.
pub fn install_over(signals: &[i32]) -> Result<()> {
    sys::install_cleanup_over(signals).map_err(cannot)
}

/// Does the present handler of `signal` go with its first use (`SA_RESETHAND`)? Node's and other runtimes' do, which reset
/// the terminal and then end the process: [`install_over`] is for them.
///
/// # Errors
///
/// As [`install`]'s.
pub fn resets_itself(signal: i32) -> Result<bool> {
    sys::resets_itself(signal).map_err(cannot)
}

/// Removes this process's lock files now, as at `exit(3)`: for a program that is about to end by `_exit(2)`, which runs no
/// hooks. What it holds is over for programs that know only lock files; natives are kept out until it has ended. Without
/// [`install`] it does nothing.
pub fn before_exit() {
    sys::clean_up();
}

fn cannot(error: std::io::Error) -> Error {
    Error::io(Path::new("(this process)"), "the signal handlers cannot be set", error)
}
