//! Kills a process just before, or just after, each system call of a scene.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::scenes::{Before, Cast, FLOCK, SCENES, Scene};
use super::{Depth, HANG, Report, anchors, attach, handicap, insist, lock_file, may_stay, names, rehearse, settled};
use crate::strace::Call;
use crate::{Actor, signal};

/// The moment of a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At the entry of the call, which the kernel then does not make.
    Before,
    /// After the call, before anything else.
    After,
}

/// When a process resumes what it had suspended before the kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resumed {
    /// Before the next process acquires.
    First,
    /// While that process holds.
    Afterwards,
}

/// Kills at each call of the scene that `depth` includes, at each of the moments.
pub fn sweep(dir: &Path, scene: &Scene, depth: Depth, moments: &[Moment]) -> Report {
    let number = SCENES.iter().position(|other| std::ptr::eq(other, scene)).unwrap_or(SCENES.len());
    let dir = dir.join(format!("kills-{number}"));
    std::fs::create_dir(&dir).unwrap();
    let rehearsed = || {
        let target = dir.join("rehearsal/t");
        let cast = scene.set(&target);
        let mut actor = Actor::start();
        scene.ready(&mut actor, &target);
        let calls = rehearse(&mut actor, &scene.line(&target), scene, depth);
        drop((actor, cast));
        std::fs::remove_dir_all(target.parent().unwrap()).unwrap();
        calls
    };
    let calls = settled(rehearsed);
    assert!(!calls.is_empty(), "{scene}: no calls");

    let mut successor = Actor::start();
    let strace = handicap(&successor, scene);
    let mut report = Report::default();
    for (at, call) in calls.iter().enumerate() {
        for moment in moments {
            let what = format!("{scene}: killed {moment:?} {}", call.text);
            let folder = dir.join(report.cases.to_string());
            let play = |call: &Call| kill_at(&folder, scene, call, depth, *moment);
            let Some((target, cast)) = insist(&calls, at, rehearsed, play) else {
                // The number of some calls varies with other activity; calls that change something always occur.
                assert!(depth == Depth::Every && !Depth::Changing.takes(call), "{what}: never reached it");
                continue;
            };
            let left = (names(target.parent().unwrap()), names(&anchors(&target)));
            let what = format!("{what}, which left {left:?}");
            let style = if report.cases % 2 == 0 { scene.keys } else { other_style(scene.keys) };
            let resumed = if report.cases / 2 % 2 == 0 { Resumed::First } else { Resumed::Afterwards };
            report.cases += 1;
            let took = verify_afterwards(scene, &mut successor, &target, cast, (style, resumed), &what);
            report.worst = report.worst.max(took);
            std::fs::remove_dir_all(target.parent().unwrap()).unwrap();
        }
    }
    drop(strace);
    report
}

/// Returns the options of the other style, because the next holder may use either.
fn other_style(keys: &str) -> &'static str {
    if keys.contains("flock") { "" } else { "style=flock" }
}

/// Sets the scene and kills its process at the call; returns `None` if the process never reached the call.
fn kill_at(folder: &Path, scene: &Scene, call: &Call, depth: Depth, moment: Moment) -> Option<(PathBuf, Cast)> {
    let target = folder.join("t");
    let cast = scene.set(&target);
    let mut actor = Actor::start();
    scene.ready(&mut actor, &target);
    if dies(actor, &scene.line(&target), scene, call, depth, moment) {
        return Some((target, cast));
    }
    drop(cast);
    std::fs::remove_dir_all(folder).unwrap();
    None
}

fn dies(mut actor: Actor, line: &str, scene: &Scene, call: &Call, depth: Depth, moment: Moment) -> bool {
    // A signal that stops the process takes effect at the exit of the call.
    let blow = if moment == Moment::Before { "KILL" } else { "STOP" };
    let fault = format!("{}:signal={blow}:when={}", call.name, call.nth);
    let strace = attach(&actor, scene, depth, &[&fault]);
    actor.send(line);
    match moment {
        Moment::Before => actor.receive_or_end().is_none(),
        Moment::After => {
            let stopped = loop {
                if strace.says("stopped by SIGSTOP") {
                    break true;
                }
                if actor.has_answered() {
                    break false;
                }
            };
            if stopped {
                signal(actor.pid(), libc::SIGKILL);
                actor.await_end();
            }
            stopped
        }
    }
}

/// Asserts that the next process gets the lock and that a sweep empties the folder. Returns the duration of that
/// acquire.
fn verify_afterwards(
    scene: &Scene,
    successor: &mut Actor,
    target: &Path,
    mut cast: Cast,
    (keys, resumed): (&str, Resumed),
    what: &str,
) -> Duration {
    let parent = target.parent().unwrap();
    let mut crash_is_reported = false;
    if resumed == Resumed::First
        && let Some(mut suspended) = cast.suspended.take()
    {
        let answer = suspended.ask(&format!("resume s g {}", HANG.as_millis()));
        assert_eq!(answer["ok"], true, "{what}: {answer}");
        crash_is_reported = !answer["crashed"].is_null();
        assert!(!crash_is_reported || answer["meanwhile"] == "others", "{what}: {answer}");
        suspended.must("check g");
        suspended.must("release g");
        suspended.finish();
    }
    successor.must(&format!("open l {} {keys}", target.display()));
    if let Some(holder) = &cast.foreign {
        break_until_gone(successor, target, holder.pid(), what);
    }
    let mut native = cast.native.map(|mut holder| {
        broken_or_not(&mut holder, successor, target, what);
        holder
    });
    if scene.before == Before::Holder(FLOCK) {
        // No process can take over the target's own kernel lock.
        native.take().unwrap().must_fail("release g", "lost");
    }
    let started = Instant::now();
    let answer = successor.ask(&format!("acquire l g {}", HANG.as_millis()));
    let took = started.elapsed();
    assert_eq!(answer["ok"], true, "{what}: {answer}");
    assert!(
        !must_report_crash(scene, keys) || !answer["crashed"].is_null(),
        "{what}: the crash was forgotten: {answer}"
    );
    assert!(!crash_is_reported || answer["crashed"].is_null(), "{what}: the crash is reported twice: {answer}");
    successor.must("check g");
    if let Some(mut holder) = native {
        holder.must_fail("release g", "lost");
        successor.must("check g");
    }
    // The killed process means to resume nothing.
    let comes_back: Vec<i64> = cast.suspended.iter().map(|actor| actor.pid().into()).collect();
    let shown = tenure::status(target).unwrap().suspended;
    assert_eq!(shown.iter().map(|tenure| tenure.pid).collect::<Vec<_>>(), comes_back, "{what}");
    if let Some(mut suspended) = cast.suspended {
        suspended.must("begin-resume s g forever");
        successor.must("release g");
        let answer = suspended.receive();
        assert_eq!((&answer["event"], &answer["meanwhile"]), (&"granted".into(), &"others".into()), "{what}: {answer}");
        suspended.must("release g");
        suspended.finish();
    } else {
        successor.must("release g");
    }
    drop(cast.foreign);
    // Flock style ignores lock files: a dead foreign program's file stays until a sweep.
    let stays = keys.contains("flock");
    let left = names(parent);
    assert!(left.iter().all(|name| may_stay(name, stays)), "{what}; then there is {left:?}");
    // The next holder gets the crash report of a lock that a sweep removes, so its anchor stays; it is pruned once the
    // crash is reported and the lock idle.
    let away = format!("open l {}/away/t", parent.parent().unwrap().display());
    let sweep = format!("clean {} idle_ms=0", parent.display());
    successor.must(&away);
    let first = successor.must(&sweep);
    successor.must(&format!("open l {} {keys}", target.display()));
    successor.must("acquire l g never");
    successor.must("release g");
    // Closes the lock, because an anchor that a process has open is not pruned.
    successor.must(&away);
    let cleaned = (first, successor.must(&sweep));
    assert_eq!(names(parent), [""; 0], "{what}; then there is {:?}, after {cleaned:?}", names(&anchors(target)));
    took
}

/// Returns whether the next holder must get a crash report. A process that died in the scene may have taken an earlier
/// crash report with it.
fn must_report_crash(scene: &Scene, keys: &str) -> bool {
    match scene.before {
        Before::Crashed(_) => true,
        // Flock style ignores a foreign program's lock file.
        Before::Bereft => true,
        Before::DeadForeign | Before::LaterForeign | Before::HalfTaken => !keys.contains("flock"),
        _ => false,
    }
}

/// Checks an interrupted break of a live native: the holder still holds or has lost, and no process enters beside it.
fn broken_or_not(holder: &mut Actor, successor: &mut Actor, target: &Path, what: &str) {
    let retry = |holder: &mut Actor| {
        Actor::start().must(&format!("break {} force", target.display()));
        holder.must_fail("check g", "lost");
    };
    if holder.ask("check g")["ok"] == true {
        let busy = successor.must_fail("acquire l g never", "busy");
        assert_eq!(busy["holder"], holder.pid(), "{what}");
        // The operator retries.
        retry(holder);
    }
    holder.must_fail("check g", "lost");
    // The old holder still has its file's kernel lock. While the lock file shows this holder, natives wait for it,
    // because the break had only begun; a second break completes it.
    if lock_file(target).exists() {
        retry(holder);
    }
}

/// Breaks a foreign holder, which blocks the lock until its lock file is removed.
fn break_until_gone(successor: &mut Actor, target: &Path, holder: u32, what: &str) {
    if lock_file(target).exists() {
        let found: Value = successor.must(&format!("inspect {}", target.display()));
        assert_eq!(found["found"]["pid"], holder, "{what}: {found}");
        Actor::start().must(&format!("break {} force", target.display()));
    }
    assert!(!lock_file(target).exists(), "{what}");
}
