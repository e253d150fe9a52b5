//! The slots of a name on a server: numbered names beside it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::acquire::AcquireServer;
use super::lease::call_limit;
use super::lock::ServerLock;
use super::open::Opened;
use super::registry;
use super::url::Url;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::Options;
use crate::model::rank::Rank;
use crate::model::requester::RequesterId;
use crate::model::slots::{FoundSlot, FoundSlots, Part, SLOT_SUFFIX, SlotAcquire, SlotServer, number};
use crate::model::status::{Scheme, State, Status};
use crate::model::tenure::Backend;

/// The largest number of slots for which the first waiter queues.
const MOST_QUEUES: usize = 32;

/// Returns the target of one of the locks of which the slots of `url` consist.
pub(super) fn part_of(url: &Url, part: Part) -> PathBuf {
    url.sibling(&name_of(url, part))
}

/// Returns the name of one of them.
pub(super) fn name_of(url: &Url, part: Part) -> String {
    format!("{}{}", url.name, part.suffix())
}

/// Returns what the names of all slots of `url` begin with.
pub(super) fn prefix_of(url: &Url) -> String {
    format!("{}{SLOT_SUFFIX}", url.name)
}

/// Returns the number of the slot of `url` that has this name.
pub(super) fn number_of(url: &Url, name: &str) -> Option<u32> {
    number(name.strip_prefix(&prefix_of(url))?.as_bytes())
}

/// The slots of a name on a server, with the options of their acquires.
#[derive(Debug)]
pub(crate) struct ServerSlots {
    server: Opened,
    slot: Options,
    other: Options,
}

impl ServerSlots {
    pub(crate) fn open(server: Arc<dyn AcquireServer>, options: &Options) -> Result<ServerSlots> {
        ServerLock::refuse_options_of_files(server.url(), options)?;
        if options.reentrant {
            let detail = "a slot cannot be acquired again: each acquire takes a slot of its own";
            return Err(Error::new(ErrorKind::Unsupported, &server.url().target, detail));
        }
        // An acquire that waits for a slot of its own thread may be granted another. What it waits for is compared as a whole.
        let slot = options.clone().deadlock_check(false);
        let mut other = Options::default().deadlock_check(false);
        (other.label, other.slots) = (options.label.clone(), options.slots);
        let slots = ServerSlots { server: Opened::new(server), slot, other };
        // The longest name is checked now, not at an acquire.
        slots.open(Part::Slot(crate::model::slots::MOST - 1))?;
        Ok(slots)
    }
}

impl SlotServer for ServerSlots {
    fn target(&self) -> &Path {
        &self.server.url().target
    }

    fn rank(&self) -> Rank {
        let mut url = self.server.url().clone();
        url.name = name_of(&url, Part::Count);
        url.rank()
    }

    fn cluster(&self, answer_by: Option<Instant>) -> Result<String> {
        self.server.here()?.cluster_by(answer_by)
    }

    fn open(&self, part: Part) -> Result<Arc<dyn Backend>> {
        let options = match part {
            Part::Slot(_) => &self.slot,
            Part::Count | Part::Next => &self.other,
        };
        let here = self.server.here()?;
        let server = here.sibling(Url::parse(&part_of(here.url(), part), here.url().scheme)?)?;
        Ok(Arc::new(ServerLock::of_slots(server, options.clone())?))
    }

    fn survey(&self, least: u32, answer_by: Option<Instant>) -> Result<FoundSlots> {
        let server = self.server.here()?;
        let left = answer_by.map(|by| by.saturating_duration_since(Instant::now()));
        let limit = call_limit(server.url().ttl);
        server.slots(0..least, left.map_or(limit, |left| left.min(limit)))
    }

    fn is_held_by(&self, number: u32, requester: RequesterId) -> bool {
        let target = part_of(self.server.url(), Part::Slot(number));
        registry::held_here(&target).iter().any(|tenure| tenure.requester == Some(requester))
    }

    /// On PostgreSQL each takes a session of this process, and one is left to the other waiters.
    fn most_queues(&self) -> usize {
        let url = self.server.url();
        match url.scheme {
            Scheme::Etcd => MOST_QUEUES,
            Scheme::Postgres => url.sessions.saturating_sub(1).clamp(1, MOST_QUEUES),
        }
    }

    fn add_waiting(&self, acquire: Weak<dyn SlotAcquire>) {
        registry::add_waiting_for_slots(acquire);
    }

    fn status(&self) -> Result<Status> {
        self.server.here()?.status()
    }
}

/// Returns the status of each slot of a name that is held or stale.
pub(crate) fn list(server: &dyn AcquireServer) -> Result<Vec<Status>> {
    let found = server.slots(0..0, call_limit(server.url().ttl))?;
    Ok(found.slots.into_iter().map(|found| found.status).filter(|status| status.state != State::Free).collect())
}

/// Completes what a server found, in the order of the numbers: a slot that it does not know is free.
pub(super) fn complete(
    url: &Url,
    least: Range<u32>,
    mut found: FoundSlots,
    lock_name: impl Fn(&str) -> PathBuf,
) -> FoundSlots {
    let slots = &mut found.slots;
    let known: Vec<u32> = slots.iter().map(|found| found.number).collect();
    for number in least.filter(|number| !known.contains(number)) {
        let name = format!("{}{number}", prefix_of(url));
        let mut status = Status::free(&url.sibling(&name), &lock_name(&name));
        status.server = Some(url.scheme);
        slots.push(FoundSlot { number, status, is_relied_on: false });
    }
    slots.sort_by_key(|slot| slot.number);
    found
}
