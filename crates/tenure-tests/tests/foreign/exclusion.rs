//! Mutual exclusion with foreign holders, and the end of a wait for one.

use super::*;

fn excludes_both_ways(language: &str) {
    if !needs(language, language == "python" || has(language)) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = Actor::start();
    actor.must(&format!("open l {}", target.display()));

    let holder = Foreign::hold(language, &target);
    let refused = actor.must_fail("acquire l g never", "busy");
    assert_eq!(refused["holder"], holder.pid(), "{refused}");
    let found = status(&mut actor, &target);
    assert_eq!((&found["state"], &found["reasons"]), (&"held".into(), &serde_json::json!([])), "{found}");
    actor.must("begin l g forever");
    await_waiter(&mut Actor::start(), &target);
    holder.release();
    assert_eq!(actor.receive()["event"], "granted");

    let mut other = Foreign::from(foreign(language, &["hold", target.to_str().unwrap()]).args(["--timeout-ms", "200"]));
    let said = other.receive();
    assert_eq!((&said["event"], &said["owner"]), (&"timeout".into(), &format!("pid={}", actor.pid()).into()));
    assert_eq!(other.child.wait().unwrap().code(), Some(75));
    actor.must("check g");

    // The foreign program waits for us, too.
    let mut other = Foreign::from(&mut foreign(language, &["hold", target.to_str().unwrap()]));
    actor.must("release g");
    other.await_held();
    actor.must_fail("acquire l g never", "busy");
    other.kill();
    let granted = actor.must("acquire l g 60000");
    assert_ne!(granted["crashed"], Value::Null);
}

#[test]
fn a_live_python_holder_and_tenure_exclude_each_other() {
    excludes_both_ways("python");
}

#[test]
fn a_live_node_holder_and_tenure_exclude_each_other() {
    excludes_both_ways("node");
}

/// Eight grants after a holder's end. By polling once a second the faster half of them would take 1.1 s on average; by
/// events they take milliseconds, or as long as processes wait for a processor.
fn granted_by_event(language: &str) {
    if !needs(language, language == "python" || has(language)) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut actor, mut observer) = (Actor::start(), Actor::start());
    actor.must(&format!("open l {}", target.display()));
    measure(6, || {
        let (mut waited, mut answered) = (Vec::new(), Vec::new());
        for round in 0..8 {
            let mut holder = Foreign::hold(language, &target);
            actor.must("begin l g forever");
            await_waiter(&mut observer, &target);
            answered.push(round_trip(&mut [&mut actor, &mut observer]));
            if round % 2 == 0 {
                // The holder answers after it has removed its file.
                assert_eq!(holder.ask("release")["event"], "released");
            } else {
                holder.kill();
            }
            let began = Instant::now();
            let granted = actor.receive();
            waited.push(began.elapsed());
            assert_eq!(granted["event"], "granted", "{granted}");
            assert_eq!(granted["crashed"].is_null(), round % 2 == 0, "{granted}");
            actor.must("release g");
        }
        waited.sort();
        answered.sort();
        let faster = |times: &[Duration]| times[..4].iter().sum::<Duration>();
        let most = Duration::from_millis(400) + 3 * faster(&answered);
        if faster(&waited) < most { Ok(()) } else { Err(format!("{waited:?}, where {answered:?} answers")) }
    });
}

#[test]
fn the_end_of_a_python_holder_wakes_a_waiter() {
    granted_by_event("python");
}

#[test]
fn the_end_of_a_node_holder_wakes_a_waiter() {
    granted_by_event("node");
}

#[test]
fn a_lock_file_that_a_process_has_open_is_alive_whatever_its_pid() {
    let dir = folder();
    let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
    let mut actor = Actor::start();
    let holder = Foreign::hold("python", &target);
    let own = actor.pid();
    let texts = [
        format!("{{\"pid\": {NEVER}, \"createdAt\": \"2020-01-01T00:00:00.000Z\", \"maxHoldMs\": 1}}"),
        format!("{{\"pid\": {}, \"starttime\": 1}}", std::process::id()),
        format!("{{\"pid\": {own}}}"),
        String::new(),
    ];
    actor.must(&format!("open l {}", target.display()));
    for text in texts {
        let before = inode(&lock_file);
        put(&mut actor, &lock_file, OLD, text.as_bytes());
        assert_eq!(inode(&lock_file), before, "it is still the holder's file");
        let found = status(&mut actor, &target);
        assert_eq!((&found["state"], &found["liveness"]), (&"held".into(), &"alive".into()), "{text}: {found}");
        assert!(!reasons(&found).is_empty(), "{text}: {found}");
        let openers = found["openBy"].as_array().unwrap();
        // For its own pid, an orphan by OpenClaw's protocol, the actor does not look for open descriptors.
        if !text.contains(&own.to_string()) {
            assert!(openers.contains(&holder.pid().into()), "{text}: {found}");
        }
        actor.must_fail("acquire l g never", "busy");
        assert_eq!(inode(&lock_file), before);
    }
    put(&mut actor, &lock_file, 0, format!("{{\"pid\": {NEVER}}}").as_bytes());
    actor.must("begin l g forever");
    await_waiter(&mut Actor::start(), &target);
    holder.kill();
    let granted = actor.receive();
    assert_eq!((&granted["event"], &granted["crashed"]["pid"]), (&"granted".into(), &NEVER.into()), "{granted}");
}

/// Creates a folder of the user `nobody`.
fn nobodys_folder() -> tempfile::TempDir {
    let dir = folder();
    std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534)).unwrap();
    dir
}

#[test]
fn an_unprivileged_process_leases_its_own_files_and_reports_others_as_unknown() {
    if !needs("root and setpriv", is_root() && has("setpriv")) {
        return;
    }
    let dir = nobodys_folder();
    let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
    let mut root = Actor::start();
    let mut nobody = Actor::from(&mut as_nobody(&actor_program(), dir.path()));
    nobody.must(&format!("open l {}", target.display()));

    // The user's own file: alive while a root program has it open; dead once closed.
    let holder = Foreign::hold("python", &target);
    std::os::unix::fs::chown(&lock_file, Some(65534), Some(65534)).unwrap();
    put(&mut root, &lock_file, OLD, format!("{{\"pid\": {NEVER}}}").as_bytes());
    let found = status(&mut nobody, &target);
    assert_eq!(
        (&found["liveness"], &found["why"]),
        (&"alive".into(), &"some process has the lock file open for writing".into())
    );
    nobody.must_fail("acquire l g never", "busy");
    holder.kill();
    assert_eq!(nobody.must("acquire l g 60000")["crashed"]["pid"], NEVER);
    nobody.must("release g");

    // Another user's file: the kernel refuses a lease, so whether it is open is unknown.
    put(&mut root, &lock_file, OLD, b"");
    assert_eq!(status(&mut root, &target)["state"], "stale", "root can decide it");
    let found = status(&mut nobody, &target);
    assert_eq!((&found["state"], &found["liveness"]), (&"unknown".into(), &"unknown".into()), "{found}");
    nobody.must_fail("acquire l g never", "busy");
    // Another user's live process: "permission denied" means alive.
    put_record(&mut root, &lock_file, std::process::id(), Some(start_time(std::process::id())));
    assert_eq!(status(&mut nobody, &target)["liveness"], "alive");
    nobody.must_fail("acquire l g never", "busy");
    // A difference in identity is a proof.
    put_record(&mut root, &lock_file, std::process::id(), Some(start_time(std::process::id()) + 1));
    assert_eq!(reasons(&status(&mut nobody, &target)), ["recycled-pid"]);
    nobody.must("acquire l g never");
    nobody.must("release g");
    put_record(&mut root, &lock_file, NEVER, None);
    nobody.must("acquire l g never");
}

#[test]
fn a_foreign_holder_in_another_container_keeps_its_lock() {
    if !needs("root and unshare", is_root() && has("unshare")) {
        return;
    }
    let dir = folder();
    let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
    let seed = foreign("python", &["hold", target.to_str().unwrap()]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(seed.get_program()).args(seed.get_args());
    let mut holder = Foreign::from(&mut command);
    holder.await_held();
    let mut actor = Actor::start();
    actor.must(&format!("open l {}", target.display()));
    let found = status(&mut actor, &target);
    // Its pid is 1 in its namespace, and here that of another process, or of a process that has ended.
    assert!(found["pid"].as_i64().unwrap() < 100, "{found}");
    assert_eq!((&found["state"], &found["liveness"]), (&"held".into(), &"alive".into()), "{found}");
    let before = inode(&lock_file);
    actor.must_fail("acquire l g never", "busy");
    assert!(before.is_some() && inode(&lock_file) == before);
    let cleaned = actor.must(&format!("clean {} grace_ms=0 idle_ms=0", dir.path().display()));
    assert_eq!(cleaned["locks"][0]["removed"], false, "{cleaned}");
    actor.must("begin l g forever");
    await_waiter(&mut Actor::start(), &target);
    holder.release();
    assert_eq!(actor.receive()["event"], "granted");
}

/// The holder dies after it was judged and before the waiter listens for its end: no event reports the death, so the
/// waiter must check once more. Without that check it always sleeps for a whole second.
#[test]
fn a_death_between_judging_and_listening_is_noticed() {
    if !needs("strace", has("strace")) || !needs("python3", has("python3")) {
        return;
    }
    let noticed_at_once = || {
        let dir = folder();
        let target = dir.path().join("t");
        let holder = Foreign::hold("python", &target);
        let mut actor = traced(&["inotify_init1:signal=SIGSTOP:when=1"]);
        actor.must(&format!("open l {}", target.display()));
        let pid = child_of(actor.pid());
        let mut held_up = HeldUp { dir, actor, pid, holder: None };
        held_up.actor.must("begin l g 60000");
        let listens = |entry: std::fs::DirEntry| {
            std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains("inotify"))
        };
        until("the waiter is about to listen", || {
            std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().any(listens)
        });
        holder.kill();
        let began = Instant::now();
        let resumer = Resumer::start(pid);
        let granted = held_up.actor.receive();
        let waited = began.elapsed();
        assert_eq!(granted["event"], "granted", "{granted}");
        held_up.actor.must("release g");
        drop(resumer);
        waited < Duration::from_millis(900)
    };
    // Slow attempts are allowed on a busy machine.
    assert!((0..40).any(|_| noticed_at_once()), "it always slept until the slow check");
}
