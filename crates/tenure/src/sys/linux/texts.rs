//! The parsers of the kernel's texts, for the fuzzer.

pub(crate) use super::lock_table::parse as lock_table;
pub(crate) use super::mounts::{device as mount_device, line as mount_line};
pub(crate) use super::process_text::{ProcessState, Stat, counts_alike, thread_group};
pub(crate) use crate::sys::unix::command_text::command_text;
