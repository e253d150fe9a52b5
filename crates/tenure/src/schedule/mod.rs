//! Acquires that do more than wait: they leave where another one waits already, ask the holder to end, or skip a run that
//! is not needed; or several hold at once, each with a slot. All of it is built from the locks of paths, each of which
//! follows the protocol of [`file`](crate::file), and slots on a server from the locks of names.

mod lock;
mod next;
pub(crate) mod opened;
mod patience;
mod pending;
mod process;
mod replace;
pub(crate) mod slots;
mod slots_on_server;
mod success;
mod survey;
mod tenure;

use std::path::Path;
use std::sync::Arc;

use opened::Opened;

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::{IfBusy, Options};
use crate::model::slots::SlotServer;
use crate::wait::file_lock::FileLock;

/// Opens the lock of a path. Without an option of this folder it is the plain lock, at no cost.
pub(crate) fn open(target: &Path, options: Options) -> Result<Opened> {
    if options.history > 0 && !options.record {
        return Err(Error::new(ErrorKind::Unsupported, target, "a lock without a record keeps no history")
            .with_hint("leave out history(..) (--history) or record(false) (--no-record)"));
    }
    if options.slots.is_some() {
        return Ok(Opened::other(Arc::new(slots::SlotsLock::open(target, options)?)));
    }
    if options.if_busy == IfBusy::Wait && options.not_more_often_than.is_none() {
        return Ok(Opened::File(FileLock::open(target, options)?));
    }
    Ok(Opened::other(Arc::new(lock::ScheduledLock::open(target, options)?)))
}

/// Opens the slots of a name on a server.
pub(crate) fn open_on_server(server: Arc<dyn SlotServer>, options: &Options) -> Result<Opened> {
    Ok(Opened::other(Arc::new(slots_on_server::SlotsOnServer::open(server, options)?)))
}
