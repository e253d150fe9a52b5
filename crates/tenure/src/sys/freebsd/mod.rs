//! The part of the front that FreeBSD (13 and later) does in its own way. Not run by its authors: see [`super::is_proven`].

mod machine;
mod names;
mod process;

// The modules that `unix` and `bsd` call.
pub(super) mod acl_kind;
pub(super) mod clock;
pub(super) mod close;
pub(super) mod fork_witness;
pub(super) mod name_key;
pub(super) mod open;
pub(super) mod rename;
pub(super) mod vnode_events;

pub(super) use super::bsd::{file_system, ident, lease, mark, rights};
pub(super) use super::no_interrupts as interrupt;

pub(crate) use super::bsd::{
    FileWatch, ProcessHandle, UNIQUE_ID_SINCE, Wakeup, awaited_child, clock_is_steered, lock_keepers, lock_table,
    marked_waiters, openers, process_of_thread, reads_start_times_alike, shows_its_start_time, table_device, wait_any,
};
pub(crate) use super::no_interrupts::{InterruptHandle, InterruptibleWait, install_interrupts, interrupts_enabled};
pub(crate) use super::unix::{
    Dir, File, HeldCell, Inherited, NAME_MAX, Name, SecondProcess, clean_up, effective_user, ends_without_name,
    enter_held, fork_generation, host, inherit, inherit_always, install_cleanup, install_cleanup_over, means_no_links,
    moment, name_len, open_file_limit, pid, resets_itself, signal_zero, since_boot, since_epoch, spawn, special_name,
    with_signals_blocked,
};

pub(crate) use machine::{BOOT_ID_SOURCE, FIRST_PID_NAMESPACE, PID_NAMESPACE_SOURCE, boot_id, pid_namespace};
pub(crate) use names::{keeps_names, lock_file_kind, means_in_use, replace_steps, takeover_steps};
pub(crate) use process::{PID_LIMIT, all_threads_ended, command_line, is_no_such_process, process_facts};
