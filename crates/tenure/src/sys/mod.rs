//! The functions of an operating system, as far as a lock needs them: the only folder with system calls and unsafe code.
//!
//! This file is the front. It lists, by mechanism, all that the layers above use; they name no system, and treat
//! [`Unsupported`](std::io::ErrorKind::Unsupported) as an answer. The documentation of an item, in a system's folder,
//! names the manual page that it relies on.
//!
//! | folder or file | compiled |
//! | --- | --- |
//! | `types`, `lock_table`, `fork_local`, `sync`, `clock`, `credentials`, `proof` | everywhere: types of the front, and what the standard library can do |
//! | `unix` | on Unixes with a port: what they share |
//! | `linux` | on Linux: the rest |
//! | `bsd` | on macOS and FreeBSD: what they share and Linux does in another way |
//! | `macos`, `freebsd` | on one of them: the rest |
//! | `windows` | on Windows: all of it |
//! | `no_interrupts`, `no_name_watch`, `no_second_process` | on systems without a signal for interrupts, without a watch of a name, or without forks |
//! | `other` | on systems without a port: every operation on files is unsupported; what locks on servers need works |
//!
//! `crates/tenure-sim` puts a kernel in memory in this folder's place.
//!
//! A port to another Unix is a folder beside `linux` with the modules that `unix` lists, and the names that this front
//! lists. A port to another system is a folder with all names of this front.

#![allow(unsafe_code, clippy::disallowed_methods)]

#[cfg(any(target_os = "freebsd", target_os = "macos"))]
mod bsd;
mod clock;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod credentials;
mod fork_local;
mod lock_table;
#[cfg(not(target_os = "linux"))]
mod no_interrupts;
#[cfg(not(target_os = "linux"))]
mod no_name_watch;
#[cfg(not(any(target_os = "freebsd", target_os = "linux", target_os = "macos")))]
mod no_second_process;
mod proof;
pub(crate) mod sync;
mod types;

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(not(any(target_os = "freebsd", target_os = "linux", target_os = "macos", windows)))]
mod other;
#[cfg(any(target_os = "freebsd", target_os = "linux", target_os = "macos"))]
mod unix;
#[cfg(windows)]
mod windows;

/// The system that is compiled.
#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;
#[cfg(not(any(target_os = "freebsd", target_os = "linux", target_os = "macos", windows)))]
use other as system;
#[cfg(windows)]
use windows as system;

// Files and folders: names, what the kernel reports of them, and changes that are one step.
pub(crate) use system::{
    Dir, File, NAME_MAX, Name, ends_without_name, means_no_links, name_len, open_file_limit, special_name,
};
pub(crate) use types::{Access, FileId, FileIdent, FileKind, FileSystem, Stat};

// The steps of the protocol that the system's means allow. Each is a constant function, except in the simulation.
pub(crate) use system::{keeps_names, lock_file_kind, means_in_use, replace_steps, takeover_steps};
pub(crate) use types::{LockFileKind, ReplaceSteps, TakeoverSteps};

// Locks: the methods of `File`, leases, the kernel's table of locks, and the processes that have a file open.
pub(crate) use lock_table::{LockTable, TableDevice};
pub(crate) use system::{lock_keepers, lock_table, marked_waiters, openers, table_device};
pub(crate) use types::{LeaseOutcome, LockKind};

// Descriptors that a child inherits, and with them the lock.
pub(crate) use system::{Inherited, inherit, inherit_always};

// Processes: whether one lives, and the facts that distinguish it from every other.
pub(crate) use system::{
    BOOT_ID_SOURCE, FIRST_PID_NAMESPACE, PID_LIMIT, PID_NAMESPACE_SOURCE, ProcessHandle, UNIQUE_ID_SINCE,
    all_threads_ended, awaited_child, boot_id, command_line, host, is_no_such_process, pid, pid_namespace,
    process_facts, process_of_thread, reads_start_times_alike, shows_its_start_time, signal_zero,
};
pub(crate) use types::{EndRequest, ProcessFacts};

// Trials: whether this port was run by its authors, and a second process for the trial of a folder where it was not.
#[cfg(not(any(target_os = "freebsd", target_os = "linux", target_os = "macos")))]
pub(crate) use no_second_process::SecondProcess;
pub(crate) use proof::{SYSTEM, is_proven};
#[cfg(any(target_os = "freebsd", target_os = "linux", target_os = "macos"))]
pub(crate) use system::SecondProcess;

// Watches: waiting for a file's change, a process's end, or another thread; and what happened to a name meanwhile.
#[cfg(not(target_os = "linux"))]
pub(crate) use no_name_watch::NameWatch;
#[cfg(target_os = "linux")]
pub(crate) use system::NameWatch;
pub(crate) use system::{FileWatch, Wakeup, wait_any};
pub(crate) use types::NameChange;

// Interrupts: ending a thread's wait in the kernel.
pub(crate) use system::{InterruptHandle, InterruptibleWait, install_interrupts, interrupts_enabled};

// Cleanup: removing lock files when a signal ends the process.
pub(crate) use system::{HeldCell, clean_up, enter_held, install_cleanup, install_cleanup_over, resets_itself};

// Forks: noticing one, and global state that a child makes for itself.
pub(crate) use fork_local::ForkLocal;
pub(crate) use system::fork_generation;

// Threads.
pub(crate) use system::{spawn, with_signals_blocked};

// Clocks: the time of day, the time since boot, a moment, and a pause.
pub(crate) use clock::{LIVES_TTL, NAMES_CHECK_TTL, SETTLED_AGE, now, pause};
pub(crate) use system::{clock_is_steered, moment, since_boot, since_epoch};
pub(crate) use types::Moment;

// Credentials: the user, and files with a server's secrets.
#[cfg(any(feature = "etcd", feature = "postgres"))]
pub(crate) use credentials::read_file;
#[cfg(feature = "postgres")]
pub(crate) use credentials::{PASSWORD_FILE, SETTINGS_VARIABLE, USER_VARIABLE, others_may_read};
pub(crate) use system::effective_user;

// The parsers of the kernel's texts, which the fuzzer calls.
#[cfg(all(any(test, fuzzing), target_os = "linux"))]
pub(crate) use linux::texts;
