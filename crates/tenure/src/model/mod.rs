//! The types that all layers use: options, holders, the status of a lock, and errors.

pub(crate) mod circle;
pub(crate) mod error;
pub(crate) mod history;
pub(crate) mod holder;
mod json;
pub(crate) mod options;
pub(crate) mod rank;
pub(crate) mod report;
pub(crate) mod request;
pub(crate) mod requester;
pub(crate) mod slots;
pub(crate) mod stale_reason;
pub(crate) mod status;
pub(crate) mod tenure;
pub(crate) mod this_process;
