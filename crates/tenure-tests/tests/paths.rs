//! The paths of a lock's files: odd names, odd folders, and other files that occupy a path.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files as any program does")]

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use tenure::{CleanOptions, Lock, Previous, State, Style, Wait};
use tenure_tests::{Actor, actor_program, folder, has, is_root, lock_file, needs};

/// Returns the sorted names in a folder.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn anchor(target: &Path) -> PathBuf {
    let name = lock_file(target);
    target.with_file_name(".tenure").join(name.file_name().unwrap())
}

/// Returns the pid of a process that has ended.
fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

fn dead_foreign(path: &Path) {
    let text = format!("{{\n  \"pid\": {},\n  \"createdAt\": \"2026-03-02T10:00:00.000Z\"\n}}", dead_pid());
    write(path, &text);
}

/// Another process writes the file: a child of another test between fork and exec would have it open for writing too, and such a
/// lock file is a live one.
fn write(path: &Path, text: &str) {
    let written = Command::new("sh").args(["-c", "printf %s \"$1\" > \"$2\"", "sh", text]).arg(path).status().unwrap();
    assert!(written.success());
}

/// Runs `work` and returns its result; panics if it blocks.
fn promptly<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{what}: blocked, or panicked"))
}

/// Returns everything about a tree that a reader must not change.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (Vec<i64>, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(path) = folders.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let mut bytes = Vec::new();
        if stat.is_dir() {
            folders.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if stat.is_file() {
            bytes = fs::read(&path).unwrap();
        }
        let numbers = [stat.ino() as i64, stat.mode().into(), stat.nlink() as i64];
        let times = [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()];
        let value = ([&numbers[..], &times].concat(), bytes);
        found.insert(path, value);
    }
    found
}

#[test]
fn a_relative_target_is_the_same_lock_as_its_absolute_path() {
    let dir = folder();
    fs::create_dir(dir.path().join("sessions")).unwrap();
    for (relative, absolute) in [
        ("main.jsonl", dir.path().join("main.jsonl")),
        ("./a", dir.path().join("a")),
        ("sessions/b", dir.path().join("sessions/b")),
        ("sessions/../c", dir.path().join("c")),
    ] {
        let mut one = Actor::from(Command::new(actor_program()).current_dir(dir.path()));
        one.hold(Path::new(relative));
        assert!(lock_file(&absolute).exists(), "{relative}");
        let mut other = Actor::start();
        other.must(&format!("open l {}", absolute.display()));
        let busy = other.must_fail("acquire l g never", "busy");
        assert_eq!(busy["holder"], one.pid());
        one.must("release g");
        other.must("acquire l g never");
    }
}

#[test]
fn a_folder_that_is_renamed_or_replaced_changes_nothing_for_an_open_lock() {
    let dir = folder();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    fs::create_dir(&before).unwrap();
    let mut holder = Actor::start();
    holder.hold(&before.join("t"));

    fs::rename(&before, &after).unwrap();
    holder.must("check g");
    let mut other = Actor::start();
    other.must(&format!("open l {}", after.join("t").display()));
    assert_eq!(other.must_fail("acquire l g never", "busy")["holder"], holder.pid());

    // Another folder takes the name: no file of the lock may appear in it, or vanish from it.
    fs::create_dir(&before).unwrap();
    fs::write(before.join("t.lock"), "{}").unwrap();
    holder.must("check g");
    holder.must("release g");
    assert_eq!(names(&after), [".tenure"]);
    assert_eq!(names(&before), ["t.lock"]);

    let fence = holder.must("acquire l g never")["fence"].as_u64().unwrap();
    assert_eq!(names(&after), [".tenure", "t.lock"]);
    assert_eq!(names(&before), ["t.lock"]);
    other.must_fail("acquire l g never", "busy");
    holder.must("release g");
    assert!(other.must("acquire l g never")["fence"].as_u64().unwrap() > fence);
}

#[test]
fn the_last_component_is_not_followed_and_its_parent_is() {
    let dir = folder();
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("data"), "").unwrap();
    let link = dir.path().join("link");
    symlink(real.join("data"), &link).unwrap();

    let guard = Lock::open(&link).unwrap().acquire_with(Wait::Never).unwrap();
    assert_eq!(names(dir.path()), [".tenure", "link", "link.lock", "real"]);
    assert_eq!(names(&real), ["data"]);
    // The link's target is another lock.
    let mut other = Actor::start();
    other.hold(&real.join("data"));
    guard.release().unwrap();

    let flock = Lock::options().style(Style::Flock).open(&link).unwrap();
    let error = flock.acquire_with(Wait::Never).unwrap_err();
    assert!(error.is_obstructed() && error.to_string().contains("symbolic link"), "{error}");
    let bare = Lock::options().record(false).open(&link).unwrap();
    let error = bare.acquire_with(Wait::Never).unwrap_err();
    assert!(error.is_obstructed() && error.to_string().contains("symbolic link"), "{error}");

    let parent = dir.path().join("parent");
    symlink(&real, &parent).unwrap();
    let guard = Lock::open(parent.join("x")).unwrap().acquire_with(Wait::Never).unwrap();
    assert!(real.join("x.lock").exists());
    guard.check().unwrap();
}

#[test]
fn a_path_that_cannot_be_a_target_is_refused_before_any_file_is_created() {
    let dir = folder();
    let at = |name: &str| dir.path().join("made").join(name).into_os_string();
    let with = |tail: &str| {
        let mut path = dir.path().join("made").into_os_string();
        path.push(tail);
        path
    };
    let too_long = "x".repeat(251);
    for (path, says) in [
        (OsString::new(), "empty"),
        (with("/"), "must end in a name"),
        (with("/a/"), "must end in a name"),
        (with("/a/."), "must end in a name"),
        (with("/a/.."), "must end in a name"),
        (OsString::from("/"), "must end in a name"),
        (OsString::from(".."), "must end in a name"),
        (at(&too_long), "251 bytes"),
        (at("a\0b"), "zero byte"),
    ] {
        for style in [Style::LockFile, Style::Flock] {
            let error = Lock::options().style(style).open(&path).unwrap_err();
            assert!(error.is_invalid_target() && error.to_string().contains(says), "{path:?}: {error}");
        }
        let error = tenure::status(&path).unwrap_err();
        assert!(error.is_invalid_target(), "{path:?}: {error}");
    }
    assert_eq!(names(dir.path()), [""; 0]);
}

/// Acquires, excludes, and takes over from a dead foreign holder and from a dead native, under every valid file name.
#[test]
fn any_file_name_survives_every_step() {
    let odd: [OsString; 9] = [
        OsStr::from_bytes(b"not \xff\xfe utf-8").to_owned(),
        "x".repeat(250).into(),
        // Non-UTF-8, and of the maximum length.
        OsString::from_vec(vec![0xf1; 250]),
        "with spaces and\nnew lines\t\x1b[31m".into(),
        "..two".into(),
        "two..".into(),
        "-n".into(),
        "a.lock".into(),
        ".tenure-not".into(),
    ];
    for name in odd {
        let dir = folder();
        let target = dir.path().join(&name);
        let lock = Lock::open(&target).unwrap();
        let guard = lock.acquire_with(Wait::Never).unwrap();
        assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), fs::metadata(anchor(&target)).unwrap().ino());
        assert_eq!(tenure::status(&target).unwrap().state, State::Held, "{name:?}");
        let listed = tenure::list(dir.path(), &tenure::ListOptions::default()).unwrap();
        assert_eq!(listed.iter().map(|found| found.target.clone()).collect::<Vec<_>>(), std::slice::from_ref(&target));
        // A label of another user is escaped before it reaches a terminal.
        let shown = Lock::open(&target).unwrap().acquire_with(Wait::Never).unwrap_err().to_string();
        assert!(!shown.contains(['\n', '\x1b']), "{shown:?}");
        guard.release().unwrap();

        // A dead foreign holder's file is exchanged: the swap's name fits too.
        dead_foreign(&lock_file(&target));
        let guard = lock.acquire_with(Wait::Never).unwrap();
        assert!(matches!(guard.previous(), Previous::Crashed(_)), "{name:?}");
        guard.check().unwrap();
        // A dead native on another inode.
        let text = fs::read_to_string(lock_file(&target)).unwrap();
        guard.release().unwrap();
        write(&lock_file(&target), &text);
        let guard = lock.acquire_with(Wait::Never).unwrap();
        guard.check().unwrap();
        guard.release().unwrap();

        // With a mode the anchor is created under another name first, which fits too.
        fs::remove_dir_all(dir.path().join(".tenure")).unwrap();
        let shared = Lock::options().mode(0o666).open(&target).unwrap();
        shared.acquire_with(Wait::Never).unwrap().release().unwrap();
        assert_eq!(fs::metadata(anchor(&target)).unwrap().mode() & 0o777, 0o666);

        let flock = Lock::options().style(Style::Flock).open(&target).unwrap();
        flock.acquire_with(Wait::Never).unwrap().release().unwrap();
        let tenure = fs::read_dir(dir.path().join(".tenure")).unwrap().count();
        assert_eq!((names(dir.path()).len(), tenure), (2, 2), "{name:?}: {:?}", names(dir.path()));
    }
}

/// An obstacle's name, and the function that creates it.
type Obstacle = (&'static str, fn(&Path));

/// Returns what can occupy a path instead of a file.
fn obstacles() -> Vec<Obstacle> {
    fn make_node(path: &Path, mode: u32, device: u64) {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the string lives over the call.
        assert_eq!(
            unsafe { libc::mknod(path.as_ptr(), mode | 0o666, device) },
            0,
            "{}",
            std::io::Error::last_os_error()
        );
    }
    let mut all: Vec<Obstacle> = vec![
        ("symbolic link", |path| symlink("somewhere/else", path).unwrap()),
        ("symbolic link", |path| {
            // A link to an existing file, which must not be followed.
            let beside = path.with_file_name("beside");
            fs::write(&beside, "{}").unwrap();
            symlink(&beside, path).unwrap();
        }),
        ("FIFO", |path| make_node(path, libc::S_IFIFO, 0)),
        ("socket", |path| drop(UnixListener::bind(path).unwrap())),
        ("folder", |path| fs::create_dir(path).unwrap()),
    ];
    if is_root() {
        all.push(("device", |path| make_node(path, libc::S_IFCHR, libc::makedev(1, 3))));
        all.push(("device", |path| make_node(path, libc::S_IFBLK, libc::makedev(250, 250))));
    }
    all
}

#[test]
fn a_file_that_occupies_the_lock_files_path_is_named_and_stays() {
    needs("root, to make device files", is_root());
    for (what, make) in obstacles() {
        let dir = folder();
        let target = dir.path().join("t");
        make(&lock_file(&target));
        let before = fs::symlink_metadata(lock_file(&target)).unwrap();
        for wait in [Wait::Never, Wait::For(Duration::from_secs(60))] {
            let tried = target.clone();
            let error = promptly(what, move || Lock::open(&tried).unwrap().acquire_with(wait).map(drop).unwrap_err());
            assert!(error.is_obstructed() && error.to_string().contains(what), "{what}: {error}");
            assert_eq!(error.path(), lock_file(&target));
        }
        let looked = target.clone();
        let error = promptly(what, move || tenure::status(&looked).unwrap_err());
        assert!(error.is_obstructed() && error.to_string().contains(what), "{what}: {error}");
        let swept = dir.path().to_owned();
        let options = CleanOptions::default().idle_anchor_age(Duration::from_secs(3600));
        assert_eq!(promptly(what, move || tenure::clean(&swept, &options).unwrap()).locks.len(), 0);
        let after = fs::symlink_metadata(lock_file(&target)).unwrap();
        assert_eq!((before.ino(), before.mode(), before.ctime_nsec()), (after.ino(), after.mode(), after.ctime_nsec()));

        // Once a person has moved the file, the lock is free.
        fs::rename(lock_file(&target), dir.path().join("moved")).unwrap();
        Lock::open(&target).unwrap().acquire_with(Wait::Never).unwrap().release().unwrap();
    }
}

#[test]
fn a_file_that_occupies_the_anchors_path_is_named_and_stays() {
    needs("root, to make device files", is_root());
    for (what, make) in obstacles() {
        for style in [Style::LockFile, Style::Flock] {
            let dir = folder();
            let target = dir.path().join("t");
            fs::create_dir(dir.path().join(".tenure")).unwrap();
            make(&anchor(&target));
            let before = fs::symlink_metadata(anchor(&target)).unwrap();
            let tried = target.clone();
            let error = promptly(what, move || {
                let wait = Wait::For(Duration::from_secs(60));
                Lock::options().style(style).open(&tried).unwrap().acquire_with(wait).map(drop).unwrap_err()
            });
            assert!(error.is_obstructed() && error.to_string().contains(what), "{what}: {error}");
            assert_eq!(error.path(), anchor(&target));
            let looked = target.clone();
            assert_eq!(promptly(what, move || tenure::status(&looked).unwrap()).state, State::Free, "{what}");
            let swept = dir.path().to_owned();
            let options = CleanOptions::default().idle_anchor_age(Duration::ZERO);
            assert_eq!(promptly(what, move || tenure::clean(&swept, &options).unwrap()).pruned, 0, "{what}");
            let after = fs::symlink_metadata(anchor(&target)).unwrap();
            assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
            assert!(!lock_file(&target).exists());
        }
    }
}

#[test]
fn a_file_that_occupies_the_path_of_the_folder_of_anchors_is_named_and_stays() {
    let elsewhere = folder();
    type Case<'a> = (&'a str, &'a dyn Fn(&Path));
    let cases: [Case<'_>; 5] = [
        ("file", &|path| fs::write(path, "mine").unwrap()),
        ("symbolic link", &|path| symlink("nowhere", path).unwrap()),
        ("symbolic link", &|path| symlink(elsewhere.path(), path).unwrap()),
        ("symbolic link", &|path| symlink(".tenure", path).unwrap()),
        ("socket", &|path| drop(UnixListener::bind(path).unwrap())),
    ];
    for (what, make) in cases {
        let dir = folder();
        let target = dir.path().join("t");
        make(&dir.path().join(".tenure"));
        let before = snapshot(dir.path());
        for options in [Lock::options(), Lock::options().mode(0o666), Lock::options().style(Style::Flock)] {
            let error = options.open(&target).unwrap().acquire_with(Wait::Never).map(drop).unwrap_err();
            assert!(error.is_obstructed() && error.to_string().contains(what), "{what}: {error}");
            assert_eq!(error.path(), dir.path().join(".tenure"));
        }
        assert_eq!(tenure::status(&target).unwrap().state, State::Free);
        assert_eq!(tenure::list(dir.path(), &tenure::ListOptions::default().recursive(true)).unwrap().len(), 0);
        assert_eq!(snapshot(dir.path()), before, "{what}");
        assert_eq!(names(elsewhere.path()), [""; 0], "a link was followed");
    }
}

#[test]
fn parents_are_created_only_on_request() {
    let dir = folder();
    let target = dir.path().join("a/b/c/t");
    let error = Lock::options().create_parents(false).open(&target).unwrap_err();
    assert!(error.is_cannot_create() && error.to_string().contains("create_parents"), "{error}");
    assert_eq!(tenure::status(&target).unwrap().state, State::Free);
    assert_eq!(names(dir.path()), [""; 0]);

    Lock::open(&target).unwrap().acquire_with(Wait::Never).unwrap().release().unwrap();
    assert_eq!(names(&dir.path().join("a/b/c")), [".tenure"]);
    Lock::options().create_parents(false).open(&target).unwrap().acquire_with(Wait::Never).unwrap().release().unwrap();

    // A file in the place of a parent folder.
    fs::write(dir.path().join("file"), "").unwrap();
    let error = Lock::open(dir.path().join("file/t")).unwrap_err();
    assert!(error.is_cannot_create(), "{error}");
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn the_folder_of_anchors_has_its_parents_permission_bits() {
    let dir = folder();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for umask in ["077", "022", "000"] {
        for mode in [0o700, 0o775, 0o2775, 0o1777, 0o755] {
            let parent = dir.path().join(format!("{umask}-{mode:o}"));
            fs::create_dir(&parent).unwrap();
            fs::set_permissions(&parent, fs::Permissions::from_mode(mode)).unwrap();
            let script = format!("umask {umask}; exec \"$0\"");
            let mut actor = Actor::from(Command::new("sh").args(["-c", &script]).arg(actor_program()));
            actor.hold(&parent.join("t"));
            let anchors = parent.join(".tenure");
            assert_eq!(fs::metadata(&anchors).unwrap().mode() & 0o7777, mode, "{umask}: {mode:o}");
            assert_eq!(fs::read_to_string(anchors.join(".gitignore")).unwrap(), "*\n");
            assert_eq!(names(&anchors), [".gitignore", "t.lock"]);
        }
    }
}

#[test]
fn a_target_that_flock_style_creates_has_the_requested_mode() {
    let dir = folder();
    for (umask, options, mode) in
        [("077", " mode=666", 0o666), ("000", " mode=640", 0o640), ("027", "", 0o640), ("002", "", 0o664)]
    {
        let target = dir.path().join(format!("{umask}{}", options.trim()));
        let script = format!("umask {umask}; exec \"$0\"");
        let mut actor = Actor::from(Command::new("sh").args(["-c", &script]).arg(actor_program()));
        actor.must(&format!("open l {} style=flock{options}", target.display()));
        actor.must("acquire l g never");
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, mode, "{umask}{options}");
    }
}

/// The creator died before it created the file.
#[test]
fn a_folder_of_anchors_without_its_gitignore_gets_one_with_the_next_anchor() {
    let dir = folder();
    let anchors = dir.path().join(".tenure");
    let mut actor = Actor::start();
    for mode in ["", " mode=666"] {
        fs::create_dir(&anchors).unwrap();
        actor.must(&format!("open l {}{mode}", dir.path().join("t").display()));
        actor.must("acquire l g never");
        actor.must("release g");
        assert_eq!(fs::read_to_string(anchors.join(".gitignore")).unwrap(), "*\n");
        assert_eq!(names(&anchors), [".gitignore", "t.lock"]);
        fs::remove_dir_all(&anchors).unwrap();
    }
}

#[test]
fn status_and_list_change_nothing() {
    let dir = folder();
    for name in ["free", "used", "held", "held-flock", "stale", "stale-flock", "foreign", "removed"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let target = |name: &str| dir.path().join(name).join("t");
    fs::write(target("free"), "data").unwrap();
    let mut actor = Actor::start();
    actor.hold(&target("used"));
    actor.must("release g");
    let mut holders = Vec::new();
    for (name, style) in [("held", ""), ("held-flock", "style=flock"), ("stale", ""), ("stale-flock", "style=flock")] {
        let mut holder = Actor::start();
        holder.must(&format!("open l {} {style}", target(name).display()));
        holder.must("acquire l g never");
        if name.starts_with("stale") { holder.kill() } else { holders.push(holder) }
    }
    dead_foreign(&lock_file(&target("foreign")));
    // Its lock file was removed by hand.
    let mut holder = Actor::start();
    holder.hold(&target("removed"));
    fs::remove_file(lock_file(&target("removed"))).unwrap();
    holders.push(holder);
    drop(actor);

    let before = snapshot(dir.path());
    let states = [
        ("free", State::Free),
        ("used", State::Free),
        ("held", State::Held),
        ("held-flock", State::Held),
        ("stale", State::Stale),
        ("stale-flock", State::Stale),
        ("foreign", State::Stale),
        ("removed", State::Held),
        ("missing", State::Free),
        ("missing/far/below", State::Free),
    ];
    for (name, state) in states {
        assert_eq!(tenure::status(target(name)).unwrap().state, state, "{name}");
        let lock = dir.path().join(name);
        let listed = tenure::list(&lock, &tenure::ListOptions::default().recursive(true)).unwrap();
        assert_eq!(listed.len(), usize::from(state != State::Free), "{name}");
        let options = CleanOptions::default().dry_run(true).recursive(true).idle_anchor_age(Duration::ZERO);
        let report = tenure::clean(&lock, &options).unwrap();
        assert!(report.locks.iter().all(|cleaned| !cleaned.removed && cleaned.error.is_none()), "{name}");
        assert_eq!(report.pruned, usize::from(name == "used"), "{name}");
        assert_eq!(snapshot(dir.path()), before, "{name}");
    }
    for mut holder in holders {
        let found = holder.ask("check g");
        assert!(found["ok"] == true || found["kind"] == "lost", "{found}");
    }
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn a_folder_may_be_a_target_in_either_style() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("sessions");
    fs::create_dir(&target).unwrap();
    let flock = |path: &Path| Command::new("flock").arg("-n").arg(path).arg("true").status().unwrap().success();
    let mut holder = Actor::start();
    holder.must(&format!("open l {} style=flock", target.display()));
    holder.must("acquire l g never");
    assert!(!flock(&target));
    assert!(!lock_file(&target).exists());
    let mut other = Actor::start();
    other.must(&format!("open l {}", target.display()));
    assert_eq!(other.must_fail("acquire l g never", "busy")["holder"], holder.pid());
    holder.must("release g");
    assert!(flock(&target));

    other.must("acquire l g never");
    assert!(fs::symlink_metadata(lock_file(&target)).unwrap().is_file());
    holder.must_fail("acquire l g never", "busy");
    other.must("release g");
    assert_eq!(names(&target), [""; 0]);
    assert_eq!(names(dir.path()), [".tenure", "sessions"]);
}

#[test]
fn a_target_that_cannot_be_locked_is_named_in_flock_style() {
    for (what, make) in obstacles() {
        // A folder and a block device can be locked; a missing device is the system's error.
        if matches!(what, "folder" | "device") {
            continue;
        }
        let dir = folder();
        let target = dir.path().join("t");
        make(&target);
        let before = fs::symlink_metadata(&target).unwrap();
        let tried = target.clone();
        let error = promptly(what, move || {
            let wait = Wait::For(Duration::from_secs(60));
            Lock::options().style(Style::Flock).open(&tried).unwrap().acquire_with(wait).map(drop).unwrap_err()
        });
        assert!(error.is_obstructed() && error.to_string().contains(what), "{what}: {error}");
        let after = fs::symlink_metadata(&target).unwrap();
        assert_eq!(before.file_type().is_fifo(), after.file_type().is_fifo());
        assert_eq!(before.ino(), after.ino());
        // In lock-file style the kind of target does not matter: it is not opened.
        Lock::open(&target).unwrap().acquire_with(Wait::Never).unwrap().release().unwrap();
    }
}
