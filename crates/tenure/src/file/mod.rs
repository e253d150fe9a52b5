//! The protocol on disk: the anchor, the lock file, and the steps of an acquire and a release. Nothing here waits.

pub(crate) mod acquire;
pub(crate) mod anchor;
pub(crate) mod anchor_dir;
pub(crate) mod break_lock;
pub(crate) mod cached_files;
pub(crate) mod crash;
pub(crate) mod grant;
pub(crate) mod held_for_command;
pub(crate) mod history;
pub(crate) mod lock_file;
pub(crate) mod nested;
pub(crate) mod paths;
pub(crate) mod prepare;
pub(crate) mod prior;
pub(crate) mod reclaim;
pub(crate) mod release;
pub(crate) mod slots;
pub(crate) mod staleness;
pub(crate) mod status;
pub(crate) mod suspended;
pub(crate) mod wait_graph;
pub(crate) mod wait_note;
