//! One queue for each target of this process, however many [`Lock`](crate::Lock)s name it.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::file::paths::{ParentDir, LockPaths};
use crate::model::options::Options;
use crate::model::request::Request;
use crate::sys::{FileId, PerProcess};
use crate::wait::queue::Slot;

#[derive(Default)]
struct Registry {
    /// By a hash of the [`Key`]: with very many locks, names would be kept twice.
    slots: HashMap<u64, Weak<Slot>>,
    /// Those whose hash was another's already.
    more: Vec<Weak<Slot>>,
    folders: HashMap<FileId, Weak<ParentDir>>,
    hasher: RandomState,
    /// Dead entries are swept when the table has doubled.
    sweep_at: usize,
}

/// What tells one target from another: its folder and its name. A bare kernel lock is another lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key<'a> {
    folder: FileId,
    name: Option<&'a OsStr>,
    bare: bool,
}

impl Key<'_> {
    fn is_of(&self, slot: &Slot) -> bool {
        *self == Key { folder: slot.folder.dir_stat.id, name: slot.target_path.file_name(), bare: slot.bare }
    }
}

static REGISTRY: PerProcess<Mutex<Registry>> = PerProcess::new();

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// The queue of the target at `paths`.
pub(crate) fn slot(paths: &LockPaths, bare: bool) -> Arc<Slot> {
    slot_in(&paths.folder, &paths.target_path, bare)
}

/// The same target's queue in this process, for a lock that was opened before a fork: by the folder that is open,
/// wherever that was moved, and whatever the working folder is by now. Of the old queue no mutex is taken, which a
/// thread of the parent may have had at the fork.
pub(crate) fn reopened(slot: &Slot) -> Arc<Slot> {
    slot_in(&slot.folder, &slot.target_path, slot.bare)
}

fn slot_in(folder: &Arc<ParentDir>, target_path: &Path, bare: bool) -> Arc<Slot> {
    let key = Key { folder: folder.dir_stat.id, name: target_path.file_name(), bare };
    let known = {
        let mut registry = registry();
        if let Some(slot) = registry.find(&key) {
            return slot;
        }
        registry.folders.entry(key.folder).or_default().upgrade()
    };
    // One descriptor serves all locks in a folder. Compared without the mutex, because that asks the file system.
    let folder = known.filter(|known| known.serves_for(folder)).unwrap_or_else(|| Arc::clone(folder));
    let slot = Slot::new(folder, target_path, bare);
    registry().insert(&key, slot)
}

impl Registry {
    fn hash(&self, key: &Key<'_>) -> u64 {
        self.hasher.hash_one(key)
    }

    fn find(&self, key: &Key<'_>) -> Option<Arc<Slot>> {
        let first = self.slots.get(&self.hash(key)).and_then(Weak::upgrade);
        first.into_iter().chain(self.more.iter().filter_map(Weak::upgrade)).find(|slot| key.is_of(slot))
    }

    /// What stands for the key from here on: `slot`, or what another thread inserted meanwhile.
    fn insert(&mut self, key: &Key<'_>, slot: Arc<Slot>) -> Arc<Slot> {
        if let Some(known) = self.find(key) {
            return known;
        }
        self.sweep();
        self.folders.insert(key.folder, Arc::downgrade(&slot.folder));
        let hash = self.hash(key);
        match self.slots.get(&hash).is_some_and(|other| other.strong_count() > 0) {
            true => self.more.push(Arc::downgrade(&slot)),
            false => drop(self.slots.insert(hash, Arc::downgrade(&slot))),
        }
        slot
    }

    fn sweep(&mut self) {
        if self.slots.len() < self.sweep_at {
            return;
        }
        self.slots.retain(|_, slot| slot.strong_count() > 0);
        self.more.retain(|slot| slot.strong_count() > 0);
        self.folders.retain(|_, folder| folder.strong_count() > 0);
        self.sweep_at = (self.slots.len() * 2).max(64);
    }
}

/// How many requests are looked through for an equal one.
const REQUESTS: usize = 8;
static RECENT: PerProcess<Mutex<VecDeque<Weak<Request>>>> = PerProcess::new();

/// What an exclusive acquire with these options asks for. Locks that are opened alike share it.
pub(crate) fn request(options: Options) -> Arc<Request> {
    let mut recent = RECENT.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    recent.retain(|request| request.strong_count() > 0);
    if let Some(request) = recent.iter().filter_map(Weak::upgrade).find(|known| known.options.is_like(&options)) {
        return request;
    }
    let request = Arc::new(Request { options, shared: false });
    recent.truncate(REQUESTS - 1);
    recent.push_front(Arc::downgrade(&request));
    request
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test changes the folder's mode")]
mod tests {
    use super::*;

    fn open(path: &Path) -> Arc<Slot> {
        slot(&LockPaths::open(path, false).unwrap(), false)
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_folder_is_shared_while_it_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |mode| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o755);
        let [one, two, sticky, other] = ["1", "2", "3", "4"].map(|name| {
            if name == "3" {
                mode(0o1755);
            }
            open(&dir.path().join(name))
        });
        assert!(Arc::ptr_eq(&one.folder, &two.folder));
        // What is done in a sticky folder depends on its being one.
        assert!(!Arc::ptr_eq(&one.folder, &sticky.folder) && Arc::ptr_eq(&sticky.folder, &other.folder));
        // A target's queue is one nevertheless.
        assert!(Arc::ptr_eq(&one, &open(&dir.path().join("1"))));
    }
}
