//! What `/proc/locks` says of `flock(2)` locks: who has them and how many wait (`proc_locks(5)`).
//!
//! The kernel hands the table out a page at a time: a line may be read twice, or be missed, when other locks come and
//! go between two pages. So equal lines count once, and an absence counts only where the table came in one piece.

use crate::sys;

/// The kernel's table of locks, as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct KernelLocks {
    entries: Vec<Entry>,
    whole: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    inode: u64,
    major: u32,
    minor: u32,
    waiting: bool,
    shared: bool,
    /// Not a `flock(2)`, but the byte by which a native says that it waits. The table does not tell whose it is.
    mark: bool,
    pid: i64,
    /// Where it stands in the table: the kernel lists those who wait first come first.
    order: usize,
}

/// How often a table that does not come in one piece is read: what one reading misses another has.
const READINGS: usize = 2;

impl KernelLocks {
    /// `None` where it cannot be read.
    pub(crate) fn read() -> Option<KernelLocks> {
        let mut all = String::new();
        for _ in 0..READINGS {
            let (text, whole) = sys::kernel_locks().ok()?;
            if whole {
                return Some(KernelLocks::parse(&text));
            }
            all += &text;
        }
        Some(KernelLocks { whole: false, ..KernelLocks::parse(&all) })
    }

    /// Was it read in one piece? A longer table is not: locks that come and go meanwhile can hide another.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Lines that are not understood, and locks of another kind, are passed over.
    pub(crate) fn parse(text: &str) -> KernelLocks {
        let lines = text.lines().enumerate();
        let mut entries: Vec<_> = lines.filter_map(|(order, line)| Some(Entry { order, ..entry(line)? })).collect();
        entries.sort_unstable();
        // A long table is handed out in pieces, and a line may stand in two.
        entries.dedup_by(|next, kept| *kept == Entry { order: kept.order, ..*next });
        KernelLocks { entries, whole: true }
    }

    fn of(&self, inode: u64, device: (u32, u32)) -> impl Iterator<Item = &Entry> {
        let from = self.entries.partition_point(|entry| entry.inode < inode);
        self.entries[from..]
            .iter()
            .take_while(move |entry| entry.inode == inode)
            .filter(move |entry| (entry.major, entry.minor) == device)
    }

    /// The files that the table tells of, each with its device.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn files(&self) -> impl Iterator<Item = (u64, (u32, u32))> {
        self.entries.iter().map(|entry| (entry.inode, (entry.major, entry.minor)))
    }

    /// Who has the lock, and whether it is shared: the pids that took it, which may have ended since.
    pub(crate) fn holders(&self, inode: u64, device: (u32, u32)) -> Vec<(i64, bool)> {
        let held = self.of(inode, device).filter(|entry| !entry.waiting && !entry.mark);
        held.map(|entry| (entry.pid, entry.shared)).collect()
    }

    /// Has a native marked this anchor, because it waits?
    pub(crate) fn is_marked(&self, inode: u64, device: (u32, u32)) -> bool {
        self.of(inode, device).any(|entry| entry.mark)
    }

    /// Who waits for it, first come first.
    pub(crate) fn waiters(&self, inode: u64, device: (u32, u32)) -> Vec<i64> {
        let mut waiters: Vec<_> = self.of(inode, device).filter(|entry| entry.waiting).collect();
        waiters.sort_unstable_by_key(|entry| entry.order);
        waiters.into_iter().map(|entry| entry.pid).collect()
    }
}

/// `1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF`, and `1: -> FLOCK ..` for one that waits. A mark is
/// `1: OFDLCK ADVISORY  READ -1 fe:00:131 4611686018427387904 4611686018427387904`.
fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace();
    words.next()?.strip_suffix(':')?;
    let mut kind = words.next()?;
    let waiting = kind == "->";
    if waiting {
        kind = words.next()?;
    }
    let mark = kind == "OFDLCK";
    if kind != "FLOCK" && !mark {
        return None;
    }
    words.next()?;
    let shared = match words.next()? {
        "READ" => true,
        "WRITE" => false,
        _ => return None,
    };
    let pid = words.next()?.parse().ok()?;
    let mut file = words.next()?.split(':');
    let major = u32::from_str_radix(file.next()?, 16).ok()?;
    let minor = u32::from_str_radix(file.next()?, 16).ok()?;
    let inode = file.next()?.parse().ok()?;
    if mark && (!shared || waiting || words.next()?.parse() != Ok(sys::WAITING_MARK)) {
        return None;
    }
    file.next().is_none().then_some(Entry { inode, major, minor, waiting, shared, mark, pid, order: 0 })
}

/// The line of `/proc/self/mountinfo` that tells of the mount `id`.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux has such a file"))]
pub(crate) fn mount_line(mounts: &str, id: u64) -> Option<&str> {
    mounts.lines().find(|line| line.split(' ').next().and_then(|first| first.parse().ok()) == Some(id))
}

/// The device number in a line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`, field 3).
pub(crate) fn mount_device(line: &str) -> Option<(u32, u32)> {
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF
1: -> FLOCK  ADVISORY  WRITE 4245 fe:00:131 0 EOF
1:  -> FLOCK  ADVISORY  WRITE 4243 fe:00:131 0 EOF
1:   -> FLOCK  ADVISORY  READ 4244 fe:00:131 0 EOF
2: FLOCK  ADVISORY  READ 7 fe:01:131 0 EOF
3: POSIX  ADVISORY  WRITE 8 fe:00:131 0 EOF
4: OFDLCK ADVISORY  WRITE -1 fe:00:131 0 0
4: OFDLCK ADVISORY  READ -1 fe:00:131 0 EOF
4: OFDLCK ADVISORY  READ -1 fe:01:131 4611686018427387904 4611686018427387904
5: FLOCK  ADVISORY  READ 9 00:1c:77 0 EOF
6: FLOCK  ADVISORY  READ 10 00:1c:77 0 EOF
7: LEASE  ACTIVE    READ 10 00:1c:77 0 EOF
8: FLOCK  ADVISORY  WRITE 11 <none>:0 0 EOF
garbage
";

    #[test]
    fn holders_and_waiters_of_one_inode_on_one_device() {
        let locks = KernelLocks::parse(TEXT);
        assert_eq!(locks.holders(131, (0xfe, 0)), [(4242, false)]);
        assert_eq!(locks.waiters(131, (0xfe, 0)), [4245, 4243, 4244], "first come first");
        assert_eq!(KernelLocks::parse(&TEXT.repeat(2)).waiters(131, (0xfe, 0)), [4245, 4243, 4244], "read twice");
        assert_eq!(locks.holders(131, (0xfe, 1)), [(7, true)]);
        assert_eq!(locks.holders(77, (0, 0x1c)), [(9, true), (10, true)]);
        assert!(locks.is_marked(131, (0xfe, 1)) && !locks.is_marked(131, (0xfe, 0)), "by that very byte");
        assert!(locks.waiters(77, (0, 0x1c)).is_empty());
        assert!(locks.holders(1, (0, 0)).is_empty());
    }

    #[test]
    fn what_is_told_twice_counts_once() {
        let locks = KernelLocks::parse(&(TEXT.to_owned() + TEXT));
        assert_eq!(locks.holders(131, (0xfe, 0)), [(4242, false)]);
        assert_eq!(locks.waiters(131, (0xfe, 0)), [4245, 4243, 4244]);
        assert_eq!(locks.holders(77, (0, 0x1c)), [(9, true), (10, true)]);
    }

    #[test]
    fn the_mounts_device() {
        let line = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw";
        assert_eq!(mount_device(line), Some((254, 0)));
        assert_eq!(mount_device("27 1 x"), None);
        assert_eq!(mount_device(""), None);
    }
}
