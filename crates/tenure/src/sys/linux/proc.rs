//! `/proc` (`proc(5)`), read where it has the same pids as this process.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use super::process_text::counts_alike;
use crate::sys::ForkLocal;
use crate::sys::unix;

/// Returns this process's pid (`getpid(2)`).
pub(super) fn own_pid() -> u32 {
    unix::pid()
}

/// Returns the folder of a process in `/proc` (`proc_pid(5)`). `None` where `/proc` has other pids than this process.
pub(super) fn folder(pid: i64) -> Option<PathBuf> {
    if pid == i64::from(own_pid()) {
        return Some(PathBuf::from("/proc/self"));
    }
    (pid > 0 && is_ours()).then(|| PathBuf::from(format!("/proc/{pid}")))
}

/// Returns whether `/proc` has the same pids as this process (`pid_namespaces(7)`). Read once for each mount, because a
/// process can mount another `/proc`, or enter another mount namespace.
pub(super) fn is_ours() -> bool {
    static LAST: ForkLocal<Mutex<Option<(u64, bool)>>> = ForkLocal::new();
    let Ok(device) = fs::metadata("/proc").map(|proc| proc.dev()) else { return false };
    let mut last = LAST.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, ours)) = last.filter(|(known, _)| *known == device) {
        return ours;
    }
    // A failure (no descriptor left) is not remembered, because it may pass.
    let Some(status) = text(Path::new("/proc/self/status")) else { return false };
    let ours = counts_alike(&status, own_pid());
    *last = Some((device, ours));
    ours
}

/// Reads `/proc/<pid>/stat`, one line (`proc_pid_stat(5)`).
///
/// An emulator may answer for its guest's own `stat` with a text of its own making: qemu does for `/proc/self/stat` and
/// for `/proc/<own pid>/stat`, with another start time than the kernel's. So the own line is read by a descriptor of the
/// process's folder, a path that no emulator recognizes. (The line of its first thread would do too, but the kernel creates
/// two more folders of `/proc` for that, which takes as long as the rest of the reading.)
pub(super) fn stat_line(pid: i64) -> Option<String> {
    if pid != i64::from(own_pid()) {
        return text(&folder(pid)?.join("stat"));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open("/proc/self", flags, Mode::empty()).ok()?;
    let line = rustix::fs::openat(&folder, "stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    text_of(fs::File::from(line))
}

/// Reads `/proc/<pid>/status`, lines of `Name:\tvalue` (`proc_pid_status(5)`).
pub(super) fn status_text(pid: i64) -> Option<String> {
    text(&folder(pid)?.join("status"))
}

/// Reads the stat lines of all threads of a process (`proc_pid_task(5)`). `None` where they cannot all be read: a thread
/// may have ended meanwhile, and have started another that is not in the list.
pub(super) fn thread_stat_lines(pid: i64) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder(pid)?.join("task")).ok()? {
        lines.push(text(&entry.ok()?.path().join("stat"))?);
    }
    Some(lines)
}

/// Returns whether a process has one thread alone (`proc_pid_task(5)`).
pub(super) fn has_one_thread(pid: i64) -> Option<bool> {
    Some(fs::read_dir(folder(pid)?.join("task")).ok()?.count() == 1)
}

/// Reads in which function of the kernel a process's first thread sleeps (`proc_pid_wchan(5)`). `0` where this process may not know.
pub(super) fn sleeps_in(pid: i64) -> Option<String> {
    text(&folder(pid)?.join("wchan"))
}

/// Reads the pids of the children of a process's first thread (`proc_tid_children(5)`).
pub(super) fn children_text(pid: i64) -> Option<String> {
    text(&folder(pid)?.join(format!("task/{pid}/children")))
}

/// Reads the start of a process's command line (`proc_pid_cmdline(5)`). Some command lines are megabytes; a little more
/// than is kept shows that it was cut.
pub(super) fn command_line(pid: i64) -> Option<Vec<u8>> {
    let file = fs::File::open(folder(pid)?.join("cmdline")).ok()?;
    let mut raw = Vec::new();
    file.take(2048).read_to_end(&mut raw).ok()?;
    Some(raw)
}

fn text(path: &Path) -> Option<String> {
    text_of(fs::File::open(path).ok()?)
}

fn text_of(mut file: fs::File) -> Option<String> {
    // `fs::read` begins with a few bytes, because the kernel reports such a file as empty. Most have fewer than these.
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
