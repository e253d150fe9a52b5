//! Complaints about files: releases, file systems, flock(2).

use super::*;

#[test]
fn complaint_10_a_release_never_removes_a_lock_file_that_is_no_longer_its_own() {
    let dir = folder();
    let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
    let mut holder = Actor::start();
    holder.hold(&target);
    // A person removes the file, and another program creates its own.
    std::fs::remove_file(&lock_file).unwrap();
    let theirs = Foreign::hold("python", &target);
    let before = (inode(&lock_file), std::fs::read(&lock_file).unwrap());
    holder.must_fail("check g", "lost");
    holder.must_fail("release g", "lost");
    assert_eq!(
        (inode(&lock_file), std::fs::read(&lock_file).unwrap()),
        before,
        "the other program's file is unchanged"
    );
    holder.must_fail("acquire l g never", "busy");
    theirs.release();
    holder.must("acquire l g 60000");
    // The same by a drop, and at the end of the process.
    std::fs::remove_file(&lock_file).unwrap();
    let theirs = Foreign::hold("python", &target);
    let before = inode(&lock_file);
    holder.must("drop g");
    assert_eq!(inode(&lock_file), before);
    assert!(holder.finish().success());
    assert_eq!(inode(&lock_file), before);
    theirs.release();
}

#[test]
fn complaint_10_an_exec_that_keeps_the_pid_does_not_lose_its_own_locks() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = Actor::start();
    let before = actor.hold(&target);
    let pid = actor.pid();
    actor.must("exec");
    // The same pid and start time, without the old program's memory.
    actor.must(&format!("open l {}", target.display()));
    let after = actor.must("acquire l g never");
    assert_eq!((actor.pid(), &after["crashed"]["pid"]), (pid, &pid.into()), "{after}");
    assert!(after["fence"].as_u64() > before["fence"].as_u64());
    actor.must("check g");
    // Other processes see it as held by the new program.
    let mut other = Actor::start();
    open(&mut other, &target, "");
    other.must_fail("acquire l g never", "busy");
    actor.must("release g");
    other.must("acquire l g never");
}

fn injected(injection: &str) -> Actor {
    let call = injection.split(':').next().unwrap();
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={injection}"),
    ]);
    Actor::from(command.arg(actor_program()))
}

#[test]
fn complaint_12_without_hard_links_acquiring_works() {
    if !needs("strace", has("strace")) {
        return;
    }
    for error in ["EPERM", "EOPNOTSUPP", "ENOSYS"] {
        let dir = folder();
        let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
        let mut actor = injected(&format!("linkat:error={error}"));
        open(&mut actor, &target, "");
        actor.must("acquire l g never");
        let recorded: Value = serde_json::from_str(&std::fs::read_to_string(&lock_file).unwrap()).unwrap();
        assert!(recorded["pid"].as_u64().unwrap() > 1, "{recorded}");
        actor.must("check g");
        let mut other = injected(&format!("linkat:error={error}"));
        open(&mut other, &target, "");
        other.must_fail("acquire l g never", "busy");
        assert_eq!(status(&mut other, &target)["waiters"], 0, "the holder does not wait for itself");
        let mut theirs =
            Foreign::from(foreign("python", &["hold", target.to_str().unwrap()]).args(["--timeout-ms", "1"]));
        assert_eq!(theirs.receive()["event"], "timeout", "a foreign program is excluded");
        actor.must("release g");
        assert_eq!(inode(&lock_file), None);

        // Stale locks are taken over by copies too: a foreign program's, and a native's.
        put(&mut Actor::start(), &lock_file, 0, &record(NEVER, None));
        assert_eq!(actor.must("acquire l g never")["crashed"]["pid"], NEVER);
        actor.must("label g changed");
        assert!(std::fs::read_to_string(&lock_file).unwrap().contains("changed"));
        other.must("begin l g forever");
        await_waiters(&mut Actor::start(), &target, 1);
        actor.send("abort");
        let granted = other.receive();
        assert_eq!(granted["event"], "granted", "{granted}");
        assert!(granted["crashed"]["pid"].as_u64() == recorded["pid"].as_u64(), "{granted}");
        other.must("release g");
        assert_eq!(inode(&lock_file), None, "{error}");
    }
}

#[test]
fn complaint_12_a_read_only_folder_is_a_clear_error_that_names_a_remedy() {
    if !needs("root, unshare and setpriv", is_root() && has("unshare") && has("setpriv")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    std::fs::write(&target, "text").unwrap();
    std::os::unix::fs::chown(dir.path(), Some(0), Some(0)).unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2""#;
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(dir.path()).arg(actor_program());
    let elsewhere = folder();
    let read_only = Actor::from(&mut command);
    let not_ours = Actor::from(&mut as_nobody(&actor_program(), elsewhere.path()));
    for (mut actor, kind) in [(read_only, "cannot-create"), (not_ours, "permission-denied")] {
        open(&mut actor, &target, "");
        let refused = actor.must_fail("acquire l g never", kind);
        let text = refused["error"].as_str().unwrap();
        for word in [dir.path().to_str().unwrap(), "record(false)", "--no-record"] {
            assert!(text.contains(word), "no {word:?} in: {text}");
        }
        // The remedy: the kernel lock alone.
        open(&mut actor, &target, "record=0");
        actor.must("acquire l g never");
        assert!(!Command::new("flock").arg("-n").arg(&target).arg("true").status().unwrap().success());
        actor.must("release g");
        assert!(Command::new("flock").arg("-n").arg(&target).arg("true").status().unwrap().success());
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "text");
}

#[test]
fn complaint_14_flock_on_the_same_file_excludes_both_ways() {
    if !needs("flock", has("flock")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    std::fs::write(&target, "text").unwrap();
    let tries = |words: &[&str]| Command::new("flock").args(words).arg(&target).arg("true").status().unwrap().success();
    let mut actor = Actor::start();
    open(&mut actor, &target, "style=flock");
    actor.must("acquire l g never");
    assert!(!tries(&["-n"]) && !tries(&["-n", "-s"]), "held");
    actor.must("release g");
    assert!(tries(&["-n"]), "free");
    actor.must("share l g never");
    assert!(!tries(&["-n"]) && tries(&["-n", "-s"]), "shared");
    actor.must("release g");

    // In the other direction.
    let flock = |words: &[&str]| {
        let mut command = Command::new("flock");
        command.args(words).arg(&target).args(["sh", "-c", r#"echo '{"event": "held"}'; cat"#]);
        let mut holder = Foreign::from(&mut command);
        holder.await_held();
        holder
    };
    let holder = flock(&["-s"]);
    actor.must_fail("acquire l g never", "busy");
    actor.must("share l g never");
    actor.must("release g");
    drop_input(holder);
    let holder = flock(&["-x"]);
    actor.must_fail("acquire l g never", "busy");
    actor.must_fail("share l g never", "busy");
    let found = status(&mut actor, &target);
    assert_eq!((&found["state"], &found["native"]), (&"held".into(), &false.into()), "{found}");
    actor.must("begin l g forever");
    await_waiters(&mut Actor::start(), &target, 1);
    drop_input(holder);
    assert_eq!(actor.receive()["event"], "granted");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "text", "its content belongs to the user");
}

/// Ends `cat`, and with it the program that it feeds.
fn drop_input(mut holder: Foreign) {
    holder.close();
    assert!(holder.child.wait().unwrap().success());
}
