//! The part of the front that only Linux has, or does in its own way.

mod lock_table;
mod machine;
mod mounts;
mod names;
mod openers;
mod proc;
mod process;
mod process_handle;
mod process_text;
#[cfg(any(test, fuzzing))]
pub(crate) mod texts;
mod watch;

// The modules that `unix` calls.
pub(super) mod clock;
pub(super) mod close;
pub(super) mod file_system;
pub(super) mod fork_witness;
pub(super) mod ident;
pub(super) mod interrupt;
pub(super) mod lease;
pub(super) mod mark;
pub(super) mod name_key;
pub(super) mod open;
pub(super) mod rename;
pub(super) mod rights;

pub(crate) use super::unix::{
    Dir, File, HeldCell, Inherited, NAME_MAX, Name, SecondProcess, clean_up, effective_user, ends_without_name,
    enter_held, fork_generation, host, inherit, inherit_always, install_cleanup, install_cleanup_over,
    is_no_such_process, means_no_links, moment, name_len, open_file_limit, pid, resets_itself, signal_zero, since_boot,
    since_epoch, spawn, special_name, with_signals_blocked,
};

pub(crate) use clock::clock_is_steered;
pub(crate) use interrupt::{InterruptHandle, InterruptibleWait, install_interrupts, interrupts_enabled};
pub(crate) use lock_table::{lock_table, table_device};
#[allow(unused_imports, reason = "the simulation parses its own table, and compares it with the kernel's")]
pub(crate) use lock_table::{parse as parse_lock_table, read_text as read_lock_table};
pub(crate) use machine::{
    BOOT_ID_SOURCE, FIRST_PID_NAMESPACE, PID_NAMESPACE_SOURCE, boot_id, pid_namespace, reads_start_times_alike,
    shows_its_start_time,
};
pub(crate) use names::{keeps_names, lock_file_kind, means_in_use, replace_steps, takeover_steps};
pub(crate) use openers::{lock_keepers, marked_waiters, openers};
pub(crate) use process::{PID_LIMIT, all_threads_ended, awaited_child, command_line, process_facts, process_of_thread};
pub(crate) use process_handle::{ProcessHandle, UNIQUE_ID_SINCE};
pub(crate) use watch::{FileWatch, NameWatch, Wakeup, wait_any};
