//! A status names the holder, the waiters and the sharers, or reports that it cannot tell, and disturbs no process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tenure::{BreakOptions, HolderKind, ListOptions, State, Status, Style, break_lock, list, status};
use tenure_tests::strace::Strace;
use tenure_tests::{
    Actor, Foreign, actor_program, as_nobody, end_util_linux, folder, has, is_root, lock_file, needs, opened, signal,
    until, util_linux, write_apart,
};

use super::{holding, pid_of, tree, words};

/// Returns the status of a lock whose files these processes have open. A child that another test of this process starts has what
/// this process has open until it executes its program.
fn open_by(target: &Path, pids: &[i64]) -> Status {
    let mut found = status(target).unwrap();
    until(&format!("open by {pids:?} alone, not by {:?}", found.open_by), || {
        found = status(target).unwrap();
        found.open_by == pids
    });
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
    let holder = Foreign::hold("python", &target);
    let found = status(&target).unwrap();
    assert_eq!((found.state, pid_of(&found)), (State::Held, Some(holder.pid().into())), "{found:?}");
    assert_eq!(found.holder.unwrap().kind, HolderKind::Foreign);
    let pid = i64::from(holder.pid());
    holder.kill();
    let found = status(&target).unwrap();
    assert_eq!((found.state, pid_of(&found), words(&found)), (State::Stale, Some(pid), vec!["dead-pid"]));
    // Without a pid, and new: its holder may be between create and write.
    write_apart(&lock_file(&target), "", Duration::ZERO);
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
    let foreign = Foreign::hold("python", &target);
    let dead = i64::from(foreign.pid());
    foreign.kill();
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
    let _holder = Foreign::hold("python", &target);
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
        let found = open_by(&target, &[i64::from(child)]);
        assert_eq!((found.state, pid_of(&found)), (State::Held, Some(dead)), "{found:?}");
        let why = found.holder.unwrap().liveness.why().to_owned();
        assert!(why.contains(&format!("pid {child} inherited")), "{why}");
        // A process that has the file open without the lock has inherited nothing.
        let mut bystander = opened(&target, keys);
        bystander.must_fail("acquire l g never", "busy");
        open_by(&target, &[i64::from(child)]);
        signal(child, libc::SIGKILL);
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
    let found = open_by(&target, &pids);
    assert_eq!((found.state, found.style), (State::Held, Style::Flock), "{found:?}");
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
    let found = open_by(&target, &[sharer.pid().into()]);
    assert_eq!((found.state, found.style), (State::Held, Style::Flock));
}

#[test]
fn flock_of_util_linux_on_the_target_is_reported() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    for kind in ["-x", "-s"] {
        let dir = folder();
        let target = dir.path().join("t");
        let child = util_linux(&target, kind);
        let pid = i64::from(child.id());
        let found = open_by(&target, &[pid]);
        assert_eq!((found.state, found.style), (State::Held, Style::Flock), "{found:?}");
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
        end_util_linux(child);
        assert_ne!(status(&target).unwrap().state, State::Held);
    }
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
