//! Takeovers that are overtaken, and files that are removed or replaced under a holder, as the next holder finds them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tenure_tests::strace::{CALLS, Strace};
use tenure_tests::sweep::scenes::dead_foreign;
use tenure_tests::sweep::{anchors, lock_file, names};
use tenure_tests::{Actor, folder, has, needs, signal, until};

/// A foreign program that holds `target`: it keeps its lock file open for writing, as OpenClaw does.
struct Foreign {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Foreign {
    /// Prepares a program that renames its lock file to the lock file's path on request: no moment without a file. It
    /// stays alive after its release.
    fn start(target: &Path) -> Foreign {
        Foreign::with(target, "")
    }

    /// Prepares a program that closes its file before it removes it, as OpenClaw does, and reports that.
    fn closing_first(target: &Path) -> Foreign {
        Foreign::with(target, "close")
    }

    fn with(target: &Path, how: &str) -> Foreign {
        let script = r#"
import json, os, sys
path = sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
made = path + ".foreign"
held = open(made, "w")
json.dump({"pid": os.getpid(), "createdAt": "2026-03-02T10:00:00.000Z"}, held)
held.flush()
os.rename(made, path)
print("held", flush=True)
sys.stdin.readline()
if sys.argv[2]:
    held.close()
    print("closed", flush=True)
    sys.stdin.readline()
os.unlink(path)
held.close()
print("released", flush=True)
sys.stdin.readline()
"#;
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(lock_file(target))
            .arg(how)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut foreign = Foreign { child, input, output };
        foreign.receive("ready");
        foreign
    }

    fn receive(&mut self, what: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), what);
    }

    fn next(&mut self, what: &str) {
        writeln!(self.input.as_mut().unwrap()).unwrap();
        self.receive(what);
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ready(target: &Path) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open l {}", target.display()));
    actor
}

/// Stops a takeover between judging a stale lock file and exchanging it, while a live foreign program replaces the
/// file.
fn overtaken(dir: &Path) -> (PathBuf, Actor, Foreign, Strace) {
    overtaken_by(dir, Foreign::start)
}

fn overtaken_by(dir: &Path, start: impl Fn(&Path) -> Foreign) -> (PathBuf, Actor, Foreign, Strace) {
    let target = dir.join("t");
    dead_foreign(&target);
    let mut foreign = start(&target);
    let mut actor = ready(&target);
    // The first link is tried at the lock file's path, the second creates the swap.
    let faults = ["linkat:signal=STOP:when=2", "renameat2:signal=KILL:when=2"];
    let strace = Strace::stops(&mut actor, "acquire l g never", &faults);
    foreign.next("held");
    (target, actor, foreign, strace)
}

/// Resumes the actor, which dies with the live program's file under the swap's name.
fn dies_before_its_second_exchange(actor: &mut Actor) {
    resume(actor);
    assert_eq!(actor.receive_or_end(), None, "it never reached its second exchange");
}

fn resume(actor: &Actor) {
    signal(actor.pid(), libc::SIGCONT);
}

#[test]
fn an_overtaken_takeover_restores_the_file() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, strace) = overtaken(dir.path());
    let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
    // Detached while the actor is stopped: no kill waits for it.
    drop(strace);
    resume(&actor);
    let busy = actor.receive();
    assert_eq!(
        (busy["kind"].as_str(), busy["holder"].as_u64()),
        (Some("busy"), Some(foreign.child.id().into())),
        "{busy}"
    );
    assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), theirs);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
    actor.must("begin l g forever");
    foreign.next("released");
    assert_eq!(actor.receive()["event"], "granted");
    actor.must("check g");
}

#[test]
fn a_live_foreign_holders_file_is_restored_after_a_crash_in_between() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, _strace) = overtaken(dir.path());
    let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
    dies_before_its_second_exchange(&mut actor);
    let swap = anchors(&target).join("t.lock.swap");
    assert_eq!(fs::metadata(&swap).unwrap().ino(), theirs);

    let mut successor = ready(&target);
    let busy = successor.must_fail("acquire l g never", "busy");
    assert_eq!(busy["holder"], foreign.child.id());
    assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), theirs);
    assert!(!swap.exists());
    successor.must("begin l g forever");
    foreign.next("released");
    assert_eq!(successor.receive()["event"], "granted");
    successor.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
}

/// The dead native's lock file is removed as well, and with it the anchor's second link: the record shows the swap.
#[test]
fn a_live_foreign_holders_file_is_restored_if_the_lock_file_is_missing() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, _strace) = overtaken(dir.path());
    let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
    dies_before_its_second_exchange(&mut actor);
    fs::remove_file(lock_file(&target)).unwrap();

    let mut successor = ready(&target);
    let busy = successor.must_fail("acquire l g never", "busy");
    assert_eq!(busy["holder"], foreign.child.id());
    assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), theirs);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
    foreign.next("released");
    successor.must("acquire l g never");
    successor.must("release g");
}

/// Another foreign program has created its own lock file by then: both hold, and natives wait for both.
#[test]
fn a_live_foreign_holders_file_stays_at_the_swap_behind_another_holders() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, _strace) = overtaken(dir.path());
    let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
    dies_before_its_second_exchange(&mut actor);
    let mut second = Foreign::start(&target);
    second.next("held");

    let mut successor = ready(&target);
    for _ in 0..2 {
        let busy = successor.must_fail("acquire l g never", "busy");
        assert_eq!(busy["holder"], second.child.id());
        assert_eq!(fs::metadata(anchors(&target).join("t.lock.swap")).unwrap().ino(), theirs);
    }
    second.next("released");
    let busy = successor.must_fail("acquire l g never", "busy");
    assert_eq!(busy["holder"], foreign.child.id());
    assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), theirs);
    foreign.next("released");
    successor.must("acquire l g never");
    successor.must("release g");
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
}

/// Behind the file of a holder that has died meanwhile, that file is removed. Behind an obstacle that is no file, it
/// stays at the swap.
#[test]
fn a_live_foreign_holders_file_at_the_swap_replaces_a_dead_holders() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, _strace) = overtaken(dir.path());
    let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
    dies_before_its_second_exchange(&mut actor);
    let ours = dir.path().join("ours");
    fs::rename(lock_file(&target), &ours).unwrap();
    fs::create_dir(lock_file(&target)).unwrap();
    let mut successor = ready(&target);
    let answer = successor.must_fail("acquire l g never", "in-the-way");
    assert!(answer["error"].as_str().unwrap().contains("a folder occupies"), "{answer}");
    assert_eq!(fs::metadata(anchors(&target).join("t.lock.swap")).unwrap().ino(), theirs);
    fs::remove_dir(lock_file(&target)).unwrap();
    fs::rename(&ours, lock_file(&target)).unwrap();

    let mut second = Foreign::start(&target);
    second.next("held");
    second.child.kill().unwrap();
    second.child.wait().unwrap();
    let busy = successor.must_fail("acquire l g never", "busy");
    assert_eq!(busy["holder"], foreign.child.id());
    assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), theirs);
    assert!(!anchors(&target).join("t.lock.swap").exists());
    foreign.next("released");
    let granted = successor.must("acquire l g never");
    assert!(granted["crashed"].is_object(), "the native that died in the takeover: {granted}");
}

/// A requester whose policy steals takes the lock from the holder at the lock file's path, after it has restored the
/// file at the swap, whose holder comes next.
#[test]
fn a_policy_that_steals_restores_the_live_file_at_the_swap_first() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, foreign, _strace) = overtaken(dir.path());
    dies_before_its_second_exchange(&mut actor);
    let mut second = Foreign::start(&target);
    second.next("held");
    let mut stealer = Actor::start();
    stealer.must(&format!("open l {} steal_after_ms=1000", target.display()));
    let strace = Strace::attach(stealer.pid(), &["-e", "trace=renameat2,unlinkat"]);
    let granted = stealer.must("acquire l g never");
    assert_eq!(granted["crashed"]["pid"], foreign.child.id(), "the last holder that it took over from: {granted}");
    let calls = strace.calls();
    let exchanges = calls.iter().filter(|call| call.name == "renameat2").count();
    assert_eq!(exchanges, 2, "one for each holder that lost its lock: {calls:#?}");
    stealer.must("check g");
    stealer.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
}

/// The program has removed the dead native's lock file as its own, and stays alive: its file at the swap has no holder
/// any more.
#[test]
fn a_file_whose_foreign_holder_released_meanwhile_is_not_restored() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, _strace) = overtaken(dir.path());
    dies_before_its_second_exchange(&mut actor);
    foreign.next("released");
    let mut successor = ready(&target);
    successor.must("acquire l g never");
    successor.must("check g");
    successor.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
}

/// OpenClaw closes its file before it removes it. While the dead native's lock file exists, no program has removed it.
#[test]
fn a_file_whose_foreign_holder_is_about_to_release_is_restored() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, _strace) = overtaken_by(dir.path(), Foreign::closing_first);
    let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
    dies_before_its_second_exchange(&mut actor);
    foreign.next("closed");
    let mut successor = ready(&target);
    let busy = successor.must_fail("acquire l g never", "busy");
    assert_eq!(busy["holder"], foreign.child.id());
    assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), theirs);
    foreign.next("released");
    successor.must("acquire l g never");
}

/// In flock style neither file blocks. Whether a holder beside them releases or dies, later holders in lock-file style
/// find the file at the swap.
#[test]
fn flock_style_keeps_the_live_file_at_the_swap() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    for dies in [false, true] {
        let dir = folder();
        let (target, mut actor, mut foreign, _strace) = overtaken(dir.path());
        let dead = actor.pid();
        let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
        dies_before_its_second_exchange(&mut actor);
        let mut second = Foreign::start(&target);
        second.next("held");

        let mut beside = Actor::start();
        beside.must(&format!("open f {} style=flock", target.display()));
        beside.must("acquire f g never");
        if dies {
            beside.kill();
        } else {
            beside.must("release g");
        }
        second.next("released");

        let mut successor = ready(&target);
        let busy = successor.must_fail("acquire l g never", "busy");
        assert_eq!(busy["holder"], foreign.child.id(), "dies: {dies}");
        assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), theirs);
        foreign.next("released");
        let granted = successor.must("acquire l g never");
        if !dies {
            // Only the native in the takeover crashed.
            assert_eq!(granted["crashed"]["pid"], dead, "{granted}");
        }
        successor.must("release g");
        assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
    }
}

/// A native died, and its anchor was removed. A native in flock style is stopped between judging the lock file and
/// exchanging it, while a live foreign program replaces the file. Returns the pid of the dead native as well.
fn overtaken_in_flock_style(dir: &Path) -> (PathBuf, u32, Actor, Foreign, Strace) {
    let target = dir.join("t");
    let mut holder = Actor::start();
    holder.hold(&target);
    let dead = holder.pid();
    holder.kill();
    fs::remove_dir_all(anchors(&target)).unwrap();
    let mut foreign = Foreign::start(&target);
    let mut actor = Actor::start();
    actor.must(&format!("open f {} style=flock", target.display()));
    // Its only link creates the swap.
    let faults = ["linkat:signal=STOP:when=1", "renameat2:signal=KILL:when=2"];
    let strace = Strace::stops(&mut actor, "acquire f g never", &faults);
    foreign.next("held");
    (target, dead, actor, foreign, strace)
}

#[test]
fn flock_style_removes_only_the_file_that_it_judged() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, dead, mut actor, mut foreign, strace) = overtaken_in_flock_style(dir.path());
    let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
    drop(strace);
    resume(&actor);
    let granted = actor.receive();
    assert_eq!((granted["ok"].as_bool(), granted["crashed"]["pid"].as_u64()), (Some(true), Some(dead.into())));
    assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), theirs, "the live program's lock file is still there");
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
    actor.must("check g");
    actor.must("release g");
    let mut other = ready(&target);
    assert_eq!(other.must_fail("acquire l g never", "busy")["holder"], foreign.child.id());
    foreign.next("released");
    assert!(other.must("acquire l g never")["crashed"].is_null());
}

#[test]
fn a_crash_in_flock_style_leaves_no_live_lock_file_at_the_swap() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    for keys in ["", "style=flock"] {
        let dir = folder();
        let (target, _, mut actor, mut foreign, _strace) = overtaken_in_flock_style(dir.path());
        let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
        let dead = actor.pid();
        dies_before_its_second_exchange(&mut actor);
        assert_eq!(fs::metadata(anchors(&target).join("t.lock.swap")).unwrap().ino(), theirs);

        let mut successor = Actor::start();
        successor.must(&format!("open l {} {keys}", target.display()));
        let granted = if keys.is_empty() {
            let busy = successor.must_fail("acquire l g never", "busy");
            assert_eq!(busy["holder"], foreign.child.id());
            None
        } else {
            Some(successor.must("acquire l g never"))
        };
        assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), theirs, "the file is back ({keys:?})");
        assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
        foreign.next("released");
        let granted = granted.unwrap_or_else(|| successor.must("acquire l g never"));
        assert_eq!(granted["crashed"]["pid"], dead, "{granted}");
        successor.must("release g");
        assert_eq!(names(dir.path()), [".tenure"]);
    }
}

/// The foreign program has released before any other looks: no program holds.
#[test]
fn a_file_whose_foreign_holder_ended_meanwhile_does_not_stay_restored() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, _strace) = overtaken(dir.path());
    dies_before_its_second_exchange(&mut actor);
    foreign.child.kill().unwrap();
    foreign.child.wait().unwrap();
    let mut successor = ready(&target);
    successor.must("acquire l g 1000");
    successor.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
}

/// A sweep that prunes without pause, beside programs that open, acquire, release and close.
#[test]
fn pruning_beside_live_traffic_admits_no_second_holder() {
    let dir = folder();
    let (target, witness) = (dir.path().join("t"), dir.path().join("witness"));
    let (pruned, grants, sweeps) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = AtomicBool::new(false);
    // Ends a test that is stuck. How much happens in a time depends on the machine.
    let deadline = Instant::now() + Duration::from_secs(900);
    let on = || {
        let done = pruned.load(Ordering::Relaxed) >= 20 && grants.load(Ordering::Relaxed) >= 300;
        !done && !failed.load(Ordering::Relaxed) && Instant::now() < deadline
    };
    /// Makes the other threads end when one panics.
    struct EndOnDrop<'a>(&'a AtomicBool);
    impl Drop for EndOnDrop<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.store(true, Ordering::Relaxed);
            }
        }
    }
    std::thread::scope(|scope| {
        for worker in 2..5 {
            let (on, failed, target, witness, grants, sweeps) = (&on, &failed, &target, &witness, &grants, &sweeps);
            scope.spawn(move || {
                let _tell = EndOnDrop(failed);
                let mut actor = Actor::start();
                let mut last = 0;
                while on() {
                    actor.must(&format!("open l {}", target.display()));
                    let fence = actor.must("acquire l g forever")["fence"].as_u64().unwrap();
                    fs::OpenOptions::new()
                        .write(true)
                        .create_new(true)
                        .open(witness)
                        .expect("two processes hold at once");
                    actor.must("check g");
                    fs::remove_file(witness).unwrap();
                    actor.must("release g");
                    assert!(fence > last);
                    last = fence;
                    // Closes the lock, because an anchor that a process has open is not pruned.
                    actor.must(&format!("open l {}.away", target.display()));
                    let grants = grants.fetch_add(1, Ordering::Relaxed);
                    let seen = sweeps.load(Ordering::Relaxed);
                    // An occasional pause, because the anchor would otherwise always be open.
                    while grants % worker == 0 && sweeps.load(Ordering::Relaxed) == seen && on() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        scope.spawn(|| {
            let _tell = EndOnDrop(&failed);
            let mut sweeper = Actor::start();
            while on() {
                let report = sweeper.must(&format!("clean {} idle_ms=0", dir.path().display()));
                pruned.fetch_add(report["pruned"].as_u64().unwrap() as usize, Ordering::Relaxed);
                sweeps.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    let (pruned, grants) = (pruned.into_inner(), grants.into_inner());
    assert!(pruned >= 20 && grants >= 300, "too little happened: {pruned} pruned, {grants} grants");
    Actor::start().must(&format!("clean {} idle_ms=0", dir.path().display()));
    assert_eq!(names(dir.path()), [""; 0]);
}

/// A sweep that is stopped just before it prunes has the anchor's kernel lock: no process enters in between.
#[test]
fn no_process_acquires_while_an_anchor_is_pruned() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let idle = |name: &str| {
        let parent = dir.path().join(name);
        fs::create_dir(&parent).unwrap();
        let mut actor = Actor::start();
        actor.hold(&parent.join("t"));
        actor.must("release g");
        actor.finish();
        parent
    };
    let line = |parent: &Path| format!("clean {} idle_ms=0", parent.display());
    let mut sweeper = Actor::start();
    // Calls that a process makes only once, such as those for its identity, are over after this.
    sweeper.must(&line(&idle("first")));
    let rehearsal = idle("rehearsal");
    let trace = format!("trace={CALLS}");
    let strace = Strace::attach(sweeper.pid(), &["-e", &trace]);
    sweeper.must(&line(&rehearsal));
    let calls = strace.calls();
    let pruned = calls.iter().position(|call| call.name == "unlinkat" && call.text.contains("t.lock")).unwrap();
    let last_look = calls[..pruned].iter().rfind(|call| matches!(&*call.name, "newfstatat" | "statx")).unwrap();

    let parent = idle("held-up");
    let target = parent.join("t");
    let mut actor = ready(&target);
    let fault = format!("inject={}:signal=STOP:when={}", last_look.name, last_look.nth);
    let traced = format!("trace={}", last_look.name);
    let strace = Strace::attach(sweeper.pid(), &["-e", &traced, "-e", &fault]);
    sweeper.send(&line(&parent));
    strace.wait_for("stopped by SIGSTOP");
    actor.must_fail("acquire l g never", "busy");
    actor.must("begin l g forever");
    until_queued(&anchors(&target).join("t.lock"));
    drop(strace);
    resume(&sweeper);
    assert_eq!(sweeper.receive()["pruned"], 1);
    assert_eq!(actor.receive()["event"], "granted");
    actor.must("check g");
    actor.must("release g");
}

/// Waits until a process is in the kernel's queue for a file, which `/proc/locks` shows.
fn until_queued(path: &Path) {
    let inode = format!(":{} ", fs::metadata(path).unwrap().ino());
    until("a process waits", || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("->") && line.contains(&inode))
    });
}

#[test]
fn removing_the_anchors_under_a_holder_admits_no_second_holder() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = Actor::start();
    let fence = holder.hold(&target)["fence"].as_u64().unwrap();
    fs::remove_dir_all(anchors(&target)).unwrap();

    let mut other = ready(&target);
    assert_eq!(other.must_fail("acquire l g never", "busy")["holder"], holder.pid());
    other.must("begin l g forever");
    until_queued(&lock_file(&target));
    holder.must_fail("check g", "lost");
    assert_eq!(tenure::status(&target).unwrap().state, tenure::State::Held);
    let released = holder.ask("release g");
    assert_eq!(released["ok"], true, "{released}");
    let granted = other.receive();
    assert_eq!(granted["event"], "granted", "{granted}");
    assert!(granted["fence"].as_u64().unwrap() > fence && granted["crashed"].is_null(), "{granted}");
    other.must("check g");
    other.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);

    // The same with a killed holder.
    let mut holder = Actor::start();
    holder.hold(&target);
    fs::remove_dir_all(anchors(&target)).unwrap();
    let mut third = ready(&target);
    third.must("begin l g forever");
    until_queued(&lock_file(&target));
    let pid = holder.pid();
    holder.kill();
    let granted = third.receive();
    assert_eq!((granted["event"].as_str(), granted["crashed"]["pid"].as_u64()), (Some("granted"), Some(pid.into())));
    third.must("check g");
    third.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
}

/// In flock style only the anchor shows the loss. A process that moves the anchor aside does not change its link count.
#[test]
fn an_anchor_moved_aside_under_a_flock_style_holder_is_a_loss() {
    let dir = folder();
    let target = dir.path().join("t");
    for removed in [false, true] {
        let mut holder = Actor::start();
        holder.must(&format!("open l {} style=flock", target.display()));
        holder.must("acquire l g never");
        let held = Instant::now();
        if removed {
            fs::remove_dir_all(anchors(&target)).unwrap();
        } else {
            fs::rename(anchors(&target), dir.path().join("aside")).unwrap();
        }
        // Only the links of a recently checked anchor are counted.
        until("a look is old", || held.elapsed() > Duration::from_millis(2));
        holder.must_fail("release g", "lost");
    }
}

#[test]
fn removing_the_lock_file_under_a_holder_admits_no_native() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = Actor::start();
    let fence = holder.hold(&target)["fence"].as_u64().unwrap();
    fs::remove_file(lock_file(&target)).unwrap();
    let mut other = ready(&target);
    assert_eq!(other.must_fail("acquire l g never", "busy")["holder"], holder.pid());
    other.must("begin l g forever");
    until_queued(&anchors(&target).join("t.lock"));
    holder.must_fail("check g", "lost");
    holder.must_fail("release g", "lost");
    let granted = other.receive();
    assert_eq!(granted["event"], "granted", "{granted}");
    assert!(granted["fence"].as_u64().unwrap() > fence);
    other.must("check g");
    other.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
}

#[test]
fn a_foreign_file_that_replaced_the_lock_file_stays() {
    if !needs("python3", has("python3")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = Actor::start();
    holder.hold(&target);
    let mut foreign = Foreign::start(&target);
    foreign.next("held");
    let (inode, text) = (fs::metadata(lock_file(&target)).unwrap().ino(), fs::read(lock_file(&target)).unwrap());
    holder.must_fail("check g", "lost");
    holder.must_fail("release g", "lost");
    assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), inode);
    assert_eq!(fs::read(lock_file(&target)).unwrap(), text);

    assert_eq!(holder.must_fail("acquire l g never", "busy")["holder"], foreign.child.id());
    holder.must("begin l g forever");
    foreign.next("released");
    assert_eq!(holder.receive()["event"], "granted");
    // The same for a holder that lost its lock and was dropped instead of released.
    dead_foreign(&target);
    holder.must("drop g");
    assert!(lock_file(&target).exists());
    holder.must("acquire l g never");
    holder.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
}
