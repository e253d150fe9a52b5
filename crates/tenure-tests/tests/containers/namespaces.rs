//! Namespaces of every kind that share a folder.

use super::*;

/// Returns a shell command in a new container: a pid namespace with its own `/proc`. The shell is its init.
fn container(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script]);
    command
}

/// Runs the words in a container whose next pid is known; no `exec`, so that the shell stays its init.
fn with_pid(pid: u32, words: &str) -> Command {
    container(&format!("echo {} >/proc/sys/kernel/ns_last_pid && {words}; exit $?", pid - 1))
}

fn actor_with_pid(pid: u32) -> Actor {
    Actor::from(&mut with_pid(pid, actor_program().to_str().unwrap()))
}

/// Returns whether this machine can create namespaces.
fn containers() -> bool {
    needs("root, for namespaces", is_root()) && needs("unshare", has("unshare")) && {
        let made = container("exit 0").status().is_ok_and(|status| status.success());
        needs("pid namespaces", made)
    }
}

/// Returns the only child of `unshare`, the container's init, by its pid outside.
fn init_of(unshare: u32) -> i32 {
    let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    children.trim().parse().unwrap()
}

/// Kills a container's init, and with it the whole container.
fn kill_init(unshare: u32) {
    // SAFETY: `unshare` is our child and waits for its own, which is not reaped before it dies.
    unsafe { libc::kill(init_of(unshare), libc::SIGKILL) };
}

#[test]
fn natives_in_two_pid_namespaces_exclude_each_other() {
    if !containers() {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut inside = actor_with_pid(2);
    exclude_each_other(&mut inside, &target, &mut Actor::start(), &target);
}

#[test]
fn two_containers_on_one_volume_exclude_each_other_despite_equal_pids() {
    if !containers() {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut one, mut other) = (actor_with_pid(7), actor_with_pid(7));
    exclude_each_other(&mut one, &target, &mut other, &target);
    one.hold(&target);
    // The record, and a lock file of another holder, name this actor's own pid; the holder is still the other actor.
    let found = status(&mut other, &target);
    assert_eq!((&found["pid"], &found["state"], &found["liveness"]), (&json!(7), &json!("held"), &json!("alive")));
}

#[test]
fn the_death_of_a_containers_init_frees_its_locks() {
    if !containers() {
        return;
    }
    let dir = folder();
    let (shown, hidden) = (dir.path().join("shown"), dir.path().join("hidden"));
    let mut inside = actor_with_pid(5);
    inside.hold(&shown);
    inside.must(&format!("open f {} style=flock", hidden.display()));
    inside.must("acquire f h never");

    let mut outside = Actor::start();
    for target in [&shown, &hidden] {
        let found = status(&mut outside, target);
        let facts = (&found["state"], &found["pid"], &found["liveness"], &found["why"]);
        assert_eq!(facts, (&json!("held"), &json!(5), &json!("alive"), &json!("it has the kernel lock")), "{found}");
    }
    outside.must(&format!("open s {}", shown.display()));
    outside.must(&format!("open h {}", hidden.display()));
    outside.must_fail("acquire s s never", "busy");
    outside.must("begin s s forever");
    outside.must("begin h h forever");
    kill_init(inside.pid());
    for _ in 0..2 {
        let granted = outside.receive();
        assert_eq!((&granted["event"], &granted["crashed"]["pid"]), (&json!("granted"), &json!(5)), "{granted}");
    }
}

#[test]
fn a_live_foreign_holder_in_a_container_keeps_its_lock_whatever_its_pid_means_here() {
    if !containers() || !needs("python3", has("python3")) {
        return;
    }
    let dir = folder();
    // Outside, no process has the first pid; pid 1 is another process, with another start time.
    for (name, pid, reason) in [("dead", Some(4_000_123), "dead-pid"), ("recycled", None, "recycled-pid")] {
        let target = dir.path().join(name);
        let holder = Foreign::hold(&target, |words| match pid {
            Some(pid) => with_pid(pid, words),
            None => container(&format!("exec {words}")),
        });
        let mut native = Actor::start();
        let found = status(&mut native, &target);
        assert_eq!(found["pid"], pid.unwrap_or(1));
        assert_eq!(found["reasons"], json!([reason]), "{found}");
        assert_eq!((&found["state"], &found["liveness"]), (&json!("held"), &json!("alive")), "{found}");
        native.must(&format!("open l {}", target.display()));
        native.must_fail("acquire l g never", "busy");
        // A sweep, or a process of another container, does not remove it either.
        assert_eq!(native.must(&format!("clean {}", dir.path().display()))["locks"][0]["removed"], false);
        let mut third = actor_with_pid(2);
        third.must(&format!("open l {}", target.display()));
        third.must_fail("acquire l g never", "busy");

        native.must("begin l g forever");
        kill_init(holder.child.id());
        let granted = native.receive();
        assert_eq!(granted["crashed"]["pid"], pid.unwrap_or(1), "{granted}");
        native.must("release g");
    }
}

#[test]
fn a_container_restarted_with_the_same_pids_takes_over_its_old_locks() {
    if !containers() || !needs("python3", has("python3")) {
        return;
    }
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let (native, program, bare, other) = (path("native"), path("program"), path("bare"), path("other"));

    let mut before = actor_with_pid(42);
    before.hold(&native);
    let holder = Foreign::hold(&program, |words| with_pid(42, words));
    kill_init(before.pid());
    kill_init(holder.child.id());
    before.child.wait().unwrap();
    drop(holder);
    // Lock files of older programs have no start time.
    let now = "2026-03-02T10:00:00.000Z";
    write_apart(&path("bare.lock"), format!(r#"{{"pid": 42, "createdAt": "{now}"}}"#), Duration::ZERO);
    // The old pid now belongs to another program: the new container's init.
    let text = format!(r#"{{"pid": 1, "createdAt": "{now}", "starttime": 1}}"#);
    write_apart(&path("other.lock"), text, Duration::ZERO);

    // The container restarts with the same pids; the foreign holder's start time is from its earlier life.
    let mut after = actor_with_pid(42);
    for (target, reasons) in [
        (&native, None),
        (&program, Some(json!(["recycled-pid"]))),
        (&bare, Some(json!(["too-old", "orphan-self-pid"]))),
        (&other, Some(json!(["recycled-pid", "too-old"]))),
    ] {
        let found = status(&mut after, target);
        assert_eq!(found["state"], "stale", "{found}");
        // Two lives may begin within one clock tick; then only the pid distinguishes them.
        if let Some(reasons) = reasons
            && !(target == &program && found["reasons"] == json!(["orphan-self-pid"]))
        {
            assert_eq!(found["reasons"], reasons, "{found}");
        }
        let granted = after.hold(target);
        assert_eq!(granted["crashed"]["pid"], found["pid"], "{granted}");
        after.must("release g");
    }
}

#[test]
fn a_native_outside_takes_over_from_a_container_that_has_ended() {
    if !containers() || !needs("python3", has("python3")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    // Its pid was 1: outside, pid 1 is a live process.
    let mut holder = Foreign::hold(&target, |words| container(&format!("exec {words}")));
    kill_init(holder.child.id());
    holder.child.wait().unwrap();
    let mut outside = Actor::start();
    let found = status(&mut outside, &target);
    assert_eq!((&found["state"], &found["reasons"]), (&json!("stale"), &json!(["recycled-pid"])), "{found}");
    assert_eq!(outside.hold(&target)["crashed"]["pid"], 1);
}

#[test]
fn processes_of_two_user_namespaces_exclude_each_other() {
    if !containers() {
        return;
    }
    let program = actor_program();
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]).arg(&program);
    let mut probe = Command::new("unshare");
    probe.args(["--user", "--map-root-user", "true"]);
    if !needs("user namespaces", probe.status().is_ok_and(|status| status.success())) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut outside = Actor::start();
    exclude_each_other(&mut Actor::from(&mut inside), &target, &mut outside, &target);
    // A foreign holder outside, seen from inside: leases work on a user's own files.
    if needs("python3", has("python3")) {
        let mut holder = Foreign::hold(&target, |words| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exec {words}")]);
            command
        });
        let mut inside = Actor::from(&mut inside);
        inside.must(&format!("open l {}", target.display()));
        inside.must_fail("acquire l g never", "busy");
        inside.must("begin l g forever");
        holder.input.write_all(b"release\n").unwrap();
        holder.expect("released");
        assert_eq!(inside.receive()["crashed"], Value::Null);
    }
}

#[test]
fn one_folder_in_two_mounts_has_one_lock() {
    if !containers() {
        return;
    }
    let dir = folder();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    for path in [&here, &there] {
        std::fs::create_dir(path).unwrap();
    }
    let script = format!("mount --bind {} {} && exec {}", here.display(), there.display(), actor_program().display());
    let mut inside = Actor::from(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
    exclude_each_other(&mut inside, &there.join("t"), &mut Actor::start(), &here.join("t"));
    assert!(!there.join("t").exists(), "the bind mount is seen out here");
}

#[test]
fn without_proc_facts_are_missing_and_never_wrong() {
    if !containers() || !needs("chroot", has("chroot")) {
        return;
    }
    let dir = folder();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    // Only the root's own file system: no /proc, no /sys.
    let script = format!("mount --bind / {0} && exec chroot {0} {1}", root.display(), actor_program().display());
    if !needs("one file system for the program and /tmp", same_device(&actor_program(), dir.path())) {
        return;
    }
    let mut jailed = Command::new("unshare");
    jailed.args(["--mount", "sh", "-c", &script]);
    let target = dir.path().join("t");
    let (mut inside, mut outside) = (Actor::from(&mut jailed), Actor::start());
    exclude_each_other(&mut inside, &target, &mut outside, &target);
    assert_eq!(status(&mut inside, &target)["waiters"], Value::Null, "who waits cannot be read in there");

    inside.hold(&target);
    let text = std::fs::read_to_string(dir.path().join("t.lock")).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["pid"], inside.pid());
    assert_eq!(record["starttime"], Value::Null, "{record}");
    for field in ["bootId", "pidNamespace", "startTime", "command"] {
        assert_eq!(record["tenure"][field], Value::Null, "{record}");
    }
    if needs("python3", has("python3")) {
        let path = dir.path().join("t.lock");
        let judged = foreign("python", &["judge", path.to_str().unwrap()]).output().unwrap();
        let judged: Value = serde_json::from_slice(&judged.stdout).unwrap();
        assert_eq!((&judged["stale"], &judged["alive"]), (&json!(false), &json!(true)), "{judged}");
    }
    let pid = inside.pid();
    outside.must("begin l g forever");
    inside.kill();
    assert_eq!(outside.receive()["crashed"]["pid"], pid);
    outside.must("release g");

    // A foreign holder that lives, and one that died, judged from inside.
    if needs("python3", has("python3")) {
        let mut inside = Actor::from(&mut jailed);
        inside.must(&format!("open l {}", target.display()));
        let mut holder = Foreign::hold(&target, |words| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exec {words}")]);
            command
        });
        inside.must_fail("acquire l g never", "busy");
        inside.must("begin l g forever");
        holder.child.kill().unwrap();
        holder.child.wait().unwrap();
        assert_eq!(inside.receive()["crashed"]["pid"], holder.child.id());
    }
}

fn same_device(one: &Path, other: &Path) -> bool {
    std::fs::metadata(one).unwrap().dev() == std::fs::metadata(other).unwrap().dev()
}

#[test]
fn processes_of_two_time_namespaces_exclude_each_other() {
    if !containers() {
        return;
    }
    let words = ["--time", "--boottime", "1000000", "--monotonic", "1000000", "--fork", "--kill-child"];
    let probe = Command::new("unshare").args(words).arg("true").status();
    if !needs("time namespaces", probe.is_ok_and(|status| status.success())) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut inside = Actor::from(Command::new("unshare").args(words).arg(actor_program()));
    let mut outside = Actor::start();
    exclude_each_other(&mut inside, &target, &mut outside, &target);
    inside.hold(&target);
    assert_eq!(status(&mut outside, &target)["liveness"], "alive");
    // The two sides read different start times: a foreign program must not take that for a recycled pid.
    if needs("python3", has("python3")) {
        let path = dir.path().join("t.lock");
        let judged = foreign("python", &["judge", path.to_str().unwrap()]).output().unwrap();
        let judged: Value = serde_json::from_slice(&judged.stdout).unwrap();
        assert_eq!(judged["reasons"], json!([]), "{judged}");
    }
    // The same for a command's start time, which is read inside as well.
    let pid_inside = init_of(inside.pid());
    let child = inside.must("fork-stay")["pid"].as_i64().unwrap();
    inside.must(&format!("command g {child}"));
    let text = std::fs::read_to_string(dir.path().join("t.lock")).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&record["pid"], &record["starttime"]), (&json!(pid_inside), &Value::Null), "{record}");
    assert_eq!(record["tenure"]["commandPid"], json!(child), "{record}");
    inside.must("release g");
    // SAFETY: the actor's child, which ends by a signal only, and which the actor has not reaped.
    unsafe { libc::kill(child as i32, libc::SIGKILL) };

    // In the other direction: a foreign holder inside that is between its close and its unlink lives as well.
    let (other, pid) = (dir.path().join("other"), init_of(inside.pid()));
    let text = format!(r#"{{"pid": {pid}, "createdAt": "2026-03-02T10:00:00.000Z", "starttime": 100000007}}"#);
    std::fs::write(dir.path().join("other.lock"), text).unwrap();
    let found = status(&mut outside, &other);
    assert_eq!((&found["state"], &found["reasons"]), (&json!("held"), &json!(["too-old"])), "{found}");
    outside.must(&format!("open o {}", other.display()));
    outside.must_fail("acquire o o never", "busy");
    if needs("python3", has("python3")) {
        let mut holder = Foreign::hold(&target, |program| {
            let mut command = Command::new("unshare");
            command.args(words).args(["sh", "-c", &format!("exec {program}")]);
            command
        });
        outside.must_fail("acquire l g never", "busy");
        outside.must("begin l g forever");
        holder.input.write_all(b"release\n").unwrap();
        holder.expect("released");
        assert_eq!(outside.receive()["crashed"], Value::Null);
    }
}
