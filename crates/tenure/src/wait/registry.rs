//! One queue for each target of this process, however many [`Lock`](crate::Lock)s name it.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::file::paths::{LockPaths, ParentDir};
use crate::model::options::Options;
use crate::model::request::Request;
use crate::sys::{FileId, ForkLocal};
use crate::wait::queue::TargetQueue;

#[derive(Default)]
struct Registry {
    /// By a hash of the [`Key`]: with very many locks, names would be kept twice.
    slots: HashMap<u64, Weak<TargetQueue>>,
    /// Those whose hash was another's already.
    more: Vec<Weak<TargetQueue>>,
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
    fn is_of(&self, queue: &TargetQueue) -> bool {
        *self == Key { folder: queue.folder.dir_stat.id, name: queue.target_path.file_name(), bare: queue.bare }
    }
}

static REGISTRY: ForkLocal<Mutex<Registry>> = ForkLocal::new();

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// The queue of the target at `paths`.
pub(crate) fn queue(paths: &LockPaths, bare: bool) -> Arc<TargetQueue> {
    queue_in(&paths.folder, &paths.target_path, bare)
}

/// The same target's queue in this process, for a lock that was opened before a fork: by the folder that is open,
/// wherever that was moved, and whatever the working folder is by now. Of the old queue no mutex is taken, which a
/// thread of the parent may have had at the fork.
pub(crate) fn reopened(queue: &TargetQueue) -> Arc<TargetQueue> {
    queue_in(&queue.folder, &queue.target_path, queue.bare)
}

fn queue_in(folder: &Arc<ParentDir>, target_path: &Path, bare: bool) -> Arc<TargetQueue> {
    let key = Key { folder: folder.dir_stat.id, name: target_path.file_name(), bare };
    let known = {
        let mut registry = registry();
        if let Some(queue) = registry.find(&key) {
            return queue;
        }
        registry.folders.entry(key.folder).or_default().upgrade()
    };
    // One descriptor serves all locks in a folder. Compared without the mutex, because that asks the file system.
    let folder = known.filter(|known| known.serves_for(folder)).unwrap_or_else(|| Arc::clone(folder));
    let queue = TargetQueue::new(folder, target_path, bare);
    registry().insert(&key, queue)
}

impl Registry {
    fn hash(&self, key: &Key<'_>) -> u64 {
        self.hasher.hash_one(key)
    }

    fn find(&self, key: &Key<'_>) -> Option<Arc<TargetQueue>> {
        let first = self.slots.get(&self.hash(key)).and_then(Weak::upgrade);
        first.into_iter().chain(self.more.iter().filter_map(Weak::upgrade)).find(|queue| key.is_of(queue))
    }

    /// What stands for the key from here on: `queue`, or what another thread inserted meanwhile.
    fn insert(&mut self, key: &Key<'_>, queue: Arc<TargetQueue>) -> Arc<TargetQueue> {
        if let Some(known) = self.find(key) {
            return known;
        }
        self.sweep();
        self.folders.insert(key.folder, Arc::downgrade(&queue.folder));
        let hash = self.hash(key);
        match self.slots.get(&hash).is_some_and(|other| other.strong_count() > 0) {
            true => self.more.push(Arc::downgrade(&queue)),
            false => drop(self.slots.insert(hash, Arc::downgrade(&queue))),
        }
        queue
    }

    fn sweep(&mut self) {
        if self.slots.len() < self.sweep_at {
            return;
        }
        self.slots.retain(|_, queue| queue.strong_count() > 0);
        self.more.retain(|queue| queue.strong_count() > 0);
        self.folders.retain(|_, folder| folder.strong_count() > 0);
        self.sweep_at = (self.slots.len() * 2).max(64);
    }
}

/// How many requests are looked through for an equal one.
const REQUESTS: usize = 8;
static RECENT: ForkLocal<Mutex<VecDeque<Weak<Request>>>> = ForkLocal::new();

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

    fn open(path: &Path) -> Arc<TargetQueue> {
        queue(&LockPaths::open(path, false).unwrap(), false)
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
