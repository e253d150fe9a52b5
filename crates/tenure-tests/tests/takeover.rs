//! Crashes inside every step, and files that are removed or replaced under a holder: what the next one finds.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests look at files and processes as anyone would")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tenure_tests::strace::{CALLS, Strace, changing_calls, kill_at};
use tenure_tests::{Actor, folder, has, needs};

/// The names in a folder, sorted; none where it is missing.
fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    // Flock style makes its target, which stays.
    names.retain(|name| name != "t");
    names.sort();
    names
}

fn lock_file(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn anchors(target: &Path) -> PathBuf {
    target.with_file_name(".tenure")
}

/// A lock file that a foreign program left when it died.
fn dead_foreign(target: &Path) {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let text = format!("{{\n  \"pid\": {},\n  \"createdAt\": \"2026-03-02T10:00:00.000Z\"\n}}", child.id());
    // Not written into what is there, which may be a holder's.
    let made = target.with_file_name("made");
    fs::write(&made, text).unwrap();
    fs::rename(made, lock_file(target)).unwrap();
}

/// A lock file that a native left when it died, whose `.tenure` is gone.
fn dead_native(target: &Path) {
    let mut actor = Actor::start();
    actor.hold(target);
    actor.kill();
    fs::remove_dir_all(anchors(target)).unwrap();
}

/// A lock file and an anchor as a native leaves them when it dies.
fn crashed(target: &Path) {
    let mut actor = Actor::start();
    actor.hold(target);
    actor.kill();
}

/// A foreign program that holds `target`: it keeps its lock file open for writing, as the seed does.
struct Foreign {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Foreign {
    /// Ready to take the lock file's place when it is told to, by a rename: no moment without a file.
    fn start(target: &Path) -> Foreign {
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
os.unlink(path)
print("released", flush=True)
"#;
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(lock_file(target))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut foreign = Foreign { child, input, output };
        foreign.hear("ready");
        foreign
    }

    fn hear(&mut self, what: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), what);
    }

    fn next(&mut self, what: &str) {
        writeln!(self.input.as_mut().unwrap()).unwrap();
        self.hear(what);
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Without hard links the lock is made of copies: the same faults, on top of that one.
const NO_LINKS: [&str; 2] = ["-e", "inject=linkat:error=EPERM"];

/// Kills an actor before each changing call of `line`, and lets `successor` acquire and release after each.
///
/// `prepare` makes what is there before, and returns an actor that is ready for the line.
fn kill_everywhere(prepare: &dyn Fn(&Path) -> Actor, line: &str, more: &[&str]) {
    let dir = folder();
    let rehearsal = dir.path().join("rehearsal");
    fs::create_dir(&rehearsal).unwrap();
    let line_for = |target: &Path| line.replace("DIR", &target.parent().unwrap().to_string_lossy());
    let target = rehearsal.join("t");
    let mut actor = prepare(&target);
    let calls = changing_calls(&mut actor, &line_for(&target), more);
    drop(actor);
    assert!(calls.len() >= 2, "{calls:?}");

    let mut successor = Actor::start();
    // The successor has no hard links either, where there are none.
    let strace = (!more.is_empty()).then(|| Strace::inject(successor.pid(), &["linkat:error=EPERM"]));
    for (at, call) in calls.iter().enumerate() {
        let prepared = |attempt| {
            let target = dir.path().join(format!("{at}-{attempt}")).join("t");
            fs::create_dir(target.parent().unwrap()).unwrap();
            (prepare(&target), line_for(&target), target)
        };
        let target = kill_at(prepared, call, more);
        let parent = target.parent().unwrap().to_owned();
        let left = (names(&parent), names(&anchors(&target)));

        successor.must(&format!("open l {}", target.display()));
        let answer = successor.ask("acquire l g 1000");
        assert_eq!(answer["ok"], true, "killed before {call:?}, which left {left:?}: {answer}");
        successor.must("check g");
        successor.must("release g");
        assert_eq!(names(&parent), [".tenure"], "killed before {call:?}, which left {left:?}");
        successor.must(&format!("open l {}/away", dir.path().display()));
        // What nobody needs any more goes at the next sweep.
        successor.must(&format!("clean {} idle_ms=0", parent.display()));
        assert_eq!(
            names(&parent),
            [""; 0],
            "killed before {call:?}, which left {left:?}: {:?}",
            names(&anchors(&target))
        );
    }
    drop(strace);
}

fn ready(target: &Path) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open l {}", target.display()));
    actor
}

#[test]
fn a_kill_anywhere_in_an_acquire_is_recovered_from() {
    if !needs("strace", has("strace")) {
        return;
    }
    let with = |keys: &'static str| {
        move |target: &Path| {
            let mut actor = Actor::start();
            actor.must(&format!("open l {} {keys}", target.display()));
            actor
        }
    };
    kill_everywhere(&with(""), "acquire l g never", &[]);
    kill_everywhere(&with("mode=666"), "acquire l g never", &[]);
    kill_everywhere(&with(""), "acquire l g never", &NO_LINKS);
    kill_everywhere(&with("style=flock"), "acquire l g never", &[]);
    kill_everywhere(&with("style=flock mode=666"), "acquire l g never", &[]);
}

#[test]
fn a_kill_anywhere_after_a_crash_is_recovered_from() {
    if !needs("strace", has("strace")) {
        return;
    }
    let after_crash = |target: &Path| {
        crashed(target);
        ready(target)
    };
    kill_everywhere(&after_crash, "acquire l g never", &[]);
    kill_everywhere(&after_crash, "clean DIR idle_ms=0", &[]);
    kill_everywhere(&after_crash, "break DIR/t", &[]);
}

#[test]
fn a_kill_anywhere_in_a_release_is_recovered_from() {
    if !needs("strace", has("strace")) {
        return;
    }
    let holding = |target: &Path| {
        let mut actor = Actor::start();
        actor.hold(target);
        actor
    };
    kill_everywhere(&holding, "release g", &[]);
    let copying = |target: &Path| {
        let mut actor = ready(target);
        let strace = Strace::inject(actor.pid(), &["linkat:error=EPERM"]);
        actor.must("acquire l g never");
        drop(strace);
        actor
    };
    kill_everywhere(&copying, "release g", &NO_LINKS);
}

#[test]
fn a_kill_anywhere_in_a_takeover_from_a_dead_foreign_program_is_recovered_from() {
    if !needs("strace", has("strace")) {
        return;
    }
    let after = |target: &Path| {
        dead_foreign(target);
        ready(target)
    };
    kill_everywhere(&after, "acquire l g never", &[]);
    kill_everywhere(&after, "acquire l g never", &NO_LINKS);
    kill_everywhere(&after, "clean DIR idle_ms=0", &[]);
    kill_everywhere(&after, "break DIR/t", &[]);
}

#[test]
fn a_kill_anywhere_in_a_takeover_from_a_dead_native_without_its_anchor_is_recovered_from() {
    if !needs("strace", has("strace")) {
        return;
    }
    let after = |target: &Path| {
        dead_native(target);
        ready(target)
    };
    kill_everywhere(&after, "acquire l g never", &[]);
    kill_everywhere(&after, "acquire l g never", &NO_LINKS);
    kill_everywhere(&after, "clean DIR idle_ms=0", &[]);
}

#[test]
fn a_kill_anywhere_in_a_pruning_is_recovered_from() {
    if !needs("strace", has("strace")) {
        return;
    }
    let idle = |target: &Path| {
        let mut actor = Actor::start();
        actor.hold(target);
        actor.must("release g");
        actor.finish();
        Actor::start()
    };
    kill_everywhere(&idle, "clean DIR idle_ms=0", &[]);
}

/// A break of a live holder that dies on the way: the holder still holds or has lost, and never both at once.
#[test]
fn a_kill_anywhere_in_a_break_leaves_one_holder() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let hold = |name: &str| {
        let parent = dir.path().join(name);
        fs::create_dir(&parent).unwrap();
        let target = parent.join("t");
        let mut holder = Actor::start();
        holder.hold(&target);
        (parent, target, holder)
    };
    let (_, target, holder) = hold("rehearsal");
    let line = |target: &Path| format!("break {} force", target.display());
    let calls = changing_calls(&mut Actor::start(), &line(&target), &[]);
    drop(holder);
    assert!(calls.iter().any(|call| call.name == "renameat2"), "{calls:?}");

    for (at, call) in calls.iter().enumerate() {
        let prepared = |attempt| {
            let held = hold(&format!("{at}-{attempt}"));
            (Actor::start(), line(&held.1), held)
        };
        let (parent, target, mut holder) = kill_at(prepared, call, &[]);
        let mut successor = ready(&target);
        let keeps = holder.ask("check g")["ok"] == true;
        if keeps {
            assert_eq!(successor.must_fail("acquire l g never", "busy")["holder"], holder.pid(), "{call:?}");
            // An operator tries again.
            Actor::start().must(&line(&target));
        }
        holder.must_fail("check g", "lost");
        // The old holder is still there, and still has its file's kernel lock. While the lock file shows it, natives
        // wait for it, as the break had only begun; done again, it is through.
        if lock_file(&target).exists() {
            assert_eq!(successor.must_fail("acquire l g never", "busy")["holder"], holder.pid(), "{call:?}");
            Actor::start().must(&line(&target));
        }
        let answer = successor.ask("acquire l g 1000");
        assert_eq!(answer["ok"], true, "killed before {call:?}: {answer}");
        holder.must_fail("release g", "lost");
        successor.must("check g");
        successor.must("release g");
        drop((successor, holder));
        assert_eq!(names(&parent), [".tenure"], "killed before {call:?}");
        Actor::start().must(&format!("clean {} idle_ms=0", parent.display()));
        assert_eq!(names(&parent), [""; 0], "killed before {call:?}: {:?}", names(&anchors(&target)));
    }
}

/// Stopped between judging a dead lock file and exchanging it, while a live foreign program takes its place.
fn overtaken(dir: &Path) -> (PathBuf, Actor, Foreign, Strace) {
    let target = dir.join("t");
    dead_foreign(&target);
    let mut foreign = Foreign::start(&target);
    let mut actor = ready(&target);
    // The first link is tried at the lock file's place, the second makes the swap.
    let args = ["-e", "trace=linkat,renameat2", "-e", "inject=linkat:signal=STOP:when=2"];
    let args = [&args[..], &["-e", "inject=renameat2:signal=KILL:when=2"]].concat();
    let strace = Strace::attach(actor.pid(), &args);
    actor.tell("acquire l g never");
    strace.wait_for("stopped by SIGSTOP");
    foreign.next("held");
    (target, actor, foreign, strace)
}

fn resume(actor: &Actor) {
    // SAFETY: no precondition; the child is not reaped yet.
    unsafe { libc::kill(i32::try_from(actor.pid()).unwrap(), libc::SIGCONT) };
}

#[test]
fn a_takeover_that_was_overtaken_gives_the_file_back() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, strace) = overtaken(dir.path());
    let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
    // Let go of while it is stopped: no kill waits for it.
    drop(strace);
    resume(&actor);
    let busy = actor.hear();
    assert_eq!(
        (busy["kind"].as_str(), busy["holder"].as_u64()),
        (Some("busy"), Some(foreign.child.id().into())),
        "{busy}"
    );
    assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), theirs);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
    actor.must("begin l g forever");
    foreign.next("released");
    assert_eq!(actor.hear()["event"], "granted");
    actor.must("check g");
}

#[test]
fn a_live_foreign_holders_file_is_put_back_after_a_crash_in_between() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, _strace) = overtaken(dir.path());
    let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
    resume(&actor);
    assert_eq!(actor.hear_or_end(), None, "it never came to its second exchange");
    // It died with the live program's file under the swap's name.
    let swap = anchors(&target).join("t.lock.swap");
    assert_eq!(fs::metadata(&swap).unwrap().ino(), theirs);

    let mut successor = ready(&target);
    let busy = successor.must_fail("acquire l g never", "busy");
    assert_eq!(busy["holder"], foreign.child.id());
    assert_eq!(fs::metadata(lock_file(&target)).unwrap().ino(), theirs);
    assert!(!swap.exists());
    successor.must("begin l g forever");
    foreign.next("released");
    assert_eq!(successor.hear()["event"], "granted");
    successor.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
}

/// The dead native's lock file is gone as well, and with it the anchor's second link: the record tells of the swap.
#[test]
fn a_live_foreign_holders_file_is_put_back_where_there_is_no_lock_file() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, _strace) = overtaken(dir.path());
    let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
    resume(&actor);
    assert_eq!(actor.hear_or_end(), None, "it never came to its second exchange");
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

/// Another foreign program has made its own lock file by then: both hold, and natives wait for both.
#[test]
fn a_live_foreign_holders_file_stays_at_the_swap_behind_another() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, _strace) = overtaken(dir.path());
    let theirs = fs::metadata(lock_file(&target)).unwrap().ino();
    resume(&actor);
    assert_eq!(actor.hear_or_end(), None, "it never came to its second exchange");
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

/// As above, but the foreign program has released before anyone looks: nobody holds.
#[test]
fn a_foreign_holder_that_ended_meanwhile_is_not_put_back_for_good() {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let (target, mut actor, mut foreign, _strace) = overtaken(dir.path());
    resume(&actor);
    assert_eq!(actor.hear_or_end(), None, "it never came to its second exchange");
    foreign.child.kill().unwrap();
    foreign.child.wait().unwrap();
    let mut successor = ready(&target);
    successor.must("acquire l g 1000");
    successor.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
}

/// A sweep that prunes all the time, beside programs that open, acquire, release and close.
#[test]
fn pruning_beside_live_traffic_lets_nobody_hold_twice() {
    let dir = folder();
    let (target, witness) = (dir.path().join("t"), dir.path().join("witness"));
    let (pruned, grants, sweeps) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_secs(15);
    let on = || {
        let done = pruned.load(Ordering::Relaxed) >= 20 && grants.load(Ordering::Relaxed) >= 300;
        !done && !failed.load(Ordering::Relaxed) && Instant::now() < deadline
    };
    /// Tells the others to end when one panics.
    struct Tell<'a>(&'a AtomicBool);
    impl Drop for Tell<'_> {
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
                let _tell = Tell(failed);
                let mut actor = Actor::start();
                let mut last = 0;
                while on() {
                    actor.must(&format!("open l {}", target.display()));
                    let fence = actor.must("acquire l g forever")["fence"].as_u64().unwrap();
                    fs::OpenOptions::new().write(true).create_new(true).open(witness).expect("two hold at once");
                    actor.must("check g");
                    fs::remove_file(witness).unwrap();
                    actor.must("release g");
                    assert!(fence > last);
                    last = fence;
                    // Closes the lock: an anchor that somebody has open is not pruned.
                    actor.must(&format!("open l {}.away", target.display()));
                    let grants = grants.fetch_add(1, Ordering::Relaxed);
                    let seen = sweeps.load(Ordering::Relaxed);
                    // A pause now and then, or the anchor is always open.
                    while grants % worker == 0 && sweeps.load(Ordering::Relaxed) == seen && on() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        scope.spawn(|| {
            let _tell = Tell(&failed);
            let mut sweeper = Actor::start();
            while on() {
                let report = sweeper.must(&format!("clean {} idle_ms=0", dir.path().display()));
                pruned.fetch_add(report["pruned"].as_u64().unwrap() as usize, Ordering::Relaxed);
                sweeps.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    let (pruned, grants) = (pruned.into_inner(), grants.into_inner());
    assert!(pruned >= 20 && grants >= 300, "too little came of it: {pruned} pruned, {grants} grants");
    Actor::start().must(&format!("clean {} idle_ms=0", dir.path().display()));
    assert_eq!(names(dir.path()), [""; 0]);
}

/// A sweep that is held up just before it prunes has the anchor's kernel lock: nobody enters in between.
#[test]
fn nobody_enters_while_an_anchor_is_pruned() {
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
    let rehearsal = idle("rehearsal");
    let trace = format!("trace={CALLS}");
    let strace = Strace::attach(sweeper.pid(), &["-e", &trace]);
    sweeper.must(&line(&rehearsal));
    let calls = strace.calls();
    let pruned = calls.iter().position(|call| call.name == "unlinkat" && call.text.contains("t.lock")).unwrap();
    let last_look = calls[..pruned].iter().rfind(|call| call.name == "newfstatat").unwrap();

    let parent = idle("held-up");
    let target = parent.join("t");
    let mut actor = ready(&target);
    let fault = format!("inject=newfstatat:signal=STOP:when={}", last_look.nth);
    let strace = Strace::attach(sweeper.pid(), &["-e", "trace=newfstatat", "-e", &fault]);
    sweeper.tell(&line(&parent));
    strace.wait_for("stopped by SIGSTOP");
    actor.must_fail("acquire l g never", "busy");
    actor.must("begin l g forever");
    until_queued(&anchors(&target).join("t.lock"));
    drop(strace);
    resume(&sweeper);
    assert_eq!(sweeper.hear()["pruned"], 1);
    assert_eq!(actor.hear()["event"], "granted");
    actor.must("check g");
    actor.must("release g");
}

/// Waits until somebody is in the kernel's queue for a file, which `/proc/locks` shows.
fn until_queued(path: &Path) {
    let inode = format!(":{} ", fs::metadata(path).unwrap().ino());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        if locks.lines().any(|line| line.contains("->") && line.contains(&inode)) {
            return;
        }
        assert!(Instant::now() < deadline, "nobody waits: {locks}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn removing_the_anchors_under_a_holder_lets_nobody_in() {
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
    assert_eq!(tenure::inspect(&target).unwrap().state, tenure::State::Held);
    let released = holder.ask("release g");
    assert_eq!(released["ok"], true, "{released}");
    let granted = other.hear();
    assert_eq!(granted["event"], "granted", "{granted}");
    assert!(granted["fence"].as_u64().unwrap() > fence && granted["crashed"].is_null(), "{granted}");
    other.must("check g");
    other.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);

    // The same, and the holder is killed.
    let mut holder = Actor::start();
    holder.hold(&target);
    fs::remove_dir_all(anchors(&target)).unwrap();
    let mut third = ready(&target);
    third.must("begin l g forever");
    until_queued(&lock_file(&target));
    let pid = holder.pid();
    holder.kill();
    let granted = third.hear();
    assert_eq!((granted["event"].as_str(), granted["crashed"]["pid"].as_u64()), (Some("granted"), Some(pid.into())));
    third.must("check g");
    third.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
}

#[test]
fn removing_the_lock_file_under_a_holder_lets_no_native_in() {
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
    let granted = other.hear();
    assert_eq!(granted["event"], "granted", "{granted}");
    assert!(granted["fence"].as_u64().unwrap() > fence);
    other.must("check g");
    other.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
}

#[test]
fn a_foreign_file_in_the_place_of_ours_is_left_alone() {
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
    assert_eq!(holder.hear()["event"], "granted");
    // And one that holds no longer, and was dropped instead of released.
    dead_foreign(&target);
    holder.must("drop g");
    assert!(lock_file(&target).exists());
    holder.must("acquire l g never");
    holder.must("release g");
    assert_eq!(names(dir.path()), [".tenure"]);
}
