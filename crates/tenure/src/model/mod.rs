//! The words that all layers speak in: what is asked for, who holds, how a lock stands, and errors.

pub(crate) mod backend;
pub(crate) mod error;
pub(crate) mod holder;
pub(crate) mod options;
pub(crate) mod report;
pub(crate) mod request;
pub(crate) mod stale_reason;
pub(crate) mod status;
pub(crate) mod tenure;
pub(crate) mod this_process;
