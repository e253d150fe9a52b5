//! Status, sweeps and breaks: reports are true, live locks stay, and no process is disturbed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tenure::{
    BreakOptions, CleanOptions, HolderKind, ListOptions, Lock, StaleReason, State, Status, Style, Wait, break_lock,
    clean, list, status,
};
use tenure_tests::strace::Strace;
use tenure_tests::{
    Actor, actor_program, as_nobody, folder, foreign, has, has_ended, is_root, lock_file, needs, opened, signal, until,
};

fn holding(target: &Path, keys: &str) -> Actor {
    let mut actor = opened(target, keys);
    actor.must("acquire l g never");
    actor
}

fn anchor(target: &Path) -> PathBuf {
    target.parent().unwrap().join(".tenure").join(lock_file(target).file_name().unwrap())
}

/// A foreign program that holds until it is killed or its input closes.
struct Foreign(Child);

impl Foreign {
    fn hold(target: &Path) -> Foreign {
        let mut child = foreign("python", &["hold", target.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("held"), "{line}");
        Foreign(child)
    }

    fn pid(&self) -> i64 {
        self.0.id().into()
    }

    fn kill(mut self) -> i64 {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        self.pid()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pid_of(found: &Status) -> Option<i64> {
    found.holder.as_ref().and_then(tenure::Holder::pid)
}

fn words(found: &Status) -> Vec<&'static str> {
    found.reasons.iter().map(|reason| reason.as_str()).collect()
}

/// Returns every path below a folder, with its bytes and its time of change.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let bytes = if meta.is_file() { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
        if meta.is_dir() {
            found.extend(tree(&entry.path()));
        }
        found.insert(entry.path(), (bytes, meta.modified().unwrap()));
    }
    found
}

#[test]
fn a_natives_lock_is_free_held_or_stale() {
    for (keys, style) in [("label=run", Style::LockFile), ("label=run style=flock", Style::Flock)] {
        let dir = folder();
        let target = dir.path().join("t");
        let before = status(&target).unwrap();
        assert_eq!((before.state, before.waiters, pid_of(&before)), (State::Free, Some(0), None));
        assert!(tree(dir.path()).is_empty(), "a status creates nothing");
        let actor = holding(&target, keys);
        let found = status(&target).unwrap();
        assert_eq!((found.state, found.style, pid_of(&found)), (State::Held, style, Some(actor.pid().into())));
        let holder = found.holder.as_ref().unwrap();
        assert_eq!((holder.kind, holder.label.as_deref()), (HolderKind::Native, Some("run")));
        assert!(holder.liveness.is_alive() && holder.fence.is_some() && found.reasons.is_empty(), "{found:?}");
        let pid = i64::from(actor.pid());
        actor.kill();
        let found = status(&target).unwrap();
        assert_eq!((found.state, found.style, pid_of(&found)), (State::Stale, style, Some(pid)), "{found:?}");
        assert_eq!(words(&found), ["dead-pid"]);
        let mut actor = holding(&target, keys);
        actor.must("release g");
        let after = status(&target).unwrap();
        assert_eq!((after.state, pid_of(&after), after.reasons.len()), (State::Free, None, 0), "{after:?}");
    }
    let nowhere = status("/nonexistent/folder/t").unwrap();
    assert_eq!(nowhere.state, State::Free);
}

/// Returns the inode of a process's pidfd. Before Linux 6.9 all pidfds have the same.
fn pidfd_inode(pid: u32) -> u64 {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::fs::fstat(pidfd_open(pid, PidfdFlags::empty()).unwrap()).unwrap().st_ino
}

#[test]
fn the_record_names_the_holder() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = holding(&target, "label=why max_hold_ms=60000");
    let proc = |path: &str| std::fs::read_to_string(format!("/proc/{path}")).unwrap();
    let stat = proc(&format!("{}/stat", holder.pid()));
    let start_time: u64 = stat[stat.rfind(')').unwrap() + 2..].split(' ').nth(19).unwrap().parse().unwrap();
    let namespace = std::fs::read_link(format!("/proc/{}/ns/pid", holder.pid())).unwrap();
    let record: Value = serde_json::from_slice(&std::fs::read(lock_file(&target)).unwrap()).unwrap();
    let native = &record["tenure"];
    assert_eq!((&record["pid"], &record["maxHoldMs"]), (&holder.pid().into(), &60000.into()), "{record}");
    assert_eq!((&native["state"], &native["style"]), (&"held".into(), &"lock-file".into()), "{record}");
    assert_eq!((&native["label"], &native["startTime"]), (&"why".into(), &start_time.into()), "{record}");
    assert_eq!(native["acquiredAt"], record["createdAt"], "{record}");
    assert_eq!(native["bootId"], proc("sys/kernel/random/boot_id").trim(), "{record}");
    assert_eq!(native["host"], proc("sys/kernel/hostname").trim(), "{record}");
    assert_eq!(native["command"], actor_program().to_str().unwrap(), "{record}");
    assert_eq!(format!("pid:[{}]", native["pidNamespace"]), namespace.to_str().unwrap(), "{record}");
    let inode = pidfd_inode(holder.pid());
    assert_eq!(native["pidfdInode"].as_u64(), (inode != pidfd_inode(std::process::id())).then_some(inode), "{record}");
    // The guard has the same record.
    let held: Value = serde_json::from_str(holder.must("record g")["record"].as_str().unwrap()).unwrap();
    assert_eq!(held, record);
    let text = holder.must("holder g")["holder"].clone();
    assert!(text.as_str().unwrap().contains(&holder.pid().to_string()), "{text}");
}

#[test]
fn a_foreign_lock_is_held_stale_or_unknown() {
    if !needs("python3", has("python3")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let holder = Foreign::hold(&target);
    let found = status(&target).unwrap();
    assert_eq!((found.state, pid_of(&found)), (State::Held, Some(holder.pid())), "{found:?}");
    assert_eq!(found.holder.unwrap().kind, HolderKind::Foreign);
    let pid = holder.kill();
    let found = status(&target).unwrap();
    assert_eq!((found.state, pid_of(&found), words(&found)), (State::Stale, Some(pid), vec!["dead-pid"]));
    // Without a pid, and new: its holder may be between create and write.
    std::fs::write(lock_file(&target), "").unwrap();
    let found = status(&target).unwrap();
    assert_eq!((found.state, words(&found)), (State::Unknown, vec!["missing-pid", "invalid-createdAt"]), "{found:?}");
    std::fs::write(lock_file(&target), "name = \"mine\"\n").unwrap();
    assert!(status(&target).unwrap_err().is_obstructed());
}

/// Flock style does not remove a dead foreign program's lock file, and holds beside it.
#[test]
fn a_holder_beside_a_stale_lock_file_is_reported() {
    if !needs("python3", has("python3")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let dead = Foreign::hold(&target).kill();
    let mut actor = holding(&target, "style=flock");
    let found = status(&target).unwrap();
    assert_eq!((found.state, found.style, pid_of(&found)), (State::Held, Style::Flock, Some(actor.pid().into())));
    let busy = opened(&target, "").must_fail("acquire l g never", "busy");
    assert_eq!(busy["holder"], actor.pid(), "{busy}");
    actor.must("release g");
    let found = status(&target).unwrap();
    assert_eq!((found.state, pid_of(&found)), (State::Stale, Some(dead)), "{found:?}");
}

#[test]
fn a_folder_with_search_permission_only_is_a_clear_error() {
    if !needs("root and setpriv", is_root() && has("setpriv")) {
        return;
    }
    let dir = folder();
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let mut nobody = Actor::from(&mut as_nobody(&actor_program(), dir.path()));
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    for deed in ["list", "clean"] {
        let answer = nobody.ask(&format!("{deed} {}", closed.display()));
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains("cannot be read") && error.contains("Permission denied"), "{deed}: {answer}");
    }
}

/// A break applies only to the holder that the operator saw, and not to a later one.
#[test]
fn a_break_of_a_seen_holder_breaks_no_other() {
    for keys in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut first = holding(&target, keys);
        let seen = status(&target).unwrap();
        first.must("release g");
        let mut second = holding(&target, keys);
        assert!(break_lock(&target, &BreakOptions::default().only(seen).force(true)).unwrap_err().is_busy());
        second.must("check g");
        let seen = status(&target).unwrap();
        assert!(break_lock(&target, &BreakOptions::default().only(seen).force(true)).unwrap().broken);
        second.must_fail("check g", "lost");
    }
}

#[test]
fn waiters_are_counted() {
    for keys in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut holder = holding(&target, keys);
        let mut waiters: Vec<Actor> = (0..3).map(|_| opened(&target, keys)).collect();
        for (n, waiter) in waiters.iter_mut().enumerate() {
            waiter.must("begin l g forever");
            // The process's further waiters are not in the kernel's queue.
            waiter.must("begin l h forever");
            until("it waits", || status(&target).unwrap().waiters == Some(n + 1));
        }
        waiters.pop().unwrap().kill();
        until("one less", || status(&target).unwrap().waiters == Some(2));
        drop(waiters);
        until("none", || status(&target).unwrap().waiters == Some(0));
        holder.must("check g");
    }
}

#[test]
fn waiters_for_a_foreign_holder_are_counted() {
    if !needs("python3", has("python3")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let _holder = Foreign::hold(&target);
    let mut waiters: Vec<Actor> = (0..3).map(|_| opened(&target, "")).collect();
    for (n, waiter) in waiters.iter_mut().enumerate() {
        waiter.must("begin l g forever");
        until("it waits", || status(&target).unwrap().waiters == Some(n + 1));
    }
}

#[test]
fn a_process_that_inherited_the_lock_is_named() {
    for keys in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut holder = holding(&target, keys);
        let child = u32::try_from(holder.must("keep g sleep 600")["pid"].as_u64().unwrap()).unwrap();
        let dead = i64::from(holder.pid());
        holder.kill();
        let found = status(&target).unwrap();
        assert_eq!((found.state, pid_of(&found)), (State::Held, Some(dead)), "{found:?}");
        assert_eq!(found.open_by, [i64::from(child)]);
        let why = found.holder.unwrap().liveness.why().to_owned();
        assert!(why.contains(&format!("pid {child} inherited")), "{why}");
        // A process that has the file open without the lock has inherited nothing.
        let mut bystander = opened(&target, keys);
        bystander.must_fail("acquire l g never", "busy");
        let found = status(&target).unwrap();
        signal(child, libc::SIGKILL);
        assert_eq!(found.open_by, [i64::from(child)]);
        until("stale", || status(&target).unwrap().state == State::Stale);
    }
}

#[test]
fn sharers_are_named() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut sharers: Vec<Actor> = (0..3).map(|_| opened(&target, "style=flock")).collect();
    // Shares begin and end without a record; an earlier record says nothing about them.
    sharers[0].must("acquire l g never");
    sharers[0].must("release g");
    for sharer in &mut sharers {
        sharer.must("share l s never");
    }
    let mut pids: Vec<i64> = sharers.iter().map(|sharer| sharer.pid().into()).collect();
    pids.sort_unstable();
    let found = status(&target).unwrap();
    assert_eq!((found.state, found.style, &found.open_by), (State::Held, Style::Flock, &pids), "{found:?}");
    assert!(found.holder.is_none());
    drop(sharers);
    assert_eq!(status(&target).unwrap().state, State::Free);
}

#[test]
fn sharers_are_named_without_any_record() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut sharer = opened(&target, "style=flock");
    sharer.must("share l s never");
    let found = status(&target).unwrap();
    assert_eq!((found.state, found.style, found.open_by), (State::Held, Style::Flock, vec![sharer.pid().into()]));
}

/// Starts `flock(1)`, which holds the target until its input closes.
fn util_linux(target: &Path, kind: &str) -> Child {
    let mut child = Command::new("flock")
        .args(["--no-fork", kind, target.to_str().unwrap(), "sh", "-c", "echo in; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");
    child
}

#[test]
fn flock_of_util_linux_on_the_target_is_reported() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    for kind in ["-x", "-s"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut child = util_linux(&target, kind);
        let found = status(&target).unwrap();
        let pid = i64::from(child.id());
        assert_eq!((found.state, found.style, &found.open_by), (State::Held, Style::Flock, &vec![pid]), "{found:?}");
        if kind == "-x" {
            let holder = found.holder.as_ref().unwrap();
            assert_eq!((holder.kind, holder.pid()), (HolderKind::Foreign, Some(pid)));
            assert!(holder.liveness.is_alive());
            // Only the kernel can end that lock.
            assert!(break_lock(&target, &BreakOptions::default()).unwrap_err().is_busy());
            assert!(break_lock(&target, &BreakOptions::default().force(true)).unwrap_err().is_unsupported());
        }
        // It excludes no native in lock-file style.
        opened(&target, "").must("acquire l g never");
        opened(&target, "style=flock").must_fail("acquire l g never", "busy");
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        child.wait().unwrap();
        assert_ne!(status(&target).unwrap().state, State::Held);
    }
}

#[test]
fn a_list_is_sorted_whole_and_follows_no_links() {
    let (dir, elsewhere) = (folder(), folder());
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("below/deeper")).unwrap();
    let _held: Vec<Actor> = [at("c"), at("a"), at("below/b"), at("below/deeper/z"), elsewhere.path().join("x")]
        .iter()
        .map(|target| holding(target, ""))
        .collect();
    let _flock = holding(&at("d"), "style=flock");
    opened(&at("released"), "").hold(&at("released"));
    holding(&at("dead"), "").kill();
    let mut free = holding(&at("free"), "");
    free.must("release g");
    for name in ["Cargo.lock", "yarn.lock", "package.lock"] {
        std::fs::write(at(name), "# a file that a user keeps\nversion = 4\n").unwrap();
    }
    symlink(elsewhere.path(), at("link")).unwrap();
    symlink(at("a.lock"), at("linked.lock")).unwrap();
    symlink(dir.path(), at("below/loop")).unwrap();
    let targets = |found: Vec<Status>| -> Vec<PathBuf> { found.into_iter().map(|lock| lock.target).collect() };
    let flat = targets(list(dir.path(), &ListOptions::default()).unwrap());
    assert_eq!(flat, ["a", "c", "d", "dead", "released"].map(at));
    let all = targets(list(dir.path(), &ListOptions::default().recursive(true)).unwrap());
    assert_eq!(all, ["a", "below/b", "below/deeper/z", "c", "d", "dead", "released"].map(at));
    assert!(list(at("missing"), &ListOptions::default().recursive(true)).unwrap().is_empty());
    assert!(list(at("Cargo.lock"), &ListOptions::default().recursive(true)).is_err(), "no folder");
}

#[test]
fn clean_removes_stale_locks_and_nothing_else() {
    if !needs("python3", has("python3")) {
        return;
    }
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("below")).unwrap();
    let mut held = holding(&at("held"), "");
    let mut held_flock = holding(&at("held-flock"), "style=flock");
    let living = Foreign::hold(&at("living"));
    let gone = ["dead", "below/dead"].map(at);
    for target in &gone {
        holding(target, "").kill();
    }
    holding(&at("dead-flock"), "style=flock").kill();
    Foreign::hold(&at("dead-foreign")).kill();
    let kept = ["Cargo.lock", "yarn.lock", "notes.lock"].map(at);
    for path in &kept {
        std::fs::write(path, "# a file that a user keeps\n[[package]]\n").unwrap();
        // At any age.
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    std::fs::write(at("fresh.lock"), "").unwrap();
    std::fs::write(at("old.lock"), "").unwrap();
    let ago = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(at("old.lock")).unwrap().set_modified(ago).unwrap();

    let before = tree(dir.path());
    let options = CleanOptions::default().recursive(true);
    let rehearsed = clean(dir.path(), &options.clone().dry_run(true).idle_anchor_age(Duration::ZERO)).unwrap();
    assert_eq!(tree(dir.path()), before, "a dry run changes nothing");
    assert!(rehearsed.locks.iter().all(|lock| !lock.removed));
    let stale = rehearsed.locks.iter().filter(|lock| lock.found.state == State::Stale).count();

    let done = clean(dir.path(), &options).unwrap();
    let name = |path: &Path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
    let removed: Vec<_> = done.locks.iter().filter(|lock| lock.removed).map(|lock| name(&lock.found.target)).collect();
    assert_eq!(removed, ["below/dead", "dead", "dead-flock", "dead-foreign"]);
    assert_eq!(stale, removed.len() + 1);
    let aged: Vec<_> = done.locks.iter().filter(|lock| lock.only_aged).map(|lock| name(&lock.found.target)).collect();
    assert_eq!(aged, ["old"], "its age is the only evidence");
    let stayed: Vec<_> = done.locks.iter().filter(|lock| !lock.removed).map(|lock| name(&lock.found.target)).collect();
    assert_eq!(stayed, ["fresh", "held", "held-flock", "living", "old"]);
    assert!(done.locks.iter().all(|lock| lock.error.is_none()), "{done:?}");
    for path in &kept {
        assert_eq!(tree(dir.path())[path], before[path]);
    }
    assert!(at("fresh.lock").exists() && at("held.lock").exists() && at("living.lock").exists());
    held.must("check g");
    held_flock.must("check g");
    assert_eq!(pid_of(&status(at("living")).unwrap()), Some(living.pid()));
    let again = clean(dir.path(), &options).unwrap();
    assert!(again.locks.iter().all(|lock| !lock.removed), "{again:?}");
    assert!(at("old.lock").exists());
    let aged = clean(dir.path(), &options.clone().aged(true)).unwrap();
    let removed: Vec<_> = aged.locks.iter().filter(|lock| lock.removed).map(|lock| name(&lock.found.target)).collect();
    assert_eq!(removed, ["old"]);
    assert!(at("fresh.lock").exists() && !at("old.lock").exists());
    assert!(clean(at("missing"), &options).unwrap().locks.is_empty());
}

#[test]
fn a_sweep_obeys_its_options() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    let own = format!("{{\"pid\":{},\"createdAt\":\"2026-03-02T10:00:00.000Z\"}}", std::process::id());
    std::fs::write(at("own.lock"), own).unwrap();
    std::fs::write(at("dead.lock"), "{\"pid\":4194305,\"createdAt\":\"2026-03-02T10:00:00.000Z\"}").unwrap();
    let options = CleanOptions::default();
    let report = clean(dir.path(), &options.clone().keep(StaleReason::OrphanSelfPid)).unwrap();
    let removed: Vec<_> = report.locks.iter().map(|lock| (lock.found.state, lock.removed)).collect();
    assert_eq!(removed, [(State::Stale, true), (State::Stale, false)], "dead, own");
    assert!(at("own.lock").exists());
    assert!(clean(dir.path(), &options).unwrap().locks[0].removed);
    assert!(!at("own.lock").exists());
}

#[test]
fn idle_anchors_are_pruned_unless_open() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    let mut idle = holding(&at("idle"), "");
    idle.must("release g");
    let mut open = holding(&at("open"), "");
    open.must("release g");
    let mut held = holding(&at("held"), "");
    idle.kill();
    let age = |target: &Path| {
        let file = std::fs::File::options().write(true).open(anchor(target)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    };
    let hour = CleanOptions::default().idle_anchor_age(Duration::from_secs(3600));
    assert_eq!(clean(dir.path(), &hour).unwrap().pruned, 0, "none is old enough");
    for target in ["idle", "open", "held"].map(at) {
        age(&target);
    }
    let before = tree(dir.path());
    assert_eq!(clean(dir.path(), &hour.clone().dry_run(true)).unwrap().pruned, 1);
    assert_eq!(tree(dir.path()), before);
    assert_eq!(clean(dir.path(), &hour).unwrap().pruned, 1);
    assert!(!anchor(&at("idle")).exists());
    assert!(anchor(&at("open")).exists() && anchor(&at("held")).exists());
    open.must("acquire l g never");
    open.must("release g");
    held.must("release g");
    drop((open, held));
    let at_once = CleanOptions::default().idle_anchor_age(Duration::ZERO);
    assert_eq!(clean(dir.path(), &at_once).unwrap().pruned, 2);
    assert!(!dir.path().join(".tenure").exists(), "{:?}", tree(dir.path()).keys());
}

/// In a folder that others may write to, it is created under a temporary name, with its creator's kernel lock on it.
#[test]
fn an_unfinished_folder_of_anchors_of_a_dead_process_is_removed_and_others_stay() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    let others = [".tenure.12", ".tenure.12.3x", ".tenure.x.3", ".tenure.1.2.3", ".tenurex.1.2", "x.tenure.1.2"];
    for name in [".tenure.12.30", ".tenure.12.31", ".tenure.12.32", ".tenure.12.33"].iter().chain(&others) {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(at(name).join(".gitignore"), "*\n").unwrap();
    }
    std::fs::remove_file(at(".tenure.12.30/.gitignore")).unwrap();
    std::fs::write(at(".tenure.12.32/t.lock"), "").unwrap();
    let lives = std::fs::File::open(at(".tenure.12.33")).unwrap();
    lives.lock().unwrap();
    std::fs::create_dir(at("elsewhere")).unwrap();
    symlink("elsewhere", at(".tenure.12.34")).unwrap();
    let before = tree(dir.path());
    clean(dir.path(), &CleanOptions::default().dry_run(true)).unwrap();
    assert_eq!(tree(dir.path()), before);
    clean(dir.path(), &CleanOptions::default()).unwrap();
    assert!(!at(".tenure.12.30").exists() && !at(".tenure.12.31").exists());
    for name in [".tenure.12.32", ".tenure.12.33"].iter().chain(&others) {
        assert!(at(name).join(".gitignore").exists(), "{name}");
    }
    assert!(at(".tenure.12.32/t.lock").exists() && at(".tenure.12.34").exists() && at("elsewhere").exists());
    drop(lives);
    clean(dir.path(), &CleanOptions::default()).unwrap();
    assert!(!at(".tenure.12.33").exists());
}

#[test]
fn a_folder_of_anchors_is_not_removed_during_its_creation() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    let mut actor = opened(&dir.path().join("t"), "");
    let strace = Strace::attach(actor.pid(), &["-e", "trace=fchmod", "-e", "inject=fchmod:signal=STOP:when=1"]);
    actor.send("acquire l g never");
    strace.wait_for("stopped by SIGSTOP");
    drop(strace);
    let before = tree(dir.path());
    assert_eq!(before.len(), 1, "{before:?}");
    clean(dir.path(), &CleanOptions::default()).unwrap();
    assert_eq!(tree(dir.path()), before);
    signal(actor.pid(), libc::SIGCONT);
    assert_eq!(actor.receive()["ok"], true);
    assert!(!before.keys().any(|path| path.exists()));
}

/// A sweep that is about to remove the folder of anchors has removed its `.gitignore`, and an anchor is created in it.
#[test]
fn a_folder_of_anchors_that_is_used_again_keeps_its_gitignore() {
    if !needs("strace", has("strace")) {
        return;
    }
    let prepared = || {
        let dir = folder();
        let target = dir.path().join("t");
        holding(&target, "").must("release g");
        let file = std::fs::File::options().write(true).open(anchor(&target)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(2 * 86_400)).unwrap();
        (Actor::start(), format!("clean {}", dir.path().display()), dir, target)
    };
    let (mut actor, line, dir, _) = prepared();
    let strace = Strace::attach(actor.pid(), &["-e", "trace=getdents64,unlinkat"]);
    actor.must(&line);
    let calls = strace.calls();
    assert!(!dir.path().join(".tenure").exists(), "{calls:?}");
    // It has checked that nothing else is in it.
    let removal = calls.iter().position(|call| call.text.contains(".gitignore")).unwrap();
    let looked = calls[..removal].iter().filter(|call| call.name == "getdents64").count();

    let (mut actor, line, _dir, target) = prepared();
    let stop = format!("inject=getdents64:signal=STOP:when={looked}");
    let strace = Strace::attach(actor.pid(), &["-e", "trace=getdents64", "-e", &stop]);
    actor.send(&line);
    strace.wait_for("stopped by SIGSTOP");
    drop(strace);
    let mut holder = holding(&target, "");
    signal(actor.pid(), libc::SIGCONT);
    assert_eq!(actor.receive()["ok"], true);
    holder.must("check g");
    assert!(target.with_file_name(".tenure").join(".gitignore").exists());
}

#[test]
fn clean_of_a_suffix_keeps_other_suffixes() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    for name in ["a.jsonl", "b.json", "jsonl"] {
        holding(&at(name), "").kill();
    }
    let options = CleanOptions::default().suffix(".jsonl").idle_anchor_age(Duration::ZERO);
    let done = clean(dir.path(), &options).unwrap();
    let found: Vec<_> = done.locks.iter().map(|lock| (lock.found.target.clone(), lock.removed)).collect();
    assert_eq!(found, [(at("a.jsonl"), true)]);
    assert!(!at("a.jsonl.lock").exists());
    assert!(at("b.json.lock").exists() && at("jsonl.lock").exists());
    // An idle anchor of another suffix is not pruned either.
    Lock::open(at("idle.json")).unwrap().acquire_with(Wait::Never).unwrap().release().unwrap();
    assert_eq!(clean(dir.path(), &options).unwrap().pruned, 0);
    assert_eq!(clean(dir.path(), &options.suffix("idle.json")).unwrap().pruned, 1);
}

#[test]
fn clean_beside_live_traffic_removes_no_live_lock() {
    let dir = folder();
    let (target, number) = (dir.path().join("t"), dir.path().join("number"));
    std::fs::write(&number, "0").unwrap();
    // One process reopens the lock without pause, so that its anchor is closed and pruned in between.
    let mut actors = [opened(&target, ""), opened(&target, "")];
    let options = CleanOptions::default().idle_anchor_age(Duration::ZERO).malformed_grace(Duration::ZERO);
    let (over, cleaned) = (AtomicBool::new(false), AtomicUsize::new(0));
    let pruned = std::thread::scope(|scope| {
        let cleaner = scope.spawn(|| {
            let mut pruned = 0;
            while !over.load(Ordering::Relaxed) {
                pruned += clean(dir.path(), &options).unwrap().pruned;
                cleaned.fetch_add(1, Ordering::Relaxed);
            }
            pruned
        });
        for actor in &mut actors {
            actor.must(&format!("count l {} 2 150", number.display()));
        }
        let reopened = scope.spawn(|| {
            for _ in 0..100 {
                let lock = tenure::Lock::open(&target).unwrap();
                let guard = lock.acquire_with(tenure::Wait::For(Duration::from_secs(60))).unwrap();
                guard.check().unwrap();
                let count: u64 = std::fs::read_to_string(&number).unwrap().parse().unwrap();
                std::fs::write(&number, (count + 1).to_string()).unwrap();
                guard.release().unwrap();
            }
        });
        for actor in &mut actors {
            assert_eq!(actor.receive()["doubles"], 0);
        }
        reopened.join().unwrap();
        // Alone with the cleaner: now the anchor is closed whenever the actor does not hold.
        drop(actors);
        for _ in 0..100 {
            let lock = tenure::Lock::open(&target).unwrap();
            lock.acquire_with(tenure::Wait::For(Duration::from_secs(60))).unwrap().release().unwrap();
        }
        let enough = cleaned.load(Ordering::Relaxed) + 2;
        until("a finished clean", || cleaned.load(Ordering::Relaxed) > enough);
        over.store(true, Ordering::Relaxed);
        cleaner.join().unwrap()
    });
    assert_eq!(std::fs::read_to_string(&number).unwrap(), "700");
    assert!(pruned > 0);
}

#[test]
fn a_break_of_a_live_holder_requires_force() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = holding(&target, "");
    let fence = status(&target).unwrap().holder.unwrap().fence;
    let refused = break_lock(&target, &BreakOptions::default()).unwrap_err();
    assert!(refused.is_busy(), "{refused}");
    assert_eq!(refused.holder().unwrap().pid(), Some(holder.pid().into()));
    holder.must("check g");
    let mut waiter = opened(&target, "");
    waiter.must("begin l g 60000");
    until("it waits", || status(&target).unwrap().waiters == Some(1));
    let broken = break_lock(&target, &BreakOptions::default().force(true)).unwrap();
    assert_eq!((broken.broken, pid_of(&broken.found)), (true, Some(holder.pid().into())));
    holder.must_fail("check g", "lost");
    let granted = waiter.receive();
    assert_eq!(granted["event"], "granted");
    assert!(granted["fence"].as_u64() > fence, "{granted}");
    // The old holder's release does not release the new holder's lock.
    holder.must_fail("release g", "lost");
    waiter.must("check g");
    assert_eq!(pid_of(&status(&target).unwrap()), Some(waiter.pid().into()));
    holder.must_fail("acquire l g never", "busy");
}

#[test]
fn a_break_of_a_free_or_stale_lock_requires_no_force() {
    let dir = folder();
    let target = dir.path().join("t");
    assert!(!break_lock(&target, &BreakOptions::default()).unwrap().broken);
    assert!(tree(dir.path()).is_empty());
    for keys in ["", "style=flock"] {
        holding(&target, keys).kill();
        let broken = break_lock(&target, &BreakOptions::default()).unwrap();
        assert!(broken.broken && broken.found.state == State::Stale, "{broken:?}");
        assert_eq!(status(&target).unwrap().state, State::Free);
        assert!(!break_lock(&target, &BreakOptions::default().force(true)).unwrap().broken);
        assert!(!lock_file(&target).exists());
    }
}

#[test]
fn a_foreign_holders_lock_is_broken() {
    if !needs("python3", has("python3")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let holder = Foreign::hold(&target);
    let refused = break_lock(&target, &BreakOptions::default()).unwrap_err();
    assert_eq!(refused.holder().unwrap().pid(), Some(holder.pid()));
    assert!(lock_file(&target).exists());
    let mut waiter = opened(&target, "");
    waiter.must("begin l g 60000");
    until("it waits", || status(&target).unwrap().waiters == Some(1));
    assert!(break_lock(&target, &BreakOptions::default().force(true)).unwrap().broken);
    assert_eq!(waiter.receive()["event"], "granted");
    assert!(!has_ended(holder.0.id()));
    waiter.must("release g");
    Foreign::hold(&target).kill();
    assert!(break_lock(&target, &BreakOptions::default()).unwrap().broken);
    assert!(!lock_file(&target).exists());
}

#[test]
fn a_status_never_disturbs_an_acquire() {
    // In other namespaces /proc/locks is incomplete, and a status may have to try the lock.
    let first = std::fs::read_link("/proc/self/ns/pid").is_ok_and(|name| name.as_os_str() == "pid:[4026531836]");
    if !needs("the first pid namespace", first) {
        return;
    }
    for keys in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, keys);
        let (over, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for look in 0..2 {
                let (over, looks, target) = (&over, &looks, &target);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        match look {
                            0 => drop(status(target).unwrap()),
                            _ => drop(list(target.parent().unwrap(), &ListOptions::default().recursive(true)).unwrap()),
                        }
                        looks.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            until("they look", || looks.load(Ordering::Relaxed) > 10);
            let tried = actor.ask("try-loop l 1500");
            over.store(true, Ordering::Relaxed);
            assert_eq!((&tried["ok"], &tried["busy"]), (&true.into(), &0.into()), "{keys}: {tried}");
        });
    }
}

#[test]
fn a_long_table_of_locks_hides_no_lock() {
    // The kernel lists its locks one page at a time, and lets them change in between.
    let (dir, elsewhere) = (folder(), folder());
    let flock = tenure::Lock::options().style(Style::Flock);
    let hold =
        |n: usize| flock.open(dir.path().join(n.to_string())).unwrap().acquire_with(tenure::Wait::Never).unwrap();
    let held: Vec<_> = (0..100).map(hold).collect();
    let file = |n: usize| std::fs::File::create(elsewhere.path().join(n.to_string())).unwrap();
    let coming: Vec<_> = (0..20).map(file).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                coming.iter().for_each(|file| file.lock().unwrap());
                coming.iter().for_each(|file| file.unlock().unwrap());
            }
        });
        let seen = |_| {
            list(dir.path(), &ListOptions::default()).unwrap().iter().filter(|lock| lock.state == State::Held).count()
        };
        let least = (0..30).map(seen).min();
        over.store(true, Ordering::Relaxed);
        assert_eq!(least, Some(held.len()), "a holder was missed");
    });
}

#[test]
fn a_sweep_keeps_the_crash_report() {
    let dir = folder();
    for (name, keys) in [("a", ""), ("b", " style=flock")] {
        let target = dir.path().join(name);
        let mut holder = Actor::start();
        holder.must(&format!("open l {}{keys}", target.display()));
        holder.must("acquire l g never");
        let pid = holder.pid();
        holder.kill();
        let mut actor = Actor::start();
        let cleaned = actor.must(&format!("clean {}", dir.path().display()));
        assert_eq!(cleaned["locks"][0]["removed"], true, "{cleaned}");
        actor.must(&format!("open l {}{keys}", target.display()));
        let granted = actor.must("acquire l g never");
        assert!(!granted["crashed"].is_null(), "cut off by the death of {pid}: {granted}");
        actor.must("release g");
        assert!(actor.must("acquire l g never")["crashed"].is_null());
    }
}

#[test]
fn pruning_keeps_unreported_crashes() {
    let dir = folder();
    let now = CleanOptions::default().idle_anchor_age(Duration::ZERO);
    for keys in ["", "style=flock"] {
        let target = dir.path().join(format!("t{}", keys.len()));
        holding(&target, keys).kill();
        assert!(clean(dir.path(), &now).unwrap().locks[0].removed);
        assert_eq!(clean(dir.path(), &now.clone().dry_run(true)).unwrap().pruned, 0);
        assert_eq!(clean(dir.path(), &now).unwrap().pruned, 0);
        let mut next = opened(&target, keys);
        let granted = next.must("acquire l g never");
        assert!(!granted["crashed"].is_null(), "{granted}");
        next.must("release g");
        next.finish();
        assert_eq!(clean(dir.path(), &now).unwrap().pruned, 1);
    }
    assert!(!dir.path().join(".tenure").exists());
}

#[test]
fn sharers_get_a_crash_report_and_do_not_hide_it() {
    for (keys, copy) in [("style=flock", false), ("", false), ("", true)] {
        if copy && !needs("strace", has("strace")) {
            continue;
        }
        let dir = folder();
        let target = dir.path().join("t");
        let mut holder = opened(&target, keys);
        let no_links = copy.then(|| Strace::inject(holder.pid(), &["linkat:error=EPERM"]));
        holder.must("acquire l g never");
        let pid = holder.pid();
        holder.kill();
        drop(no_links);
        let (mut one, mut other) = (opened(&target, "style=flock"), opened(&target, "style=flock"));
        for actor in [&mut one, &mut other] {
            for share in ["s", "t"] {
                let granted = actor.must(&format!("share l {share} never"));
                assert_eq!(granted["crashed"]["pid"], pid, "{keys}: {granted}");
            }
        }
        for actor in [&mut one, &mut other] {
            actor.must("release s");
            actor.must("release t");
        }
        assert_eq!(one.must("acquire l g never")["crashed"]["pid"], pid);
        one.must("release g");
        assert!(other.must("share l s never")["crashed"].is_null());
        other.must("release s");
        assert_eq!(status(&target).unwrap().state, State::Free);
    }
}

#[test]
fn a_native_that_waits_for_the_target_does_not_make_the_last_holder_the_current_one() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut last = holding(&target, "");
    last.must("release g");
    let mut flock = Command::new("flock")
        .args([target.to_str().unwrap(), "-c", "echo in; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(flock.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut waiter = opened(&target, "style=flock");
    waiter.must("begin l g 60000");
    until("it waits", || status(&target).unwrap().waiters == Some(1));
    let found = status(&target).unwrap();
    assert_eq!((found.state, found.style), (State::Held, Style::Flock), "{found:?}");
    assert_eq!(found.holder.as_ref().unwrap().kind, HolderKind::Foreign, "{found:?}");
    assert_ne!(pid_of(&found), Some(last.pid().into()));
    drop(flock.stdin.take());
    flock.wait().unwrap();
    assert_eq!(waiter.receive()["event"], "granted");
}

#[test]
fn a_delayed_break_breaks_no_other_holder() {
    if !needs("strace", has("strace")) {
        return;
    }
    for by in ["break", "steal"] {
        let dir = folder();
        let target = dir.path().join("t");
        let (mut old, mut new, mut breaker) = (holding(&target, ""), opened(&target, ""), Actor::start());
        // It is stopped before it creates the new anchor: the holder to break was determined before.
        let strace = Strace::attach(
            breaker.pid(),
            &["-f", "-e", "trace=openat", "-P", ".tenure/t.lock.new", "-e", "inject=openat:signal=STOP:when=1"],
        );
        match by {
            "break" => breaker.send(&format!("break {} force", target.display())),
            _ => {
                breaker.must(&format!("open l {} steal_after_ms=1", target.display()));
                breaker.send("acquire l g never");
            }
        }
        strace.wait_for("t.lock.new");
        old.must("release g");
        new.must("acquire l g never");
        strace.detach();
        signal(breaker.pid(), libc::SIGCONT);
        let refused = breaker.receive();
        assert_eq!(refused["kind"], "busy", "{refused}");
        new.must("check g");
        new.must("release g");
        assert!(!dir.path().join(".tenure/t.lock.new").exists());
    }
}
