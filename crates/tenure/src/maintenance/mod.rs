//! Many locks at once: looking through folders, removing what dead holders left, and trying what a folder can do.

pub(crate) mod clean;
pub(crate) mod list;
pub(crate) mod probe;
pub(crate) mod scan;
pub(crate) mod walk;
