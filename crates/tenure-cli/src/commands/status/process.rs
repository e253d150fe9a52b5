//! `tenure status --pid`: shows the locks that a process holds and waits for.
//!
//! The process's open files show which locks concern it, and the kernel which of them it has locked or waits for. Then each
//! lock is inspected as `status TARGET` does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use tenure::{HolderKind, State, Status, escape};

use crate::output::json::{self, LockJson, ProcessJson};
use crate::output::{Failure, describe, exit, stream};
use crate::sys::{self, FileId, OpenFile};

/// The format of the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

pub(super) fn run(pid: u32, format: Format) -> Result<u8, Failure> {
    let failed = |what: &str| format!("{what} of pid {pid}");
    let files = match sys::open_files(pid) {
        Ok(files) => files,
        Err(_) if !sys::is_process(pid) => {
            match format {
                Format::Json => json::print(&ProcessJson::gone(pid))?,
                Format::Text => stream::print(&format!("pid {pid}: no such process, so it holds no lock\n"))?,
            }
            return Ok(exit::OK);
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let what = failed("the open files");
            let message = format!("{what} may not be read by this user: run this as that process's user, or as root");
            return Err(Failure::new(exit::PERMISSION, message));
        }
        Err(error) => return Err(Failure::io(&failed("the open files"), &error)),
    };
    let waits = sys::flock_waits(pid).map_err(|error| Failure::io("the kernel's table of locks", &error))?;
    let found = Found::among(&files, &waits, pid);
    let command = sys::command_line(pid);
    if format == Format::Json {
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
        stream::print(&text(pid, command.as_deref(), &found))?;
    }
    Ok(exit::OK)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Holds,
    WaitsFor,
    /// The process has the kernel lock of an anchor that was replaced or removed.
    Lost,
}

/// The locks that concern the process. `None` means that a lock's files are not visible from here.
#[derive(Default)]
struct Found(BTreeMap<(Role, PathBuf), Option<Status>>);

impl Found {
    fn among(files: &[OpenFile], waits: &[FileId], pid: u32) -> Found {
        let mut found = Found::default();
        for file in files {
            let locked = file.flocked;
            let queued = waits.contains(&file.id);
            let lock_of = file.path.file_name().and_then(target_of).map(|name| file.path.with_file_name(name));
            let anchor = is_anchor(&file.path);
            // A native that waits for a foreign holder is in no kernel queue, but has marked the anchor.
            let waited_for = queued || (anchor && !locked && file.marked);
            let target = match (anchor, lock_of) {
                (true, Some(path)) => beside(&path),
                (true, None) => continue,
                (false, Some(target)) => match tenure::status(&target).ok().and_then(|lock| lock.holder) {
                    // A native's lock file may be locked itself, a foreign holder's is not. Another locked file with such
                    // a name is a target itself.
                    Some(holder) if !locked || holder.kind == HolderKind::Native => target,
                    _ => file.path.clone(),
                },
                (false, None) => file.path.clone(),
            };
            if anchor && locked && file.gone {
                found.0.insert((Role::Lost, target), None);
                continue;
            }
            // Where the path names another file for this process, it would have another lock.
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
                // The process has the anchor, and is about to check a foreign program's lock.
                (Some(_), true) if anchor && foreign => Role::WaitsFor,
                (_, true) => Role::Holds,
                // A foreign holder has its lock file open, and locks nothing.
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

/// Returns the target `X` of a lock file `X.lock`.
fn target_of(name: &OsStr) -> Option<&OsStr> {
    let path = Path::new(name);
    (path.extension() == Some(OsStr::new("lock"))).then(|| path.file_stem()).flatten()
}

fn is_anchor(path: &Path) -> bool {
    path.parent().and_then(Path::file_name) == Some(OsStr::new(".tenure"))
}

/// Returns `dir/X` for `dir/.tenure/X`.
fn beside(path: &Path) -> PathBuf {
    match (path.parent().and_then(Path::parent), path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Describes the locks of a process in lines of text.
fn text(pid: u32, command: Option<&str>, found: &Found) -> String {
    let mut text = format!("pid {pid}");
    if let Some(command) = command {
        text += &format!(" \"{}\"", escape::text(command));
    }
    if found.0.is_empty() {
        return text + ": holds no lock and waits for none\n";
    }
    text += "\n";
    let mut line = |name: &str, target: &Path, more: &str| {
        text += &format!("  {name:<9}  {}{more}\n", describe::path(target));
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
        line("waits for", target, &more.map_or(String::new(), |lock| format!(": {}", describe::held(lock))));
    }
    for (target, _) in found.of(Role::Lost) {
        line("lost", target, ": the lock was broken, or its anchor removed");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_paths() {
        assert!(is_anchor(Path::new("/a/.tenure/b.lock")) && !is_anchor(Path::new("/a/b.lock")));
        assert_eq!(beside(Path::new("/a/.tenure/b")), Path::new("/a/b"));
        assert_eq!(target_of(OsStr::new("b.jsonl.lock")), Some(OsStr::new("b.jsonl")));
        assert_eq!(target_of(OsStr::new(".lock")), None);
        assert_eq!(target_of(OsStr::new("b")), None);
    }
}
