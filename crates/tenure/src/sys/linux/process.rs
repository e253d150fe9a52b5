//! Processes on Linux: pidfds, `/proc`, namespaces.

use std::fs;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, StatxFlags};
use rustix::process::{Pid, PidfdFlags};

use crate::sys::ForkLocal;
use crate::sys::stat::{command_text, counts_alike};

/// No Linux kernel gives a pid above this (`PID_MAX_LIMIT`), whatever its `pid_max` and in whatever namespace.
pub(crate) const PID_LIMIT: i64 = 4_194_304;

/// This process's pid, asked of the kernel each time: a copy kept in memory would survive a fork.
pub(crate) fn pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}

/// The inode of the first pid namespace (`PROC_PID_INIT_INO`), the same on every machine.
pub(crate) const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// Which boot of which machine this is.
pub(crate) fn boot_id() -> Option<String> {
    static BOOT_ID: ForkLocal<OnceLock<String>> = ForkLocal::new();
    let read = || {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let id = text.trim();
        (!id.is_empty()).then(|| id.to_owned())
    };
    known_or(&BOOT_ID, read).cloned()
}

/// The inode of this process's pid namespace: the one that its pids are counted in. It is a process's for life.
pub(crate) fn pid_namespace() -> Option<u64> {
    static OWN: ForkLocal<OnceLock<u64>> = ForkLocal::new();
    known_or(&OWN, || Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())).copied()
}

/// What stays the same for as long as a process lives, read once. A failure (no descriptor left) is not kept: it may pass.
fn known_or<T: Send + Sync>(known: &ForkLocal<OnceLock<T>>, read: impl FnOnce() -> Option<T>) -> Option<&'static T> {
    let known = known.get(OnceLock::new);
    if let Some(value) = known.get() {
        return Some(value);
    }
    let value = read()?;
    Some(known.get_or_init(|| value))
}

/// The inode of the time namespace of a process, where we may see it.
pub(crate) fn time_namespace(pid: i64) -> Option<u64> {
    Some(fs::metadata(proc_dir(pid)?.join("ns/time")).ok()?.ino())
}

/// The machine's name (`uname -n`).
pub(crate) fn host() -> Option<String> {
    let mut names = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: the pointer is to a whole `utsname`, which the kernel fills.
    if unsafe { libc::uname(names.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: zeroed bytes are a valid `utsname`, and `uname` has filled it.
    let names = unsafe { names.assume_init() };
    let name: Vec<u8> = names.nodename.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
    (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
}

/// Does somebody keep the clock right? The kernel knows from who corrects it (`adjtimex(2)`); reading needs no right.
pub(crate) fn clock_is_steered() -> Option<bool> {
    let mut clock = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: a zeroed `timex` is valid and, with no modes set, asks for nothing but to be filled.
    let state = unsafe { libc::adjtimex(clock.as_mut_ptr()) };
    if state < 0 {
        return None;
    }
    // SAFETY: zeroed bytes are a valid `timex`, and the call has filled it.
    let clock = unsafe { clock.assume_init() };
    Some(clock.status & libc::STA_UNSYNC == 0)
}

/// The command line of a process, arguments parted by spaces, at most 1024 bytes; others wrote it.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let file = fs::File::open(proc_dir(i64::from(pid))?.join("cmdline")).ok()?;
    // Some command lines are megabytes. A little more than is kept shows that it was cut.
    let mut raw = Vec::new();
    file.take(2048).read_to_end(&mut raw).ok()?;
    command_text(&raw)
}

/// `/proc/<pid>/stat`: one line, as every other process reads it.
///
/// An emulator may answer for its guest's own `stat` with a text of its own making: qemu does for `/proc/self/stat` and for
/// `/proc/<own pid>/stat`, with another start time than the kernel's. So the own line is read as that of the process's first
/// thread, which has the same state and start time.
pub(crate) fn stat_line(pid: i64) -> Option<String> {
    if pid != i64::from(self::pid()) {
        return proc_text(&proc_dir(pid)?.join("stat"));
    }
    // The first thread's number as this `/proc` counts it.
    let own = fs::read_link("/proc/self").ok()?;
    proc_text(&Path::new("/proc/self/task").join(own).join("stat"))
}

/// `/proc/<pid>/status`: lines of `Name:\tvalue`.
pub(crate) fn status_text(pid: i64) -> Option<String> {
    proc_text(&proc_dir(pid)?.join("status"))
}

/// The stat lines of all threads of a process. `None` where they cannot all be read: one may have ended meanwhile, and
/// have started another that is not in the list.
pub(crate) fn thread_stat_lines(pid: i64) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(proc_dir(pid)?.join("task")).ok()? {
        lines.push(proc_text(&entry.ok()?.path().join("stat"))?);
    }
    Some(lines)
}

/// The folder of a process in `/proc`, where that counts pids as we do: otherwise it is somebody else's.
fn proc_dir(pid: i64) -> Option<PathBuf> {
    if pid == i64::from(self::pid()) {
        return Some(PathBuf::from("/proc/self"));
    }
    (pid > 0 && proc_is_ours()).then(|| PathBuf::from(format!("/proc/{pid}")))
}

/// Asked once for each `/proc`: a process can mount another one, or enter another mount namespace.
fn proc_is_ours() -> bool {
    static LAST: ForkLocal<Mutex<Option<(u64, bool)>>> = ForkLocal::new();
    let Ok(device) = fs::metadata("/proc").map(|proc| proc.dev()) else { return false };
    let mut last = LAST.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, ours)) = last.filter(|(known, _)| *known == device) {
        return ours;
    }
    // A failure (no descriptor left) is not kept: it may pass.
    let Some(status) = proc_text(Path::new("/proc/self/status")) else { return false };
    let ours = counts_alike(&status, pid());
    *last = Some((device, ours));
    ours
}

fn proc_text(path: &Path) -> Option<String> {
    // `fs::read` begins with a few bytes, because the kernel says that such a file has none; most have fewer than
    // these.
    let mut file = fs::File::open(path).ok()?;
    let mut part = [0; 4096];
    let mut text = Vec::new();
    loop {
        match file.read(&mut part) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    // A command's name need not be UTF-8, and no part of it matters.
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Only what can be a pid: for the kernel 0 and negatives name groups of processes.
fn checked(pid: i64) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .filter(|&pid| pid > 0)
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is no pid")))
}

/// Asks whether a signal could be sent (`kill(pid, 0)`); a thread's id counts as well. None is sent.
pub(crate) fn signal_zero(pid: i64) -> io::Result<()> {
    Ok(rustix::process::test_kill_process(checked(pid)?)?)
}

/// Does the error say that there is no such process?
pub(crate) fn is_no_such_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

/// A descriptor of a process: whatever becomes of its pid, it speaks of that process.
#[derive(Debug)]
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// Needs no permission. A thread's id that is not a process's is refused (ENOENT; EINVAL before Linux 6.15).
    pub(crate) fn open(pid: i64) -> io::Result<PidFd> {
        // The flag CLOEXEC does not exist: a pidfd always has it.
        Ok(PidFd(rustix::process::pidfd_open(checked(pid)?, PidfdFlags::empty())?))
    }

    /// Have all its threads ended? True of a zombie, false of a zombie leader with live threads.
    pub(crate) fn exited(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&now)))?;
        Ok(fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP))
    }

    /// A number that no other process of this boot has (Linux 6.9).
    pub(crate) fn inode(&self) -> Option<u64> {
        // "PIDF". Before pidfs all pidfds shared one anonymous inode.
        const PID_FS_MAGIC: u64 = 0x5049_4446;
        if rustix::fs::fstatfs(&self.0).ok()?.f_type as u64 != PID_FS_MAGIC {
            return None;
        }
        Some(rustix::fs::fstat(&self.0).ok()?.st_ino)
    }

    /// Polls readable once the process has ended.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The pids, in order, of the processes that have this inode open, our own too, as far as we may see.
pub(crate) fn openers(dev: u64, ino: u64) -> Vec<i64> {
    processes_with(&|process| has_open(process, dev, ino, None))
}

/// Of the [`openers`], those whose descriptor carries the `flock(2)` itself, inherited or their own: whoever has the
/// file open besides, to wait or to try, has none.
pub(crate) fn lock_keepers(dev: u64, ino: u64) -> Vec<i64> {
    processes_with(&|process| has_open(process, dev, ino, Some(" FLOCK ")))
}

/// Of the [`openers`], those whose descriptor has [marked](super::fs::File::mark_waiting) that they wait.
pub(crate) fn marked_waiters(dev: u64, ino: u64) -> Vec<i64> {
    processes_with(&|process| has_open(process, dev, ino, Some(" OFDLCK ")))
}

fn processes_with(wanted: &dyn Fn(&Path) -> bool) -> Vec<i64> {
    let own = i64::from(pid());
    let mut pids = Vec::new();
    if wanted(Path::new("/proc/self")) {
        pids.push(own);
    }
    if proc_is_ours() {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let others =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|&pid: &i64| pid != own);
        pids.extend(others.filter(|pid| wanted(Path::new(&format!("/proc/{pid}")))));
    }
    pids.sort_unstable();
    pids
}

fn has_open(process: &Path, dev: u64, ino: u64, lock: Option<&str>) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(fds) = rustix::fs::openat(CWD, process.join("fd"), flags, Mode::empty()) else { return false };
    let Ok(mut entries) = Dir::read_from(&fds) else { return false };
    entries.any(|entry| {
        let Ok(entry) = entry else { return false };
        // The entry leads to the open file itself, even where no path does. DONT_SYNC: a file server that does not
        // answer must not hang us over a file that is not ours.
        rustix::fs::statx(&fds, entry.file_name(), AtFlags::STATX_DONT_SYNC, StatxFlags::INO)
            .is_ok_and(|stat| stat.stx_ino == ino && rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor) == dev)
            && lock.is_none_or(|kind| carries(process, &entry.file_name().to_string_lossy(), kind))
    })
}

/// `lock:` lines of `/proc/<pid>/fdinfo/<fd>` are of that very open file, not of the inode (`proc_pid_fdinfo(5)`).
fn carries(process: &Path, fd: &str, kind: &str) -> bool {
    let Ok(text) = fs::read_to_string(process.join("fdinfo").join(fd)) else { return false };
    text.lines().any(|line| line.starts_with("lock:") && line.contains(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn facts_about_this_process() {
        assert_eq!(pid(), std::process::id());
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(pid_namespace().is_some());
        assert_eq!(host().unwrap(), fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        let own: Vec<String> = std::env::args().collect();
        assert!(command_line(pid()).unwrap().starts_with(own[0].split(' ').next().unwrap()));
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn no_call_for_what_is_no_pid() {
        for pid in [0, -1, i64::MIN, i64::from(i32::MIN), i64::from(i32::MAX) + 1, 1 << 32, (1 << 32) + 1, i64::MAX] {
            assert_eq!(signal_zero(pid).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{pid}");
            assert_eq!(PidFd::open(pid).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{pid}");
            assert_eq!(stat_line(pid), None, "{pid}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_pidfd_tells_processes_apart() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let own = PidFd::open(i64::from(pid())).unwrap();
        let other = PidFd::open(i64::from(child.id())).unwrap();
        assert!(!own.exited().unwrap() && !other.exited().unwrap());
        // Both are absent before Linux 6.9.
        assert_eq!(own.inode().is_some(), other.inode().is_some());
        assert!(own.inode().is_none() || own.inode() != other.inode());
        assert_eq!(PidFd::open(i64::from(pid())).unwrap().inode(), own.inode());

        child.kill().unwrap();
        // Waits in the kernel, without a deadline.
        rustix::event::poll(&mut [PollFd::from_borrowed_fd(other.as_fd(), PollFlags::IN)], None).unwrap();
        assert!(other.exited().unwrap(), "a zombie");
        child.wait().unwrap();
        assert!(other.exited().unwrap(), "reaped");
        assert!(is_no_such_process(&PidFd::open(i64::from(child.id())).unwrap_err()));
        assert!(!is_no_such_process(&io::ErrorKind::NotFound.into()));
    }

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
