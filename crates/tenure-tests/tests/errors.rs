//! One call fails at one point: which failures the library recovers from, and how it words the others. The sweep
//! (`errnos`) makes every call fail; these tests state the exact result for some.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tenure_tests::strace::{CALLS, Strace};
use tenure_tests::sweep::scenes::dead_foreign;
use tenure_tests::sweep::{anchors, lock_file, names};
use tenure_tests::{Actor, actor_program, folder, has, is_root, needs};

/// A call, by its name and a part of strace's text; the errno; whether always, or only for the first such call.
type Fault = (&'static str, &'static str, &'static str, bool);

const ONCE: bool = false;
const ALWAYS: bool = true;

fn ready() -> bool {
    needs("strace", has("strace"))
}

/// A folder, its content, and the actor under test.
struct Scene {
    _dir: tempfile::TempDir,
    target: PathBuf,
    actor: Actor,
}

impl Scene {
    fn new(mode: u32, keys: &str, before: impl FnOnce(&Path)) -> Scene {
        let dir = folder();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let target = dir.path().join("t");
        before(&target);
        let mut actor = Actor::start();
        actor.must(&format!("open l {} {keys}", target.display()));
        Scene { _dir: dir, target, actor }
    }

    fn left(&self) -> (Vec<String>, Vec<String>) {
        (names(self.target.parent().unwrap()), names(&anchors(&self.target)))
    }
}

fn options(faults: &[(Fault, usize)]) -> Vec<String> {
    let mut options = vec!["-e".to_owned(), format!("trace={CALLS}")];
    for ((name, _, error, always), nth) in faults {
        let when = if *always { String::new() } else { format!(":when={nth}") };
        options.extend(["-e".to_owned(), format!("inject={name}:error={error}{when}")]);
    }
    options
}

/// Runs a line in a scene in which these calls fail; each is looked up while those before it already fail.
fn ask(scene: impl Fn() -> Scene, line: &str, faults: &[Fault]) -> (Value, Scene) {
    let mut found: Vec<(Fault, usize)> = Vec::new();
    for fault in faults {
        let mut rehearsal = scene();
        let args = options(&found);
        let strace = Strace::attach(rehearsal.actor.pid(), &args.iter().map(String::as_str).collect::<Vec<_>>());
        rehearsal.actor.ask(line);
        let calls = strace.calls();
        let call = calls.iter().find(|call| call.name == fault.0 && call.text.contains(fault.1));
        found.push((*fault, call.unwrap_or_else(|| panic!("{fault:?} is not among {calls:#?}")).nth));
    }
    let mut scene = scene();
    let args = options(&found);
    let strace = Strace::attach(scene.actor.pid(), &args.iter().map(String::as_str).collect::<Vec<_>>());
    let answer = scene.actor.ask(line);
    let trace = strace.detach();
    let injected = trace.iter().filter(|line| line.contains("(INJECTED)")).count();
    assert!(injected >= faults.len(), "{faults:?}: {trace:#?}");
    (answer, scene)
}

/// Asserts that `line` fails with an error of this kind whose text contains `says` and not `not`.
fn fails(scene: impl Fn() -> Scene, line: &str, faults: &[Fault], kind: &str, says: &[&str], not: &str) -> Scene {
    let (answer, scene) = ask(scene, line, faults);
    let text = answer["error"].as_str().unwrap_or_default();
    assert_eq!((answer["ok"].as_bool(), answer["kind"].as_str()), (Some(false), Some(kind)), "{faults:?}: {answer}");
    for word in says {
        assert!(text.contains(word), "{faults:?}: {answer} does not say {word:?}");
    }
    assert!(not.is_empty() || !text.contains(not), "{faults:?}: {answer} speaks of {not:?}");
    scene
}

/// Asserts that `line` succeeds in spite of the faults.
fn gets_over(scene: impl Fn() -> Scene, line: &str, faults: &[Fault]) -> (Value, Scene) {
    let (answer, mut scene) = ask(scene, line, faults);
    assert_eq!(answer["ok"], true, "{faults:?}: {answer}");
    if line.starts_with("acquire") {
        scene.actor.must("check g");
        scene.actor.must("release g");
        assert!(!lock_file(&scene.target).exists(), "{faults:?}");
    }
    (answer, scene)
}

const TRY: &str = "acquire l g never";

fn nothing(_: &Path) {}

fn idle(target: &Path) {
    let mut actor = Actor::start();
    actor.hold(target);
    actor.must("release g");
}

fn dead(target: &Path) {
    let mut actor = Actor::start();
    actor.hold(target);
    actor.kill();
}

/// Kills a native in a takeover: the swap has its link, or the file that it judged.
fn half_taken(target: &Path) {
    idle(target);
    dead_foreign(target);
    let mut actor = Actor::start();
    actor.must(&format!("open l {}", target.display()));
    let strace = Strace::attach(actor.pid(), &["-e", "trace=unlinkat", "-e", "inject=unlinkat:signal=KILL:when=1"]);
    actor.send(TRY);
    actor.await_end();
    drop(strace);
    assert!(anchors(target).join("t.lock.swap").exists());
}

#[test]
fn an_unopenable_anchor_is_reported_and_a_removed_one_is_recreated() {
    if !ready() {
        return;
    }
    let anchored = || Scene::new(0o755, "", idle);
    for error in ["EIO", "EMFILE"] {
        let opening = ("openat", "O_RDWR", error, ONCE);
        let scene = fails(anchored, TRY, &[opening], "io", &["t.lock", "cannot be opened"], "belongs to another user");
        assert!(!lock_file(&scene.target).exists());
    }
    gets_over(anchored, TRY, &[("openat", "O_RDWR", "ENOENT", ONCE)]);
    // The link names the anchor by its path.
    let (granted, _) = gets_over(anchored, TRY, &[("linkat", "t.lock", "ENOENT", ONCE)]);
    assert_eq!(granted["crashed"], Value::Null, "{granted}");
}

/// The failed process lives, so the record must not name it as crashed.
#[test]
fn an_acquire_that_fails_at_its_last_step_keeps_the_crashed_holders_name() {
    if !ready() {
        return;
    }
    let dead_in_flock_style = |target: &Path| {
        let mut actor = tenure_tests::opened(target, "style=flock");
        actor.must(TRY);
        let pid = actor.pid();
        actor.kill();
        i64::from(pid)
    };
    let foreign = |target: &Path| {
        dead_foreign(target);
        let text: Value = serde_json::from_slice(&fs::read(lock_file(target)).unwrap()).unwrap();
        text["pid"].as_i64().unwrap()
    };
    let deaths: [&dyn Fn(&Path) -> i64; 2] = [&dead_in_flock_style, &foreign];
    for dies in deaths {
        let dead = Cell::new(0);
        let scene = || Scene::new(0o755, "", |target| dead.set(dies(target)));
        let mut scene = fails(scene, TRY, &[("pwrite64", "held", "ENOSPC", ONCE)], "io", &["os error 28"], "");
        assert!(!lock_file(&scene.target).exists());
        assert_eq!(scene.actor.must(TRY)["crashed"]["pid"], dead.get());
    }
}

/// The file has two names if `.tenure` was removed in the middle of an acquire. Masking a pid that the file does not
/// contain would write data that another program could misread.
#[test]
fn an_empty_lock_file_stays_empty_on_a_full_disk() {
    if !ready() {
        return;
    }
    let empty = |target: &Path| {
        idle(target);
        let anchor = anchors(target).join("t.lock");
        fs::write(&anchor, "").unwrap();
        fs::hard_link(anchor, lock_file(target)).unwrap();
    };
    let scene = || Scene::new(0o755, "", empty);
    let mut scene = fails(scene, TRY, &[("pwrite64", r"{\n", "ENOSPC", ONCE)], "io", &["os error 28"], "");
    assert_eq!(fs::read(lock_file(&scene.target)).unwrap(), b"");
    scene.actor.must(TRY);
    scene.actor.must("release g");
    assert!(!lock_file(&scene.target).exists());
}

#[test]
fn a_folder_of_anchors_that_cannot_be_named_is_removed() {
    if !ready() {
        return;
    }
    // The folder appears with its mode, by a rename.
    let shared = || Scene::new(0o1777, "", nothing);
    for error in ["ENOSPC", "EIO"] {
        let naming = ("renameat", ".tenure", error, ONCE);
        let naming = if renames_by_two() { ("renameat2", naming.1, naming.2, naming.3) } else { naming };
        let scene = fails(shared, TRY, &[naming], "io", &[".tenure"], "");
        assert_eq!(scene.left(), (vec![], vec![]));
    }
}

/// Reports which call the standard library uses to rename on this machine.
fn renames_by_two() -> bool {
    let mut scene = Scene::new(0o1777, "", nothing);
    let strace = Strace::attach(scene.actor.pid(), &["-e", "trace=renameat,renameat2"]);
    scene.actor.must(TRY);
    strace.calls().iter().any(|call| call.name == "renameat2")
}

#[test]
fn if_link_and_copy_both_fail_the_plainer_error_is_reported() {
    if !ready() {
        return;
    }
    let anchored = || Scene::new(0o755, "", idle);
    let no_links = ("linkat", "t.lock", "EPERM", ALWAYS);
    let making = |error| ("openat", "t.lock.new", error, ONCE);
    let both = [no_links, making("EPERM")];
    fails(anchored, TRY, &both, "permission-denied", &["t.lock: the lock file cannot be created"], ".tenure");
    let scene = fails(anchored, TRY, &[no_links, making("ENOSPC")], "io", &["os error 28"], "os error 1)");
    assert_eq!(scene.left(), (vec![".tenure".to_owned()], vec![".gitignore".to_owned(), "t.lock".to_owned()]));
    // The folder existed at the look, and is missing now.
    gets_over(anchored, TRY, &[no_links, making("ENOENT")]);
    let naming = |error| ("renameat2", "RENAME_NOREPLACE", error, ONCE);
    fails(anchored, TRY, &[no_links, naming("EINVAL")], "unsupported", &["neither hard links nor"], "");
    fails(anchored, TRY, &[no_links, naming("EACCES")], "permission-denied", &["neither hard links nor"], "--flock");
    gets_over(anchored, TRY, &[no_links, naming("ENOENT")]);
    gets_over(anchored, TRY, &[no_links, naming("EEXIST")]);
}

/// No space for a name in the folder: flock style needs no name.
#[test]
fn without_space_for_the_lock_file_the_error_suggests_flock_style() {
    if !ready() {
        return;
    }
    for error in ["ENOSPC", "EDQUOT"] {
        let naming = ("linkat", "t.lock", error, ALWAYS);
        let says = ["the lock file cannot be created", "--flock"];
        let mut scene = fails(|| Scene::new(0o755, "", idle), TRY, &[naming], "io", &says, "another file system");
        assert!(!lock_file(&scene.target).exists());
        let _strace = Strace::inject(scene.actor.pid(), &[&format!("linkat:error={error}")]);
        scene.actor.must(&format!("open f {} style=flock", scene.target.display()));
        scene.actor.must("acquire f f never");
        scene.actor.must("release f");
    }
}

#[test]
fn a_takeover_that_fails_at_the_swap_is_reported_or_retried() {
    if !ready() {
        return;
    }
    let stale = || {
        Scene::new(0o755, "", |target| {
            idle(target);
            dead_foreign(target);
        })
    };
    let linking = |error| ("linkat", ".swap", error, ONCE);
    fails(stale, TRY, &[linking("EIO")], "io", &["cannot be taken over", "os error 5)"], "");
    for error in ["EEXIST", "ENOENT"] {
        gets_over(stale, TRY, &[linking(error)]);
    }
    let dropping = |error| ("unlinkat", ".swap", error, ONCE);
    fails(stale, TRY, &[dropping("EIO")], "io", &["cannot be taken over"], "");
    gets_over(stale, TRY, &[dropping("ENOENT")]);
    let exchanging = |error| ("renameat2", "RENAME_EXCHANGE", error, ONCE);
    gets_over(stale, TRY, &[exchanging("ENOENT")]);
    fails(stale, TRY, &[exchanging("EACCES")], "permission-denied", &["its holder is dead", "may not be removed"], "");

    // By a copy, which is renamed to the swap.
    let no_links = ("linkat", "t.lock", "EPERM", ALWAYS);
    let naming = |error| (if renames_by_two() { "renameat2" } else { "renameat" }, "t.lock.swap\"", error, ONCE);
    fails(stale, TRY, &[no_links, naming("EACCES")], "permission-denied", &["cannot be taken over"], "its holder");
    fails(stale, TRY, &[no_links, naming("EIO")], "io", &["cannot be taken over"], "");
    gets_over(stale, TRY, &[no_links, naming("ENOENT")]);
}

#[test]
fn a_dead_natives_file_at_the_swap_is_removed_or_reported() {
    if !ready() {
        return;
    }
    let cut_off = || Scene::new(0o755, "", half_taken);
    let dropping = |error| ("unlinkat", ".swap", error, ONCE);
    for (error, kind) in [("EIO", "io"), ("EACCES", "permission-denied")] {
        fails(cut_off, TRY, &[dropping(error)], kind, &["t.lock", "cannot be recovered"], "");
    }
    let (granted, _) = gets_over(cut_off, TRY, &[dropping("ENOENT")]);
    assert!(granted["crashed"].is_object(), "{granted}");
}

/// The file stays, and must not seem to be held.
#[test]
fn an_unremovable_lock_file_is_reported_and_marked_as_released() {
    if !ready() {
        return;
    }
    for (error, kind) in [("EACCES", "permission-denied"), ("EIO", "io")] {
        let mut scene = Scene::new(0o755, "", nothing);
        scene.actor.must(TRY);
        let fault = format!("unlinkat:error={error}");
        let strace = Strace::inject(scene.actor.pid(), &[&fault]);
        let answer = scene.actor.must_fail("release g", kind);
        drop(strace);
        let text = answer["error"].as_str().unwrap();
        assert!(text.contains("cannot be removed; it is marked as released"), "{text}");
        let record: Value = serde_json::from_slice(&fs::read(lock_file(&scene.target)).unwrap()).unwrap();
        assert_eq!((&record["pid"], &record["tenure"]["state"]), (&Value::Null, &"released".into()), "{record}");
        let granted = scene.actor.must(TRY);
        assert_eq!(granted["crashed"], Value::Null, "{granted}");
    }
}

/// The same in flock style, which removes a dead native's lock file.
#[test]
fn flock_style_reports_a_crash_although_the_dead_natives_file_stays() {
    if !ready() {
        return;
    }
    let stale = || Scene::new(0o755, "style=flock", dead);
    for fault in [("pwrite64", "", "ENOSPC", ONCE), ("unlinkat", "t.lock", "EIO", ONCE)] {
        let (answer, mut scene) = ask(stale, TRY, &[fault]);
        assert_eq!(answer["kind"], "io", "{fault:?}: {answer}");
        let granted = scene.actor.must(TRY);
        assert!(granted["crashed"].is_object(), "{fault:?}: {granted}");
        scene.actor.must("release g");
        assert!(!lock_file(&scene.target).exists(), "{fault:?}");
        assert_eq!(scene.actor.must(TRY)["crashed"], Value::Null, "{fault:?}");
    }
}

const ANN: u32 = 65_541;
const BOB: u32 = 65_542;
const GROUP: u32 = 65_540;

/// Creates Ann's anchor in a folder of the group; the actor under test is Bob, who may replace it.
fn other_users_anchor() -> Scene {
    let dir = folder();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("actor");
    // A child process copies: a file that a fork of this process has open for writing could not be executed.
    assert!(Command::new("cp").arg(actor_program()).arg(&program).status().unwrap().success());
    let shared = dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    chown(&shared, None, Some(GROUP)).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o2775)).unwrap();
    let target = shared.join("t");
    let opened = |user: u32| {
        let ids = [format!("--reuid={user}"), format!("--regid={GROUP}")];
        let mut actor = Actor::from(Command::new("setpriv").args(ids).arg("--clear-groups").arg(&program));
        actor.must(&format!("open l {}", target.display()));
        actor
    };
    let mut ann = opened(ANN);
    ann.must(TRY);
    ann.must("release g");
    let actor = opened(BOB);
    Scene { target, actor, _dir: dir }
}

#[test]
fn another_users_irreplaceable_anchor_is_reported_or_retried() {
    if !ready() || !needs("root and setpriv", is_root() && has("setpriv")) {
        return;
    }
    let renaming = if renames_by_two() { "renameat2" } else { "renameat" };
    let naming = |error| (renaming, "t.lock.new", error, ONCE);
    let kept = (vec![".tenure".to_owned()], vec![".gitignore".to_owned(), "t.lock".to_owned()]);
    let words = ["belongs to another user and cannot be replaced"];
    let scene = fails(other_users_anchor, TRY, &[naming("EACCES")], "permission-denied", &words, "");
    assert_eq!(scene.left(), kept);
    let (granted, _) = gets_over(other_users_anchor, TRY, &[naming("ENOENT")]);
    assert_eq!(granted["crashed"], Value::Null, "{granted}");

    let making = |error| ("openat", "t.lock.new", error, ONCE);
    let scene = fails(other_users_anchor, TRY, &[making("ENOSPC")], "io", &["os error 28"], "");
    assert_eq!(scene.left(), kept);
    gets_over(other_users_anchor, TRY, &[making("ENOENT")]);

    let reading = |error| ("openat", "t.lock\", O_RDONLY", error, ONCE);
    fails(other_users_anchor, TRY, &[reading("EMFILE")], "io", &["cannot be opened", "os error 24"], "another user");
    let denied = ["belongs to another user and may not be written", "mode(0o666)"];
    fails(other_users_anchor, TRY, &[reading("EACCES")], "permission-denied", &denied, "");
}
