//! `.tenure`, the folder of anchors beside the target.

use std::ffi::OsStr;
use std::io;
use std::time::SystemTime;

use crate::file::paths::{ANCHORS, LockPaths};
use crate::model::error::{Error, ErrorKind, Result};
use crate::sys::{self, Access, Dir, FileKind, LockKind, Name};

pub(super) const CANNOT_BE_CREATED: &str = "cannot be created";
const CANNOT_SET_PERMISSIONS: &str = "cannot be created: `.tenure` cannot be given the rights of its folder";
pub(super) const GITIGNORE: &str = ".gitignore";

/// Creates `.tenure` with its parent's permissions, group and ACL, so that a user who may create files beside the
/// target may create them in it. Where that is more than one user, `.tenure` appears with its permissions: a crash in
/// between would shut the others out for ever. `tried`: the number of attempts before this one.
pub(crate) fn create_anchor_dir(paths: &LockPaths, tried: usize) -> Result<()> {
    let mode = paths.dir_stat.mode;
    let private = mode & 0o022 == 0 && paths.dir_stat.owner == sys::effective_user();
    let made = if private { paths.anchors.clone() } else { temporary_name(tried) };
    match paths.dir.make_dir(&made, mode & 0o777) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(dir_error(paths, error)),
    }
    // The folder is locked until it has its name, so that a clean-up does not remove it. Where it cannot be locked, a
    // clean-up cannot lock it either.
    let locked = (!private).then(|| paths.dir.open_at(&made, Access::Read)).and_then(io::Result::ok);
    if let Some(file) = &locked
        && let Ok(false) = file.try_lock(LockKind::Exclusive)
    {
        // A clean-up has the folder, and is about to remove it.
        return Ok(());
    }
    let fill = || {
        let failed = |error| (CANNOT_BE_CREATED, error);
        let dir = paths.dir.open_dir(&made).map_err(failed)?;
        // Another user may have moved an existing folder to this name, whose permissions must not change. A new one is
        // empty.
        if !dir.entries().map_err(failed)?.is_empty() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        dir.take_rights_of(&paths.dir).map_err(|error| (CANNOT_SET_PERMISSIONS, error))?;
        write_gitignore(&dir, GITIGNORE).map_err(failed)
    };
    match fill() {
        Ok(()) if private => return Ok(()),
        Ok(()) => match paths.dir.rename_over(&made, &paths.anchors) {
            Ok(()) => return Ok(()),
            // Another process was first, so this folder is removed.
            Err(_) if matches!(paths.dir.stat_at(&paths.anchors), Ok(Some(_))) => remove_new_dir(paths, &made),
            Err(error) => {
                remove_new_dir(paths, &made);
                return Err(dir_error(paths, error));
            }
        },
        // It was pruned meanwhile, and perhaps created again.
        Err((_, error)) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
        Err((what, error)) => {
            remove_new_dir(paths, &made);
            return Err(match what {
                CANNOT_SET_PERMISSIONS => permissions_error(
                    paths,
                    what,
                    error,
                    "create `.tenure` there with the permissions that it needs, or do without it: record(false), --no-record",
                ),
                _ => dir_error(paths, error),
            });
        }
    }
    Ok(())
}

/// Removes a new `.tenure` that is not needed, unless another process uses it already.
fn remove_new_dir(paths: &LockPaths, made: &Name) {
    if *made != paths.anchors
        && let (Ok(dir), Ok(name)) = (paths.dir.open_dir(made), Name::new(GITIGNORE.as_ref()))
    {
        let _ = dir.unlink(&name);
    }
    let _ = paths.dir.remove_dir(made);
}

/// Writes the file that makes git ignore anchors, unless it exists.
pub(super) fn write_gitignore(dir: &Dir, name: &str) -> io::Result<()> {
    let name = Name::new(name.as_ref())?;
    dir.create_new(&name, 0o644)?.write_at(b"*\n", 0).inspect_err(|_| drop(dir.unlink(&name)))
}

/// Writes that file again, in a folder that was about to be removed and is used again.
pub(crate) fn restore_gitignore(anchors: &Dir) {
    let _ = write_gitignore(anchors, GITIGNORE);
}

/// Returns a unique name for a new `.tenure`: the clock's nanoseconds and this process's pid. Each attempt gets another
/// name, whatever the clock does.
fn temporary_name(tried: usize) -> Name {
    let now = sys::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let name = format!("{ANCHORS}.{}.{}", now.as_nanos() + tried as u128, sys::pid());
    Name::new(name.as_ref()).expect("no zero byte is in it")
}

/// Returns whether [`temporary_name`] returns such a name.
pub(crate) fn is_temporary_name(name: &OsStr) -> bool {
    let digits = |part: Option<&str>| part.is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    let rest = name.to_str().and_then(|name| name.strip_prefix(ANCHORS)?.strip_prefix('.'));
    rest.is_some_and(|rest| {
        let mut parts = rest.split('.');
        digits(parts.next()) && digits(parts.next()) && parts.next().is_none()
    })
}

/// Removes a new `.tenure` whose creator died: no process has its kernel lock, and it contains only what belongs there.
pub(crate) fn remove_abandoned_dir(dir: &Dir, name: &Name) -> io::Result<()> {
    let folder = dir.open_dir(name)?;
    let file = dir.open_at(name, Access::Read)?;
    let same = folder.stat()?.id == file.stat()?.id;
    if !same || !file.try_lock(LockKind::Exclusive)? || dir.stat_at(name)?.map(|stat| stat.id) != Some(file.stat()?.id)
    {
        return Ok(());
    }
    let entries = folder.entries()?;
    if entries.iter().all(|(name, _)| name.as_os_str() == GITIGNORE) {
        for (name, _) in &entries {
            folder.unlink(name)?;
        }
        dir.remove_dir(name)?;
    }
    Ok(())
}

/// Fails where `.tenure` is not a folder. By a symbolic link this process would write, and remove, files of other
/// folders.
pub(super) fn check_anchor_dir(paths: &LockPaths) -> Result<()> {
    match paths.dir.stat_at(&paths.anchors).map_err(|error| paths.anchor_error("cannot be read", error))? {
        Some(stat) if stat.kind != FileKind::Directory => Err(dir_obstructed(paths, stat.kind)),
        _ => Ok(()),
    }
}

fn dir_obstructed(paths: &LockPaths, kind: FileKind) -> Error {
    let path = paths.target_path.with_file_name(paths.anchors.as_os_str());
    let detail = format!("{} occupies the path of the folder of anchors", kind.words());
    Error::new(ErrorKind::Obstructed, path, detail).with_hint("remove it")
}

pub(super) fn dir_error(paths: &LockPaths, error: io::Error) -> Error {
    // ENOTDIR and ELOOP mean that another kind of file has the folder's name.
    let other_kind = paths.dir.stat_at(&paths.anchors).ok().flatten().filter(|stat| stat.kind != FileKind::Directory);
    match other_kind {
        Some(stat) => dir_obstructed(paths, stat.kind),
        None => paths.anchor_error(CANNOT_BE_CREATED, error),
    }
}

/// Returns the error of a file or folder of this user that cannot be given its permissions. The file system refuses
/// that, not a lack of rights, so the kind is `Unsupported`.
pub(super) fn permissions_error(paths: &LockPaths, what: &'static str, error: io::Error, hint: &'static str) -> Error {
    let denied = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput);
    let error = paths.anchor_error(what, error).with_hint(hint);
    if denied { error.with_kind(ErrorKind::Unsupported) } else { error }
}
