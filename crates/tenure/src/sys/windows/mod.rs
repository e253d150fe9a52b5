//! The front on Windows (10 and later).
//!
//! The main differences from Unix, which the front's answers report to the layers above:
//!
//! - The kernel lock is a range of bytes, which belongs to a handle *and* a process: a child cannot keep it.
//! - A lock file is a file of its own. Its holder has it open so that no program can remove it.
//! - Two names cannot be swapped, but a file can be removed by its handle, after it was examined by that handle.
//! - A process is identified by its pid and its creation time.

mod cleanup;
mod clock;
mod dir;
mod file;
mod file_system;
mod ident;
mod inherit;
mod name;
mod names;
mod nt;
mod process;
mod process_handle;
mod range_lock;
mod remove;
mod rename;
mod share;
mod table;
mod thread;
mod watch;

pub(crate) use super::no_interrupts::{InterruptHandle, InterruptibleWait, install_interrupts, interrupts_enabled};
pub(crate) use cleanup::{HeldCell, clean_up, enter_held, install_cleanup, install_cleanup_over, resets_itself};
pub(crate) use clock::{clock_is_steered, moment, since_boot, since_epoch};
pub(crate) use dir::{Dir, means_no_links};
pub(crate) use file::File;
pub(crate) use inherit::{Inherited, inherit, inherit_always};
pub(crate) use name::{NAME_MAX, Name, ends_without_name, name_len, special_name};
pub(crate) use names::{keeps_names, lock_file_kind, means_in_use, replace_steps, takeover_steps};
pub(crate) use process::{
    BOOT_ID_SOURCE, FIRST_PID_NAMESPACE, PID_LIMIT, PID_NAMESPACE_SOURCE, all_threads_ended, awaited_child, boot_id,
    command_line, effective_user, host, lock_keepers, marked_waiters, open_file_limit, openers, pid, pid_namespace,
    process_facts, process_of_thread, reads_start_times_alike, shows_its_start_time, signal_zero,
};
pub(crate) use process_handle::{ProcessHandle, UNIQUE_ID_SINCE, is_no_such_process};
pub(crate) use table::{lock_table, table_device};
pub(crate) use thread::{fork_generation, spawn, with_signals_blocked};
pub(crate) use watch::{FileWatch, Wakeup, wait_any};
