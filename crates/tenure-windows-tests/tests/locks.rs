//! Locks between processes on Windows.

#![cfg(windows)]
#![allow(clippy::disallowed_methods, reason = "the tests do what other programs do")]

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tenure::{BreakOptions, HolderKind, Lock, Previous, State, Style, Wait};
use tenure_windows_tests::actor::{Actor, Kill};
use windows_sys::Win32::Foundation::ERROR_LOCK_VIOLATION;
use windows_sys::Win32::Storage::FileSystem::{LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx};
use windows_sys::Win32::System::IO::OVERLAPPED;

const A_MOMENT: Duration = Duration::from_millis(300);
const SHARING_VIOLATION: i32 = 32;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let target = dir.path().join("target");
    (dir, target)
}

fn lock_file(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// An actor that holds.
fn holder(dir: &Path, style: &str) -> Actor {
    let mut actor = Actor::start(dir, &[]);
    assert_eq!(actor.ask(&format!("acquire {style}")), "asking");
    assert!(actor.line().starts_with("held"));
    actor
}

/// An actor that waits.
fn waiter(dir: &Path, style: &str) -> Actor {
    let mut actor = Actor::start(dir, &[]);
    assert_eq!(actor.ask(&format!("acquire {style}")), "asking");
    assert_eq!(actor.line_within(A_MOMENT), None, "it waits");
    actor
}

/// Writes the lock file of a program that knows only lock files, as OpenClaw writes it.
fn write_foreign(target: &Path, pid: u32, more: &str) {
    let text = format!("{{\n  \"pid\": {pid},\n  \"createdAt\": \"2026-11-29T00:00:00.000Z\"{more}\n}}");
    fs::write(lock_file(target), text).expect("a file can be written");
}

/// A pid that a process had which has ended.
fn dead_pid(dir: &Path) -> u32 {
    let mut actor = Actor::start(dir, &[]);
    actor.end();
    actor.pid()
}

#[test]
fn two_processes_exclude_each_other() {
    for style in ["file", "flock", "bare"] {
        let (dir, target) = folder();
        let mut one = holder(dir.path(), style);
        let mut two = waiter(dir.path(), style);
        assert_eq!(lock_file(&target).exists(), style == "file");
        assert_eq!(one.ask("release"), "released");
        assert_eq!(two.line(), "held", "{style}");
        let mut three = waiter(dir.path(), style);
        assert_eq!(two.ask("check"), "ok");
        assert_eq!(two.ask("release"), "released");
        assert_eq!(three.line(), "held", "{style}");
        assert_eq!(three.ask("release"), "released");
        assert!(!lock_file(&target).exists(), "{style}");
    }
}

#[test]
fn both_styles_are_one_lock() {
    let (dir, target) = folder();
    let mut one = holder(dir.path(), "flock");
    let two = waiter(dir.path(), "file");
    assert_eq!(one.ask("release"), "released");
    assert_eq!(two.line(), "held");
    assert!(Lock::options().style(Style::Flock).open(&target).unwrap().try_acquire().unwrap().is_none());
}

#[test]
fn a_deadline_ends_a_wait_and_names_the_holder() {
    let (dir, target) = folder();
    let one = holder(dir.path(), "file");
    let lock = Lock::open(&target).unwrap();
    let began = Instant::now();
    let error = lock.acquire_timeout(A_MOMENT).unwrap_err();
    assert!(error.is_busy(), "{error}");
    assert!(began.elapsed() >= A_MOMENT && began.elapsed() < Duration::from_secs(180));
    let found = error.holder().unwrap();
    assert_eq!((found.pid(), found.kind), (Some(i64::from(one.pid())), HolderKind::Native));
    let status = tenure::status(&target).unwrap();
    assert_eq!((status.state, status.holder.unwrap().pid()), (State::Held, Some(i64::from(one.pid()))));
}

#[test]
fn a_killed_holders_lock_is_free_and_the_next_one_is_told() {
    for style in ["file", "flock"] {
        for how in [Kill::Terminate, Kill::Sigkill] {
            let (dir, target) = folder();
            let mut one = holder(dir.path(), style);
            let two = waiter(dir.path(), style);
            one.kill(how);
            assert_eq!(two.line(), format!("held after {}", one.pid()), "{style}, {how:?}");
            drop(two);
            let guard = Lock::open(&target).unwrap().acquire_timeout(Duration::from_secs(60)).unwrap();
            assert!(matches!(guard.previous(), Previous::Crashed(_)), "the second was killed as well");
        }
    }
}

#[test]
fn an_exit_without_a_release_is_a_crash() {
    for how in ["exit", "abort"] {
        let (dir, target) = folder();
        let mut one = holder(dir.path(), "file");
        one.send(how);
        one.end();
        let guard = Lock::open(&target).unwrap().acquire().unwrap();
        assert!(guard.previous().is_crashed(), "{how}");
        guard.release().unwrap();
        assert!(!Lock::open(&target).unwrap().acquire().unwrap().previous().is_crashed(), "it is told once");
    }
}

#[test]
fn a_live_holders_lock_file_cannot_be_removed() {
    let (dir, target) = folder();
    let mut one = holder(dir.path(), "file");
    let path = lock_file(&target);
    let code = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
    assert_eq!(code(fs::remove_file(&path)), Some(SHARING_VIOLATION));
    assert_eq!(code(fs::rename(&path, dir.path().join("elsewhere"))), Some(SHARING_VIOLATION));
    assert!(code(fs::rename(dir.path().join(".tenure/target.lock"), &path)).is_some());
    assert_eq!(File::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    // Python and C share a file for reading and writing only.
    let text = OpenOptions::new().read(true).share_mode(3).open(&path).map(std::io::read_to_string).unwrap().unwrap();
    assert!(text.contains(&format!("\"pid\": {},", one.pid())), "{text}");
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(record["starttime"].as_u64().is_some_and(|time| time > 1_700_000_000_000_000), "{text}");
    assert_eq!(one.ask("check"), "ok");
    assert_eq!(one.ask("release"), "released");
    assert!(!path.exists());
}

#[test]
fn a_release_frees_the_name_while_a_reader_has_the_file_open() {
    let (dir, target) = folder();
    let mut one = holder(dir.path(), "file");
    let path = lock_file(&target);
    let reader = File::open(&path).unwrap();
    assert_eq!(one.ask("release"), "released");
    assert!(!path.exists());
    drop(File::create_new(&path).expect("the name is free"));
    fs::remove_file(&path).unwrap();
    drop(reader);
    assert!(
        fs::read_dir(dir.path().join(".tenure"))
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().ends_with(".gone") })
    );
}

/// Locks a byte of a file, until the handle is closed. Returns whether it was free.
fn locks_byte(file: &File, offset: u64) -> bool {
    let mut at = OVERLAPPED::default();
    at.Anonymous.Anonymous.Offset = offset as u32;
    at.Anonymous.Anonymous.OffsetHigh = (offset >> 32) as u32;
    let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    // SAFETY: LockFileEx requires an open handle, and a pointer to an `OVERLAPPED` that outlives the call.
    let locked = unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &raw mut at) } != 0;
    let error = std::io::Error::last_os_error().raw_os_error();
    assert!(locked || error == Some(ERROR_LOCK_VIOLATION as i32), "{error:?}");
    locked
}

/// Returns whether a waiter has marked the anchor: then a byte far behind the record cannot be locked.
fn is_marked(target: &Path) -> bool {
    let anchor = target.parent().unwrap().join(".tenure/target.lock");
    !locks_byte(&OpenOptions::new().read(true).write(true).open(anchor).unwrap(), (1 << 62) + 1)
}

/// Returns whether the anchor comes to be marked, or unmarked, within this time.
fn comes_to_be_marked(target: &Path, marked: bool, within: Duration) -> bool {
    let end = Instant::now() + within;
    while is_marked(target) != marked {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn a_waiter_marks_the_anchor_while_it_waits() {
    for style in ["file", "flock"] {
        let (dir, target) = folder();
        let mut one = holder(dir.path(), style);
        assert!(!is_marked(&target), "no process waits");
        // A look at the mark keeps a waiter from setting it for that moment, and a waiter does not insist.
        let marked_waiter = || {
            (0..20).find_map(|_| {
                let two = waiter(dir.path(), style);
                comes_to_be_marked(&target, true, Duration::from_secs(3)).then_some(two)
            })
        };
        let mut two = marked_waiter().expect("a waiter marks the anchor");
        two.kill(Kill::Terminate);
        assert!(comes_to_be_marked(&target, false, Duration::from_secs(180)), "a dead waiter leaves no mark");
        let mut two = marked_waiter().expect("a waiter marks the anchor");
        assert_eq!(one.ask("release"), "released");
        assert!(two.line().starts_with("held"));
        // The mark of a granted waiter does not matter, because waiters are looked for between two grants of one process.
        assert_eq!(two.ask("release"), "released");
        assert!(comes_to_be_marked(&target, false, Duration::from_secs(180)), "{style}");
    }
}

#[test]
fn a_dead_foreign_holders_file_is_taken_over() {
    let (dir, target) = folder();
    let dead = dead_pid(dir.path());
    write_foreign(&target, dead, "");
    let guard = Lock::open(&target).unwrap().acquire_timeout(Duration::from_secs(60)).unwrap();
    let Previous::Crashed(previous) = guard.previous() else { panic!("{:?}", guard.previous()) };
    assert_eq!((previous.pid(), previous.kind), (Some(i64::from(dead)), HolderKind::Foreign));
    guard.release().unwrap();
    assert!(!lock_file(&target).exists());
}

#[test]
fn a_number_that_is_no_pid_is_dead() {
    let (dir, target) = folder();
    let one = Actor::start(dir.path(), &[]);
    // To the kernel, it names the same process.
    write_foreign(&target, one.pid() + 1, "");
    assert!(Lock::open(&target).unwrap().try_acquire().unwrap().is_some());
}

#[test]
fn a_recycled_pid_is_dead() {
    let (dir, target) = folder();
    let one = Actor::start(dir.path(), &[]);
    write_foreign(&target, one.pid(), ",\n  \"starttime\": 1700000000000000");
    let guard = Lock::open(&target).unwrap().try_acquire().unwrap();
    assert!(guard.is_some_and(|guard| guard.previous().is_crashed()));
}

#[test]
fn a_live_foreign_holder_is_waited_for() {
    let (dir, target) = folder();
    let one = Actor::start(dir.path(), &[]);
    write_foreign(&target, one.pid(), "");
    let two = waiter(dir.path(), "file");
    let error = Lock::open(&target).unwrap().acquire_timeout(A_MOMENT).unwrap_err();
    assert!(error.is_busy() && error.holder().unwrap().kind == HolderKind::Foreign, "{error}");
    fs::remove_file(lock_file(&target)).unwrap();
    assert_eq!(two.line(), "held", "its removal was noticed");
}

#[test]
fn a_foreign_holders_end_is_noticed() {
    let (dir, target) = folder();
    let mut one = Actor::start(dir.path(), &[]);
    write_foreign(&target, one.pid(), "");
    let two = waiter(dir.path(), "file");
    one.kill(Kill::Terminate);
    assert_eq!(two.line(), format!("held after {}", one.pid()));
}

#[test]
fn a_foreign_file_that_is_open_for_writing_is_alive() {
    let (dir, target) = folder();
    write_foreign(&target, dead_pid(dir.path()), "");
    let writer = OpenOptions::new().append(true).open(lock_file(&target)).unwrap();
    assert!(Lock::open(&target).unwrap().try_acquire().unwrap().is_none());
    drop(writer);
    assert!(Lock::open(&target).unwrap().try_acquire().unwrap().is_some());
}

#[test]
fn a_file_without_a_pid_that_a_reader_has_open_is_alive() {
    let (_dir, target) = folder();
    let path = lock_file(&target);
    // It begins as OpenClaw's, and was not written to for long.
    fs::write(&path, "{").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(600);
    OpenOptions::new().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    let state = || tenure::status(&target).unwrap().state;
    // As Python and C open a file.
    let reader = OpenOptions::new().read(true).share_mode(3).open(&path).unwrap();
    assert_eq!(state(), State::Held);
    drop(reader);
    assert_eq!(state(), State::Stale);
}

#[test]
fn a_dead_foreign_file_that_a_reader_keeps_blocks_until_it_is_closed() {
    let (dir, target) = folder();
    write_foreign(&target, dead_pid(dir.path()), "");
    let reader = OpenOptions::new().read(true).share_mode(3).open(lock_file(&target)).unwrap();
    let lock = Lock::open(&target).unwrap();
    let error = lock.acquire_timeout(A_MOMENT).unwrap_err();
    assert!(error.is_busy(), "{error}");
    drop(reader);
    assert!(lock.acquire_timeout(Duration::from_secs(60)).unwrap().previous().is_crashed());
}

#[test]
fn shares_exclude_writers_only() {
    let (dir, target) = folder();
    let mut one = Actor::start(dir.path(), &[]);
    assert_eq!(one.ask("shared flock"), "asking");
    assert_eq!(one.line(), "held");
    let lock = Lock::options().style(Style::Flock).open(&target).unwrap();
    let share = lock.acquire_shared(Wait::Never).unwrap();
    let two = waiter(dir.path(), "flock");
    share.release().unwrap();
    assert_eq!(two.line_within(A_MOMENT), None);
    assert_eq!(one.ask("release"), "released");
    assert_eq!(two.line(), "held");
    assert!(lock.acquire_shared(Wait::Never).unwrap_err().is_busy());
}

#[test]
fn flock_style_excludes_file_lock_and_filelock() {
    let (_dir, target) = folder();
    let lock = Lock::options().style(Style::Flock).open(&target).unwrap();
    let guard = lock.acquire().unwrap();
    let other = OpenOptions::new().read(true).write(true).open(&target).unwrap();
    assert!(matches!(other.try_lock(), Err(fs::TryLockError::WouldBlock)));
    guard.release().unwrap();
    other.try_lock().unwrap();
    assert!(lock.try_acquire().unwrap().is_none());
    // Wine's answer to `unlock` is an error, although it unlocks.
    drop(other);
    // The package filelock locks the first byte.
    let filelock = || OpenOptions::new().read(true).write(true).open(&target).unwrap();
    let guard = lock.acquire().unwrap();
    assert!(!locks_byte(&filelock(), 0));
    guard.release().unwrap();
    let other = filelock();
    assert!(locks_byte(&other, 0));
    assert!(lock.try_acquire().unwrap().is_none());
    drop(other);
    assert!(lock.try_acquire().unwrap().is_some());
}

#[test]
fn a_break_makes_the_holder_lose_it() {
    let (dir, target) = folder();
    let mut one = holder(dir.path(), "file");
    let two = waiter(dir.path(), "file");
    tenure::break_lock(&target, &BreakOptions::default().force(true)).unwrap();
    assert_eq!(two.line(), "held");
    assert!(one.ask("check").starts_with("Lost"), "the holder learns of it");
    assert!(one.ask("release").starts_with("Lost"));
}

#[test]
fn names_that_windows_makes_special_are_refused() {
    let (dir, _) = folder();
    for name in ["nul", "AUX.txt", "a.", "a ", "ab:c", "a?"] {
        let error = Lock::open(dir.path().join(name)).unwrap_err();
        assert!(error.is_invalid_target(), "{name}: {error}");
    }
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing was made");
}

#[test]
fn two_spellings_are_one_target() {
    let (dir, _) = folder();
    let _one = Lock::open(dir.path().join("Foo")).unwrap().acquire().unwrap();
    let error = Lock::open(dir.path().join("fOO")).unwrap().acquire_timeout(Duration::from_secs(60)).unwrap_err();
    assert!(error.is_would_deadlock(), "{error}");
}

#[test]
fn the_folder_of_anchors_is_hidden() {
    const HIDDEN: u32 = 2;
    let (dir, target) = folder();
    drop(Lock::open(&target).unwrap().acquire().unwrap());
    assert!(fs::metadata(dir.path().join(".tenure")).unwrap().file_attributes() & HIDDEN != 0);
}

#[test]
fn what_cannot_be_had_is_unsupported() {
    let (dir, target) = folder();
    let guard = Lock::open(&target).unwrap().acquire().unwrap();
    let error = guard.keep_for(&mut std::process::Command::new("cmd")).unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    assert!(tenure::interrupts::install().unwrap_err().is_unsupported());
    let error = Lock::options().style(Style::Flock).open(dir.path()).unwrap().acquire().unwrap_err();
    assert!(error.is_unsupported(), "a folder: {error}");
    let error = Lock::options().mode(0o600).open(dir.path().join("other")).unwrap().acquire().unwrap_err();
    assert!(error.is_unsupported(), "a mode: {error}");
}

#[test]
fn the_cleanup_removes_the_lock_file_and_the_next_one_is_told() {
    let (dir, target) = folder();
    let mut one = Actor::start(dir.path(), &[]);
    assert_eq!(one.ask("cleanup"), "installed");
    assert_eq!(one.ask("acquire file"), "asking");
    assert_eq!(one.line(), "held");
    assert_eq!(one.ask("before-exit"), "cleaned");
    assert!(!lock_file(&target).exists());
    assert!(Lock::open(&target).unwrap().try_acquire().unwrap().is_none(), "it holds until its end");
    one.send("exit");
    one.end();
    assert!(Lock::open(&target).unwrap().acquire().unwrap().previous().is_crashed());
}

#[test]
fn threads_of_one_process_exclude_each_other() {
    let (_dir, target) = folder();
    let count = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let lock = Lock::open(&target).unwrap();
                for _ in 0..50 {
                    let guard = lock.acquire_timeout(Duration::from_secs(60)).unwrap();
                    let seen = count.load(std::sync::atomic::Ordering::Relaxed);
                    std::thread::yield_now();
                    count.store(seen + 1, std::sync::atomic::Ordering::Relaxed);
                    guard.release().unwrap();
                }
            });
        }
    });
    assert_eq!(count.into_inner(), 200);
}
