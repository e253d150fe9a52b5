//! One queue for each target of this process, however many [`Lock`](crate::Lock)s name it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::place::Place;
use crate::queue::Slot;
use crate::sys::{FileId, PerProcess};

/// What tells one target from another: its folder and its name. A bare kernel lock is another lock.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    folder: FileId,
    name: OsString,
    bare: bool,
}

#[derive(Default)]
struct Registry {
    slots: HashMap<Key, Weak<Slot>>,
    /// Dead entries are swept when the table has doubled.
    sweep_at: usize,
}

static REGISTRY: PerProcess<Mutex<Registry>> = PerProcess::new();

/// The queue of the target at `place`.
pub(crate) fn slot(place: Place, bare: bool) -> Arc<Slot> {
    let key = Key { folder: place.dir_stat.id, name: place.target.as_os_str().to_owned(), bare };
    let mut registry = REGISTRY.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(slot) = registry.slots.get(&key).and_then(Weak::upgrade) {
        return slot;
    }
    if registry.slots.len() >= registry.sweep_at {
        registry.slots.retain(|_, slot| slot.strong_count() > 0);
        registry.sweep_at = (registry.slots.len() * 2).max(64);
    }
    let slot = Slot::new(place);
    registry.slots.insert(key, Arc::downgrade(&slot));
    slot
}

/// The same target's queue in this process, for a lock that was opened before a fork.
pub(crate) fn reopened(place: &Place, bare: bool) -> Arc<Slot> {
    slot(place.again(), bare)
}
