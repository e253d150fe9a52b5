//! Lock files that go when a signal ends the process.
//!
//! The next acquire takes a dead holder's lock over at once, with or without this. It is for people and for foreign
//! programs: a Ctrl-C leaves no `*.lock` behind.
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

/// What [`install`] does with a signal that has a handler of the program's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handlers<'a> {
    /// The handler decides, for every signal.
    #[default]
    Keep,
    /// The handlers of these signals are known to end the process, as a language's runtime does that resets the terminal and
    /// then dies of the signal. They run after the files are gone. Signals other than [`install`]'s are ignored.
    RunAfter(&'a [i32]),
}

/// Removes this process's lock files when SIGINT, SIGTERM, SIGHUP, SIGQUIT or SIGABRT is about to end it, and at
/// `exit(3)`. The process ends with the status that it would have had. Called again, it adds those of the signals that have
/// had their default action since. A forked child has to call it for itself.
///
/// ```
/// # if cfg!(target_os = "linux") {
/// tenure::cleanup::install(tenure::cleanup::Handlers::Keep)?;
/// # }
/// # Ok::<(), tenure::Error>(())
/// ```
///
/// # Errors
///
/// [`is_unsupported`](crate::Error::is_unsupported) where the platform has no port.
pub fn install(handlers: Handlers<'_>) -> Result<()> {
    match handlers {
        Handlers::Keep => sys::install_cleanup(),
        Handlers::RunAfter(signals) => sys::install_cleanup_over(signals),
    }
    .map_err(cannot)
}

/// Returns whether the present handler of `signal` goes with its first use (`SA_RESETHAND`). The handlers of Node and other
/// runtimes do, which reset the terminal and then end the process: [`Handlers::RunAfter`] is for them.
///
/// # Errors
///
/// As [`install`].
pub fn resets_itself(signal: i32) -> Result<bool> {
    sys::resets_itself(signal).map_err(cannot)
}

/// Removes this process's lock files now, as at `exit(3)`: for a program that is about to end by `_exit(2)`, which runs no
/// hooks. Programs that know only lock files are no longer excluded; natives are, until the process has ended. Does nothing
/// without [`install`].
pub fn before_exit() {
    sys::clean_up();
}

fn cannot(error: std::io::Error) -> Error {
    Error::io(Path::new("(this process)"), "the signal handlers cannot be set", error)
}
