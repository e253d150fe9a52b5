//! The queues of this process: one for each target, however many [`Lock`](crate::Lock)s name it.

use std::borrow::Cow;
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
    /// The queues by a hash of the [`Key`]: with very many locks, a map by names would store each name twice.
    queues: HashMap<u64, Weak<TargetQueue>>,
    /// The queues whose hash was taken.
    collisions: Vec<Weak<TargetQueue>>,
    folders: HashMap<FileId, Weak<ParentDir>>,
    hasher: RandomState,
    /// The number of entries at which dead ones are removed: twice as many as were left the last time.
    prune_at: usize,
}

/// The identity of a lock: its target's folder and name, and whether it is a bare kernel lock.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    folder: FileId,
    /// The name as the folder compares it: `Foo` and `foo` are one target where it ignores case.
    name: Option<Cow<'a, OsStr>>,
    bare: bool,
}

impl<'a> Key<'a> {
    fn new(folder: &ParentDir, target_path: &'a Path, bare: bool) -> Key<'a> {
        let name = target_path.file_name().map(|name| folder.dir.name_key(name));
        Key { folder: folder.dir_stat.id, name, bare }
    }

    fn matches(&self, queue: &TargetQueue) -> bool {
        *self == Key::new(&queue.folder, &queue.target_path, queue.bare)
    }
}

static REGISTRY: ForkLocal<Mutex<Registry>> = ForkLocal::new();

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the queue of the target at `paths`.
pub(crate) fn queue(paths: &LockPaths, bare: bool) -> Arc<TargetQueue> {
    queue_in(&paths.folder, &paths.target_path, bare)
}

/// Returns the same target's queue in this process, for a lock that was opened before a fork. The open folder is used,
/// wherever it was moved and whatever the working folder is by now. No mutex of the old queue is taken, because a
/// thread of the parent may have had it at the fork.
pub(crate) fn reopened(queue: &TargetQueue) -> Arc<TargetQueue> {
    queue_in(&queue.folder, &queue.target_path, queue.bare)
}

/// Returns every queue of this process.
pub(crate) fn queues() -> Vec<Arc<TargetQueue>> {
    let registry = registry();
    registry.queues.values().chain(&registry.collisions).filter_map(Weak::upgrade).collect()
}

fn queue_in(folder: &Arc<ParentDir>, target_path: &Path, bare: bool) -> Arc<TargetQueue> {
    let key = Key::new(folder, target_path, bare);
    let known = {
        let mut registry = registry();
        if let Some(queue) = registry.find(&key) {
            return queue;
        }
        registry.folders.entry(key.folder).or_default().upgrade()
    };
    // One descriptor serves all locks in a folder. They are compared without the mutex, because that asks the file
    // system.
    let folder = known.filter(|known| known.is_interchangeable_with(folder)).unwrap_or_else(|| Arc::clone(folder));
    let queue = TargetQueue::new(folder, target_path, bare);
    registry().insert(&key, queue)
}

impl Registry {
    fn hash(&self, key: &Key<'_>) -> u64 {
        self.hasher.hash_one(key)
    }

    fn find(&self, key: &Key<'_>) -> Option<Arc<TargetQueue>> {
        let first = self.queues.get(&self.hash(key)).and_then(Weak::upgrade);
        first.into_iter().chain(self.collisions.iter().filter_map(Weak::upgrade)).find(|queue| key.matches(queue))
    }

    /// Inserts `queue`, unless another thread has inserted one meanwhile. Returns the key's queue.
    fn insert(&mut self, key: &Key<'_>, queue: Arc<TargetQueue>) -> Arc<TargetQueue> {
        if let Some(known) = self.find(key) {
            return known;
        }
        self.prune();
        self.folders.insert(key.folder, Arc::downgrade(&queue.folder));
        let hash = self.hash(key);
        match self.queues.get(&hash).is_some_and(|other| other.strong_count() > 0) {
            true => self.collisions.push(Arc::downgrade(&queue)),
            false => drop(self.queues.insert(hash, Arc::downgrade(&queue))),
        }
        queue
    }

    fn prune(&mut self) {
        if self.queues.len() < self.prune_at {
            return;
        }
        self.queues.retain(|_, queue| queue.strong_count() > 0);
        self.collisions.retain(|queue| queue.strong_count() > 0);
        self.folders.retain(|_, folder| folder.strong_count() > 0);
        self.prune_at = (self.queues.len() * 2).max(64);
    }
}

/// The number of recent requests that are searched for an equal one.
const MAX_RECENT: usize = 8;
static RECENT_REQUESTS: ForkLocal<Mutex<VecDeque<Weak<Request>>>> = ForkLocal::new();

/// Returns the request of an exclusive acquire with these options. Locks with equal options share it.
pub(crate) fn request(options: Options) -> Arc<Request> {
    let mut recent = RECENT_REQUESTS.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    recent.retain(|request| request.strong_count() > 0);
    if let Some(request) = recent.iter().filter_map(Weak::upgrade).find(|known| known.options.is_like(&options)) {
        return request;
    }
    let request = Arc::new(Request::new(options, false));
    recent.truncate(MAX_RECENT - 1);
    recent.push_front(Arc::downgrade(&request));
    request
}

#[cfg(test)]
#[cfg(unix)]
#[allow(clippy::disallowed_methods, reason = "a test changes the folder's mode")]
mod tests {
    use super::*;

    fn open(path: &Path) -> Arc<TargetQueue> {
        queue(&LockPaths::open(path, false).unwrap(), false)
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn locks_in_one_folder_share_its_descriptor() {
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
        // The protocol depends on whether only owners may remove files.
        assert!(!Arc::ptr_eq(&one.folder, &sticky.folder) && Arc::ptr_eq(&sticky.folder, &other.folder));
        // The target has one queue all the same.
        assert!(Arc::ptr_eq(&one, &open(&dir.path().join("1"))));
    }
}
