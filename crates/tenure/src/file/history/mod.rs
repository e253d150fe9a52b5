//! The history of a lock on disk: one line for each tenure that ended and each wait that failed.
//!
//! Each user has a file beside the anchor, which only this user writes, so that no user needs rights to another's. A line is
//! one append, which needs no lock. A file that has grown too large is rewritten without its old lines, under a lock of its
//! own that no process waits for. A line that was appended meanwhile is not lost: either the rewriting process finds it in
//! the old file once the new one has its name, or the appending process sees the new file, and appends the line again.
//! Equal lines count once.
//!
//! Nothing here decides about the lock itself. A reader trusts no line: it may be torn, or any other program's text.

mod line;
mod merge;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::file::paths::LockPaths;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::history::{Ending, PastTenure};
use crate::model::holder::{Holder, Previous};
use crate::model::options::Options;
use crate::model::status::Status;
use crate::model::this_process::this_process;
use crate::sys::{self, Access, File, FileKind, LockKind, Name, Stat};

/// The size of a history that is neither read nor written: one line of it is no line of ours.
const MAX_BYTES: u64 = 32 << 20;
/// The maximum number of retries while the file is created, removed or replaced.
const MAX_RETRIES: usize = 100;

/// The size of a file that has to be rewritten: twice what the lines that stay can take, which are as many tenures, failed waits
/// and skipped runs.
fn too_large(kept: usize) -> u64 {
    (2 * 3 * kept * line::MAX_BYTES) as u64
}

/// Appends a line to this user's history of the lock. Returns whether the file is now so large that it should be
/// [rewritten](rewrite).
pub(crate) fn append(paths: &LockPaths, options: &Options, past: PastTenure) -> Result<bool> {
    static LINES: AtomicU64 = AtomicU64::new(0);
    let user = sys::effective_user();
    let name = paths.history(user);
    let past = PastTenure { nth: Some(LINES.fetch_add(1, Ordering::Relaxed)), ..past };
    let text = line::render(&past, options.history);
    let size =
        append_text(paths, &name, user, options.mode, text.as_bytes()).map_err(|error| failed(paths, &name, error))?;
    Ok(options.history > 0 && size >= too_large(options.history))
}

/// As [`append`], for a caller that has no other answer than the event: rewrites the file too, where it is too large.
pub(crate) fn append_and_report(paths: &LockPaths, options: &Options, past: PastTenure) {
    match append(paths, options, past) {
        Ok(false) => {}
        Ok(true) => rewrite_and_report(paths, options),
        Err(error) => options.report_history_failure(&paths.target_path, &error),
    }
}

/// As [`rewrite`], with a failure reported.
#[cold]
pub(crate) fn rewrite_and_report(paths: &LockPaths, options: &Options) {
    if let Err(error) = rewrite(paths, options) {
        options.report_history_failure(&paths.target_path, &error);
    }
}

fn failed(paths: &LockPaths, name: &Name, error: io::Error) -> Error {
    Error::io(paths.target_path.with_file_name(name.as_os_str()), "the lock's history cannot be written", error)
        .with_hint("the lock itself is not affected")
}

/// Appends `text` to the file of that name, which is created if it is missing. Returns its size before.
fn append_text(paths: &LockPaths, name: &Name, user: u32, mode: Option<u32>, text: &[u8]) -> io::Result<u64> {
    for _ in 0..MAX_RETRIES {
        let file = match paths.dir.open_to_append(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match create(paths, name, mode) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => continue,
            },
            Err(error) => return Err(error),
        };
        let found = file.stat()?;
        // Another user may have given this name to a file of this user's, which must not change.
        if found.kind != FileKind::Regular || found.links > 1 || !is_own(paths, &found, user) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is no file of this user's own: remove it"));
        }
        if found.size > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large: remove it"));
        }
        file.append(text)?;
        // A file that was replaced, or removed, before the append: its successor gets the line as well.
        if paths.dir.ident_at(name)?.is_some_and(|named| named.id == found.id) {
            return Ok(found.size);
        }
    }
    Err(io::Error::other("it keeps being replaced"))
}

/// Returns whether a user has written the file. A server of files may show another owner than the user who asks.
pub(crate) fn is_own(paths: &LockPaths, found: &Stat, user: u32) -> bool {
    found.owner == user || paths.file_system.shared
}

/// Creates a file with the rights that the lock's other files get.
fn create(paths: &LockPaths, name: &Name, mode: Option<u32>) -> io::Result<File> {
    let file = paths.dir.create_new(name, mode.unwrap_or(0o644))?;
    if let Some(mode) = mode {
        // A file system that stores no mode keeps its own: other users may then not see this history.
        let _ = file.chmod(mode);
    }
    Ok(file)
}

/// Rewrites this user's history with its last lines only, unless another process is doing so.
pub(crate) fn rewrite(paths: &LockPaths, options: &Options) -> Result<()> {
    let user = sys::effective_user();
    replace(paths, user, options).map_err(|error| failed(paths, &paths.history(user), error))
}

fn replace(paths: &LockPaths, user: u32, options: &Options) -> io::Result<()> {
    let (name, new) = (&paths.history(user), &paths.new_history(user));
    let old = match paths.dir.open_to_append(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        old => old?,
    };
    let is_current =
        |file: &File| Ok::<_, io::Error>(paths.dir.ident_at(name)?.map(|found| found.id) == Some(file.ident()?.id));
    if !old.try_lock(LockKind::Exclusive)? || !is_current(&old)? {
        return Ok(());
    }
    let text = read_text(&old)?;
    let kept = merge::last(line::parse_all(&text), Some(options.history));
    let mut rewritten = String::with_capacity(kept.len() * line::MAX_BYTES);
    kept.iter().for_each(|past| rewritten += &line::render(past, options.history));
    // Only the process that has the lock of the present file prepares another, so one that is found is a dead process's.
    let fresh = match create(paths, new, options.mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            paths.dir.unlink(new)?;
            create(paths, new, options.mode)?
        }
        fresh => fresh?,
    };
    let replaced = fresh.write_at(rewritten.as_bytes(), 0).and_then(|()| paths.dir.rename_over(new, name));
    if replaced.is_err() {
        let _ = paths.dir.unlink(new);
        return replaced;
    }
    // What was appended to the old file meanwhile.
    let later = read_text(&old)?;
    match later.get(text.len()..) {
        Some(more) if !more.is_empty() => append_text(paths, name, user, options.mode, more).map(drop),
        _ => Ok(()),
    }
}

fn read_text(file: &File) -> io::Result<Vec<u8>> {
    let size = file.ident()?.size.min(MAX_BYTES);
    let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
    let length = file.read(&mut text)?;
    text.truncate(length);
    Ok(text)
}

/// Returns the lock's last tenures and failed waits, oldest first: those of all users whose files this one may read.
pub(crate) fn read(paths: &LockPaths) -> Result<Vec<PastTenure>> {
    let unreadable = |name: &Name, error| {
        Error::io(paths.target_path.with_file_name(name.as_os_str()), "the lock's history cannot be read", error)
    };
    let mut lines = Vec::new();
    for (name, user) in files(paths).map_err(|error| unreadable(&paths.anchors, error))? {
        let read = || -> io::Result<Option<Vec<u8>>> {
            // The kind first: opening a device can have an effect, and another user's file may have this user's name.
            match paths.dir.stat_at(&name)? {
                Some(stat) if stat.kind == FileKind::Regular && is_own(paths, &stat, user) => {}
                _ => return Ok(None),
            }
            read_text(&paths.dir.open_at(&name, Access::Read)?).map(Some)
        };
        match read() {
            Ok(text) => lines.extend(merge::last_of_file(text.as_deref().map(line::parse_all).unwrap_or_default())),
            // A rewriting process, or a clean-up, was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Another user's file, which that user may have closed to others, or replaced.
            Err(_) if user != sys::effective_user() => {}
            Err(error) => return Err(unreadable(&name, error)),
        }
    }
    Ok(merge::last(lines, None))
}

/// Lists the files of this lock's history, each with its user's number.
fn files(paths: &LockPaths) -> io::Result<Vec<(Name, u32)>> {
    let anchors = match paths.dir.open_dir(&paths.anchors) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        anchors => anchors?,
    };
    let names = anchors.entries()?;
    let users = names.iter().filter_map(|(name, _)| paths.user_of_history(name.as_os_str()));
    Ok(users.map(|user| (paths.history(user), user)).collect())
}

/// Returns how long ago the history was written last; `None` where there is none.
pub(crate) fn idle_for(paths: &LockPaths) -> io::Result<Option<Duration>> {
    let mut newest: Option<SystemTime> = None;
    for (name, _) in files(paths)? {
        newest = newest.max(paths.dir.stat_at(&name)?.map(|stat| stat.modified));
    }
    // A date in the future is no age.
    Ok(newest.map(|newest| sys::now().duration_since(newest).unwrap_or(Duration::ZERO)))
}

/// Removes the history, with what a crash left of its rewriting.
pub(crate) fn remove(paths: &LockPaths) -> io::Result<()> {
    for (name, user) in files(paths)? {
        for name in [paths.new_history(user), name] {
            match paths.dir.unlink(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Appends the tenure of a holder that crashed, for the next holder.
#[cold]
pub(crate) fn append_crash(paths: &LockPaths, options: &Options, previous: &Previous) {
    let Previous::Crashed(dead) = previous else { return };
    let mut past = of_holder(Ending::Crashed, dead);
    past.last_sign = dead.created_at.filter(|&seen| seen >= past.from);
    past.why = Some(dead.liveness.why().to_owned());
    append_and_report(paths, options, past);
}

/// Appends a tenure that was broken, if the lock has a history. A break has no options of the holder's, and a failure to
/// write must not hide that it succeeded.
#[cold]
pub(crate) fn append_break(paths: &LockPaths, seen: &Status) {
    let Some(holder) = &seen.holder else { return };
    if files(paths).is_ok_and(|files| !files.is_empty()) {
        append_and_report(paths, &Options::default(), of_holder(Ending::Broken, holder));
    }
}

/// Appends an acquire that failed because the lock was held, or that was not needed.
#[cold]
pub(crate) fn append_failure(paths: &LockPaths, options: &Options, error: &Error, shared: bool) {
    let ended = match error.kind() {
        ErrorKind::Busy => Ending::Busy,
        ErrorKind::WouldDeadlock => Ending::Deadlock,
        ErrorKind::Skipped => Ending::Skipped,
        _ => return,
    };
    let waited = error.waited().unwrap_or_default();
    let until = sys::now();
    let blocker = error.holder();
    append_and_report(
        paths,
        options,
        PastTenure {
            waited: Some(waited),
            shared,
            why: (ended == Ending::Skipped).then(|| error.detail().to_owned()),
            blocked_by_pid: blocker.and_then(Holder::pid),
            blocked_by: blocker.and_then(|holder| holder.label.clone().or_else(|| holder.command.clone())),
            ..own(ended, until.checked_sub(waited).unwrap_or(until), until, options)
        },
    );
}

/// Returns a line about this process.
pub(crate) fn own(ended: Ending, from: SystemTime, until: SystemTime, options: &Options) -> PastTenure {
    let process = this_process();
    PastTenure {
        pid: Some(process.identity.pid),
        command: options.work.as_deref().or(process.command.as_deref()).map(str::to_owned),
        label: options.label.as_deref().map(str::to_owned),
        host: process.host.as_deref().map(str::to_owned),
        ..PastTenure::new(ended, from, until)
    }
}

/// Returns a line about another holder, whose tenure is over now.
pub(crate) fn of_holder(ended: Ending, holder: &Holder) -> PastTenure {
    let until = sys::now();
    let from = holder.acquired_at.or(holder.created_at).unwrap_or(until);
    PastTenure {
        pid: holder.pid(),
        command: holder.command.clone(),
        label: holder.label.clone(),
        host: holder.host.clone(),
        fence: holder.fence,
        ..PastTenure::new(ended, from, until)
    }
}
