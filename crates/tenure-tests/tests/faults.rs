//! System calls that keep failing, limits that are reached, a disk that is really full, a clock that was set back.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tenure_tests::strace::Strace;
use tenure_tests::sweep::scenes::dead_foreign;
use tenure_tests::sweep::{anchors, lock_file};
use tenure_tests::{Actor, actor_program, as_nobody, folder, has, is_root, needs, until_waiting};

/// Returns the sorted names in a folder; none if the folder is missing.
fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn text(answer: &Value) -> &str {
    answer["error"].as_str().unwrap_or_default()
}

fn ready() -> bool {
    needs("strace", has("strace"))
}

/// Without hard links, copies do the same: an acquire, contention, a wait, a crash and a takeover.
#[test]
fn without_hard_links_everything_works_by_copies() {
    if !ready() {
        return;
    }
    for error in ["EPERM", "EOPNOTSUPP"] {
        let dir = folder();
        let target = dir.path().join("t");
        let fault = format!("linkat:error={error}");
        let opened = || {
            let mut actor = Actor::start();
            let strace = Strace::inject(actor.pid(), &[&fault]);
            actor.must(&format!("open l {}", target.display()));
            (strace, actor)
        };
        let mut last = 0;
        let mut grown = |answer: &Value| {
            let fence = answer["fence"].as_u64().unwrap_or_else(|| panic!("{answer}"));
            assert!(fence > last, "{answer}");
            last = fence;
        };
        let (_one_trace, mut one) = opened();
        let (_two_trace, mut two) = opened();
        grown(&one.must("acquire l g never"));
        let anchor = anchors(&target).join("t.lock");
        assert_ne!(fs::metadata(lock_file(&target)).unwrap().ino(), fs::metadata(&anchor).unwrap().ino());
        let record: Value = serde_json::from_slice(&fs::read(lock_file(&target)).unwrap()).unwrap();
        assert_eq!(record["pid"], one.pid());
        assert_eq!(two.must_fail("acquire l g never", "busy")["holder"], one.pid());
        one.must("check g");
        two.must("begin l g forever");
        one.must("release g");
        grown(&two.receive());
        two.must("check g");
        assert_eq!(one.must_fail("acquire l g never", "busy")["holder"], two.pid());

        // Killed while another process waits, and while none does.
        one.must("begin l g forever");
        let pid = two.pid();
        two.kill();
        let granted = one.receive();
        assert_eq!(granted["crashed"]["pid"], pid, "{granted}");
        grown(&granted);
        one.must("check g");
        let pid = one.pid();
        one.kill();
        assert_eq!(tenure::status(&target).unwrap().state, tenure::State::Stale);
        let (_three_trace, mut three) = opened();
        let granted = three.must("acquire l g never");
        assert_eq!(granted["crashed"]["pid"], pid, "{granted}");
        grown(&granted);
        three.must("release g");
        assert_eq!(names(dir.path()), [".tenure"]);
        // A dead foreign program's file.
        dead_foreign(&target);
        grown(&three.must("acquire l g never"));
        three.must("check g");
        three.must("release g");
        assert_eq!(names(dir.path()), [".tenure"]);
        assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
        assert_eq!(fs::metadata(&anchor).unwrap().nlink(), 1);
    }
}

#[test]
fn without_hard_links_a_grant_passes_within_the_process_while_the_copy_exists() {
    if !ready() {
        return;
    }
    for removed in [false, true] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = Actor::start();
        let _strace = Strace::inject(actor.pid(), &["linkat:error=EPERM"]);
        actor.hold(&target);
        actor.must("async-many l 1");
        if removed {
            fs::remove_file(lock_file(&target)).unwrap();
        }
        actor.send("release g");
        let (one, other) = (actor.receive(), actor.receive());
        let (answer, event) = if one["event"].is_null() { (one, other) } else { (other, one) };
        assert_eq!(event["event"], "all-granted");
        assert_eq!((answer["ok"] == true, answer["kind"] == "lost"), (!removed, removed), "{answer}");
    }
}

#[test]
fn without_an_exchange_a_takeover_is_unsupported_and_all_else_works() {
    if !ready() {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = Actor::start();
    let _strace = Strace::inject(actor.pid(), &["renameat2:error=EINVAL"]);
    actor.hold(&target);
    actor.must("release g");
    // Dead natives' lock files are links to the anchor: no exchange is needed.
    let mut dying = Actor::start();
    dying.hold(&target);
    dying.kill();
    assert!(actor.must("acquire l g never")["crashed"]["pid"].is_u64());
    actor.must("release g");

    dead_foreign(&target);
    let before = (fs::metadata(lock_file(&target)).unwrap().ino(), fs::read(lock_file(&target)).unwrap());
    for wait in ["never", "60000"] {
        let answer = actor.must_fail(&format!("acquire l g {wait}"), "unsupported");
        assert!(text(&answer).contains("RENAME_EXCHANGE") && text(&answer).contains("t.lock"), "{answer}");
    }
    assert_eq!((fs::metadata(lock_file(&target)).unwrap().ino(), fs::read(lock_file(&target)).unwrap()), before);
    assert_eq!(names(&anchors(&target)), [".gitignore", "t.lock"]);
    fs::remove_file(lock_file(&target)).unwrap();
    actor.must("acquire l g never");
    actor.must("check g");
    actor.must("release g");
}

/// Flock style removes a dead native's lock file. If that fails, nothing is held and no crash forgotten. Another user's
/// file in a sticky folder blocks nothing (`multi_user`); this file is the actor's own.
#[test]
fn flock_style_reports_a_dead_natives_lock_file_that_it_cannot_remove() {
    if !ready() {
        return;
    }
    // The errno of the removal, whether it is a copy, whether the folder is sticky, and the result.
    let cases = [
        ("EIO", false, false, Some("io")),
        ("ENOENT", false, false, None),
        ("EPERM", false, false, Some("permission-denied")),
        ("EPERM", false, true, Some("permission-denied")),
        ("EPERM", true, false, Some("permission-denied")),
        ("EPERM", true, true, Some("permission-denied")),
        ("EIO", true, true, Some("io")),
    ];
    for case in cases {
        let (error, copy, sticky, kind) = case;
        let dir = folder();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(if sticky { 0o1777 } else { 0o755 })).unwrap();
        let target = dir.path().join("t");
        let mut dies = Actor::start();
        let strace = copy.then(|| Strace::inject(dies.pid(), &["linkat:error=EPERM"]));
        dies.hold(&target);
        let dead = dies.pid();
        dies.kill();
        drop(strace);
        let mut actor = Actor::start();
        actor.must(&format!("open l {} style=flock", target.display()));
        let strace = Strace::inject(actor.pid(), &[&format!("unlinkat:error={error}")]);
        let crashed = match kind {
            None => actor.must("acquire l g never"),
            Some(kind) => {
                let answer = actor.must_fail("acquire l g never", kind);
                let said = text(&answer);
                // A copy is taken over before its removal.
                let what = if copy { "cannot be taken over" } else { "of a dead holder cannot be removed" };
                assert!(said.contains(what) && said.contains("t.lock"), "{case:?}: {said}");
                drop(strace);
                assert!(lock_file(&target).exists(), "{case:?}");
                // The failed process holds nothing, and the next holder gets the crash report.
                let mut next = Actor::start();
                next.must(&format!("open l {} style=flock", target.display()));
                next.must("acquire l g never")
            }
        };
        // An interrupted takeover has moved the file that named the holder.
        match copy && kind.is_some() {
            true => assert!(!crashed["crashed"].is_null(), "{case:?}"),
            false => assert_eq!(crashed["crashed"]["pid"], dead, "{case:?}"),
        }
    }
}

/// Another process creates the file between the look and the creation, or removes it between the creation and the
/// opening.
#[test]
fn a_target_that_appears_or_disappears_meanwhile_is_retried() {
    if !ready() {
        return;
    }
    for (there, error) in [(false, "EEXIST"), (true, "ENOENT")] {
        let dir = folder();
        let target = dir.path().join("t");
        if there {
            fs::write(&target, "").unwrap();
        }
        let mut actor = Actor::start();
        actor.must(&format!("open l {} record=0", target.display()));
        let strace = Strace::inject(actor.pid(), &[&format!("openat:error={error}:when=1")]);
        actor.must("acquire l g never");
        let trace = strace.detach();
        assert!(trace.iter().any(|line| line.contains("\"t\"") && line.contains("(INJECTED)")), "{trace:?}");
        assert!(target.exists());
    }
}

/// The kernel lock alone needs only the target.
#[test]
fn a_target_that_cannot_be_created_is_a_clear_error() {
    if !needs("root and setpriv", is_root() && has("setpriv")) {
        return;
    }
    let dir = folder();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let target = dir.path().join("t");
    let mut actor = Actor::from(&mut as_nobody(&actor_program(), dir.path()));
    actor.must(&format!("open l {} record=0", target.display()));
    let answer = actor.must_fail("acquire l g never", "permission-denied");
    assert!(text(&answer).contains("is missing and cannot be created"), "{answer}");
    fs::write(&target, "").unwrap();
    actor.must("acquire l g never");
}

#[test]
fn without_flock_an_acquire_is_unsupported_never_a_success() {
    if !ready() {
        return;
    }
    for error in ["EOPNOTSUPP", "ENOSYS"] {
        for keys in ["", "style=flock", "mode=666", "record=0"] {
            let dir = folder();
            let target = dir.path().join("t");
            fs::write(&target, "").unwrap();
            let mut actor = Actor::start();
            actor.must(&format!("open l {} {keys}", target.display()));
            let strace = Strace::inject(actor.pid(), &[&format!("flock:error={error}")]);
            for wait in ["never", "60000"] {
                let answer = actor.must_fail(&format!("acquire l g {wait}"), "unsupported");
                assert!(text(&answer).contains("flock(2)"), "{error} {keys}: {answer}");
                assert!(!lock_file(&target).exists());
            }
            drop(strace);
            actor.must("acquire l g never");
            actor.must("release g");
        }
    }
}

/// Faults while a helper thread waits, for natives and for foreign programs.
#[test]
fn a_wait_that_cannot_be_set_up_fails_or_is_slower() {
    if !ready() {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = Actor::start();
    let mut waiter = Actor::start();
    holder.hold(&target);
    waiter.must(&format!("open l {}", target.display()));
    // No thread to wait with.
    let strace = Strace::inject(waiter.pid(), &["clone3:error=EAGAIN", "clone:error=EAGAIN"]);
    let answer = waiter.must_fail("acquire l g 60000", "io");
    assert!(text(&answer).contains("thread") && text(&answer).contains("os error 11)"), "{answer}");
    drop(strace);
    // Interrupted several times in the kernel's queue.
    let strace = Strace::inject(waiter.pid(), &["flock:error=EINTR:when=1..5"]);
    waiter.must("begin l g forever");
    holder.must("release g");
    assert_eq!(waiter.receive()["event"], "granted");
    waiter.must("check g");
    drop(strace);
    // The kernel refuses to queue it.
    holder.must("begin l g forever");
    waiter.must("release g");
    assert_eq!(holder.receive()["event"], "granted");
    let strace = Strace::inject(waiter.pid(), &["flock:error=ENOLCK"]);
    let answer = waiter.must_fail("acquire l g 60000", "io");
    assert!(text(&answer).contains("os error 37)"), "{answer}");
    drop(strace);
    holder.must("release g");
    waiter.must("acquire l g never");
    waiter.must("release g");

    // A foreign holder: without events, the slow poll remains.
    let script = "import json,os,sys; f=open(sys.argv[1],'w'); \
                  json.dump({'pid':os.getpid(),'createdAt':'2026-03-02T10:00:00.000Z'},f); f.flush(); \
                  print('held',flush=True); sys.stdin.readline(); os.unlink(sys.argv[1]); print('gone',flush=True)";
    for fault in ["inotify_init1:error=EMFILE", "inotify_add_watch:error=ENOSPC", "pidfd_open:error=EMFILE"] {
        let mut foreign = Command::new("python3")
            .args(["-c", script])
            .arg(lock_file(&target))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = std::io::BufReader::new(foreign.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_eq!(line, "held\n");
        let strace = Strace::inject(waiter.pid(), &[fault]);
        waiter.must("begin l g forever");
        strace.wait_for("(INJECTED)");
        writeln!(foreign.stdin.take().unwrap()).unwrap();
        assert_eq!(waiter.receive()["event"], "granted", "{fault}");
        drop(strace);
        foreign.wait().unwrap();
        waiter.must("check g");
        waiter.must("release g");
    }
    assert_eq!(names(dir.path()), [".tenure"]);
}

/// The helper has the kernel lock by then, and releases it.
#[test]
fn an_error_after_a_wait_is_reported_at_once() {
    if !ready() {
        return;
    }
    for (keys, fault) in [("", "linkat:error=EIO"), ("style=flock", "pwrite64:error=EIO")] {
        let dir = folder();
        let target = dir.path().join("t");
        let open = || {
            let mut actor = Actor::start();
            actor.must(&format!("open l {} {keys}", target.display()));
            actor
        };
        let (mut holder, mut waiter) = (open(), open());
        holder.must("acquire l g never");
        waiter.must("begin l g 60000");
        until_waiting(&target, 1);
        let _strace = Strace::inject(waiter.pid(), &[fault]);
        holder.must("release g");
        let refused = waiter.receive();
        assert_eq!((&refused["event"], &refused["kind"]), (&"refused".into(), &"io".into()), "{refused}");
        assert!(text(&refused).contains("os error 5)"), "{refused}");
        holder.must("acquire l g never");
    }
}

/// A limit on descriptors, as the kernel enforces it.
#[test]
fn a_lack_of_descriptors_is_a_temporary_error() {
    for keys in ["", "style=flock", "mode=666", "record=0"] {
        let dir = folder();
        let mut other = Actor::start();
        // Also in a process that has locked nothing yet, and needs descriptors to read its own identity.
        let mut actor = Actor::start();
        let target = dir.path().join("t");
        actor.must(&format!("open l {} {keys}", target.display()));
        other.must(&format!("open l {} {keys}", target.display()));
        let pid = i32::try_from(actor.pid()).unwrap();
        let open = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().parse::<u64>().unwrap());
        // One descriptor more than can be open now, and one more at each attempt, until it is enough.
        let mut open: Vec<u64> = open.collect();
        open.sort_unstable();
        let free: Vec<u64> = (0..).filter(|fd| !open.contains(fd)).take(12).collect();
        let limit = |soft: u64| {
            // SAFETY: both structs live over the call.
            unsafe {
                let mut now: libc::rlimit = std::mem::zeroed();
                assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &mut now), 0);
                now.rlim_cur = soft.min(now.rlim_max);
                assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, &now, std::ptr::null_mut()), 0);
            }
        };
        let mut failures = 0;
        for soft in free {
            limit(soft);
            let answer = actor.ask("acquire l g never");
            if answer["ok"] == true {
                actor.must("release g");
            } else {
                failures += 1;
                assert!(text(&answer).contains("os error 24)"), "{keys} {soft}: {answer}");
                assert!(text(&answer).contains(&dir.path().display().to_string()), "{keys} {soft}: {answer}");
                other.must("acquire l g never");
                other.must("release g");
            }
        }
        assert!(failures > 0, "{keys}: the limit had no effect");
        limit(1024);
        actor.must("acquire l g never");
        actor.must("check g");
        other.must_fail("acquire l g never", "busy");
        actor.must("release g");
    }
}

/// A small file system, filled to the last byte or the last inode.
#[test]
fn a_full_disk_is_a_temporary_error() {
    if !needs("root and unshare(1)", is_root() && has("unshare")) {
        return;
    }
    for options in ["size=64k", "nr_inodes=6"] {
        for keys in ["", "style=flock", "mode=666"] {
            let dir = folder();
            let script = format!("mount -t tmpfs -o {options} none \"$1\" && exec \"$0\"");
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", &script]).arg(actor_program()).arg(dir.path());
            let mut actor = Actor::from(&mut command);
            actor.must("threads");
            // The mount as its own namespace sees it.
            let seen = PathBuf::from(format!("/proc/{}/root{}", actor.pid(), dir.path().display()));
            let filler = || {
                if options.starts_with("size") {
                    let mut file = fs::File::create(seen.join("filler")).unwrap();
                    while file.write_all(&[0; 4096]).is_ok() {}
                } else {
                    for at in 0.. {
                        if fs::File::create(seen.join(format!("filler{at}"))).is_err() {
                            break;
                        }
                    }
                }
            };
            let empty = || {
                for entry in fs::read_dir(&seen).unwrap() {
                    let path = entry.unwrap().path();
                    if path.file_name().unwrap().to_string_lossy().starts_with("filler") {
                        fs::remove_file(path).unwrap();
                    }
                }
            };
            let what = format!("{options} {keys}");
            let target = dir.path().join("t");
            let other_target = seen.join("t");
            let mut other = Actor::start();
            actor.must(&format!("open l {} {keys}", target.display()));
            other.must(&format!("open l {} {keys}", other_target.display()));
            fs::write(&other_target, "").unwrap();
            filler();
            for who in [&mut actor, &mut other] {
                let answer = who.must_fail("acquire l g never", "io");
                assert!(text(&answer).contains("os error 28)"), "{what}: {answer}");
                assert!(text(&answer).contains("--no-record"), "{what}: {answer}");
            }
            // The error names `--no-record`, with which it works as flock(1) does.
            actor.must(&format!("open bare {} record=0", target.display()));
            other.must(&format!("open bare {} record=0", other_target.display()));
            actor.must("acquire bare b never");
            other.must_fail("acquire bare b never", "busy");
            actor.must("check b");
            actor.must("release b");
            other.must("acquire bare b never");
            other.must("release b");
            empty();
            other.must("acquire l g never");
            actor.must_fail("acquire l g never", "busy");
            other.must("release g");
            actor.must("acquire l g never");
            // Full again during the hold: the release creates nothing, so it succeeds, and so does the next acquire,
            // whose record overwrites the previous one.
            filler();
            actor.must("check g");
            actor.must("release g");
            if options.starts_with("size") {
                actor.must("acquire l g never");
                actor.must_fail("acquire l h never", "busy");
                actor.must("release g");
            }
            empty();
            other.must("acquire l g never");
            other.must("check g");
            other.must("release g");
            let mut left = names(&seen);
            left.retain(|name| name != "t");
            assert_eq!(left, [".tenure"], "{what}");
            assert_eq!(names(&seen.join(".tenure")), [".gitignore", "t.lock"], "{what}");
            assert_eq!(fs::read_to_string(seen.join(".tenure/.gitignore")).unwrap(), "*\n", "{what}");
        }
    }
}

/// Returns the fence of a grant.
fn fence(answer: &Value) -> u64 {
    answer["fence"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

/// Changes the fence in an anchor's record without changing its length.
fn set_fence(target: &Path, from: u64, to: u64) {
    let path = anchors(target).join("t.lock");
    let text = fs::read_to_string(&path).unwrap();
    let (from, to) = (from.to_string(), to.to_string());
    assert!(from.len() == to.len() && text.matches(&from).count() == 1, "{text}");
    fs::write(&path, text.replace(&from, &to)).unwrap();
}

#[test]
fn the_fence_always_grows() {
    let dir = folder();
    let target = dir.path().join("t");
    let open = |actor: &mut Actor, style: &str| drop(actor.must(&format!("open l {} {style}", target.display())));
    let mut last = 0;
    let mut grown = |answer: &Value, what: &str| {
        assert!(fence(answer) > last, "{what}: {answer} after {last}");
        last = fence(answer);
        last
    };
    for style in ["", "style=flock"] {
        // A crash.
        let mut one = Actor::start();
        open(&mut one, style);
        grown(&one.must("acquire l g never"), "first");
        one.kill();
        let mut two = Actor::start();
        open(&mut two, style);
        grown(&two.must("acquire l g never"), "after a crash");
        // A break.
        Actor::start().must(&format!("break {} force", target.display()));
        two.must_fail("check g", "lost");
        let mut three = Actor::start();
        open(&mut three, style);
        if style.is_empty() {
            grown(&three.must("acquire l g never"), "after a break");
            two.must_fail("release g", "lost");
        } else {
            // The target's own kernel lock cannot be broken: its holder releases it.
            two.must_fail("release g", "lost");
            grown(&three.must("acquire l g never"), "after a break");
        }
        three.must("release g");
        // `.tenure` is deleted.
        drop((two, three));
        fs::remove_dir_all(anchors(&target)).unwrap();
        let mut four = Actor::start();
        open(&mut four, style);
        grown(&four.must("acquire l g never"), "after .tenure was deleted");
        four.must("release g");
        grown(&four.must("acquire l g never"), "again");
        four.must("release g");
    }
    // A change of style, in both directions.
    let mut actor = Actor::start();
    for style in ["", "style=flock", "", "style=flock"] {
        open(&mut actor, style);
        grown(&actor.must("acquire l g never"), "another style");
        actor.must("release g");
    }
}

/// The clock was set back: the last fence is later than the present.
#[test]
fn the_fence_grows_by_one_after_the_clock_was_set_back() {
    for style in ["", "style=flock", "style=flock mode=666"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = Actor::start();
        actor.must(&format!("open l {} {style}", target.display()));
        let now = fence(&actor.must("acquire l g never"));
        actor.must("release g");
        let future = now + 3600 * 1_000_000;
        set_fence(&target, now, future);
        assert_eq!(fence(&actor.must("acquire l g never")), future + 1);
        actor.must("release g");
        assert_eq!(fence(&actor.must("acquire l g never")), future + 2);
        // After a crash, in the other style, and after a break.
        actor.kill();
        let mut actor = Actor::start();
        let other = if style.is_empty() { "style=flock" } else { "" };
        actor.must(&format!("open l {} {other}", target.display()));
        assert_eq!(fence(&actor.must("acquire l g never")), future + 3);
        Actor::start().must(&format!("break {} force", target.display()));
        actor.must_fail("release g", "lost");
        assert_eq!(fence(&actor.must("acquire l g never")), future + 4);
        actor.must("release g");
    }
}
