//! Reads `/proc`: processes and kernel locks. No other file of the command reads it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::types::{FileId, OpenFile};

/// Two fields of `/proc/<pid>/stat` (`proc_pid_stat(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) parent: i32,
}

impl Stat {
    pub(super) fn has_ended(self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    fn parse(text: &str) -> Option<Stat> {
        // The name may contain spaces and parentheses: the fields begin after the last one.
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        Some(Stat { state: fields.next()?.chars().next()?, parent: fields.next()?.parse().ok()? })
    }
}

/// Returns state and parent of a process.
pub(super) fn stat(pid: i32) -> Option<Stat> {
    Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Returns whether a process is stopped.
pub(crate) fn is_stopped(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat.state == 'T')
}

/// Returns every process that `/proc` shows. The table is empty where `/proc` belongs to another pid namespace.
pub(super) fn processes() -> HashMap<i32, Stat> {
    let own = rustix::process::getpid().as_raw_pid();
    let same_namespace = fs::read_link("/proc/self").is_ok_and(|name| name.as_os_str() == own.to_string().as_str());
    let Some(entries) = same_namespace.then(|| fs::read_dir("/proc").ok()).flatten() else { return HashMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| Some((pid, stat(pid)?))).collect()
}

/// Returns whether `pid` is the process `ancestor` or descends from it, at any depth.
pub(crate) fn descends_from(pid: i32, ancestor: u32) -> bool {
    let mut pid = pid;
    // Deeper than any tree of processes on one terminal. `/proc` is read in steps, so a circle might appear.
    for _ in 0..64 {
        if pid <= 1 {
            return false;
        }
        if pid.cast_unsigned() == ancestor {
            return true;
        }
        let Some(stat) = stat(pid) else { return false };
        pid = stat.parent;
    }
    false
}

/// Returns whether there is a process with this pid.
pub(crate) fn is_process(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).is_dir()
}

/// Returns the command line of a process; `None` for a process without one (a zombie, a kernel thread).
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ");
    (!words.is_empty()).then_some(words)
}

/// Returns the notes in which the holders of locks say what they wait for: files `.tenure/*.waits` that processes have open,
/// as far as this user may see them.
pub(crate) fn open_wait_notes() -> io::Result<Vec<PathBuf>> {
    let mut notes = Vec::new();
    for process in fs::read_dir("/proc")? {
        let Ok(process) = process else { continue };
        if !process.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        notes.extend(files.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).filter(|path| {
            path.extension() == Some(OsStr::new("waits"))
                && path.parent().and_then(Path::file_name) == Some(OsStr::new(".tenure"))
        }));
    }
    Ok(notes)
}

/// Returns the files and folders that a process has open, with its locks on them. Files that it closes meanwhile are
/// left out.
pub(crate) fn open_files(pid: u32) -> io::Result<Vec<OpenFile>> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let mut files = Vec::new();
    for entry in fs::read_dir(process.join("fd"))? {
        let Ok(entry) = entry else { continue };
        // The metadata is read through the link: of the open file, whatever file has its name by now.
        let (Ok(path), Ok(metadata)) = (fs::read_link(entry.path()), fs::metadata(entry.path())) else { continue };
        if !metadata.is_file() && !metadata.is_dir() {
            continue;
        }
        let Ok(info) = fs::read_to_string(process.join("fdinfo").join(entry.file_name())) else { continue };
        let gone = metadata.nlink() == 0;
        let name = path.as_os_str().as_bytes();
        let path = match name.strip_suffix(b" (deleted)").filter(|_| gone) {
            Some(name) => PathBuf::from(OsStr::from_bytes(name)),
            None => path,
        };
        let visible = fs::symlink_metadata(&path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (metadata.dev(), metadata.ino()));
        let device = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
        files.push(OpenFile {
            path,
            id: FileId { device, inode: metadata.ino() },
            gone,
            visible,
            flocked: has_lock(&info, "FLOCK"),
            marked: has_lock(&info, "OFDLCK"),
        });
    }
    Ok(files)
}

/// Returns whether `/proc/<pid>/fdinfo/<fd>` lists a lock of this kind: `lock: 1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0
/// EOF`.
fn has_lock(info: &str, kind: &str) -> bool {
    info.lines().any(|line| line.starts_with("lock:") && line.split_ascii_whitespace().nth(2) == Some(kind))
}

/// Returns the files whose `flock(2)` a process waits for.
pub(crate) fn flock_waits(pid: u32) -> io::Result<Vec<FileId>> {
    let mut text = Vec::new();
    let mut page = [0; 16 * 1024];
    // The table (`proc_locks(5)`) is read twice. The kernel delivers it a page at a time, and a line may be missed when
    // other locks come and go between two pages.
    for _ in 0..2 {
        let mut table = fs::File::open("/proc/locks")?;
        loop {
            match table.read(&mut page)? {
                0 => break,
                count => text.extend_from_slice(&page[..count]),
            }
        }
    }
    Ok(parse_flock_waits(&String::from_utf8_lossy(&text), pid))
}

/// Parses the lines of waiting processes: `1: -> FLOCK  ADVISORY  WRITE 4243 fe:00:131 0 EOF`.
fn parse_flock_waits(table: &str, pid: u32) -> Vec<FileId> {
    let wanted = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        (words.next() == Some("->") && words.next() == Some("FLOCK")).then_some(())?;
        (words.nth(2)?.parse() == Ok(pid)).then_some(())?;
        let mut file = words.next()?.split(':');
        let mut number = || u32::from_str_radix(file.next()?, 16).ok();
        let device = (number()?, number()?);
        Some(FileId { device, inode: file.next()?.parse().ok()? })
    };
    table.lines().filter_map(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_a_descriptor() {
        let is_flocked = |info| has_lock(info, "FLOCK");
        assert!(is_flocked("pos:\t0\nflags:\t02100002\nlock:\t1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF\n"));
        assert!(!is_flocked("pos:\t0\nlock:\t1: POSIX  ADVISORY  WRITE 4242 fe:00:131 0 EOF\n"));
        assert!(!is_flocked("pos:\t0\nflags:\t02100002\n"));
    }

    #[test]
    fn waits_of_a_process() {
        let table = "\
1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF
1: -> FLOCK  ADVISORY  WRITE 4243 fe:00:131 0 EOF
1: -> FLOCK  ADVISORY  READ 4244 fe:0a:132 0 EOF
2: -> POSIX  ADVISORY  WRITE 4243 fe:00:133 0 EOF
3: -> FLOCK  ADVISORY  WRITE 4243 <none>:0 0 EOF
garbage
";
        assert_eq!(parse_flock_waits(table, 4243), [FileId { device: (0xfe, 0), inode: 131 }]);
        assert_eq!(parse_flock_waits(table, 4244), [FileId { device: (0xfe, 10), inode: 132 }]);
        assert_eq!(parse_flock_waits(table, 4242), []);
    }

    #[test]
    fn a_name_may_contain_anything() {
        assert_eq!(Stat::parse("7 (a) b) T 3 7 7"), Some(Stat { state: 'T', parent: 3 }));
        assert_eq!(Stat::parse("7 sh T 3"), None);
    }
}
