//! The kernel's table of locks: which processes hold a file's lock, and which wait for it.

/// The kernel's table of locks, as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct LockTable {
    entries: Vec<Entry>,
    whole: bool,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "other systems have no such table"))]
pub(crate) struct Entry {
    pub(crate) inode: u64,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) waiting: bool,
    pub(crate) shared: bool,
    /// Whether it is a waiter's mark, and not the kernel lock. The table does not say whose mark it is.
    pub(crate) mark: bool,
    pub(crate) pid: i64,
    /// The index in the table: the kernel lists waiters in the order in which they came.
    pub(crate) order: usize,
}

/// The number that the table has for the device of a folder.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "other systems have no such table"))]
pub(crate) struct TableDevice {
    pub(crate) device: (u32, u32),
    /// Whether the table shows every lock on the device.
    pub(crate) complete: bool,
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "other systems have no such table"))]
impl LockTable {
    /// Sorts the lines. Equal lines count once, because a line may be read twice.
    pub(crate) fn new(mut entries: Vec<Entry>, whole: bool) -> LockTable {
        entries.sort_unstable();
        entries.dedup_by(|next, kept| *kept == Entry { order: kept.order, ..*next });
        LockTable { entries, whole }
    }

    /// Returns whether the table was read in one piece. A longer table is not: locks that come and go meanwhile can hide
    /// another line.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    fn of(&self, inode: u64, device: (u32, u32)) -> impl Iterator<Item = &Entry> {
        let from = self.entries.partition_point(|entry| entry.inode < inode);
        self.entries[from..]
            .iter()
            .take_while(move |entry| entry.inode == inode)
            .filter(move |entry| (entry.major, entry.minor) == device)
    }

    /// Lists the files in the table, each with its device.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn files(&self) -> impl Iterator<Item = (u64, (u32, u32))> {
        self.entries.iter().map(|entry| (entry.inode, (entry.major, entry.minor)))
    }

    /// Lists the pids that acquired the lock, each with whether the lock is shared. A process may have ended since.
    pub(crate) fn holders(&self, inode: u64, device: (u32, u32)) -> Vec<(i64, bool)> {
        let held = self.of(inode, device).filter(|entry| !entry.waiting && !entry.mark);
        held.map(|entry| (entry.pid, entry.shared)).collect()
    }

    /// Returns whether a waiter has marked this file.
    pub(crate) fn is_marked(&self, inode: u64, device: (u32, u32)) -> bool {
        self.of(inode, device).any(|entry| entry.mark)
    }

    /// Lists the pids that wait for the lock, in the order in which they came.
    pub(crate) fn waiters(&self, inode: u64, device: (u32, u32)) -> Vec<i64> {
        let mut waiters: Vec<_> = self.of(inode, device).filter(|entry| entry.waiting).collect();
        waiters.sort_unstable_by_key(|entry| entry.order);
        waiters.into_iter().map(|entry| entry.pid).collect()
    }
}
