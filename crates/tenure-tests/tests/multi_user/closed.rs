//! Users, folders and file systems without the rights for a record.

use super::*;

#[test]
fn a_private_umask_excludes_other_users_and_the_error_says_so() {
    let Some(users) = Users::new() else { return };
    let dir = users.folder("shared", 0o2775);
    let target = dir.join("t");
    let mut ann = users.actor_with(ANN, "077");
    ann.must(&format!("open l {}", target.display()));
    let mut last = 0;
    acquire(&mut ann, &mut last);
    assert_eq!(fs::metadata(anchor(&target)).unwrap().mode() & 0o777, 0o600);
    // The folder has the parent's bits all the same.
    assert_eq!(fs::metadata(dir.join(".tenure")).unwrap().mode() & 0o7777, 0o2775);
    let mut bob = users.opened(BOB, &target, "");
    let error = bob.must_fail("acquire l g never", "permission-denied")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("mode(0o666)") && error.contains("--mode 666"), "{error}");
    // A user that may not read it gets that as the reason.
    let found = bob.must(&format!("inspect {}", target.display()));
    assert_eq!((&found["found"]["state"], &found["found"]["liveness"]), (&"unknown".into(), &"unknown".into()));
    assert!(found["found"]["why"].as_str().unwrap().contains("may not be read"), "{found}");
    assert_eq!(bob.must(&format!("list {}", dir.display()))["locks"][0]["state"], "unknown");
    ann.must("check g");
    ann.must("release g");
    let found = bob.must(&format!("inspect {}", target.display()));
    assert_eq!(found["found"]["state"], "free", "{found}");
    acquire(&mut ann, &mut last);
}

#[test]
fn in_a_read_only_folder_a_lock_without_a_record_works() {
    let Some(users) = Users::new() else { return };
    if !needs("flock(1)", has("flock")) {
        return;
    }
    let dir = users.folder("read-only", 0o755);
    let target = dir.join("t");
    fs::write(&target, "").unwrap();
    let before = fs::metadata(&dir).unwrap();
    for keys in ["", "style=flock", "mode=666"] {
        let mut ann = users.opened(ANN, &target, keys);
        let error = ann.must_fail("acquire l g never", "permission-denied")["error"].as_str().unwrap().to_owned();
        assert!(error.contains("record(false)") && error.contains("--no-record"), "{keys}: {error}");
    }
    let flock = || Command::new("flock").arg("-n").arg(&target).arg("true").status().unwrap().success();
    let mut ann = users.opened(ANN, &target, "record=0");
    let mut bob = users.opened(BOB, &target, "record=0");
    assert_eq!(ann.must("acquire l g never")["fence"], 0);
    assert!(!flock());
    bob.must_fail("acquire l g never", "busy");
    ann.must("check g");
    bob.must("begin l g forever");
    ann.must("release g");
    assert_eq!(bob.receive()["event"], "granted");
    bob.kill();
    assert!(flock());
    let after = fs::metadata(&dir).unwrap();
    assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()), "a file was created");
}

#[test]
fn on_a_read_only_file_system_a_lock_without_a_record_works() {
    let Some(users) = Users::new() else { return };
    if !needs("unshare(1)", has("unshare")) {
        return;
    }
    let dir = users.folder("mount", 0o777);
    let target = dir.join("t");
    fs::write(&target, "").unwrap();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && exec \"$0\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(actor_program()).arg(&dir);
    let mut actor = Actor::from(&mut command);
    actor.must(&format!("open l {}", target.display()));
    let error = actor.must_fail("acquire l g never", "cannot-create")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("record(false)") && error.contains("ead-only file system"), "{error}");
    actor.must(&format!("open l {} record=0", target.display()));
    actor.must("acquire l g never");
    actor.must("check g");
    let mut outside = users.opened(ANN, &target, "style=flock");
    outside.must_fail("acquire l g never", "busy");
    actor.must("release g");
    outside.must("acquire l g never");
}

/// A hard link cannot lead from one file system to another.
#[test]
fn anchors_on_another_file_system_are_unsupported() {
    let Some(users) = Users::new() else { return };
    if !needs("unshare(1)", has("unshare")) {
        return;
    }
    let dir = users.folder("across", 0o777);
    let target = dir.join("t");
    let anchors = dir.join(".tenure");
    fs::create_dir(&anchors).unwrap();
    let script = "mount -t tmpfs none \"$1\" && exec \"$0\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(actor_program()).arg(&anchors);
    let mut actor = Actor::from(&mut command);
    actor.must(&format!("open l {}", target.display()));
    let error = actor.must_fail("acquire l g never", "unsupported")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("`.tenure` is on another file system"), "{error}");
    actor.must(&format!("open l {} style=flock", target.display()));
    actor.must("acquire l g never");
}

#[test]
fn an_error_names_the_folder_that_a_user_may_not_enter() {
    let Some(users) = Users::new() else { return };
    let dir = users.folder("closed", 0o700);
    let target = dir.join("t");
    let mut root = Actor::start();
    root.hold(&target);
    let mut ann = users.actor(ANN);
    let unknown = ann.must_fail(&format!("inspect {}", target.display()), "permission-denied");
    assert!(unknown["error"].as_str().unwrap().contains("may not search the folder"), "{unknown}");
    ann.must(&format!("open l {}", target.display()));
    let error = ann.must_fail("acquire l g never", "permission-denied")["error"].as_str().unwrap().to_owned();
    assert!(error.contains(&anchor(&target).display().to_string()), "{error}");
    // A folder that can be entered and not listed is sufficient.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o733)).unwrap();
    let other = dir.join("other");
    ann.must(&format!("open l {}", other.display()));
    let answer = ann.ask("acquire l g never");
    // `.tenure` belongs to root, with the bits that its folder had then.
    assert_eq!(answer["kind"], "permission-denied", "{answer}");
    fs::set_permissions(dir.join(".tenure"), fs::Permissions::from_mode(0o733)).unwrap();
    ann.must("acquire l g never");
    ann.must("check g");
    ann.must("release g");
    root.must("check g");
}
