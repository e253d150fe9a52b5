//! Removes the process's lock files when a signal ends it.
//!
//! Without this a dead holder's lock is taken over at once all the same. The cleanup is for people and for foreign programs:
//! Ctrl-C leaves no `*.lock` file. On Windows the console's events (Ctrl-C, Ctrl-Break, its close) take the place of signals.
//!
//! # Pitfalls
//!
//! - A signal for which the program has its own handler is left to that handler, regardless of which was installed first,
//!   because a SIGHUP that reloads a configuration must not remove the lock file of a held lock. If the handler ends the
//!   process by `exit(3)`, or causes the guards to be dropped, the lock files are removed then.
//! - SIGKILL and `_exit(2)` cannot be caught.
//! - The next holder still learns of the crash: [`Guard::previous`](crate::Guard::previous) is
//!   [`Crashed`](crate::Previous::Crashed).

use std::path::Path;

use crate::model::error::{Error, Result};
use crate::sys;

/// The treatment of signals for which the program has its own handlers, by [`install`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handlers<'a> {
    /// Leaves every such signal to the program's handler.
    #[default]
    Keep,
    /// Removes the lock files at these signals, and then runs the program's handlers, which must be known to end the
    /// process. A language's runtime may have such handlers, to reset the terminal. Signals that [`install`] does not handle
    /// are ignored.
    RunAfter(&'a [i32]),
}

/// Installs handlers that remove this process's lock files when SIGINT, SIGTERM, SIGHUP, SIGQUIT or SIGABRT is about to end
/// it, and a hook that does so at `exit(3)`.
///
/// The process ends with the status that it would have had. A further call adds those of the signals that have their default
/// action by then. A forked child has to call it itself.
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
/// The system's error where a handler cannot be set; [`is_unsupported`](crate::Error::is_unsupported) on a platform without
/// a port.
pub fn install(handlers: Handlers<'_>) -> Result<()> {
    match handlers {
        Handlers::Keep => sys::install_cleanup(),
        Handlers::RunAfter(signals) => sys::install_cleanup_over(signals),
    }
    .map_err(cannot)
}

/// Returns whether the present handler of `signal` is removed at its first use (`SA_RESETHAND`). Handlers of Node and other
/// runtimes that reset the terminal and then end the process are; [`Handlers::RunAfter`] is for them.
///
/// ```
/// use tenure::cleanup::{Handlers, install, resets_itself};
///
/// # if cfg!(target_os = "linux") {
/// const SIGINT: i32 = 2;
/// if resets_itself(SIGINT)? {
///     install(Handlers::RunAfter(&[SIGINT]))?;
/// } else {
///     install(Handlers::Keep)?;
/// }
/// # }
/// # Ok::<(), tenure::Error>(())
/// ```
///
/// # Errors
///
/// The errors of [`install`].
pub fn resets_itself(signal: i32) -> Result<bool> {
    sys::resets_itself(signal).map_err(cannot)
}

/// Removes this process's lock files now, as at `exit(3)`. A program calls it right before `_exit(2)`, which runs no hooks. From
/// then on foreign programs that use only lock files are no longer excluded, while natives are until the process has ended.
/// Without [`install`] it does nothing.
///
/// ```no_run
/// tenure::cleanup::before_exit();
/// // .. `_exit(0)`, by a crate for system calls ..
/// ```
pub fn before_exit() {
    sys::clean_up();
}

fn cannot(error: std::io::Error) -> Error {
    Error::io(Path::new("(this process)"), "the signal handlers cannot be installed", error)
}
