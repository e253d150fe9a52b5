//! Prepared files: complete and locked before they get the name at which other processes find them.

use std::io;
use std::time::Duration;

use crate::file::anchor_dir::{CANNOT_BE_CREATED, check_anchor_dir, create_anchor_dir, permissions_error};
use crate::file::paths::LockPaths;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::Options;
use crate::record::{Native, Record, RecordState};
use crate::sys::{self, Access, File, LockKind, Name};

/// The maximum number of retries while another process prepares its file.
const MAX_RETRIES: usize = 1000;

/// The reason why a file was not created: the system's error, or an error that is complete already.
pub(super) enum CreateError {
    Io(io::Error),
    Reported(Error),
}

/// Creates a file under the name `new`, complete and locked. The caller renames it to its final name.
pub(crate) fn prepare(paths: &LockPaths, options: &Options, record: &Record) -> Result<File> {
    check_anchor_dir(paths)?;
    for tried in 0..MAX_RETRIES {
        match create(paths, &paths.new, options) {
            Ok(file) => {
                let written = (|| {
                    // Until the file is locked, another process may take it for a dead one's and remove it.
                    let ours = file.try_lock(LockKind::Exclusive)?
                        && paths.dir.stat_at(&paths.new)?.map(|stat| stat.id) == Some(file.stat()?.id);
                    if ours {
                        file.write_at(&record.render(0).bytes, 0)?;
                    }
                    Ok(ours)
                })();
                match written {
                    Ok(true) => return Ok(file),
                    Ok(false) => {}
                    Err(error) => {
                        let _ = paths.dir.unlink(&paths.new);
                        return Err(paths.anchor_error("cannot be written", error));
                    }
                }
            }
            Err(CreateError::Reported(error)) => return Err(error),
            // Another process died between creating its file and renaming it, or is just doing so, which takes a few
            // system calls.
            Err(CreateError::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !remove_abandoned(paths)? {
                    sys::pause(Duration::from_millis(1));
                }
            }
            Err(CreateError::Io(error)) if error.kind() == io::ErrorKind::NotFound => create_anchor_dir(paths, tried)?,
            Err(CreateError::Io(error)) => return Err(paths.anchor_error(CANNOT_BE_CREATED, error)),
        }
    }
    Err(Error::new(ErrorKind::Io, paths.anchor_path(), "another process keeps replacing the lock's anchor"))
}

/// Removes a prepared file whose creator died, so that no process has its kernel lock. Returns `false` if its creator
/// lives.
pub(crate) fn remove_abandoned(paths: &LockPaths) -> Result<bool> {
    let removed = (|| -> io::Result<bool> {
        let file = paths.dir.open_at(&paths.new, Access::Read)?;
        if !file.try_lock(LockKind::Exclusive)? {
            return Ok(false);
        }
        if paths.dir.stat_at(&paths.new)?.map(|stat| stat.id) == Some(file.stat()?.id) {
            paths.dir.unlink(&paths.new)?;
        }
        Ok(true)
    })();
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        other => other.map_err(|error| paths.anchor_error("cannot be replaced: an unfinished one blocks it", error)),
    }
}

/// Returns the record of a released anchor, which continues the fence.
pub(crate) fn released_record(fence: Option<u64>) -> Record {
    unheld_record(fence, RecordState::Released)
}

/// As [`released_record`], with another state, such as that of a holder that was cut off.
pub(crate) fn unheld_record(fence: Option<u64>, state: RecordState) -> Record {
    let native = Some(Native { fence, ..Native::bare(state) });
    Record { created_at: Some(sys::now()), native, ..Record::default() }
}

pub(super) fn create(paths: &LockPaths, name: &Name, options: &Options) -> std::result::Result<File, CreateError> {
    let file = paths.dir.create_new(name, options.mode.unwrap_or(0o644)).map_err(CreateError::Io)?;
    if let Some(mode) = options.mode
        && let Err(error) = set_mode(&file, mode)
    {
        let _ = paths.dir.unlink(name);
        return Err(CreateError::Reported(permissions_error(
            paths,
            "cannot be given the mode that was asked for",
            error,
            "leave the mode out where the file system gives all files its own",
        )));
    }
    Ok(file)
}

/// Sets the mode, from which the umask has taken bits away. File systems answer differently to a mode that they cannot
/// store, so the mode that they show afterwards counts. The execute bits do not matter.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    let changed = file.chmod(mode);
    match (file.stat()?.mode ^ mode) & 0o666 {
        0 => Ok(()),
        _ => changed.and(Err(io::ErrorKind::Unsupported.into())),
    }
}
