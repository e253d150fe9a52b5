//! Watches the locks of a folder by the events of its file system, and finds out what happens to each.

mod event;
mod folders;
mod lock;
mod observer;

pub(crate) use event::{Event, EventKind};
pub(crate) use folders::walk_folders;
pub(crate) use observer::Observer;
