//! Options that several subcommands have, each defined once.

pub(crate) mod duration;
mod lock;
mod timeout;
mod walk;

pub(crate) use lock::LockOptions;
pub(crate) use timeout::TimeoutOption;
pub(crate) use walk::WalkOptions;
