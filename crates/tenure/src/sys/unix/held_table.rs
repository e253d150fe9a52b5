//! The table of visible lock files, which a signal handler reads and a forked child forgets.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::table::Table;

/// The words for a name of 255 bytes and its zero.
pub(super) const NAME_WORDS: usize = 32;

pub(super) static TABLE: Table<Entry> = Table::new();
/// The process whose lock files the table has: a forked child removes none of its parent's.
pub(super) static OWNER: AtomicI32 = AtomicI32::new(0);

/// A visible lock file.
pub(super) struct Entry {
    pub(super) dir: AtomicI32,
    pub(super) file: AtomicI32,
    pub(super) device: AtomicU64,
    pub(super) inode: AtomicU64,
    pub(super) state_offset: AtomicU64,
    pub(super) name: [AtomicU64; NAME_WORDS],
}

impl Entry {
    pub(super) fn empty() -> Entry {
        Entry {
            dir: AtomicI32::new(-1),
            file: AtomicI32::new(-1),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
            state_offset: AtomicU64::new(0),
            name: [const { AtomicU64::new(0) }; NAME_WORDS],
        }
    }
}

/// Empties the table in a forked child, whose parent owns all its entries.
pub(super) fn forget_all() {
    TABLE.forget_all();
    OWNER.store(0, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Table;

    /// Uses more cells than one chunk has, with a handler at any time. Under Miri it checks every pointer.
    #[test]
    fn entries_come_and_go_under_a_handler() {
        static TABLE: Table<AtomicUsize> = Table::new();
        std::thread::scope(|scope| {
            for thread in 0..3 {
                scope.spawn(move || {
                    for round in 0..if cfg!(miri) { 3 } else { 300 } {
                        let entered: Vec<_> = (0..8)
                            .map(|at| {
                                TABLE.enter(
                                    || AtomicUsize::new(0),
                                    |entry| entry.store(1000 * thread + round + at, Ordering::Relaxed),
                                )
                            })
                            .collect();
                        for (at, entered) in entered.iter().enumerate() {
                            assert_eq!(entered.entry().load(Ordering::Relaxed), 1000 * thread + round + at);
                            entered.leave();
                        }
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..if cfg!(miri) { 5 } else { 1000 } {
                    TABLE.take_each(|entry| assert!(entry.load(Ordering::Relaxed) < 3000));
                }
            });
        });
        TABLE.take_each(|_| panic!("every entry was left"));
        let _held = TABLE.enter(|| AtomicUsize::new(0), |_| ());
        TABLE.forget_all();
        TABLE.take_each(|_| panic!("the entry was forgotten"));
    }
}
