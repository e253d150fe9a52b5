//! Starts a command, with the signals as this process inherited them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::getpid;
use signal_hook::consts;

use super::child::Child;
use super::signals::{self, SIGCHLD, Signals};
use super::{disposition, inherited, this_unix};

/// Whether `run` works.
pub(crate) const RUNS_COMMANDS: bool = true;

/// Whether the command keeps the lock where this process is killed.
pub(crate) const CHILDREN_KEEP_LOCKS: bool = true;

/// Returns the words that run a script by a shell.
pub(crate) fn script(script: &OsStr) -> Vec<OsString> {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    vec![shell.unwrap_or_else(|| "/bin/sh".into()), "-c".into(), script.to_owned()]
}

/// Returns the command of these words.
pub(crate) fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Starts `command` with the signals as this process inherited them. The exec removes the handlers.
pub(crate) fn spawn(mut command: Command, signals: &Signals) -> io::Result<Child> {
    let ignored = [(SIGCHLD, signals.children_ignored()), (consts::SIGPIPE, inherited::pipe_is_ignored())];
    for (signal, _) in ignored.into_iter().filter(|(_, ignored)| *ignored) {
        // SAFETY: between fork and exec this makes one async-signal-safe call and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                disposition::ignore(signal);
                Ok(())
            });
        }
    }
    // Without a closure to run before the exec, `std` may start the command without a fork that runs the handler. The
    // call below then comes as soon as the command runs, and a key that is pressed in that instant counts twice.
    // SAFETY: the handler stays valid and only stores to an atomic.
    unsafe { libc::pthread_atfork(None, Some(signals::note_fork), None) };
    let spawned = command.spawn();
    signals::note_fork();
    spawned.map(Child::new)
}

/// Makes the kernel kill `command` when this process ends, however it ends. The command's own children live on.
///
/// Linux means the thread that starts the command, which is the main thread here.
pub(crate) fn kill_with_us(command: &mut Command) {
    let us = getpid();
    // SAFETY: between fork and exec this makes a few system calls and allocates nothing.
    unsafe { command.pre_exec(move || this_unix::death::on_our_end(us)) };
}

/// Returns whether the error means that the file is neither a program nor begins with `#!`.
pub(crate) fn is_not_executable_format(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOEXEC)
}

/// Returns the file that is run for the name of a command, if there is one.
pub(crate) fn find_program(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(|file| file.is_file());
    }
    let runs = |file: &PathBuf| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file();
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(runs)
}
