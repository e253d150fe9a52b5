//! Operations on many locks: listing and cleaning folders, breaking locks, and probing or trying what a folder supports.

pub(crate) mod clean;
pub(crate) mod deadlocks;
pub(crate) mod gate;
pub(crate) mod list;
pub(crate) mod probe;
pub(crate) mod scan;
pub(crate) mod trial;
pub(crate) mod walk;
