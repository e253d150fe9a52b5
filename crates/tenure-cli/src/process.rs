//! `tenure status --pid`: what a process holds and waits for.
//!
//! What it has open says which locks concern it, `fdinfo` which of them are locked, and `/proc/locks` what it waits
//! for. Then each lock is looked at as `status TARGET` does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use tenure::{HolderKind, State, Status, escape};

use crate::exit::{self, Failure};
use crate::json::{self, LockJson, ProcessJson};
use crate::report;
use crate::sys::{self, OpenFile};

pub(crate) fn run(pid: u32, json: bool) -> Result<u8, Failure> {
    let failed = |what: &str| format!("{what} of pid {pid}");
    let files = match sys::open_files(pid) {
        Ok(files) => files,
        Err(_) if !sys::is_process(pid) => {
            if json {
                json::print(&ProcessJson::gone(pid))?;
            } else {
                report::print(&format!("pid {pid}: no such process, so it holds nothing\n"))?;
            }
            return Ok(exit::OK);
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let what = failed("the open files");
            let message = format!("{what} may not be read by this user: ask as that process's user, or as root");
            return Err(Failure::new(exit::PERMISSION, message));
        }
        Err(error) => return Err(Failure::io(&failed("the open files"), &error)),
    };
    let table = sys::kernel_locks().map_err(|error| Failure::io("/proc/locks", &error))?;
    let waits = waits(&table, pid);
    let found = Found::among(&files, &waits, pid);
    let command = sys::command_line(pid);
    if json {
        let locks = |role| found.of(role).map(|(target, found)| LockJson::of(target, found)).collect();
        json::print(&ProcessJson {
            pid,
            alive: true,
            command,
            holds: locks(Role::Holds),
            waits_for: locks(Role::WaitsFor),
            lost: locks(Role::Lost),
        })?;
    } else {
        report::print(&words(pid, command.as_deref(), &found))?;
    }
    Ok(exit::OK)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Holds,
    WaitsFor,
    /// It has the kernel lock of an anchor that is another's place by now.
    Lost,
}

/// The locks that concern the process. `None`: its files are not to be seen from here.
#[derive(Default)]
struct Found(BTreeMap<(Role, PathBuf), Option<Status>>);

impl Found {
    fn among(files: &[OpenFile], waits: &[Wanted], pid: u32) -> Found {
        let mut found = Found::default();
        for file in files {
            let locked = is_locked(&file.info);
            let queued = waits.iter().any(|wanted| wanted.inode == file.inode && wanted.device == file.device);
            let lock_of = file.path.file_name().and_then(target_of).map(|name| file.path.with_file_name(name));
            let anchor = is_anchor(&file.path);
            // A native that waits for a foreign holder's events is in no queue, but has marked the anchor.
            let waited_for = queued || (anchor && !locked && is_marked(&file.info));
            let target = match (anchor, lock_of) {
                (true, Some(path)) => beside(&path),
                (true, None) => continue,
                (false, Some(target)) => match tenure::status(&target).ok().and_then(|lock| lock.holder) {
                    // A native's lock file may be locked itself; a foreign one's is not. A file that somebody locks
                    // and that has such a name is a target in its own right.
                    Some(holder) if !locked || holder.kind == HolderKind::Native => target,
                    _ => file.path.clone(),
                },
                (false, None) => file.path.clone(),
            };
            if anchor && locked && file.gone {
                found.0.insert((Role::Lost, target), None);
                continue;
            }
            // Where its path is another file for us, looking at that would tell of another lock.
            let lock = match file.visible && (locked || waited_for || target != file.path) {
                true => tenure::status(&target).ok(),
                false => None,
            };
            if waited_for {
                found.0.insert((Role::WaitsFor, target.clone()), lock.clone());
            }
            let holder = lock.as_ref().and_then(|lock| lock.holder.as_ref());
            let foreign = holder.is_some_and(|holder| holder.kind == HolderKind::Foreign);
            let is_holder = holder.is_some_and(|holder| holder.pid() == Some(pid.into()));
            let role = match (&lock, locked) {
                (Some(lock), _) if lock.state == State::Free => continue,
                // It has the anchor, and looks at a foreign program's lock just now.
                (Some(_), true) if anchor && foreign => Role::WaitsFor,
                (_, true) => Role::Holds,
                // A foreign holder has its lock file open and locks nothing.
                (Some(_), false) if foreign && is_holder => Role::Holds,
                _ => continue,
            };
            found.0.insert((role, target), lock);
        }
        found
    }

    fn of(&self, role: Role) -> impl Iterator<Item = (&Path, Option<&Status>)> {
        self.0.iter().filter(move |((is, _), _)| *is == role).map(|((_, target), lock)| (&**target, lock.as_ref()))
    }
}

/// `X` of `X.lock`.
fn target_of(name: &OsStr) -> Option<&OsStr> {
    let path = Path::new(name);
    (path.extension() == Some(OsStr::new("lock"))).then(|| path.file_stem()).flatten()
}

fn is_anchor(path: &Path) -> bool {
    path.parent().and_then(Path::file_name) == Some(OsStr::new(".tenure"))
}

/// `dir/X` of `dir/.tenure/X`.
fn beside(path: &Path) -> PathBuf {
    match (path.parent().and_then(Path::parent), path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Does `/proc/<pid>/fdinfo/<fd>` tell of a `flock(2)`? `lock: 1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF`.
fn is_locked(info: &str) -> bool {
    carries(info, "FLOCK")
}

/// Does it tell of the byte of an anchor by which a native says that it waits?
fn is_marked(info: &str) -> bool {
    carries(info, "OFDLCK")
}

fn carries(info: &str, kind: &str) -> bool {
    info.lines().any(|line| line.starts_with("lock:") && line.split_ascii_whitespace().nth(2) == Some(kind))
}

/// A file whose `flock(2)` a process waits for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    device: (u32, u32),
    inode: u64,
}

/// The lines of `/proc/locks` that say so: `1: -> FLOCK  ADVISORY  WRITE 4243 fe:00:131 0 EOF`.
fn waits(table: &str, pid: u32) -> Vec<Wanted> {
    let wanted = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        (words.next() == Some("->") && words.next() == Some("FLOCK")).then_some(())?;
        (words.nth(2)?.parse() == Ok(pid)).then_some(())?;
        let mut file = words.next()?.split(':');
        let mut number = || u32::from_str_radix(file.next()?, 16).ok();
        let device = (number()?, number()?);
        Some(Wanted { device, inode: file.next()?.parse().ok()? })
    };
    table.lines().filter_map(wanted).collect()
}

fn words(pid: u32, command: Option<&str>, found: &Found) -> String {
    let mut text = format!("pid {pid}");
    if let Some(command) = command {
        text += &format!(" \"{}\"", escape::text(command));
    }
    if found.0.is_empty() {
        return text + ": holds no lock and waits for none\n";
    }
    text += "\n";
    let mut line = |name: &str, target: &Path, more: &str| {
        text += &format!("  {name:<9}  {}{more}\n", report::path(target));
    };
    for (target, lock) in found.of(Role::Holds) {
        let holder = lock.and_then(|lock| lock.holder.as_ref());
        let mut more = String::new();
        if let Some(age) = holder.and_then(tenure::Holder::age) {
            more += &format!(", for {}", escape::duration(age));
        }
        match holder.and_then(tenure::Holder::pid) {
            Some(other) if other != i64::from(pid) => more += &format!(", together with pid {other}"),
            _ => {}
        }
        if let Some(waiters) = lock.and_then(|lock| lock.waiters).filter(|&waiters| waiters > 0) {
            more += &format!("; {waiters} waiting");
        }
        line("holds", target, &more);
    }
    for (target, lock) in found.of(Role::WaitsFor) {
        let more = lock.filter(|lock| matches!(lock.state, State::Held | State::Unknown));
        line("waits for", target, &more.map_or(String::new(), |lock| format!(": {}", report::held(lock))));
    }
    for (target, _) in found.of(Role::Lost) {
        line("lost", target, ": it was broken, or its anchor removed");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says() {
        assert!(is_locked("pos:\t0\nflags:\t02100002\nlock:\t1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF\n"));
        assert!(!is_locked("pos:\t0\nlock:\t1: POSIX  ADVISORY  WRITE 4242 fe:00:131 0 EOF\n"));
        assert!(!is_locked("pos:\t0\nflags:\t02100002\n"));
        let table = "\
1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF
1: -> FLOCK  ADVISORY  WRITE 4243 fe:00:131 0 EOF
1: -> FLOCK  ADVISORY  READ 4244 fe:0a:132 0 EOF
2: -> POSIX  ADVISORY  WRITE 4243 fe:00:133 0 EOF
3: -> FLOCK  ADVISORY  WRITE 4243 <none>:0 0 EOF
garbage
";
        assert_eq!(waits(table, 4243), [Wanted { device: (0xfe, 0), inode: 131 }]);
        assert_eq!(waits(table, 4244), [Wanted { device: (0xfe, 10), inode: 132 }]);
        assert_eq!(waits(table, 4242), []);
    }

    #[test]
    fn a_path_tells_its_target() {
        assert!(is_anchor(Path::new("/a/.tenure/b.lock")) && !is_anchor(Path::new("/a/b.lock")));
        assert_eq!(beside(Path::new("/a/.tenure/b")), Path::new("/a/b"));
        assert_eq!(target_of(OsStr::new("b.jsonl.lock")), Some(OsStr::new("b.jsonl")));
        assert_eq!(target_of(OsStr::new(".lock")), None);
        assert_eq!(target_of(OsStr::new("b")), None);
    }
}
