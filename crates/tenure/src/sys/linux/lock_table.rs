//! `/proc/locks`: the holders and waiters of `flock(2)` locks (`proc_locks(5)`).
//!
//! The kernel returns the table a page at a time: a line may be read twice, or be missed, when other locks come and go
//! between two pages. So equal lines count once, and an absence counts only where one read returned the whole table.

use std::io;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::retry_on_intr;

use super::machine::{FIRST_PID_NAMESPACE, pid_namespace};
use super::{mark, mounts};
use crate::sys::lock_table::{Entry, LockTable, TableDevice};
use crate::sys::types::FileSystem;
use crate::sys::unix::Dir;

/// The number of times that a table is read which does not come in one piece: what one reading misses another has.
const READINGS: usize = 2;

/// Reads the kernel's table of locks (`proc_locks(5)`). `None` where it cannot be read.
pub(crate) fn lock_table() -> Option<LockTable> {
    let mut all = String::new();
    for _ in 0..READINGS {
        let (text, whole) = read_text().ok()?;
        if whole {
            return Some(parse(&text));
        }
        all += &text;
    }
    Some(LockTable::new(entries(&all), false))
}

/// Returns the number by which the table names the folder's device. `device` is the one that `stat(2)` returned.
pub(crate) fn table_device(dir: &Dir, file_system: &FileSystem, device: u64) -> TableDevice {
    let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
    if matches!(&*file_system.name, "ext4" | "tmpfs" | "xfs" | "f2fs" | "vfat" | "exfat" | "ramfs") {
        // Other pid namespaces show the locks of their own processes only.
        return TableDevice { device: numbers, complete: pid_namespace() == Some(FIRST_PID_NAMESPACE) };
    }
    // Elsewhere `stat(2)` may return a number of the file system's own; the table has the mount's.
    TableDevice { device: mounts::device_of(dir).unwrap_or(numbers), complete: false }
}

/// Reads the text of the table (`proc_locks(5)`), and returns whether one read got all of it. The kernel shows the state
/// of one moment only up to about a page.
pub(crate) fn read_text() -> io::Result<(String, bool)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| rustix::fs::openat(CWD, c"/proc/locks", flags, Mode::empty()))?;
    let (mut text, mut reads) = (Vec::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match retry_on_intr(|| rustix::io::read(&fd, &mut buffer[..]))? {
            0 => {
                let text = String::from_utf8(text);
                let text = text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
                return Ok((text, reads <= 1));
            }
            length => text.extend_from_slice(&buffer[..length]),
        }
        reads += 1;
    }
}

/// Parses a table that was read in one piece (`proc_locks(5)`). Malformed lines, and locks of another kind, are ignored.
pub(crate) fn parse(text: &str) -> LockTable {
    LockTable::new(entries(text), true)
}

fn entries(text: &str) -> Vec<Entry> {
    let lines = text.lines().enumerate();
    lines.filter_map(|(order, line)| Some(Entry { order, ..entry(line)? })).collect()
}

/// Parses a line: `1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF`, or `1: -> FLOCK ..` for a waiter. A mark is
/// `1: OFDLCK ADVISORY  READ -1 fe:00:131 4611686018427387904 4611686018427387904`.
fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace();
    words.next()?.strip_suffix(':')?;
    let mut kind = words.next()?;
    let waiting = kind == "->";
    if waiting {
        kind = words.next()?;
    }
    let is_mark = kind == "OFDLCK";
    if kind != "FLOCK" && !is_mark {
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
    if is_mark && (!shared || waiting || words.next()?.parse() != Ok(mark::OFFSET)) {
        return None;
    }
    file.next().is_none().then_some(Entry { inode, major, minor, waiting, shared, mark: is_mark, pid, order: 0 })
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
        let locks = parse(TEXT);
        assert_eq!(locks.holders(131, (0xfe, 0)), [(4242, false)]);
        assert_eq!(locks.waiters(131, (0xfe, 0)), [4245, 4243, 4244], "first come first");
        assert_eq!(parse(&TEXT.repeat(2)).waiters(131, (0xfe, 0)), [4245, 4243, 4244], "read twice");
        assert_eq!(locks.holders(131, (0xfe, 1)), [(7, true)]);
        assert_eq!(locks.holders(77, (0, 0x1c)), [(9, true), (10, true)]);
        assert!(locks.is_marked(131, (0xfe, 1)) && !locks.is_marked(131, (0xfe, 0)), "by the byte at that offset");
        assert!(locks.waiters(77, (0, 0x1c)).is_empty());
        assert!(locks.holders(1, (0, 0)).is_empty());
    }

    #[test]
    fn a_line_that_is_read_twice_counts_once() {
        let locks = parse(&(TEXT.to_owned() + TEXT));
        assert_eq!(locks.holders(131, (0xfe, 0)), [(4242, false)]);
        assert_eq!(locks.waiters(131, (0xfe, 0)), [4245, 4243, 4244]);
        assert_eq!(locks.holders(77, (0, 0x1c)), [(9, true), (10, true)]);
    }
}
