//! The processes that have a file open, from `/proc/<pid>/fd` (`proc_pid_fd(5)`).

use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, StatxFlags};

use super::proc;

/// Lists the pids, in order, of the processes that have this inode open, including this process, as far as this user may
/// see them (`proc_pid_fd(5)`).
pub(crate) fn openers(dev: u64, ino: u64) -> Vec<i64> {
    processes_with(&|process| has_open(process, dev, ino, None))
}

/// Lists those of the [`openers`] whose descriptor carries the `flock(2)` lock, inherited or their own
/// (`proc_pid_fdinfo(5)`). A process that has the file open only to wait or to try carries none.
pub(crate) fn lock_keepers(dev: u64, ino: u64) -> Vec<i64> {
    processes_with(&|process| has_open(process, dev, ino, Some(" FLOCK ")))
}

/// Lists those of the [`openers`] whose descriptor carries a waiter's mark (`proc_pid_fdinfo(5)`).
pub(crate) fn marked_waiters(dev: u64, ino: u64) -> Vec<i64> {
    processes_with(&|process| has_open(process, dev, ino, Some(" OFDLCK ")))
}

fn processes_with(wanted: &dyn Fn(&Path) -> bool) -> Vec<i64> {
    let own = i64::from(proc::own_pid());
    let mut pids = Vec::new();
    if wanted(Path::new("/proc/self")) {
        pids.push(own);
    }
    if proc::is_ours() {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let others =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|&pid: &i64| pid != own);
        pids.extend(others.filter(|pid| wanted(Path::new(&format!("/proc/{pid}")))));
    }
    pids.sort_unstable();
    pids
}

/// Returns whether a process has this inode open (`proc_pid_fd(5)`), by an open file that carries a lock of the kind
/// `lock`.
fn has_open(process: &Path, dev: u64, ino: u64, lock: Option<&str>) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(fds) = rustix::fs::openat(CWD, process.join("fd"), flags, Mode::empty()) else { return false };
    let Ok(mut entries) = Dir::read_from(&fds) else { return false };
    entries.any(|entry| {
        let Ok(entry) = entry else { return false };
        // The entry leads to the open file itself, even where no path does. DONT_SYNC: a file server that does not answer
        // must not stop this process.
        rustix::fs::statx(&fds, entry.file_name(), AtFlags::STATX_DONT_SYNC, StatxFlags::INO)
            .is_ok_and(|stat| stat.stx_ino == ino && rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor) == dev)
            && lock.is_none_or(|kind| carries(process, &entry.file_name().to_string_lossy(), kind))
    })
}

/// Returns whether an open file carries a lock of this kind, by the `lock:` lines of `/proc/<pid>/fdinfo/<fd>`, which
/// are of the open file and not of the inode (`proc_pid_fdinfo(5)`).
fn carries(process: &Path, fd: &str, kind: &str) -> bool {
    let Ok(text) = fs::read_to_string(process.join("fdinfo").join(fd)) else { return false };
    text.lines().any(|line| line.starts_with("lock:") && line.contains(kind))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::sys::unix::pid;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn openers_are_found_even_of_a_removed_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(openers(meta.dev(), meta.ino()), [0_i64; 0]);

        let file = fs::File::open(&path).unwrap();
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .spawn()
            .unwrap();
        fs::remove_file(&path).unwrap();
        // Not compared whole: a child that another test starts has all our files open until it has become `cat`.
        let (own, other) = (i64::from(pid()), i64::from(child.id()));
        let found = || {
            let pids = openers(meta.dev(), meta.ino());
            assert!(pids.is_sorted());
            (pids.contains(&own), pids.contains(&other))
        };
        assert_eq!(found(), (true, true));
        drop(file);
        assert_eq!(found(), (false, true));
        assert_eq!(openers(meta.dev() + 1, meta.ino()), [0_i64; 0], "one number on another device");

        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found(), (false, false));
    }
}
