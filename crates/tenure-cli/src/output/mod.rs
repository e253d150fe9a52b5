//! The results of the command: an exit code, text for people, and JSON for scripts.

pub(crate) mod color;
pub(crate) mod describe;
pub(crate) mod exit;
pub(crate) mod json;
pub(crate) mod stream;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod tree;

pub(crate) use exit::Failure;
