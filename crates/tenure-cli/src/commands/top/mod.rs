//! `tenure top`: a live table of the locks in a folder.

#[cfg(all(feature = "top", target_os = "linux"))]
mod app;
#[cfg(all(feature = "top", target_os = "linux"))]
mod keys;
#[cfg(all(feature = "top", target_os = "linux"))]
mod screen;
#[cfg(all(feature = "top", target_os = "linux"))]
mod session;
#[cfg(all(feature = "top", target_os = "linux"))]
mod table;
#[cfg(all(feature = "top", target_os = "linux"))]
mod view;

use std::path::PathBuf;

use crate::options::WalkOptions;
use crate::output::Failure;

/// Show the locks in a folder as a live table
///
/// It shows who holds each lock, for how long, and how many wait. The file system reports changes (inotify), and the times are
/// updated once a second. `top` never creates a file, or disturbs a holder. A script reads `tenure events` or `tenure ls`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Keys:
  q, F10, Ctrl-C         quit
  ?, h, F1               show the keys, and what the columns mean
  Up, Down, k, j         select a lock; also Page Up, Page Down, Home, End
  >, <, F6               sort by the next or the previous column
  t, w, p                sort by the time held, by the number of waiters, by pid
  r, I                   reverse the order
  /, F4                  filter by target, label or command; Enter keeps the filter, Esc removes it
  Ctrl-Z                 suspend; `fg` continues

Columns:
  TARGET     the path that the lock protects
  STATE      held; stale: the holder is dead; unknown: the holder's liveness cannot be decided
  HELD       how long it has been held
  WAITERS    how many processes wait for it
  WAITING    how long the longest of them has been seen to wait. A wait is noticed within a second,
             and one that began before `top` is counted from the start of `top`
  CRASHES    how many holders have died since `top` was started
  PID        the holder
  COMMAND    its command
  LABEL      its label (`run --label`)

Examples:
  the locks below this folder:
    tenure top --recursive
  those of a service:
    tenure top /run/lock/service

Exit codes:
  0         success
  64        usage error
  69        no terminal; the system has no such events, or not enough of them; or DIR is on a server
  73        not a folder
  74, 77    input or output failed; permission denied
  130, 143  Ctrl-C, SIGTERM")]
pub(crate) struct Args {
    /// The folder. It need not exist yet
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,

    #[command(flatten)]
    walk: WalkOptions,
}

#[cfg(all(feature = "top", target_os = "linux"))]
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    session::run(&args.dir, args.walk)
}

/// Fails: this system, or this program, has no live table.
#[cfg(not(all(feature = "top", target_os = "linux")))]
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let why = match cfg!(target_os = "linux") {
        true => "this program was built without the feature `top`; build the crate `tenure-cli` with it",
        false => "it has no port to this system",
    };
    let ls = if args.walk.recursive { "tenure ls --recursive" } else { "tenure ls" };
    let dir = crate::output::describe::path(&args.dir);
    let message = format!("`tenure top`: {why}; `{ls} {dir}` lists the locks once");
    Err(Failure::new(crate::output::exit::UNAVAILABLE, message))
}
