//! The witness, which is independent of Tenure and sees which holders are inside at once.
//!
//! It uses POSIX record locks (`fcntl(2)`) on a file of its own. The kernel releases them when a dying process closes
//! its files. A `flock` is released later, with the last reference to the open file, so a successor never finds a dead
//! holder's byte taken.
//!
//! | byte | locked by |
//! | --- | --- |
//! | 0 | a native holder; sharers share it |
//! | 1 | a foreign holder |
//! | 2 | a native that foreign programs can see (flock style shows no lock file) |
//! | 3 | a writer to the transcript, in a round with breaks, in which two may be inside |
//! | 1000 + N | member N while it is inside, in a round with breaks |
//! | 9000 and above | see the round with slots |
//!
//! A holder that enters sets its own byte, then tests the others', so the later of two sees an overlap. Beside the
//! bytes the file has slots: each names the member inside, for the driver's aim and for messages.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub const HOLDERS: i64 = 0;
pub const FOREIGN: i64 = 1;
pub const SEEN_NATIVES: i64 = 2;
const WRITERS: i64 = 3;
const MEMBERS: i64 = 1000;
const MOST_MEMBERS: i64 = 64;
/// The offsets at which a native holder and a foreign program write their member numbers.
pub const SLOTS: [u64; 2] = [64, 128];
/// The largest fence that has written, in a round with breaks.
const LARGEST: u64 = 192;
/// The fence of each member that is inside, in a round with breaks.
const FENCES: u64 = 4096;
const SIZE: usize = 8192;

pub struct Witness(File);

impl Witness {
    pub fn create(path: &Path) {
        std::fs::write(path, [b' '; SIZE]).unwrap();
    }

    pub fn open(path: &Path) -> Witness {
        Witness(OpenOptions::new().read(true).write(true).open(path).unwrap())
    }

    /// Locks a byte if no other process has it.
    pub fn take(&self, byte: i64) -> bool {
        self.set(byte, libc::F_WRLCK, libc::F_SETLK)
    }

    pub fn share(&self, byte: i64) -> bool {
        self.set(byte, libc::F_RDLCK, libc::F_SETLK)
    }

    /// Locks a byte, once no other process has it.
    pub fn wait(&self, byte: i64) {
        while !self.set(byte, libc::F_WRLCK, libc::F_SETLKW) {
            let error = std::io::Error::last_os_error();
            assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
        }
    }

    pub fn leave(&self, byte: i64) {
        self.set(byte, libc::F_UNLCK, libc::F_SETLK);
    }

    fn set(&self, byte: i64, kind: i32, how: i32) -> bool {
        let mut lock = range(byte, 1, kind);
        // SAFETY: the descriptor is open, `lock` is as these commands want it and lives over the call.
        unsafe { libc::fcntl(self.0.as_raw_fd(), how, &raw mut lock) == 0 }
    }

    /// Returns whether another process has this byte.
    pub fn taken(&self, byte: i64) -> bool {
        self.any_taken(byte, 1).is_some()
    }

    /// Returns a byte of a range that another process has: not the lowest, but that of any lock in the range.
    fn any_taken(&self, byte: i64, length: i64) -> Option<i64> {
        let mut lock = range(byte, length, libc::F_WRLCK);
        // SAFETY: as above, for F_GETLK.
        let asked = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
        assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
        (lock.l_type != libc::F_UNLCK as libc::c_short).then_some(lock.l_start.max(byte))
    }

    pub fn write_slot(&self, at: u64, text: &str) {
        self.0.write_all_at(format!("{text:<60}").as_bytes(), at).unwrap();
    }

    pub fn slot(&self, at: u64) -> String {
        let mut text = [0; 60];
        let length = self.0.read_at(&mut text, at).unwrap_or(0);
        String::from_utf8_lossy(&text[..length]).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Enters as one of several that may be inside at once; returns the fences of the others.
    pub fn enter_beside(&self, member: u64, fence: u64) -> Vec<u64> {
        // The fence is written first, because another process that sees the byte taken may read it.
        self.write_number(FENCES + member * 8, fence);
        assert!(self.take(MEMBERS + member as i64), "member {member} is in twice");
        let others = self.all_taken(MEMBERS, MEMBERS + MOST_MEMBERS);
        others.into_iter().map(|byte| self.number(FENCES + (byte - MEMBERS) as u64 * 8)).collect()
    }

    /// Returns the bytes from `from` to before `end` that other processes have.
    fn all_taken(&self, from: i64, end: i64) -> Vec<i64> {
        if from >= end {
            return Vec::new();
        }
        let Some(byte) = self.any_taken(from, end - from) else { return Vec::new() };
        let mut taken = self.all_taken(from, byte);
        taken.push(byte);
        taken.extend(self.all_taken(byte + 1, end));
        taken
    }

    pub fn leave_beside(&self, member: u64) {
        self.leave(MEMBERS + member as i64);
    }

    /// Runs `write` alone if no larger fence has written before; else returns `false`. A resource that checks fences
    /// does the same.
    pub fn fenced(&self, fence: u64, write: impl FnOnce()) -> bool {
        self.wait(WRITERS);
        let fits = self.number(LARGEST) <= fence;
        if fits {
            self.write_number(LARGEST, fence);
            write();
        }
        self.leave(WRITERS);
        fits
    }

    fn write_number(&self, at: u64, number: u64) {
        self.0.write_all_at(&number.to_le_bytes(), at).unwrap();
    }

    fn number(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, at).unwrap();
        // No member has written there yet.
        if bytes == [b' '; 8] { 0 } else { u64::from_le_bytes(bytes) }
    }
}

fn range(start: i64, length: i64, kind: i32) -> libc::flock {
    // SAFETY: all zeroes is a valid `flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = start;
    lock.l_len = length;
    lock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_holder_is_found_whatever_the_order_of_their_locks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness");
        Witness::create(&path);
        let members = [9, 3, 63, 0, 4];
        // A lock of an open file conflicts with this process's own locks, as another process's does.
        let others: Vec<Witness> = members.iter().map(|_| Witness::open(&path)).collect();
        for (other, member) in others.iter().zip(members) {
            assert!(other.set(MEMBERS + member, libc::F_WRLCK, libc::F_OFD_SETLK));
            other.write_number(FENCES + member as u64 * 8, 100 + member as u64);
        }
        assert_eq!(Witness::open(&path).enter_beside(7, 1), [100, 103, 104, 109, 163]);
    }
}
