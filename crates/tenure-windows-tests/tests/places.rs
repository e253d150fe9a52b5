//! Folders in which a lock cannot work, or works in another way, and files that other programs keep to themselves: each error names
//! the path and what to do, nothing is left, and no holder loses its lock.

#![cfg(windows)]
#![allow(clippy::disallowed_methods, reason = "the tests do what other programs do")]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tenure::{Error, Lock, Options, StalePolicy, Style};
use tenure_windows_tests::actor::{Actor, Kill};
use tenure_windows_tests::place;

const A_MOMENT: Duration = Duration::from_millis(300);
/// As long as a busy machine may take.
const A_MINUTE: Duration = Duration::from_secs(60);

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn lock_file(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn both_styles() -> [Options; 2] {
    [Lock::options(), Lock::options().style(Style::Flock)]
}

/// An actor that holds `target`.
fn holder(dir: &Path, target: &str, style: &str) -> Actor {
    let mut actor = Actor::start(dir, &[target]);
    assert_eq!(actor.ask(&format!("acquire {style}")), "asking");
    let line = actor.line();
    assert!(line.starts_with("held"), "{line}");
    actor
}

/// Checks that an error names the path and has one of the hints.
fn names_path(error: &Error, dir: &Path, hint: &str) {
    let text = error.to_string();
    let folder = dir.file_name().unwrap().to_string_lossy().into_owned();
    assert!(text.contains(&folder) && text.contains(hint), "{text}");
}

/// Writes until the disk is full. The file is removed with [`fs::remove_file`].
fn fill(path: &Path) {
    let mut filler = File::create(path).unwrap();
    for size in [4096, 1] {
        loop {
            match filler.write(&vec![b'x'; size]) {
                Ok(count) if count > 0 => {}
                Ok(_) => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_full_disk_is_an_error_that_names_the_way_out() {
    let Some(dir) = place("full") else { return };
    let (target, filler) = (dir.join("target"), dir.join("filler"));
    fs::write(&target, "").unwrap();
    fill(&filler);
    for options in both_styles() {
        let error = options.open(&target).and_then(|lock| lock.try_acquire()).unwrap_err();
        names_path(&error, &dir, "--no-record");
    }
    let bare = Lock::options().style(Style::Flock).record(false).open(&target).unwrap();
    drop(bare.try_acquire().unwrap().expect("it needs no room"));
    fs::remove_file(&filler).unwrap();
    // Full again while it is held: the release and the next acquire make nothing that is larger.
    let mut one = holder(&dir, "target", "flock");
    fill(&filler);
    assert_eq!(one.ask("check"), "ok");
    assert!(Lock::open(&target).unwrap().try_acquire().unwrap().is_none());
    assert_eq!(one.ask("release"), "released");
    assert_eq!(one.ask("acquire flock"), "asking");
    assert_eq!(one.line(), "held");
    assert_eq!(one.ask("release"), "released");
    fs::remove_file(&filler).unwrap();
    let lock = Lock::open(&target).unwrap();
    lock.acquire_timeout(A_MINUTE).unwrap().release().unwrap();
    assert_eq!(names(&dir), [".tenure", "target"]);
    one.end();
    drop(lock);
    fs::remove_dir_all(dir.join(".tenure")).unwrap();
}

#[test]
fn a_folder_without_rights_is_an_error_that_names_it() {
    for kind in ["read-only", "denied"] {
        let Some(dir) = place(kind) else { continue };
        for options in both_styles() {
            let error = options.open(dir.join("target")).and_then(|lock| lock.try_acquire()).unwrap_err();
            assert!(error.is_permission_denied() || error.is_cannot_create(), "{kind}: {error:?}");
            names_path(&error, &dir, "record(false)");
        }
        // It works on a file that may only be read.
        let bare = Lock::options().style(Style::Flock).record(false).open(dir.join("present")).unwrap();
        drop(bare.try_acquire().unwrap().expect("the file may be read"));
        assert_eq!(names(&dir), ["present"], "{kind}");
    }
}

#[test]
fn a_file_system_without_links_has_both_styles() {
    let Some(dir) = place("exfat") else { return };
    let target = dir.join("target");
    fs::write(&target, "").unwrap();
    for style in ["file", "flock"] {
        let mut one = holder(&dir, "target", style);
        let options = if style == "file" { Lock::options() } else { Lock::options().style(Style::Flock) };
        let lock = options.open(&target).unwrap();
        assert!(lock.try_acquire().unwrap().is_none(), "{style}");
        if style == "file" {
            assert!(fs::remove_file(lock_file(&target)).is_err(), "its holder keeps it");
            assert_eq!(one.ask("check"), "ok");
        }
        one.kill(Kill::Terminate);
        let guard = lock.acquire_timeout(A_MINUTE).unwrap();
        assert!(guard.previous().is_crashed(), "{style}");
        guard.release().unwrap();
        assert_eq!(names(&dir), [".tenure", "target"], "{style}");
    }
    // A foreign program's lock file, dead.
    let mut dead = Actor::start(&dir, &[]);
    dead.end();
    fs::write(lock_file(&target), format!("{{\"pid\": {}}}", dead.pid())).unwrap();
    let guard = Lock::open(&target).unwrap().acquire_timeout(A_MINUTE).unwrap();
    assert!(guard.previous().is_crashed());
    guard.release().unwrap();
    assert_eq!(names(&dir), [".tenure", "target"]);
}

#[test]
fn a_path_of_a_missing_share_is_an_error_that_names_it() {
    let path = Path::new("\\\\no-such-host.invalid\\share\\target");
    for options in both_styles() {
        let error = options.open(path).and_then(|lock| lock.try_acquire()).unwrap_err();
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
        assert!(!error.is_busy(), "{error}");
    }
}

#[test]
fn a_long_path_and_a_verbatim_path_are_one_target() {
    let dir = tempfile::tempdir().unwrap();
    // Longer than MAX_PATH, by parts that are not.
    let deep = (0..6).fold(dir.path().canonicalize().unwrap(), |path, _| path.join("d".repeat(60)));
    assert!(deep.as_os_str().len() > 260);
    fs::create_dir_all(&deep).unwrap();
    let guard = Lock::open(deep.join("target")).unwrap().acquire_timeout(A_MINUTE).unwrap();
    let plain = deep.to_string_lossy().trim_start_matches("\\\\?\\").to_owned();
    let error = Lock::open(Path::new(&plain).join("target")).unwrap().acquire_timeout(A_MINUTE).unwrap_err();
    assert!(error.is_would_deadlock(), "{error}");
    guard.release().unwrap();
}

#[test]
fn names_of_255_units_are_locked_and_longer_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    let longest = "n".repeat(255 - ".lock".len());
    let mut one = holder(dir.path(), &longest, "file");
    let target = dir.path().join(&longest);
    assert!(lock_file(&target).exists());
    assert!(Lock::open(&target).unwrap().try_acquire().unwrap().is_none());
    one.kill(Kill::Terminate);
    let guard = Lock::open(&target).unwrap().acquire_timeout(A_MINUTE).unwrap();
    assert!(guard.previous().is_crashed());
    guard.release().unwrap();
    assert_eq!(names(dir.path()), [".tenure"]);
    // Units, not bytes and not letters: each of these letters has two units.
    for name in [longest + "n", "\u{1f512}".repeat(126)] {
        let error = Lock::open(dir.path().join(&name)).unwrap_err();
        assert!(error.is_invalid_target() && error.to_string().contains("255"), "{error}");
    }
    assert_eq!(names(dir.path()), [".tenure"]);
}

#[test]
fn a_folder_that_was_removed_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    for (number, options) in both_styles().into_iter().enumerate() {
        let folder = dir.path().join(format!("folder-{number}"));
        fs::create_dir(&folder).unwrap();
        let lock = options.open(folder.join("target")).unwrap();
        // A folder of Windows and of wine 8 that is open keeps its name until it is closed.
        let removed = fs::remove_dir_all(&folder);
        match lock.try_acquire() {
            Ok(guard) => drop(guard.expect("the folder is there still")),
            Err(error) => {
                removed.unwrap();
                names_path(&error, &folder, "");
                assert!(!folder.exists(), "nothing was recreated");
            }
        }
    }
    let options = Lock::options().create_parents(false);
    let error = options.open(dir.path().join("none/target")).and_then(|lock| lock.try_acquire()).unwrap_err();
    assert!(error.is_cannot_create(), "{error:?}");
    names_path(&error, &dir.path().join("none"), "");
}

#[test]
fn a_live_holders_folder_cannot_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let mut one = holder(&folder, "target", "file");
    assert!(fs::remove_dir_all(&folder).is_err());
    assert!(lock_file(&folder.join("target")).exists());
    // The anchor may be gone, which only a lock file shows: the holder has it, and no other process gets the lock.
    assert!(Lock::open(folder.join("target")).unwrap().acquire_timeout(A_MOMENT).unwrap_err().is_busy());
    let check = one.ask("check");
    assert!(check == "ok" || check.starts_with("Lost"), "{check}");
    one.end();
}

#[test]
fn a_target_that_a_program_keeps_to_itself_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let alone = OpenOptions::new().write(true).create(true).truncate(false).share_mode(0).open(&target).unwrap();
    // A lock file is beside the target, which is not opened.
    Lock::open(&target).unwrap().acquire().unwrap().release().unwrap();
    let lock = Lock::options().style(Style::Flock).open(&target).unwrap();
    let error = lock.acquire_timeout(A_MOMENT).unwrap_err();
    assert!(!error.is_busy(), "{error:?}");
    names_path(&error, &target, "another program");
    drop(alone);
    lock.acquire_timeout(A_MINUTE).unwrap().release().unwrap();
    // One that shares it blocks nobody.
    let shared = File::open(&target).unwrap();
    lock.acquire_timeout(A_MINUTE).unwrap().release().unwrap();
    drop(shared);
}

#[test]
fn a_lock_file_that_a_program_keeps_to_itself_is_respected() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let mut dead = Actor::start(dir.path(), &[]);
    dead.end();
    fs::write(lock_file(&target), format!("{{\"pid\": {}}}", dead.pid())).unwrap();
    let alone = OpenOptions::new().read(true).write(true).share_mode(0).open(lock_file(&target)).unwrap();
    let lock = Lock::open(&target).unwrap();
    let error = lock.acquire_timeout(A_MOMENT).unwrap_err();
    assert!(!error.is_lost(), "{error:?}");
    names_path(&error, &lock_file(&target), "another program");
    assert!(lock_file(&target).exists());
    drop(alone);
    let guard = lock.acquire_timeout(A_MINUTE).unwrap();
    assert!(guard.previous().is_crashed());
}

#[test]
fn no_date_of_a_file_takes_a_lock_from_its_holder() {
    let years = |years: u64| Duration::from_secs(years * 366 * 24 * 60 * 60);
    let now = SystemTime::now();
    for date in [now + years(70), now - years(50), SystemTime::UNIX_EPOCH] {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        let mut one = holder(dir.path(), "target", "file");
        // Its record and both files have the dates of before a jump of the clock.
        let anchor = dir.path().join(".tenure/target.lock");
        for path in [&anchor, &lock_file(&target)] {
            OpenOptions::new().write(true).open(path).unwrap().set_modified(date).unwrap();
        }
        let error = Lock::open(&target).unwrap().acquire_timeout(A_MOMENT).unwrap_err();
        assert!(error.is_busy(), "{error:?}");
        assert_eq!(one.ask("check"), "ok");
        assert_eq!(one.ask("release"), "released");
    }
    // A foreign program's, whose date is what the steal goes by: a date to come is no age.
    for (date, is_stolen) in [("2099-01-01T00:00:00.000Z", false), ("1999-01-01T00:00:00.000Z", true)] {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        let one = Actor::start(dir.path(), &[]);
        fs::write(lock_file(&target), format!("{{\"pid\": {}, \"createdAt\": \"{date}\"}}", one.pid())).unwrap();
        assert!(Lock::open(&target).unwrap().try_acquire().unwrap().is_none(), "it lives, whatever the date says");
        let steals = Lock::options().stale_policy(StalePolicy::StealAfter(A_MINUTE * 60)).open(&target).unwrap();
        assert_eq!(steals.try_acquire().unwrap().is_some(), is_stolen, "{date}");
    }
}
