//! Several real users on one lock: in group-writable, sticky and read-only folders.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests look at files and processes as anyone would")]

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tenure_tests::strace::{Strace, changing_calls, kill_at};
use tenure_tests::{Actor, actor_program, folder, has, is_root, lock_file, needs, signal, until_waiting};

const ANN: u32 = 65_531;
const BOB: u32 = 65_532;
const CAT: u32 = 65_533;
const GROUP: u32 = 65_530;

/// A folder that every user can enter, with the actor's program in it; the target folder may be closed to them.
struct Users {
    dir: tempfile::TempDir,
}

impl Users {
    /// Returns `None` if the test cannot run.
    fn new() -> Option<Users> {
        if !needs("root and setpriv", is_root() && has("setpriv")) {
            return None;
        }
        let dir = folder();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // A child process copies: a file that a fork of this process has open for writing could not be executed.
        assert!(Command::new("cp").arg(actor_program()).arg(dir.path().join("actor")).status().unwrap().success());
        Some(Users { dir })
    }

    fn folder(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        chown(&path, None, Some(GROUP)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn actor(&self, user: u32) -> Actor {
        self.actor_with(user, "022")
    }

    fn actor_with(&self, user: u32, umask: &str) -> Actor {
        let script = format!(
            "umask {umask}; exec setpriv --reuid={user} --regid={GROUP} --clear-groups --bounding-set=-all \
             --inh-caps=-all \"$0\""
        );
        Actor::from(Command::new("sh").args(["-c", &script]).arg(self.dir.path().join("actor")))
    }

    fn actor_of(&self, user: u32, group: u32) -> Actor {
        let ids = [format!("--reuid={user}"), format!("--regid={group}")];
        let script = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all"];
        Actor::from(Command::new("setpriv").args(ids).args(script).arg(self.dir.path().join("actor")))
    }

    /// Runs a command there as that user, and returns whether it succeeded.
    fn shell(&self, user: u32, group: u32, dir: &Path, command: &str) -> bool {
        let ids = [format!("--reuid={user}"), format!("--regid={group}")];
        let mut shell = Command::new("setpriv");
        shell.args(ids).args([
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "sh",
            "-c",
            "cd \"$0\" && eval \"$1\"",
        ]);
        shell.arg(dir).arg(command).stderr(std::process::Stdio::null()).status().unwrap().success()
    }

    fn opened(&self, user: u32, target: &Path, keys: &str) -> Actor {
        let mut actor = self.actor(user);
        actor.must(&format!("open l {} {keys}", target.display()));
        actor
    }
}

fn anchor(target: &Path) -> PathBuf {
    target.with_file_name(".tenure").join(lock_file(target).file_name().unwrap())
}

fn acquire(actor: &mut Actor, last: &mut u64) {
    let answer = actor.must("acquire l g never");
    let fence = answer["fence"].as_u64().unwrap();
    assert!(fence > *last, "the fence did not grow over {last}: {answer}");
    *last = fence;
}

/// Acquires by waiting for a holder that `end` ends.
fn succeed(actor: &mut Actor, last: &mut u64, end: impl FnOnce()) {
    actor.must("begin l g forever");
    end();
    let answer = actor.receive();
    assert_eq!(answer["event"], "granted", "{answer}");
    let fence = answer["fence"].as_u64().unwrap();
    assert!(fence > *last, "the fence did not grow over {last}: {answer}");
    *last = fence;
}

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
        ann.must("acquire l g 1000");
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

/// In a user namespace without a number for the folder's group, nobody can set that group. All such groups are shown as
/// one number, which may belong to a group there too.
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
            let answer = next.must("acquire l g 1000");
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

/// In a sticky folder nobody can remove the leftover files of another user's crash, so they must not block anybody.
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

/// `owner` creates the anchor, `victim` is killed at each call of an acquire, `heir` is the next holder.
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
        let answer = next.ask("acquire l g 1000");
        assert_eq!(answer["ok"], true, "{victim} {heir} {crashed}, killed before {call:?}: {answer}");
        next.must("check g");
        next.must("release g");
        let found = next.must(&format!("inspect {}", target.display()));
        assert_eq!(found["found"]["state"], "free", "{found}");
        let mut back = users.opened(victim, &target, "mode=666");
        let answer = back.ask("acquire l g 1000");
        assert_eq!(answer["ok"], true, "{victim} is back, killed before {call:?}: {answer}");
        back.must("release g");
    }
}

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
    let found = ann.must(&format!("inspect {}", target.display()));
    assert_eq!(found["found"]["state"], "unknown", "{found}");
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
