//! Folders with the sticky bit.

use super::*;

#[test]
fn in_a_sticky_folder_the_error_names_the_mode_that_shares() {
    let Some(users) = Users::new() else { return };
    for style in ["", "style=flock"] {
        let target = users.folder(&format!("sticky{}", style.len()), 0o1777).join("t");
        fs::write(&target, "").unwrap();
        let mut ann = users.opened(ANN, &target, style);
        ann.must("acquire l g never");
        let mut bob = users.opened(BOB, &target, style);
        for _ in 0..2 {
            let error = bob.must_fail("acquire l g never", "permission-denied")["error"].as_str().unwrap().to_owned();
            assert!(error.contains("mode(0o666)") && error.contains("--mode 666"), "{error}");
            assert!(error.contains(&anchor(&target).display().to_string()), "{error}");
        }
        ann.must("check g");
        ann.must("release g");
        bob.must_fail("acquire l g 60000", "permission-denied");
        // Too late for a mode: the first holder created it without one.
        let mut bob = users.opened(BOB, &target, &format!("{style} mode=666"));
        let error = bob.must_fail("acquire l g never", "permission-denied")["error"].as_str().unwrap().to_owned();
        assert!(error.contains("made it without that mode"), "{error}");
        assert_eq!(fs::metadata(anchor(&target)).unwrap().uid(), ANN);
    }
}

fn share_in_a_sticky_folder(users: &Users, name: &str, umask: &str) {
    let dir = users.folder(name, 0o1777);
    let target = dir.join("t");
    let mut last = 0;
    let open = |user| {
        let mut actor = users.actor_with(user, umask);
        actor.must(&format!("open l {} mode=666", target.display()));
        actor
    };
    let (mut ann, mut bob) = (open(ANN), open(BOB));
    for _ in 0..2 {
        acquire(&mut ann, &mut last);
        assert_eq!(fs::metadata(anchor(&target)).unwrap().mode() & 0o777, 0o666);
        assert_eq!(fs::metadata(lock_file(&target)).unwrap().mode() & 0o777, 0o666);
        assert_eq!(bob.must_fail("acquire l g never", "busy")["holder"], ann.pid());
        ann.must("check g");
        ann.must("release g");
        assert!(!lock_file(&target).exists(), "{name}: the owner did not remove it");
        acquire(&mut bob, &mut last);
        // Bob could not remove a link to Ann's anchor, so the lock file is a file of his own.
        assert_eq!(fs::metadata(lock_file(&target)).unwrap().uid(), BOB);
        assert_eq!(fs::metadata(lock_file(&target)).unwrap().mode() & 0o777, 0o666);
        assert_eq!(ann.must_fail("acquire l g never", "busy")["holder"], bob.pid());
        bob.must("check g");
        bob.must("release g");
        assert!(!lock_file(&target).exists(), "{name}: the other user did not remove it");
    }

    // Each waits for the other, and each is killed once.
    acquire(&mut ann, &mut last);
    succeed(&mut bob, &mut last, || drop(ann.must("release g")));
    succeed(&mut ann, &mut last, || bob.kill());
    ann.must("check g");
    let mut bob = open(BOB);
    succeed(&mut bob, &mut last, || ann.kill());
    bob.must("check g");
    bob.must("release g");

    // A third user, after a dead holder of either kind: leftover files that cannot be moved are adopted.
    for (dead, heir) in [(ANN, CAT), (BOB, CAT), (CAT, BOB), (BOB, ANN), (CAT, ANN)] {
        let mut holder = open(dead);
        acquire(&mut holder, &mut last);
        let pid = holder.pid();
        holder.kill();
        let mut heir = open(heir);
        let answer = heir.must("acquire l g never");
        assert_eq!(answer["crashed"]["pid"], pid, "{name}: {answer}");
        assert!(answer["fence"].as_u64().unwrap() > last, "{name}: {answer}");
        last = answer["fence"].as_u64().unwrap();
        heir.must("check g");
        let mut other = open(dead);
        assert_eq!(other.must_fail("acquire l g never", "busy")["holder"], heir.pid());
        let found = other.must(&format!("inspect {}", target.display()));
        assert_eq!((&found["found"]["state"], &found["found"]["pid"]), (&"held".into(), &heir.pid().into()), "{found}");
        heir.must("release g");
        // A dead user's file in a sticky folder may stay, but is then marked as released.
        let found = other.must(&format!("inspect {}", target.display()));
        assert_eq!(found["found"]["state"], "free", "{name}: {found}");
        let answer = other.must("acquire l g never");
        assert!(answer["crashed"].is_null(), "{name}: {answer}");
        assert!(answer["fence"].as_u64().unwrap() > last, "{name}: {answer}");
        last = answer["fence"].as_u64().unwrap();
        other.must("check g");
        other.must("release g");
    }
    // The owner of the leftover file removes it.
    let mut owner = open(match lock_file(&target).metadata() {
        Ok(left) => left.uid(),
        Err(_) => ANN,
    });
    acquire(&mut owner, &mut last);
    owner.must("release g");
    assert!(!lock_file(&target).exists(), "{name}: {}", fs::read_to_string(lock_file(&target)).unwrap());
    let left: Vec<_> = fs::read_dir(dir.join(".tenure")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{name}: {left:?}");

    // Flock style needs no lock file.
    let flock = |user| {
        let mut actor = users.actor_with(user, umask);
        actor.must(&format!("open l {} mode=666 style=flock", target.display()));
        actor
    };
    fs::write(&target, "").unwrap();
    let (mut ann, mut bob) = (flock(ANN), flock(BOB));
    acquire(&mut ann, &mut last);
    bob.must_fail("acquire l g never", "busy");
    succeed(&mut bob, &mut last, || ann.kill());
    bob.must("check g");
    bob.must("release g");
}

/// A kernel setting that is restored on drop.
struct Setting {
    path: &'static str,
    was: String,
}

impl Setting {
    fn new(path: &'static str) -> Setting {
        Setting { path, was: fs::read_to_string(path).unwrap() }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(self.path, &self.was);
    }
}

/// The settings are those of the whole machine, so one test takes them through all values in turn.
#[test]
fn in_a_sticky_folder_users_share_with_a_mode() {
    let Some(users) = Users::new() else { return };
    let (links, regular) = ("/proc/sys/fs/protected_hardlinks", "/proc/sys/fs/protected_regular");
    let writable = fs::OpenOptions::new().write(true).open(links).is_ok();
    if !needs("permission to set fs.protected_hardlinks", writable) {
        return;
    }
    let one_at_a_time = fs::File::create(std::env::temp_dir().join("tenure-tests-sysctl")).unwrap();
    // SAFETY: no precondition.
    assert_eq!(unsafe { libc::flock(one_at_a_time.as_raw_fd(), libc::LOCK_EX) }, 0);
    let _restore = (Setting::new(links), Setting::new(regular));
    for (hardlinks, regulars) in [("0", "0"), ("1", "1"), ("1", "2"), ("0", "2")] {
        fs::write(links, hardlinks).unwrap();
        fs::write(regular, regulars).unwrap();
        share_in_a_sticky_folder(&users, &format!("sticky-{hardlinks}-{regulars}"), "022");
        share_in_a_sticky_folder(&users, &format!("private-{hardlinks}-{regulars}"), "077");
    }
}

/// Bob's lock file is a copy, which no other user may move. It does not block flock style, whether it is writable,
/// read-only or unreadable.
#[test]
fn in_a_sticky_folder_another_users_stale_lock_file_does_not_block_flock_style() {
    let Some(users) = Users::new() else { return };
    for (mode, reported) in [("666", true), ("644", true), ("600", false)] {
        let target = users.folder(&format!("sticky{mode}"), 0o1777).join("t");
        fs::write(&target, "").unwrap();
        let mut ann = users.opened(ANN, &target, "mode=666");
        acquire(&mut ann, &mut 0);
        let ino = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(ino(lock_file(&target)), ino(anchor(&target)), "a link to her own");
        ann.must("release g");
        let mut bob = users.opened(BOB, &target, &format!("mode={mode}"));
        acquire(&mut bob, &mut 0);
        let copy = ino(lock_file(&target));
        assert_ne!(copy, ino(anchor(&target)), "he could not remove a link to another user's file");
        let dead = bob.pid();
        bob.kill();

        let mut cat = users.opened(CAT, &target, "style=flock mode=666");
        let answer = cat.must("acquire l g never");
        let crashed = &answer["crashed"];
        assert_eq!((crashed["pid"] == dead, crashed.is_null()), (reported, !reported), "{mode}: {answer}");
        cat.must("check g");
        cat.must("release g");
        assert_eq!(ino(lock_file(&target)), copy, "{mode}: the file is Bob's");
        assert!(cat.must("acquire l g never")["crashed"].is_null(), "{mode}: reported once");
        cat.must("release g");
        if mode == "666" {
            let record: serde_json::Value = serde_json::from_slice(&fs::read(lock_file(&target)).unwrap()).unwrap();
            assert!(record["pid"].is_null() && record["tenure"]["state"] == "released", "{record}");
        }
        // Bob himself may remove it.
        let mut bob = users.opened(BOB, &target, &format!("style=flock mode={mode}"));
        bob.must("acquire l g never");
        bob.must("release g");
        let mut bob = users.opened(BOB, &target, &format!("mode={mode}"));
        bob.must("acquire l g never");
        bob.must("release g");
        assert!(!lock_file(&target).exists(), "{mode}");
    }
}

/// Root and the folder's owner may remove any file in it.
#[test]
fn in_a_sticky_folder_privileged_users_publish_a_link() {
    let Some(users) = Users::new() else { return };
    let dir = users.folder("sticky", 0o1777);
    chown(&dir, Some(CAT), None).unwrap();
    let target = dir.join("t");
    let mut ann = users.opened(ANN, &target, "mode=666");
    acquire(&mut ann, &mut 0);
    ann.must("release g");
    let mut root = Actor::start();
    root.must(&format!("open l {}", target.display()));
    let mut cat = users.opened(CAT, &target, "mode=666");
    for actor in [&mut root, &mut cat] {
        actor.must("acquire l g never");
        let id = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(id(lock_file(&target)), id(anchor(&target)));
        actor.must("release g");
        assert!(!lock_file(&target).exists());
    }
}

/// Two processes create a lock's first anchor at the same moment, with a mode: neither may be refused.
#[test]
fn a_first_anchor_that_several_processes_create_at_once_is_shared() {
    let Some(users) = Users::new() else { return };
    let dir = users.folder("sticky", 0o1777);
    let mut actors = [users.actor_with(ANN, "077"), users.actor(BOB), users.actor(CAT)];
    for round in 0..60 {
        let target = dir.join(round.to_string());
        if round % 2 == 0 && dir.join(".tenure").exists() {
            fs::remove_dir_all(dir.join(".tenure")).unwrap();
        }
        for actor in &mut actors {
            actor.must(&format!("open l {} mode=666", target.display()));
        }
        std::thread::scope(|scope| {
            for actor in &mut actors {
                scope.spawn(|| {
                    actor.must("acquire l g 60000");
                    actor.must("check g");
                    actor.must("release g");
                });
            }
        });
        assert!(!lock_file(&target).exists());
        let made = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = made.filter(|name| name.to_string_lossy().starts_with(".tenure.")).collect();
        assert!(left.is_empty(), "{left:?} were created and not used");
    }
}

/// In a sticky folder no other user can remove the leftover files of a user's crash, so they must block no process.
#[test]
fn in_a_sticky_folder_a_kill_of_the_anchors_owner_at_any_call_blocks_no_other_user() {
    let Some(users) = Users::new() else { return };
    if !needs("strace", has("strace")) {
        return;
    }
    for crashed in [false, true] {
        kill_at_every_call_in_a_sticky_folder(&users, ANN, CAT, ANN, crashed);
    }
}

#[test]
fn in_a_sticky_folder_a_kill_of_another_user_at_any_call_blocks_no_user() {
    let Some(users) = Users::new() else { return };
    if !needs("strace", has("strace")) {
        return;
    }
    for heir in [CAT, ANN] {
        for crashed in [false, true] {
            kill_at_every_call_in_a_sticky_folder(&users, BOB, heir, ANN, crashed);
        }
    }
}

/// Kills `victim` at each call of an acquire; `owner` creates the anchor, and `heir` is the next holder.
fn kill_at_every_call_in_a_sticky_folder(users: &Users, victim: u32, heir: u32, owner: u32, crashed: bool) {
    let prepare = |name: &str| {
        let dir = users.folder(&format!("{victim}-{heir}-{crashed}-{name}"), 0o1777);
        let target = dir.join("t");
        if owner != victim {
            let mut owner = users.opened(owner, &target, "mode=666");
            acquire(&mut owner, &mut 0);
            owner.must("release g");
        }
        if crashed {
            // The victim has died once while it held, and now takes over its own lock.
            let mut actor = users.opened(victim, &target, "mode=666");
            acquire(&mut actor, &mut 0);
            actor.kill();
        }
        (users.opened(victim, &target, "mode=666"), target)
    };
    let (mut actor, _) = prepare("rehearsal");
    let calls = changing_calls(&mut actor, "acquire l g never", &[]);
    assert!(calls.len() >= 3, "{calls:?}");
    for (at, call) in calls.iter().enumerate() {
        let prepared = |attempt| {
            let (actor, target) = prepare(&format!("{at}-{attempt}"));
            (actor, "acquire l g never".to_owned(), target)
        };
        let target = kill_at(prepared, call, &[]);
        let mut next = users.opened(heir, &target, "mode=666");
        let answer = next.ask("acquire l g 60000");
        assert_eq!(answer["ok"], true, "{victim} {heir} {crashed}, killed before {call:?}: {answer}");
        next.must("check g");
        next.must("release g");
        let found = next.must(&format!("inspect {}", target.display()));
        assert_eq!(found["found"]["state"], "free", "{found}");
        let mut back = users.opened(victim, &target, "mode=666");
        let answer = back.ask("acquire l g 60000");
        assert_eq!(answer["ok"], true, "{victim} is back, killed before {call:?}: {answer}");
        back.must("release g");
    }
}

#[test]
fn each_user_records_a_success_that_counts_for_all() {
    let Some(users) = Users::new() else { return };
    for (name, mode) in [("group", 0o2775), ("sticky", 0o1777)] {
        let target = users.folder(name, mode).join("t");
        let (hourly, always) = ("mode=666 not_more_often_than_ms=3600000", "mode=666 not_more_often_than_ms=0");
        let (mut ann, mut bob) = (users.opened(ANN, &target, always), users.opened(BOB, &target, always));
        let (mut next, mut other) = (users.opened(ANN, &target, hourly), users.opened(BOB, &target, hourly));
        // The second success of each replaces the first.
        for of_ann in [true, false, false, true] {
            let actor = if of_ann { &mut ann } else { &mut bob };
            actor.must("acquire l g never");
            actor.must("succeed g");
            actor.must("release g");
            next.must_fail("acquire l g never", "skipped");
            other.must_fail("acquire l g never", "skipped");
        }
        // A file that another user made in this one's name counts no more than any other content.
        for user in [ANN, BOB] {
            fs::remove_file(target.with_file_name(".tenure").join(format!("t.lock.{user}.success"))).unwrap();
        }
        let false_one = target.with_file_name(".tenure").join(format!("t.lock.{BOB}.success"));
        ann.must("acquire l g never");
        ann.must("succeed g");
        fs::rename(target.with_file_name(".tenure").join(format!("t.lock.{ANN}.success")), &false_one).unwrap();
        ann.must("release g");
        other.must("acquire l g never");
        other.must("release g");
    }
}
