//! `list` and `clean`: they find each lock, remove stale ones alone, and keep crash reports.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tenure::{CleanOptions, ListOptions, Lock, StaleReason, State, Status, Wait, clean, list, status};
use tenure_tests::strace::Strace;
use tenure_tests::{Actor, Foreign, folder, has, make_older, needs, opened, signal, until, write_apart};

use super::{anchor, holding, pid_of, tree};

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
    let living = Foreign::hold("python", &at("living"));
    let gone = ["dead", "below/dead"].map(at);
    for target in &gone {
        holding(target, "").kill();
    }
    holding(&at("dead-flock"), "style=flock").kill();
    Foreign::hold("python", &at("dead-foreign")).kill();
    let kept = ["Cargo.lock", "yarn.lock", "notes.lock"].map(at);
    for path in &kept {
        std::fs::write(path, "# a file that a user keeps\n[[package]]\n").unwrap();
        // At any age.
        make_older(path, SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap());
    }
    write_apart(&at("fresh.lock"), "", Duration::ZERO);
    write_apart(&at("old.lock"), "", Duration::from_secs(3600));

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
    assert_eq!(pid_of(&status(at("living")).unwrap()), Some(living.pid().into()));
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
    write_apart(&at("own.lock"), own, Duration::ZERO);
    let dead = "{\"pid\":4194305,\"createdAt\":\"2026-03-02T10:00:00.000Z\"}";
    write_apart(&at("dead.lock"), dead, Duration::ZERO);
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
    let age = |target: &Path| make_older(&anchor(target), Duration::from_secs(7200));
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
        make_older(&anchor(&target), Duration::from_secs(2 * 86_400));
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
