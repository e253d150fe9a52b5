//! `clean` makes a dead foreign program's lock file the anchor, where no native has used the lock yet.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;
use tenure::{CleanOptions, State, clean, status};
use tenure_tests::strace::Strace;
use tenure_tests::sweep::scenes::dead_foreign;
use tenure_tests::{Actor, Foreign, folder, has, lock_file, needs, opened, signal};

use super::{anchor, pid_of};

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn the_file_becomes_the_anchor_and_reports_the_crash_once() {
    for keys in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        dead_foreign(&target);
        let (file, pid) = (inode(&lock_file(&target)), pid_of(&status(&target).unwrap()));
        let report = clean(dir.path(), &CleanOptions::default()).unwrap();
        assert!(report.locks[0].removed, "{report:?}");
        assert!(!lock_file(&target).exists());
        assert_eq!(inode(&anchor(&target)), file);
        assert_eq!(status(&target).unwrap().state, State::Free);
        let mut next = opened(&target, keys);
        let granted = next.must("acquire l g never");
        assert_eq!(granted["crashed"]["pid"].as_i64(), pid, "{granted}");
        next.must("check g");
        next.must("release g");
        assert_eq!(next.must("acquire l g never")["crashed"], Value::Null);
    }
}

#[test]
fn a_file_that_could_not_have_been_made_as_an_anchor_is_taken_over() {
    let cases: [(&str, fn(&Path) -> Option<File>); 5] = [
        ("its user alone may read it", |file| {
            fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
            None
        }),
        ("everyone may write it", |file| {
            fs::set_permissions(file, Permissions::from_mode(0o666)).unwrap();
            None
        }),
        ("another program has its other name", |file| {
            fs::hard_link(file, file.with_file_name("other")).unwrap();
            None
        }),
        ("another program has it open, and may wait for its flock", |file| Some(File::open(file).unwrap())),
        ("a native has used the lock", |file| {
            let target = file.with_extension("");
            let aside = file.with_file_name("aside");
            fs::rename(file, &aside).unwrap();
            let mut native = opened(&target, "");
            native.must("acquire l g never");
            native.must("release g");
            fs::rename(&aside, file).unwrap();
            None
        }),
    ];
    for (what, arrange) in cases {
        let dir = folder();
        let target = dir.path().join("t");
        dead_foreign(&target);
        let (file, text) = (inode(&lock_file(&target)), fs::read(lock_file(&target)).unwrap());
        let open = arrange(&lock_file(&target));
        let report = clean(dir.path(), &CleanOptions::default()).unwrap();
        assert!(report.locks[0].removed, "{what}: {report:?}");
        assert!(!lock_file(&target).exists(), "{what}");
        assert_ne!(inode(&anchor(&target)), file, "{what}");
        if let Ok(other) = fs::read(dir.path().join("other")) {
            assert_eq!(other, text, "{what}");
        }
        drop(open);
        let granted = opened(&target, "").must("acquire l g never");
        assert!(!granted["crashed"].is_null(), "{what}: {granted}");
    }
}

#[test]
fn no_anchor_is_made_through_a_symbolic_link() {
    let (dir, elsewhere) = (folder(), folder());
    let target = dir.path().join("t");
    dead_foreign(&target);
    symlink(elsewhere.path(), dir.path().join(".tenure")).unwrap();
    let report = clean(dir.path(), &CleanOptions::default()).unwrap();
    assert!(report.locks[0].error.is_some() && lock_file(&target).exists(), "{report:?}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

/// Runs `clean` until this fault stops it, then lets a foreign program take the lock, and continues. Returns the answer and
/// the foreign holder.
fn overtaken(target: &Path, fault: &str) -> (Value, Foreign) {
    dead_foreign(target);
    let mut actor = Actor::start();
    let strace = Strace::stops(&mut actor, &format!("clean {}", target.parent().unwrap().display()), &[fault]);
    drop(strace);
    let holder = Foreign::hold("python", target);
    signal(actor.pid(), libc::SIGCONT);
    (actor.receive(), holder)
}

#[test]
fn a_foreign_program_that_takes_the_lock_meanwhile_keeps_it() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let faults = [
        // It was read, for the third time: the list has read it twice.
        "pread64:signal=STOP:when=3",
        // It has just become the anchor.
        "linkat:signal=STOP:when=1",
    ];
    for fault in faults {
        let dir = folder();
        let target = dir.path().join("t");
        let (cleaned, holder) = overtaken(&target, fault);
        assert_eq!(cleaned["locks"][0]["removed"], false, "{fault}: {cleaned}");
        assert_eq!(cleaned["locks"][0]["error"], Value::Null, "{fault}: {cleaned}");
        let found = status(&target).unwrap();
        assert_eq!((found.state, pid_of(&found)), (State::Held, Some(holder.pid().into())), "{fault}");
        opened(&target, "").must_fail("acquire l g never", "busy");
        holder.release();
        opened(&target, "").must("acquire l g never");
    }
}

#[test]
fn the_file_names_the_sweep_before_it_is_removed() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    dead_foreign(&target);
    let mut actor = Actor::start();
    let line = format!("clean {}", dir.path().display());
    // The first write is that of `.gitignore`; a record is written in three.
    let strace = Strace::stops(&mut actor, &line, &["pwrite64:signal=STOP:when=4"]);
    drop(strace);
    let text: Value = serde_json::from_slice(&fs::read(lock_file(&target)).unwrap()).unwrap();
    assert_eq!(text["pid"], actor.pid(), "{text}");
    assert_eq!(inode(&lock_file(&target)), inode(&anchor(&target)));
    // A native waits for the anchor's kernel lock.
    opened(&target, "").must_fail("acquire l g never", "busy");
    signal(actor.pid(), libc::SIGCONT);
    assert_eq!(actor.receive()["locks"][0]["removed"], true);
    assert!(!lock_file(&target).exists());
}
