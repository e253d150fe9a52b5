//! Operations on many locks: listing and cleaning folders, breaking locks, and probing what a folder supports.

pub(crate) mod clean;
pub(crate) mod list;
pub(crate) mod probe;
pub(crate) mod scan;
pub(crate) mod walk;
