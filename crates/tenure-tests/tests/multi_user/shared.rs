//! Group-writable folders, and the rights of the folder of anchors.

use super::*;

#[test]
fn in_a_group_writable_folder_users_replace_each_others_anchors() {
    let Some(users) = Users::new() else { return };
    for style in ["", "style=flock"] {
        let name = format!("shared{}", style.len());
        let dir = users.folder(&name, 0o2775);
        let target = dir.join("t");
        fs::write(&target, "").unwrap();
        let mut last = 0;
        let mut ann = users.opened(ANN, &target, style);
        let mut bob = users.opened(BOB, &target, style);
        acquire(&mut ann, &mut last);
        assert_eq!(fs::metadata(anchor(&target)).unwrap().uid(), ANN);
        assert_eq!(fs::metadata(anchor(&target)).unwrap().mode() & 0o777, 0o644);
        assert_eq!(bob.must_fail("acquire l g never", "busy")["holder"], ann.pid());
        ann.must("release g");

        for _ in 0..3 {
            let answer = bob.must("acquire l g never");
            assert!(answer["crashed"].is_null(), "no holder has died: {answer}");
            bob.must("release g");
            acquire(&mut bob, &mut last);
            assert_eq!(fs::metadata(anchor(&target)).unwrap().uid(), BOB);
            assert_eq!(ann.must_fail("acquire l g never", "busy")["holder"], bob.pid());
            bob.must("check g");
            bob.must("release g");
            acquire(&mut ann, &mut last);
            assert_eq!(fs::metadata(anchor(&target)).unwrap().uid(), ANN);
            assert_eq!(bob.must_fail("acquire l g never", "busy")["holder"], ann.pid());
            ann.must("check g");
            ann.must("release g");
        }

        // Each waits for the other.
        acquire(&mut ann, &mut last);
        succeed(&mut bob, &mut last, || drop(ann.must("release g")));
        succeed(&mut ann, &mut last, || drop(bob.must("release g")));
        bob.must("begin l g forever");
        // A third program acquires while Ann holds and Bob waits.
        let mut cat = users.opened(CAT, &target, style);
        cat.must_fail("acquire l g never", "busy");
        ann.must("release g");
        assert_eq!(bob.receive()["event"], "granted");
        cat.must_fail("acquire l g never", "busy");
        bob.must("release g");
        acquire(&mut cat, &mut last);
        cat.must("release g");
        let left: Vec<_> = fs::read_dir(dir.join(".tenure")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(!lock_file(&target).exists());
    }
}

#[test]
fn each_user_writes_a_history_that_all_read() {
    let Some(users) = Users::new() else { return };
    for (name, mode, keys) in [("group", 0o2775, ""), ("sticky", 0o1777, "mode=666")] {
        let target = users.folder(name, mode).join("t");
        let keys = format!("history=5 {keys}");
        let (mut ann, mut bob) = (users.opened(ANN, &target, &keys), users.opened(BOB, &target, &keys));
        for _ in 0..3 {
            for actor in [&mut ann, &mut bob] {
                actor.must("acquire l g never");
                actor.must("release g");
            }
        }
        // A file that another user has put in the place of root's, whose name has root's number.
        let folder = target.with_file_name(".tenure");
        let own = folder.join(format!("t.lock.{BOB}.history"));
        assert_eq!(fs::metadata(&own).unwrap().uid(), BOB);
        let false_one = folder.join("t.lock.0.history");
        fs::copy(&own, &false_one).unwrap();
        std::os::unix::fs::chown(&false_one, Some(BOB), None).unwrap();
        let past = tenure::history(&target).unwrap();
        let pids: Vec<_> = past.iter().map(|past| past.pid.unwrap()).collect();
        let (ann, bob) = (i64::from(ann.pid()), i64::from(bob.pid()));
        assert_eq!(pids, [bob, ann, bob, ann, bob], "{name}");
        // Nor does root write to it.
        let mut root = tenure_tests::opened(&target, &format!("{keys} events=1"));
        if mode & 0o1000 == 0 {
            root.must("acquire l g never");
            root.send("release g");
            let said = root.receive();
            assert_eq!(said["event"], "history-failed", "{said}");
            assert_eq!(root.receive()["ok"], true);
            assert_eq!(fs::metadata(&false_one).unwrap().len(), fs::metadata(&own).unwrap().len());
        }
    }
}

#[test]
fn the_folder_of_anchors_has_its_parents_group() {
    let Some(users) = Users::new() else { return };
    // Each has a group of their own, as users do, and the folder's as a supplementary group, which the folder does not
    // pass on.
    let member = |user: u32, target: &Path| {
        let mut actor = Actor::from(Command::new("setpriv").args([
            &format!("--reuid={user}"),
            &format!("--regid={user}"),
            &format!("--groups={GROUP}"),
            "--bounding-set=-all",
            "--inh-caps=-all",
            users.dir.path().join("actor").to_str().unwrap(),
        ]));
        actor.must(&format!("open l {}", target.display()));
        actor
    };
    let target = users.folder("shared", 0o770).join("t");
    let (mut ann, mut bob, mut last) = (member(ANN, &target), member(BOB, &target), 0);
    acquire(&mut ann, &mut last);
    assert_eq!(bob.must_fail("acquire l g never", "busy")["holder"], ann.pid());
    ann.must("release g");
    acquire(&mut bob, &mut last);
}

/// The creator of `.tenure` is not in the folder's group: its own group gets the rights of others, and the folder's
/// group no more than it has in the folder.
#[test]
fn a_folder_of_anchors_gives_another_group_only_the_rights_of_others() {
    let Some(users) = Users::new() else { return };
    for (mode, expected) in [(0o757, 0o757), (0o747, 0o747), (0o1777, 0o1777)] {
        let dir = users.folder(&format!("open{mode:o}"), mode);
        let mut actor = Actor::from(Command::new("setpriv").args([
            &format!("--reuid={ANN}"),
            &format!("--regid={ANN}"),
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
            users.dir.path().join("actor").to_str().unwrap(),
        ]));
        actor.must(&format!("open l {}", dir.join("t").display()));
        acquire(&mut actor, &mut 0);
        let made = fs::metadata(dir.join(".tenure")).unwrap();
        assert_eq!((made.mode() & 0o7777, made.uid(), made.gid()), (expected, ANN, ANN), "in {mode:o}");
        let removes = users.shell(BOB, GROUP, &dir, "rm -f .tenure/t.lock");
        assert!(!removes, "in {mode:o}: a member of the folder's group");
        if mode & 0o1000 == 0 {
            assert!(users.shell(BOB, BOB, &dir, "mv .tenure/t.lock .tenure/x"), "in {mode:o}: other users");
        }
    }
}

/// Root was first in a user's own folder: that user can use the files that root created.
#[test]
fn a_folder_of_anchors_that_root_creates_serves_the_folders_user() {
    let Some(users) = Users::new() else { return };
    for (mode, style) in [(0o755, ""), (0o700, ""), (0o755, "style=flock")] {
        let dir = users.folder(&format!("anns{mode:o}{}", style.len()), mode);
        chown(&dir, Some(ANN), Some(ANN)).unwrap();
        let target = dir.join("t");
        fs::write(&target, "").unwrap();
        let mut last = 0;
        let mut root = Actor::start();
        root.must(&format!("open l {} {style}", target.display()));
        acquire(&mut root, &mut last);
        let made = fs::metadata(dir.join(".tenure")).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (ANN, ANN, mode));
        assert!(!users.shell(BOB, ANN, &dir, "rm -f .tenure/t.lock"));
        let mut ann = users.actor_of(ANN, ANN);
        ann.must(&format!("open l {} {style}", target.display()));
        assert_eq!(ann.must_fail("acquire l g never", "busy")["holder"], root.pid());
        root.must("release g");
        for _ in 0..2 {
            acquire(&mut ann, &mut last);
            ann.must("release g");
            acquire(&mut root, &mut last);
            root.must("release g");
        }
    }
}

#[test]
fn root_killed_at_its_first_acquire_locks_no_user_out() {
    let Some(users) = Users::new() else { return };
    if !needs("strace", has("strace")) {
        return;
    }
    let prepare = |name: &str| {
        let dir = users.folder(&format!("first-{name}"), 0o755);
        chown(&dir, Some(ANN), Some(ANN)).unwrap();
        let target = dir.join("t");
        let mut root = Actor::start();
        root.must(&format!("open l {}", target.display()));
        (root, target)
    };
    let (mut root, _) = prepare("rehearsal");
    let calls = changing_calls(&mut root, "acquire l g never", &[]);
    assert!(calls.iter().any(|call| call.name == "mkdirat"), "{calls:?}");
    for (at, call) in calls.iter().enumerate() {
        let prepared = |attempt| {
            let (root, target) = prepare(&format!("{at}-{attempt}"));
            (root, "acquire l g never".to_owned(), target)
        };
        let target = kill_at(prepared, call, &[]);
        let mut ann = users.actor_of(ANN, ANN);
        ann.must(&format!("open l {}", target.display()));
        ann.must("acquire l g 60000");
        ann.must("release g");
    }
}

/// Between the creation of a folder and the change of its rights, another process may have renamed another folder to
/// its name.
#[test]
fn a_folder_that_replaced_the_new_one_keeps_its_rights() {
    let Some(users) = Users::new() else { return };
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = users.folder("moved", 0o755);
    chown(&dir, Some(ANN), Some(ANN)).unwrap();
    fs::create_dir(dir.join("secrets")).unwrap();
    fs::write(dir.join("secrets/key"), "").unwrap();
    fs::set_permissions(dir.join("secrets"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut root = Actor::start();
    root.must(&format!("open l {}", dir.join("t").display()));
    let strace = Strace::stops(&mut root, "acquire l g never", &["mkdirat:signal=STOP:when=1"]);
    drop(strace);
    assert!(users.shell(ANN, ANN, &dir, "name=$(echo .tenure*) && mv \"$name\" away && mv secrets \"$name\""));
    signal(root.pid(), libc::SIGCONT);
    let answer = root.receive();
    assert_eq!(answer["ok"], true, "{answer}");
    let folders = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let moved: Vec<_> = folders.filter(|path| path.join("key").exists()).collect();
    let kept = fs::metadata(&moved[0]).unwrap();
    assert_eq!((kept.uid(), kept.mode() & 0o7777), (0, 0o700));
}

/// Sets ACL entries on a folder, or its default ACL.
fn setfacl(dir: &Path, entries: &str) {
    let set = Command::new("setfacl").args(["-m", entries]).arg(dir).status().unwrap();
    assert!(set.success(), "setfacl -m {entries} {}", dir.display());
}

/// Returns a folder's access ACL with its mask applied, in `getfacl`'s format.
fn effective(dir: &Path) -> Vec<String> {
    let shown = Command::new("getfacl").args(["-c", "-n", "-p", "-E", "--access"]).arg(dir).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    let mask = text.lines().find_map(|line| line.strip_prefix("mask::")).unwrap_or("rwx");
    let masked = |bits: &str| bits.chars().map(|bit| if mask.contains(bit) { bit } else { '-' }).collect::<String>();
    let entries = text.lines().filter(|line| !line.is_empty() && !line.starts_with("mask::"));
    let mut entries: Vec<String> = entries
        .map(|line| match line.rsplit_once(':').unwrap() {
            (who @ ("user:" | "other:"), bits) => format!("{who}:{bits}"),
            (who, bits) => format!("{who}:{}", masked(bits)),
        })
        .collect();
    entries.sort_unstable();
    entries
}

/// The group bits of a folder with an ACL are the maximum for everybody but the owner, and not the group's rights.
#[test]
fn a_folder_of_anchors_has_its_parents_acl() {
    let Some(users) = Users::new() else { return };
    if !needs("setfacl", has("setfacl")) {
        return;
    }
    for style in ["", "style=flock"] {
        let dir = users.folder(&format!("acl{}", style.len()), 0o750);
        let target = dir.join("t");
        setfacl(&dir, &format!("u:{ANN}:rwx,u:{BOB}:rwx"));
        fs::write(&target, "").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o770, "its mask");
        let mut root = Actor::start();
        root.must(&format!("open l {} {style}", target.display()));
        root.must("acquire l g never");
        assert_eq!(effective(&dir.join(".tenure")), effective(&dir));
        // The group may read, and no more.
        assert!(users.shell(CAT, GROUP, &dir, "cat .tenure/t.lock >&2"));
        assert!(!users.shell(CAT, GROUP, &dir, "rm -f .tenure/t.lock"));
        assert!(!users.shell(CAT, CAT, &dir, "cat .tenure/t.lock >&2"));
        root.must("check g");
        root.must("release g");
        // The users that the ACL names may do everything, one after another.
        let mut last = 0;
        for user in [ANN, BOB, ANN] {
            let mut actor = users.actor_of(user, user);
            actor.must(&format!("open l {} {style}", target.display()));
            acquire(&mut actor, &mut last);
            actor.must("release g");
        }
    }
}

/// The folder's owner and group have the same rights in `.tenure` as in the folder, also if another user has created
/// it.
#[test]
fn a_folder_of_anchors_with_an_acl_serves_its_parents_owner() {
    let Some(users) = Users::new() else { return };
    if !needs("setfacl", has("setfacl")) {
        return;
    }
    let dir = users.folder("owned", 0o770);
    chown(&dir, Some(BOB), None).unwrap();
    setfacl(&dir, &format!("u:{ANN}:rwx,g:{CAT}:r-x,m:rwx"));
    let target = dir.join("t");
    let (mut last, mut first) = (0, users.actor_of(ANN, ANN));
    first.must(&format!("open l {}", target.display()));
    acquire(&mut first, &mut last);
    first.must("release g");
    let made = fs::metadata(dir.join(".tenure")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (ANN, ANN, 0o770));
    for (user, group) in [(BOB, BOB), (CAT, GROUP), (ANN, ANN)] {
        let mut actor = users.actor_of(user, group);
        actor.must(&format!("open l {}", target.display()));
        acquire(&mut actor, &mut last);
        actor.must("release g");
    }
    assert!(users.shell(65_529, CAT, &dir, "cat .tenure/t.lock >&2"));
    assert!(!users.shell(65_529, CAT, &dir, "rm -f .tenure/t.lock"));
}

#[test]
fn a_default_acl_is_inherited_and_widens_no_rights() {
    let Some(users) = Users::new() else { return };
    if !needs("setfacl", has("setfacl")) {
        return;
    }
    for mode in [0o755, 0o775] {
        let dir = users.folder(&format!("default{mode:o}"), mode);
        // Bob may change files that are created in it, but not the folder itself.
        setfacl(&dir, &format!("d:u:{BOB}:rwx,d:m:rwx,d:g::r-x"));
        let mut root = Actor::start();
        root.hold(&dir.join("t"));
        let made = dir.join(".tenure");
        assert_eq!(effective(&made), effective(&dir), "in {mode:o}");
        assert!(!users.shell(BOB, BOB, &dir, "rm -f .tenure/t.lock"), "in {mode:o}");
        let default =
            |dir: &Path| Command::new("getfacl").args(["-c", "-n", "-p", "-d"]).arg(dir).output().unwrap().stdout;
        assert_eq!(default(&made), default(&dir), "in {mode:o}");
        root.must("check g");
    }
}

/// In a user namespace without a number for the folder's group, no process can set that group. All such groups have one
/// number there, which may belong to a group there too.
#[test]
fn a_group_without_a_number_in_the_user_namespace_is_ignored() {
    let Some(users) = Users::new() else { return };
    if !needs("unshare", has("unshare")) {
        return;
    }
    let base: u32 = 1_000_000;
    for (mode, expected) in [(0o775, 0o755), (0o777, 0o777), (0o757, 0o755), (0o2770, 0o770), (0o1777, 0o1777)] {
        let dir = users.folder(&format!("namespace{mode:o}"), mode);
        chown(&dir, Some(base), None).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        let target = dir.join("t");
        let script = "read -r go; exec setpriv --reuid=0 --regid=0 --clear-groups \"$0\"";
        let mut actor = Actor::from(
            Command::new("unshare").args(["-U", "--keep-caps", "sh", "-c", script]).arg(users.dir.path().join("actor")),
        );
        tenure_tests::until("the actor is in its namespace", || {
            let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
            link(&actor.pid().to_string()) != link("self")
        });
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", actor.pid()), format!("0 {base} 65536")).unwrap();
        }
        actor.send("go");
        actor.must(&format!("open l {}", target.display()));
        acquire(&mut actor, &mut 0);
        let made = fs::metadata(dir.join(".tenure")).unwrap();
        let inherits = mode & 0o2000 != 0;
        assert_eq!(made.uid(), base);
        assert_eq!(made.gid(), if inherits { GROUP } else { base }, "in {mode:o}");
        assert_eq!(made.mode() & 0o7777, expected, "in {mode:o}");
        actor.must("release g");
    }
}

#[test]
fn in_a_group_writable_folder_users_take_over_each_others_stale_locks() {
    let Some(users) = Users::new() else { return };
    for (at, style) in ["", "style=flock"].into_iter().enumerate() {
        let target = users.folder(&format!("shared{at}"), 0o2775).join("t");
        fs::write(&target, "").unwrap();
        let mut last = 0;
        let mut ann = users.opened(ANN, &target, style);
        acquire(&mut ann, &mut last);
        let dead = ann.pid();
        ann.kill();
        // At once, without waiting.
        let mut bob = users.opened(BOB, &target, style);
        let answer = bob.must("acquire l g never");
        assert_eq!(answer["crashed"]["pid"], dead, "{answer}");
        assert!(answer["fence"].as_u64().unwrap() > last);
        last = answer["fence"].as_u64().unwrap();
        bob.must("check g");

        // By waiting.
        let mut ann = users.opened(ANN, &target, style);
        succeed(&mut ann, &mut last, || bob.kill());
        ann.must("check g");
        ann.must("release g");
        assert!(!lock_file(&target).exists());
    }
}

/// A takeover from another user's dead holder first replaces the anchor, and with it the record.
#[test]
fn a_crash_is_reported_although_another_user_dies_in_any_call_of_its_takeover() {
    let Some(users) = Users::new() else { return };
    if !needs("strace", has("strace")) {
        return;
    }
    for (dead, victim, heir) in [("", "", "style=flock"), ("", "style=flock", ""), ("style=flock", "", "style=flock")] {
        let prepare = |name: &str| {
            let name = format!("{}-{}-{}-{name}", dead.len(), victim.len(), heir.len());
            let target = users.folder(&name, 0o2775).join("t");
            fs::write(&target, "").unwrap();
            let mut ann = users.opened(ANN, &target, dead);
            acquire(&mut ann, &mut 0);
            let pid = ann.pid();
            ann.kill();
            (users.opened(BOB, &target, victim), (target, pid))
        };
        let (mut actor, _) = prepare("rehearsal");
        let calls = changing_calls(&mut actor, "acquire l g never", &[]);
        assert!(calls.iter().any(|call| call.name == "renameat2"), "{calls:?}");
        for (at, call) in calls.iter().enumerate() {
            let prepared = |attempt| {
                let (actor, made) = prepare(&format!("{at}-{attempt}"));
                (actor, "acquire l g never".to_owned(), made)
            };
            let (target, _) = kill_at(prepared, call, &[]);
            let mut next = users.opened(CAT, &target, heir);
            let answer = next.must("acquire l g 60000");
            let from = format!("{dead:?}, {victim:?}, {heir:?}, killed before {call:?}");
            assert!(answer["crashed"].is_object(), "{from}: {answer}");
            next.must("release g");
            assert!(!lock_file(&target).exists(), "{from}");
            // Reported once.
            assert!(next.must("acquire l g never")["crashed"].is_null(), "{from}");
        }
    }
}

/// Kills Ann, and stops Bob right after he has replaced her anchor. Returns her pid and the old anchor.
fn replaced(users: &Users, name: &str, style: &str) -> (PathBuf, u32, fs::File, Actor) {
    let target = users.folder(name, 0o2775).join("t");
    fs::write(&target, "").unwrap();
    let mut ann = users.opened(ANN, &target, "");
    acquire(&mut ann, &mut 0);
    let dead = ann.pid();
    ann.kill();
    let old = fs::File::open(anchor(&target)).unwrap();
    let mut bob = users.opened(BOB, &target, style);
    drop(Strace::stops(&mut bob, "acquire l g never", &["renameat2:signal=STOP:when=1"]));
    (target, dead, old, bob)
}

/// A waiter for the old anchor gets its kernel lock when the process that replaced the anchor dies or fails. The lock
/// file then looks alive; the crash report is in the new anchor.
#[test]
fn a_waiter_for_a_replaced_anchor_hides_no_crash() {
    let Some(users) = Users::new() else { return };
    if !needs("strace", has("strace")) {
        return;
    }
    let (target, _, old, bob) = replaced(&users, "queued", "style=flock");
    bob.kill();
    old.lock().unwrap();
    let mut cat = users.opened(CAT, &target, "style=flock");
    let answer = cat.must("acquire l g never");
    assert!(answer["crashed"].is_object(), "{answer}");
    cat.must("release g");
}

/// The dead holder's anchor is its lock file as well, and waiters queue for its kernel lock until they see that it was
/// replaced.
#[test]
fn a_waiter_for_a_replaced_anchor_is_not_its_holder() {
    let Some(users) = Users::new() else { return };
    if !needs("strace", has("strace")) {
        return;
    }
    for style in ["", "style=flock"] {
        let (target, dead, old, mut bob) = replaced(&users, &format!("queue{}", style.len()), style);
        let queued = std::thread::spawn(move || {
            old.lock().unwrap();
            old
        });
        until_waiting(&target, 1);
        signal(bob.pid(), libc::SIGCONT);
        let answer = bob.receive();
        assert_eq!(answer["crashed"]["pid"], dead, "{style:?}: {answer}");
        bob.must("check g");
        drop(queued.join().unwrap());
        bob.must("release g");
        assert!(!lock_file(&target).exists(), "{style:?}");
    }
}
