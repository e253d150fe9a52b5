//! The port to all Unixes, as far as they are alike.
//!
//! Where they differ, the files here call the folder of the Unix that is compiled, as `this_unix`. Such a folder has these
//! modules, and re-exports this one:
//!
//! | module | functions |
//! | --- | --- |
//! | `death` | `on_our_end`: makes the kernel kill a child with this process. `die_with`: this process with another |
//! | `handle` | `open`: a descriptor that polls readable once a child has ended, where there is one |
//! | `memory` | `create`: an open file without a name, in memory |
//! | `origin` | `is_from_terminal`: whether the kernel sent a signal to the whole process group |
//! | `pipe` | `pipe`: both ends, closed at an exec, that never block |
//! | `proc` | `is_stopped`, and the facts about processes that the front lists |

#[cfg(target_os = "freebsd")]
use super::freebsd as this_unix;
#[cfg(target_os = "linux")]
use super::linux as this_unix;
#[cfg(target_os = "macos")]
use super::macos as this_unix;

mod child;
pub(super) mod disposition;
mod files;
mod folder;
mod inherited;
mod shared_memory;
mod signals;
mod spawn;
mod terminal;
#[cfg(any(target_os = "freebsd", target_os = "linux"))]
pub(super) mod waiting;

pub(crate) use child::{Child, ended_by};
pub(crate) use disposition::{die_by, signal_name, stop_self};
pub(crate) use files::{AccessTime, Stamp, access_time, age_access_time, device, stamp};
pub(crate) use folder::{make_folder, remove_folder};
pub(crate) use shared_memory::{SharedWords, monotonic};
pub(crate) use signals::{ENDING, SIGCHLD, SIGCONT, SIGINT, SIGKILL, SIGTERM, SIGTSTP, Signals, Waker};
pub(crate) use spawn::{
    CHILDREN_KEEP_LOCKS, RUNS_COMMANDS, command, find_program, is_not_executable_format, kill_with_us, script, spawn,
};
pub(crate) use terminal::{columns, in_foreground};
