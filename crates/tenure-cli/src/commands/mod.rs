//! The subcommands. Each file has the options of one, its help, and its code.

pub(crate) mod break_lock;
pub(crate) mod clean;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod hold;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod metrics;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod top;
pub(crate) mod wait;
