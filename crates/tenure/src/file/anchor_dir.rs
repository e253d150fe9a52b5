//! `.tenure`, the folder of anchors beside the target.

use std::ffi::OsStr;
use std::io;
use std::time::SystemTime;

use crate::file::paths::{ANCHORS, LockPaths};
use crate::model::error::{Error, ErrorKind, Result};
use crate::sys::{self, Access, Dir, FileKind, LockKind, Name};

pub(super) const CANNOT_BE_MADE: &str = "cannot be made";
const CANNOT_SET_PERMISSIONS: &str = "cannot be made: `.tenure` cannot be given the rights of the folder that it is in";
pub(super) const GITIGNORE: &str = ".gitignore";

/// Makes `.tenure` with its parent's rights, group and ACL: who may make files beside the target may make them in
/// it. Where that is more than one user it appears with them: a crash in between would shut the others out for ever.
/// `tried`: how often it was tried before.
pub(super) fn create_anchor_dir(paths: &LockPaths, tried: usize) -> Result<()> {
    let mode = paths.dir_stat.mode;
    let private = mode & 0o022 == 0 && paths.dir_stat.owner == sys::effective_user();
    let made = if private { paths.anchors.clone() } else { temporary_name(tried) };
    match paths.dir.make_dir(&made, mode & 0o777) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(dir_error(paths, error)),
    }
    // Locked until it has its name, so that a sweep leaves it private. Where it cannot be, a sweep cannot lock it either.
    let locked = (!private).then(|| paths.dir.open_at(&made, Access::Read)).and_then(io::Result::ok);
    if let Some(file) = &locked
        && let Ok(false) = file.try_lock(LockKind::Exclusive)
    {
        // A sweep has it, and it is about to go.
        return Ok(());
    }
    let fill = || {
        let failed = |error| (CANNOT_BE_MADE, error);
        let dir = paths.dir.open_dir(&made).map_err(failed)?;
        // Another user may have moved some other folder to this name, whose rights are not to change. Ours is new, and empty.
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
            // Another was first, and ours goes.
            Err(_) if matches!(paths.dir.stat_at(&paths.anchors), Ok(Some(_))) => remove_new_dir(paths, &made),
            Err(error) => {
                remove_new_dir(paths, &made);
                return Err(dir_error(paths, error));
            }
        },
        // It was pruned meanwhile, and perhaps made again.
        Err((_, error)) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
        Err((what, error)) => {
            remove_new_dir(paths, &made);
            return Err(match what {
                CANNOT_SET_PERMISSIONS => permissions_error(
                    paths,
                    what,
                    error,
                    "make `.tenure` there with the rights that it is to have, or do without it: record(false), --no-record",
                ),
                _ => dir_error(paths, error),
            });
        }
    }
    Ok(())
}

/// Removes a `.tenure` that is not to be, unless somebody uses it already.
fn remove_new_dir(paths: &LockPaths, made: &Name) {
    if *made != paths.anchors
        && let (Ok(dir), Ok(name)) = (paths.dir.open_dir(made), Name::new(GITIGNORE.as_ref()))
    {
        let _ = dir.unlink(&name);
    }
    let _ = paths.dir.remove_dir(made);
}

/// Makes the file that keeps git away from anchors; not if it is there.
pub(super) fn write_gitignore(dir: &Dir, name: &str) -> io::Result<()> {
    let name = Name::new(name.as_ref())?;
    dir.create_new(&name, 0o644)?.write_at(b"*\n", 0).inspect_err(|_| drop(dir.unlink(&name)))
}

/// Makes it in a folder of anchors that was about to be removed, and is used again.
pub(crate) fn restore_gitignore(anchors: &Dir) {
    let _ = write_gitignore(anchors, GITIGNORE);
}

/// A name for a `.tenure` in the making, which nobody else has: the clock's nanoseconds and this process's number; another
/// one at each try, whatever the clock does.
fn temporary_name(tried: usize) -> Name {
    let now = sys::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let name = format!("{ANCHORS}.{}.{}", now.as_nanos() + tried as u128, sys::pid());
    Name::new(name.as_ref()).expect("no zero byte is in it")
}

/// Is this a name that [`temporary_name`] gives?
pub(crate) fn is_temporary_name(name: &OsStr) -> bool {
    let digits = |part: Option<&str>| part.is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    let rest = name.to_str().and_then(|name| name.strip_prefix(ANCHORS)?.strip_prefix('.'));
    rest.is_some_and(|rest| {
        let mut parts = rest.split('.');
        digits(parts.next()) && digits(parts.next()) && parts.next().is_none()
    })
}

/// Removes a `.tenure` in the making whose maker is dead: nobody has its kernel lock, and nothing is in it but what
/// belongs there.
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

/// What has the name of `.tenure` must be a folder: a link could make us write, and remove, files of other folders.
pub(super) fn check_anchor_dir(paths: &LockPaths) -> Result<()> {
    match paths.dir.stat_at(&paths.anchors).map_err(|error| paths.anchor_error("cannot be looked for", error))? {
        Some(stat) if stat.kind != FileKind::Directory => Err(dir_obstructed(paths, stat.kind)),
        _ => Ok(()),
    }
}

fn dir_obstructed(paths: &LockPaths, kind: FileKind) -> Error {
    let path = paths.target_path.with_file_name(paths.anchors.as_os_str());
    let detail = format!("{} stands where the folder of anchors belongs", kind.words());
    Error::new(ErrorKind::Obstructed, path, detail).with_hint("remove it")
}

pub(super) fn dir_error(paths: &LockPaths, error: io::Error) -> Error {
    // ENOTDIR, ELOOP: something else has the folder's name.
    let odd = paths.dir.stat_at(&paths.anchors).ok().flatten().filter(|stat| stat.kind != FileKind::Directory);
    match odd {
        Some(stat) => dir_obstructed(paths, stat.kind),
        None => paths.anchor_error(CANNOT_BE_MADE, error),
    }
}

/// Our own file or folder cannot be given its rights: the file system refuses that, not this user's lack of rights.
pub(super) fn permissions_error(paths: &LockPaths, what: &'static str, error: io::Error, hint: &'static str) -> Error {
    let denied = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput);
    let error = paths.anchor_error(what, error).with_hint(hint);
    if denied { error.with_kind(ErrorKind::Unsupported) } else { error }
}
