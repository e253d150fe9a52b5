//! The gate: a folder is tried before the first lock in it, on systems whose port was not run by its authors.
//!
//! The answer is remembered in `.tenure`, with what it depends on: another version, boot, host or folder asks again. On a
//! system that was proven the variable `TENURE_TRIAL=always` has the same effect.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::file::anchor_dir::create_anchor_dir;
use crate::file::paths::{ANCHORS, LockPaths, TRIAL};
use crate::maintenance::probe::Answer;
use crate::maintenance::trial::trial;
use crate::model::error::{Error, ErrorKind, Result};
use crate::sys::{self, Access, Dir, FileId, FileKind, ForkLocal, Name};

/// The variable that makes every system one that tries each folder.
const VARIABLE: &str = "TENURE_TRIAL";
const ALWAYS: &str = "always";

/// The longest remembered answer that is read.
const MOST_BYTES: usize = 1 << 16;

/// Returns whether each folder is tried before the first lock in it: on a system whose port was not run by its authors, and
/// with `TENURE_TRIAL=always` in the environment. It is read once.
pub fn tries_folders() -> bool {
    static REQUESTED: OnceLock<bool> = OnceLock::new();
    !sys::is_proven() || *REQUESTED.get_or_init(|| std::env::var_os(VARIABLE).is_some_and(|value| value == ALWAYS))
}

/// A remembered answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    passed: bool,
    /// The promise that was broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    #[serde(flatten)]
    of: Circumstances,
}

/// What an answer depends on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Circumstances {
    version: String,
    system: String,
    host: Option<String>,
    boot_id: Option<String>,
    /// Device and inode: a copied folder brings the file with it.
    folder: (u64, u64),
    file_system: String,
}

impl Circumstances {
    fn of(paths: &LockPaths) -> Circumstances {
        let id = paths.dir_stat.id;
        Circumstances {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            system: sys::SYSTEM.to_owned(),
            host: sys::host(),
            boot_id: sys::boot_id(),
            folder: (id.device, id.inode),
            file_system: paths.file_system.name.clone().into_owned(),
        }
    }
}

/// Fails as unsupported where the lock's folder must be tried and does not pass.
///
/// # Errors
///
/// Besides, the errors of a trial that could not be made. Such an answer is not remembered.
pub(crate) fn check(paths: &LockPaths) -> Result<()> {
    if !tries_folders() {
        return Ok(());
    }
    check_once(paths)
}

#[cold]
fn check_once(paths: &LockPaths) -> Result<()> {
    static PASSED: ForkLocal<Mutex<HashSet<FileId>>> = ForkLocal::new();
    let passed = || PASSED.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let id = paths.dir_stat.id;
    if passed().contains(&id) {
        return Ok(());
    }
    let circumstances = Circumstances::of(paths);
    let answer = match recall(paths).filter(|remembered| remembered.of == circumstances) {
        Some(Remembered { passed: true, .. }) => Answer::Yes,
        Some(Remembered { seen, .. }) => Answer::No(seen.unwrap_or_default()),
        None => {
            let answer = try_folder(paths)?;
            if !is_still_at_its_path(paths) {
                return Err(replaced(paths));
            }
            // A folder whose answer cannot be written is tried by each process.
            let _ = remember(paths, circumstances, &answer);
            answer
        }
    };
    match answer {
        Answer::Yes => {
            passed().insert(id);
            Ok(())
        }
        Answer::No(seen) | Answer::Unknown(seen) => Err(refused(paths, &seen)),
    }
}

/// Tries the folder. A promise was broken where two trials say so: the first may have been disturbed.
fn try_folder(paths: &LockPaths) -> Result<Answer> {
    let try_once = || trial(folder_path(paths)).map_err(|error| error.with_hint(cannot_try()));
    match try_once()? {
        Answer::Yes => Ok(Answer::Yes),
        Answer::No(_) | Answer::Unknown(_) => try_once(),
    }
}

/// Returns whether the folder is still the one at its path, by which the trial goes.
fn is_still_at_its_path(paths: &LockPaths) -> bool {
    let now = Dir::open(&folder_path(paths)).and_then(|dir| dir.stat());
    now.is_ok_and(|now| now.id == paths.dir_stat.id)
}

fn replaced(paths: &LockPaths) -> Error {
    Error::new(ErrorKind::Io, folder_path(paths), "the folder was moved or replaced while locks were tried in it")
        .with_hint("try again")
}

fn folder_path(paths: &LockPaths) -> std::path::PathBuf {
    match paths.target_path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => ".".into(),
    }
}

fn cannot_try() -> String {
    format!("on {} each folder is tried before the first lock in it, which writes there", sys::SYSTEM)
}

fn refused(paths: &LockPaths, seen: &str) -> Error {
    let folder = folder_path(paths);
    let word = crate::util::text::word(&folder);
    let seen = crate::util::text::text(seen);
    Error::new(ErrorKind::Unsupported, &folder, format!("the trial of locks in this folder did not pass: {seen}"))
        .with_hint(format!(
            "`tenure doctor --report {word}` prints what to report; to try it again, remove {}",
            crate::util::text::word(&folder.join(ANCHORS).join(TRIAL))
        ))
}

fn trial_name() -> io::Result<Name> {
    Name::new(OsStr::new(&format!("{ANCHORS}/{TRIAL}")))
}

/// Reads the remembered answer. `None` for a missing file, for one that is none, and for one of a user whose answer counts
/// for nothing here: not this one, root or the folder's owner.
fn recall(paths: &LockPaths) -> Option<Remembered> {
    let file = paths.dir.open_at(&trial_name().ok()?, Access::Read).ok()?;
    let stat = file.stat().ok().filter(|stat| stat.kind == FileKind::Regular)?;
    if ![0, sys::effective_user(), paths.dir_stat.owner].contains(&stat.owner) {
        return None;
    }
    let mut text = vec![0; usize::try_from(stat.size).ok().filter(|size| *size <= MOST_BYTES)?];
    let length = file.read(&mut text).ok()?;
    serde_json::from_slice(text.get(..length)?).ok()
}

/// Writes the answer, at once, because other processes read it.
fn remember(paths: &LockPaths, of: Circumstances, answer: &Answer) -> Result<()> {
    let failed = |error| Error::io(folder_path(paths), "the answer of a trial cannot be written", error);
    let seen = match answer {
        Answer::Yes => None,
        Answer::No(seen) | Answer::Unknown(seen) => Some(seen.clone()),
    };
    let mut text = serde_json::to_vec(&Remembered { passed: seen.is_none(), seen, of })
        .map_err(io::Error::from)
        .map_err(failed)?;
    text.push(b'\n');
    let new = Name::new(OsStr::new(&format!("{ANCHORS}/{TRIAL}.{}", sys::pid()))).map_err(failed)?;
    let create = || paths.dir.create_new(&new, 0o644);
    let file = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_anchor_dir(paths, 0)?;
            create()
        }
        // Of a process with this pid that was killed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            paths.dir.unlink(&new).map_err(failed)?;
            create()
        }
        other => other,
    };
    let file = file.map_err(failed)?;
    let written = file.write_at(&text, 0).and_then(|()| paths.dir.rename_over(&new, &trial_name()?));
    written.map_err(|error| {
        let _ = paths.dir.unlink(&new);
        failed(error)
    })
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::disallowed_methods, reason = "the tests move folders directly")]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_folder_that_was_replaced_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let paths = LockPaths::open(&folder.join("target"), false).unwrap();
        assert!(is_still_at_its_path(&paths));
        std::fs::rename(&folder, dir.path().join("moved")).unwrap();
        assert!(!is_still_at_its_path(&paths), "missing");
        std::fs::create_dir(&folder).unwrap();
        assert!(!is_still_at_its_path(&paths), "another one");
        // The folder that is open may be reached by a link as well.
        std::fs::remove_dir(&folder).unwrap();
        std::os::unix::fs::symlink(dir.path().join("moved"), &folder).unwrap();
        assert!(is_still_at_its_path(&paths));
    }
}
