//! Complaints about crashes, ages and takeovers.

use super::*;

fn start_time(pid: u32) -> u64 {
    tenure::process::start_time(pid).unwrap()
}

fn in_pid_namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(actor_program());
    command
}

/// Makes the record name another process than its creator, as after a pid that was recycled within one tick.
fn name_another(lock_file: &Path, from: u32, to: u32) {
    let started = |pid: u32| format!("{}", start_time(pid));
    let text = std::fs::read_to_string(lock_file).unwrap();
    let named = text
        .replace(&format!("\"pid\": {from},"), &format!("\"pid\": {to},"))
        .replace(&format!("\"starttime\": {},", started(from)), &format!("\"starttime\": {},", started(to)));
    assert_ne!(text, named);
    write_apart(lock_file, named, Duration::ZERO);
}

#[test]
fn complaint_01_a_crashed_holders_lock_blocks_no_process() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut victim = Actor::start();
    let mut next = Actor::start();
    open(&mut next, &target, "");
    victim.hold(&target);
    // The recorded process is alive after the holder's death: a program that judges by the pid waits for ever.
    let dead = victim.pid();
    let lock_file = dir.path().join("t.lock");
    name_another(&lock_file, dead, std::process::id());
    victim.kill();
    let said = Foreign::judge("python", &[]).ask(lock_file.to_str().unwrap());
    assert_eq!(said["stale"], false, "OpenClaw waits: {said}");
    assert_eq!(status(&mut next, &target)["state"], "stale");
    let granted = next.must("acquire l g never");
    assert_eq!(granted["crashed"]["pid"], std::process::id(), "the crash is reported, too: {granted}");
    next.must("release g");

    // The holder's death itself wakes a waiter.
    let mut victim = Actor::start();
    victim.hold(&target);
    assert_ne!(victim.pid(), dead);
    next.must("begin l g forever");
    await_waiters(&mut Actor::start(), &target, 1);
    let pid = victim.pid();
    victim.kill();
    let granted = next.receive();
    assert_eq!((&granted["event"], &granted["crashed"]["pid"]), (&"granted".into(), &pid.into()), "{granted}");
    next.must("release g");
    assert_eq!(inode(&lock_file), None);
}

#[test]
fn complaint_02_a_restarted_container_takes_over_a_lock_file_with_its_own_pid() {
    let dir = folder();
    let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
    let mut gateway = Actor::start();
    open(&mut gateway, &target, "");
    let pid = gateway.pid();
    // The new gateway has the old one's pid: with the old start time, with none, with its own.
    for start in [Some(start_time(pid) + 5), None, Some(start_time(pid))] {
        put(&mut gateway, &lock_file, 0, &record(pid, start));
        let granted = gateway.must("acquire l g never");
        assert_eq!(granted["crashed"]["pid"], pid, "{granted}");
        gateway.must("release g");
    }
    // Another program has the pid.
    put(&mut gateway, &lock_file, 0, &record(std::process::id(), Some(start_time(std::process::id()) + 5)));
    gateway.must("acquire l g never");
}

#[test]
fn complaint_02_containers_with_a_shared_volume_do_not_steal_from_each_other() {
    if !needs("root and unshare", is_root() && has("unshare")) {
        return;
    }
    let dir = folder();
    let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
    let mut one = Actor::from(&mut in_pid_namespace());
    let mut other = Actor::from(&mut in_pid_namespace());
    one.hold(&target);
    let text = std::fs::read_to_string(&lock_file).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(recorded["pid"], 1, "{text}");
    // Both have pid 1 in their containers: by the pid, the other would take this for its own leftover file.
    open(&mut other, &target, "");
    other.must_fail("acquire l g never", "busy");
    assert_eq!(status(&mut other, &target)["state"], "held");
    let cleaned = other.must(&format!("clean {} idle_ms=0", dir.path().display()));
    assert_eq!(cleaned["locks"][0]["removed"], false, "{cleaned}");
    assert_eq!(std::fs::read_to_string(&lock_file).unwrap(), text);
    // Outside both, pid 1 is a third process.
    let mut outside = Actor::start();
    open(&mut outside, &target, "");
    outside.must_fail("acquire l g never", "busy");
    one.must("check g");
    // When the holder's container is killed, all others may acquire at once.
    other.must("begin l g forever");
    await_waiters(&mut Actor::start(), &target, 1);
    one.kill();
    let granted = other.receive();
    assert_eq!((&granted["event"], &granted["crashed"]["pid"]), (&"granted".into(), &1.into()), "{granted}");
}

#[test]
fn complaint_03_of_two_contenders_for_a_stale_lock_only_one_holds() {
    const CONTENDERS: usize = 4;
    const ROUNDS: usize = 60;
    let dir = folder();
    let (target, lock_file, witness) = (dir.path().join("t"), dir.path().join("t.lock"), dir.path().join("witness"));
    let (start, done) = (Barrier::new(CONTENDERS), Barrier::new(CONTENDERS));
    let doubles = Mutex::new(Vec::new());
    let crashes = Mutex::new(0);
    std::thread::scope(|scope| {
        for at in 0..CONTENDERS {
            let (target, lock_file, witness, start, done) = (&target, &lock_file, &witness, &start, &done);
            let (doubles, crashes) = (&doubles, &crashes);
            scope.spawn(move || {
                let mut actor = Actor::start();
                open(&mut actor, target, "");
                for round in 0..ROUNDS {
                    if at == 0 {
                        if round % 4 == 0 {
                            let mut victim = Actor::start();
                            victim.hold(target);
                            victim.kill();
                        } else {
                            put(&mut actor, lock_file, 0, &record(NEVER, None));
                        }
                    }
                    start.wait();
                    let granted = actor.must("acquire l g 60000");
                    *crashes.lock().unwrap() += usize::from(!granted["crashed"].is_null());
                    // No other process is in here, by a witness that is independent of locks.
                    if std::fs::File::create_new(witness).is_err() {
                        doubles.lock().unwrap().push((round, at));
                    }
                    actor.must("check g");
                    std::fs::remove_file(witness).unwrap();
                    actor.must("release g");
                    done.wait();
                    assert!(at != 0 || inode(lock_file).is_none(), "round {round} did not remove its lock file");
                    // The next round begins only after this check.
                    start.wait();
                }
            });
        }
    });
    assert_eq!(*doubles.lock().unwrap(), []);
    assert_eq!(*crashes.lock().unwrap(), ROUNDS, "each dead holder was taken over once");
}

#[test]
fn complaint_04_a_holder_that_still_writes_keeps_its_lock_at_any_age() {
    let dir = folder();
    let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
    let mut holder = Actor::start();
    let mut other = Actor::start();
    open(&mut holder, &target, "max_hold_ms=60 events=1");
    holder.must("acquire l g never");
    let notice = holder.receive();
    assert_eq!(
        (&notice["event"], &notice["revoked"]),
        (&"overrun".into(), &false.into()),
        "the holder is notified: {notice}"
    );
    holder.must("check g");
    open(&mut other, &target, "stale_after_ms=1 grace_ms=1");
    other.must_fail("acquire l g never", "busy");
    other.must(&format!("clean {} grace_ms=0", dir.path().display()));
    holder.must("check g");
    holder.must("release g");

    // A live foreign holder of the greatest age.
    let text =
        format!("{{\"pid\": {}, \"createdAt\": \"2020-01-01T00:00:00.000Z\", \"maxHoldMs\": 1}}", std::process::id());
    put(&mut other, &lock_file, 7_200_000, &text);
    assert_eq!(status(&mut other, &target)["reasons"], json!(["too-old", "hold-exceeded"]));
    let refused = other.must_fail("acquire l g never", "busy");
    assert_eq!(refused["holder"], std::process::id());
    assert_eq!(std::fs::read_to_string(&lock_file).unwrap(), text);
}

#[test]
fn complaint_04_a_holder_whose_lock_was_stolen_is_notified() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = Actor::start();
    open(&mut holder, &target, "max_hold_ms=60 overrun=revoke events=1");
    holder.must("acquire l g never");
    holder.must("revoked g");
    let mut events = [holder.receive(), holder.receive()].map(|said| said["event"].as_str().unwrap().to_owned());
    events.sort();
    assert_eq!(events, ["overrun", "revoked"]);
    holder.must_fail("check g", "lost");
    let mut next = Actor::start();
    let first = next.hold(&target);
    holder.must_fail("release g", "lost");
    next.must("check g");
    assert!(first["fence"].as_u64().unwrap() > 0);
}

#[test]
fn complaint_05_the_watchdog_runs_beside_a_busy_event_loop() {
    let dir = folder();
    let (kept, wanted) = (dir.path().join("kept"), dir.path().join("wanted"));
    let mut owner = Actor::start();
    owner.hold(&wanted);
    let mut busy = Actor::start();
    open(&mut busy, &kept, "max_hold_ms=60 overrun=revoke events=1");
    busy.must("acquire l g never");
    busy.must(&format!("open w {}", wanted.display()));
    // Its only loop does nothing else from here on.
    busy.send("acquire w h forever");
    let notice = busy.receive();
    assert_eq!((&notice["event"], &notice["revoked"]), (&"overrun".into(), &true.into()), "{notice}");
    Actor::start().hold(&kept);
    owner.must("release g");
    assert_eq!(busy.receive()["ok"], true);
}

#[test]
fn complaint_05_one_failing_release_does_not_stop_the_watchdog_for_the_others() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    // The watchdog's first removal fails.
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=unlinkat", "-e", "inject=unlinkat:error=EIO:when=1"]);
    let mut holder = Actor::from(command.arg(actor_program()));
    for name in ["a", "b", "c"] {
        let target = dir.path().join(name);
        open(&mut holder, &target, "max_hold_ms=200 overrun=revoke events=1");
        holder.must(&format!("acquire l {name} never"));
    }
    for _ in 0..3 {
        assert_eq!(holder.receive()["event"], "overrun");
    }
    let left = ["a", "b", "c"].iter().filter(|name| inode(&dir.path().join(format!("{name}.lock"))).is_some()).count();
    assert_eq!(left, 1, "one removal failed");
    let mut next = Actor::start();
    for name in ["a", "b", "c"] {
        holder.must_fail(&format!("check {name}"), "lost");
        // Even the lock whose lock file stayed is free.
        next.must(&format!("open l {}", dir.path().join(name).display()));
        next.must(&format!("acquire l {name} never"));
    }
}

#[test]
fn complaint_06_an_empty_file_of_a_dead_holder_does_not_block() {
    let dir = folder();
    let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
    let mut actor = Actor::start();
    open(&mut actor, &target, "");
    // No process has the file open. A grace period of six seconds suffices for the beginning of OpenClaw's JSON. An
    // empty file may have a holder until OpenClaw's own half hour is over, unless natives have used this lock before.
    put(&mut actor, &lock_file, 1_700_000, "");
    actor.must_fail("acquire l g never", "busy");
    assert!(inode(&lock_file).is_some());
    std::fs::remove_file(&lock_file).unwrap();
    for (age, left) in [
        (1_801_000, ""),
        (6000, ""),
        (6000, "\n"),
        (6000, "\0\0\0\0\0\0\0\0"),
        (6000, "{}"),
        (6000, "{\n  \"pid\": 42"),
    ] {
        put(&mut actor, &lock_file, age, left);
        actor.must("acquire l g never");
        actor.must("release g");
        assert_eq!(inode(&lock_file), None, "{left:?}");
    }
    // A file whose holder is between create and write stays at any age.
    let holder = Foreign::hold("python", &target);
    put(&mut actor, &lock_file, 7_200_000, "");
    actor.must_fail("acquire l g never", "busy");
    actor.must("begin l g forever");
    await_waiters(&mut Actor::start(), &target, 1);
    holder.kill();
    assert_eq!(actor.receive()["event"], "granted");
}

#[test]
fn complaint_06_a_native_killed_before_any_of_its_steps_blocks_no_process() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let mut next = Actor::start();
    for (at, death) in
        ["pwrite64:when=1", "pwrite64:when=2", "linkat:when=1", "flock:when=1", "unlinkat:when=1"].iter().enumerate()
    {
        let target = dir.path().join(at.to_string()).join("t");
        let (call, when) = death.split_once(':').unwrap();
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        command.args(["-e", &format!("inject={call}:signal=SIGKILL:{when}")]);
        let mut victim = Actor::from(command.arg(actor_program()));
        victim.must(&format!("open l {}", target.display()));
        victim.send("acquire l g never\nrelease g");
        // strace ends as the traced process did.
        assert_eq!(victim.finish().signal(), Some(libc::SIGKILL), "{death}");
        next.must(&format!("open l {}", target.display()));
        next.must("acquire l g never");
        next.must("check g");
        next.must("release g");
        assert_eq!(inode(&target.with_file_name("t.lock")), None, "{death}");
    }
}

#[test]
fn complaint_13_permission_denied_is_alive() {
    if !needs("root and setpriv", is_root() && has("setpriv")) {
        return;
    }
    let dir = folder();
    let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
    std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534)).unwrap();
    let mut root = Actor::start();
    let mut nobody = Actor::from(&mut as_nobody(&actor_program(), dir.path()));
    let text = record(root.pid(), Some(start_time(root.pid())));
    put(&mut root, &lock_file, 0, &text);
    // Only the other user may remove the file, and no process has it open: the pid is the only evidence of its holder.
    std::os::unix::fs::chown(&lock_file, Some(65534), Some(65534)).unwrap();
    let found = status(&mut nobody, &target);
    assert_eq!((&found["state"], &found["reasons"]), (&"held".into(), &json!([])), "{found}");
    open(&mut nobody, &target, "");
    nobody.must_fail("acquire l g never", "busy");
    assert_eq!(std::fs::read_to_string(&lock_file).unwrap(), text);
    let cleaned = nobody.must(&format!("clean {} grace_ms=0", dir.path().display()));
    assert_eq!(cleaned["locks"][0]["removed"], false, "{cleaned}");
    nobody.must("begin l g forever");
    await_waiters(&mut Actor::start(), &target, 1);
    // The process ends: a waiter of another user notices without any event of the file.
    root.kill();
    assert_eq!(nobody.receive()["event"], "granted");
}

fn process_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// A child that is killed and reaped on drop.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn complaint_13_a_zombie_is_dead_but_not_one_with_live_threads() {
    let dir = folder();
    let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
    let mut actor = Actor::start();
    open(&mut actor, &target, "");
    let zombie = Reaped(Command::new("true").spawn().unwrap());
    until("a zombie", || process_state(zombie.0.id()) == Some('Z'));
    let text = record(zombie.0.id(), Some(start_time(zombie.0.id())));
    put(&mut actor, &lock_file, 0, &text);
    assert_eq!(status(&mut actor, &target)["reasons"], json!(["dead-pid"]));
    assert_eq!(actor.must("acquire l g never")["crashed"]["pid"], zombie.0.id());
    actor.must("release g");
    // A native that is not reaped yet: the kernel releases its lock with its last thread.
    let mut native = Actor::start();
    native.hold(&target);
    native.child.kill().unwrap();
    until("a zombie", || process_state(native.pid()) == Some('Z'));
    assert_eq!(actor.must("acquire l g 60000")["crashed"]["pid"], native.pid());
    actor.must("release g");

    // A leader that has ended while one of its threads keeps running.
    let script = "import ctypes, platform, threading, time\n\
        threading.Thread(target=lambda: time.sleep(600)).start()\n\
        ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[platform.machine()], 0)";
    let leader = Reaped(Command::new("python3").args(["-c", script]).stdout(Stdio::null()).spawn().unwrap());
    until("a zombie leader", || process_state(leader.0.id()) == Some('Z'));
    assert!(std::fs::read_dir(format!("/proc/{}/task", leader.0.id())).unwrap().count() > 1);
    let text = record(leader.0.id(), Some(start_time(leader.0.id())));
    put(&mut actor, &lock_file, 0, &text);
    assert_eq!(status(&mut actor, &target)["reasons"], json!([]));
    actor.must_fail("acquire l g never", "busy");
    assert_eq!(std::fs::read_to_string(&lock_file).unwrap(), text);
}

#[test]
fn complaint_15_a_sweep_never_deletes_a_live_lock() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let mut sweeper = Actor::start();
    let mut native = Actor::start();
    native.hold(&path("native"));
    let python = Foreign::hold("python", &path("python"));
    let between = Foreign::hold("python", &path("between"));
    let old =
        format!("{{\"pid\": {}, \"createdAt\": \"2020-01-01T00:00:00.000Z\", \"maxHoldMs\": 1}}", std::process::id());
    // Between create and write for two hours; of the greatest age; new; the same with a date in the future.
    put(&mut sweeper, &path("between.lock"), 7_200_000, "");
    put(&mut sweeper, &path("old.lock"), 7_200_000, &old);
    put(&mut sweeper, &path("fresh.lock"), -3_600_000, "");
    put(&mut sweeper, &path("yarn.lock"), 7_200_000, "# yarn lockfile v1\n");
    // Files that may be removed.
    put(&mut sweeper, &path("dead.lock"), 0, &record(NEVER, None));
    put(&mut sweeper, &path("empty.lock"), 7_200_000, "");
    let mut victim = Actor::start();
    victim.hold(&path("crashed"));
    victim.kill();

    let stay = ["native", "python", "between", "old", "fresh", "yarn"].map(|name| path(&format!("{name}.lock")));
    let before: Vec<_> = stay.iter().map(|path| (inode(path), std::fs::read(path).unwrap())).collect();
    let dry = sweeper.must(&format!("clean {} dry_run=1", dir.path().display()));
    assert!(dry["locks"].as_array().unwrap().iter().all(|lock| lock["removed"] == false), "{dry}");
    assert!(path("dead.lock").exists());
    // The sweep waits for no process, although three of these are held.
    let swept = sweeper.must(&format!("clean {}", dir.path().display()));
    assert!(path("empty.lock").exists(), "its age alone speaks against it");
    let aged = sweeper.must(&format!("clean {} aged=1", dir.path().display()));
    assert!(aged["locks"].as_array().unwrap().iter().any(|lock| lock["removed"] == true), "{aged}");
    let results: Vec<(String, bool)> = swept["locks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lock| {
            let target = Path::new(lock["target"].as_str().unwrap());
            (target.file_name().unwrap().to_str().unwrap().to_owned(), lock["removed"].as_bool().unwrap())
        })
        .collect();
    let expected = [
        ("between", false),
        ("crashed", true),
        ("dead", true),
        ("empty", false),
        ("fresh", false),
        ("native", false),
        ("old", false),
        ("python", false),
    ];
    assert_eq!(results, expected.map(|(name, removed)| (name.to_owned(), removed)));
    let after: Vec<_> = stay.iter().map(|path| (inode(path), std::fs::read(path).unwrap())).collect();
    assert_eq!(after, before);
    for name in ["crashed", "dead", "empty"] {
        assert!(!path(&format!("{name}.lock")).exists(), "{name}");
    }
    native.must("check g");
    python.release();
    between.release();
    assert_eq!(sweeper.must(&format!("clean {}", path("missing").display()))["locks"], json!([]));
}
