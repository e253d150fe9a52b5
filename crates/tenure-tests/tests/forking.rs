//! Forks: a lock belongs to its process and never outlives it in a child, unless the child was passed the lock.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::path::Path;

use tenure::{State, status};
use tenure_tests::stepped::{Step, Stepped};
use tenure_tests::{Actor, folder, has_ended, signal, until};

const STYLES: [&str; 2] = ["", "style=flock"];

fn opened(target: &Path, keys: &str) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open l {} {keys}", target.display()));
    actor
}

fn holding(target: &Path, keys: &str) -> Actor {
    let mut actor = opened(target, keys);
    actor.must("acquire l g never");
    actor
}

/// A process that the test did not start itself, killed on drop.
struct Ends(u32);

impl Ends {
    fn of(answer: &serde_json::Value) -> Ends {
        Ends(u32::try_from(answer["pid"].as_u64().unwrap()).unwrap())
    }

    fn lives(&self) {
        assert!(!has_ended(self.0), "{} has ended", self.0);
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        if !has_ended(self.0) {
            signal(self.0, libc::SIGKILL);
        }
    }
}

#[test]
fn a_forked_child_holds_nothing_and_releases_nothing() {
    for (fork, style) in ["fork", "raw-fork"].iter().flat_map(|fork| STYLES.map(|style| (fork, style))) {
        let dir = folder();
        let target = dir.path().join("t");
        let mut parent = holding(&target, style);
        parent.must(&format!("open m {} {style}", dir.path().join("u").display()));
        // The child drops one guard and releases the other.
        parent.must("acquire m h never");
        let seen = parent.must(fork);
        for guard in ["g", "h"] {
            assert_eq!(seen["checks"][guard]["kind"], "lost", "{fork} {style}: {seen}");
        }
        for lock in ["l", "m"] {
            let tried = &seen["tried"][lock];
            assert_eq!((&tried["kind"], &tried["holder"]), (&"busy".into(), &parent.pid().into()), "{fork}: {seen}");
        }
        let forked = parent.receive();
        assert_eq!((&forked["event"], &forked["status"]), (&"forked".into(), &0.into()));
        parent.must("check g");
        parent.must("check h");
        opened(&target, style).must_fail("acquire l g never", "busy");
        parent.must("release g");
        parent.must("release h");
        opened(&target, style).must("acquire l g never");
    }
}

#[test]
fn a_killed_parents_lock_is_free_although_its_child_lives() {
    for style in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        let mut parent = holding(&target, style);
        let child = Ends::of(&parent.must("fork-stay"));
        // The child closes its copies before fork(2) returns in it; the parent may be slightly faster.
        let pid = parent.pid();
        until("the child has no file of the lock open", || !has_open(child.0, dir.path()));
        parent.kill();
        let mut next = opened(&target, style);
        assert_eq!(next.must("acquire l g never")["crashed"]["pid"], pid, "{style}");
        child.lives();
    }
}

/// Returns whether the process has a file below `dir` open.
fn has_open(pid: u32, dir: &Path) -> bool {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open: Vec<_> = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok()).collect();
    // The folder itself is no lock.
    open.iter().any(|path| path.starts_with(dir) && path != dir)
}

#[test]
fn a_release_is_complete_although_children_live() {
    for style in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        let mut parent = holding(&target, style);
        let child = Ends::of(&parent.must("fork-stay"));
        parent.must("release g");
        let mut next = opened(&target, style);
        assert!(next.must("acquire l g never")["crashed"].is_null());
        child.lives();
    }
}

#[test]
fn a_forked_child_acquires_for_itself() {
    for (fork, style) in ["fork-on", "raw-fork-on"].iter().flat_map(|fork| STYLES.map(|style| (fork, style))) {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = holding(&target, style);
        let parent = actor.pid();
        actor.must("release g");
        let child = actor.must(fork)["pid"].clone();
        assert_ne!(child, parent);
        let granted = actor.must("acquire l g never");
        assert!(granted["crashed"].is_null(), "{granted}");
        actor.must("check g");
        assert_eq!(status(&target).unwrap().holder.unwrap().pid(), child.as_i64());
        opened(&target, style).must_fail("acquire l g never", "busy");
        // The child's own child has neither.
        let below = actor.must("fork");
        assert_eq!(below["checks"]["g"]["kind"], "lost", "{below}");
        assert_eq!(actor.receive()["event"], "forked");
        actor.must("release g");
        actor.must("acquire l g never");
        // The child ends while it holds: the parent finds a lock whose holder died.
        actor.send("leave");
        assert_eq!(actor.receive()["event"], "forked");
        assert_eq!(actor.must("acquire l g never")["crashed"]["pid"], child);
    }
}

#[test]
fn a_parents_guard_is_kept_while_a_child_waits_for_it() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = holding(&target, "");
    actor.must("fork-on");
    // The child's own thread waits in the kernel: the parent's helper threads and watchdog do not exist in it.
    let answer = actor.must_fail("acquire l h 300", "busy");
    assert!(answer["waitedMs"].as_u64().unwrap() >= 300, "{answer}");
    actor.send("leave");
    assert_eq!(actor.receive()["event"], "forked");
    actor.must("check g");
}

#[test]
fn a_fork_beside_waiting_threads_does_not_hang_the_child() {
    let dir = folder();
    let (busy, own) = (dir.path().join("busy"), dir.path().join("own"));
    let mut holder = holding(&busy, "");
    let mut actor = opened(&busy, "");
    for n in 0..4 {
        actor.must(&format!("begin l w{n} 60000"));
    }
    // A tenure that the watchdog checks often, and threads that lock the library's mutexes without pause.
    actor.must(&format!("open r {} refresh_ms=20", dir.path().join("refreshed").display()));
    actor.must("acquire r r never");
    actor.must(&format!("open o {}", own.display()));
    actor.must(&format!("open h {}", dir.path().join("hammered").display()));
    until("its waiters are in the queue", || status(&busy).unwrap().waiters == Some(1));
    actor.must("hammer h 2");
    for _ in 0..20 {
        actor.must("fork-on");
        assert_eq!(actor.must("threads")["threads"], 1);
        actor.must_fail("check r", "lost");
        actor.must("acquire o g 60000");
        actor.must("release g");
        actor.must_fail("acquire l g 20", "busy");
        actor.must("acquire h g 60000");
        actor.must("release g");
        actor.send("leave");
        assert_eq!(actor.receive()["event"], "forked");
    }
    actor.must("check r");
    holder.must("release g");
    let mut granted = actor.receive();
    for n in 0..4 {
        assert_eq!(granted["event"], "granted", "{granted}");
        let release = format!("release {}", granted["guard"].as_str().unwrap());
        if n < 3 {
            granted = actor.must_and_receive(&release).1;
        }
    }
}

/// Single-steps a thread's first use of the library, with a fork at each step: the child has a copy of any
/// half-finished state, and not the thread.
#[test]
fn a_fork_at_any_call_of_another_thread_does_not_hang_the_child() {
    for (direct, name, wait) in [(false, "free", "never"), (false, "busy", "20"), (true, "busy", "20")] {
        let dir = folder();
        let _holder = holding(&dir.path().join("busy"), "");
        let mut actor = Actor::start();
        let thread = actor.must("apart")["thread"].as_u64().unwrap();
        let stepped = Stepped::stop(u32::try_from(thread).unwrap());
        // Otherwise this thread would make the first use of the library.
        if direct {
            actor.must("interrupts");
        }
        actor.must(&format!("apart {} {wait}", dir.path().join(name).display()));
        let (mut steps, mut allocates) = (0, false);
        loop {
            if let Step::Enters(call, args) = stepped.step().expect("the thread continues") {
                let call = i64::try_from(call).unwrap();
                // The thread writes with the lock of standard output, which the child could not acquire.
                if call == libc::SYS_write && args[0] == 1 {
                    break;
                }
                // Allocations of more than a page belong to malloc(3), whose locks fork(3) waits for.
                allocates = match call {
                    libc::SYS_brk | libc::SYS_mprotect | libc::SYS_mremap | libc::SYS_munmap => true,
                    libc::SYS_mmap => args[1] > 4096,
                    _ => false,
                };
            }
            if allocates {
                continue;
            }
            steps += 1;
            forked_child_locks(&mut actor, dir.path(), &format!("direct {direct}, {name}, step {steps}"));
        }
        assert!(steps > 50, "direct {direct}, {name}: {steps} steps only");
        drop(stepped);
        let said = actor.receive();
        assert!(said["event"] == "granted" || said["kind"] == "busy", "direct {direct}, {name}: {said}");
    }
}

fn forked_child_locks(actor: &mut Actor, dir: &Path, when: &str) {
    let mut ask = |line: &str| {
        actor.send(line);
        assert!(actor.answers_within(60), "{when}: the child never answers {line:?}");
        actor.receive()
    };
    let _child = Ends::of(&ask("fork-on"));
    for (lock, name, expected) in [("o", "own", None), ("b", "busy", Some("busy"))] {
        ask(&format!("open {lock} {}", dir.join(name).display()));
        let answer = ask(&format!("acquire {lock} {lock} 1"));
        assert_eq!(answer["kind"].as_str(), expected, "{when}: {name}: {answer}");
    }
    assert_eq!(ask("check o")["ok"], true, "{when}");
    assert_eq!(ask("release o")["ok"], true, "{when}");
    ask("leave");
}

#[test]
fn a_forgotten_guard_ends_with_the_process() {
    for style in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        let (mut actor, mut next) = (holding(&target, style), opened(&target, style));
        actor.must("forget g");
        next.must_fail("acquire l g never", "busy");
        let pid = actor.pid();
        actor.finish();
        assert_eq!(next.must("acquire l g never")["crashed"]["pid"], pid);
    }
}

#[test]
fn a_command_does_not_inherit_the_lock() {
    for style in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = holding(&target, style);
        let child = Ends::of(&actor.must("spawn sleep 600"));
        assert!(!has_open(child.0, dir.path()));
        actor.kill();
        opened(&target, style).must("acquire l g never");
        child.lives();
    }
}

#[test]
fn a_command_that_was_passed_the_lock_keeps_it() {
    for style in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = holding(&target, style);
        let child = Ends::of(&actor.must("keep g sleep 600"));
        let pid = actor.pid();
        actor.kill();
        let mut next = opened(&target, style);
        next.must_fail("acquire l g never", "busy");
        let found = status(&target).unwrap();
        assert_eq!((found.state, found.open_by.as_slice()), (State::Held, &[i64::from(child.0)][..]), "{found:?}");
        next.must("begin l g 60000");
        until("the next waits", || status(&target).unwrap().waiters == Some(1));
        child.lives();
        drop(child);
        let granted = next.receive();
        assert_eq!((&granted["event"], &granted["crashed"]["pid"]), (&"granted".into(), &pid.into()), "{granted}");
    }
}

#[test]
fn a_release_also_ends_the_commands_hold() {
    for style in STYLES {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = holding(&target, style);
        let child = Ends::of(&actor.must("keep g sleep 600"));
        actor.must("release g");
        assert!(opened(&target, style).must("acquire l g never")["crashed"].is_null());
        child.lives();
    }
}

#[test]
fn a_childs_relative_lock_is_its_parents_in_any_working_directory() {
    let (dir, elsewhere) = (folder(), folder());
    let mut actor = Actor::start();
    actor.must(&format!("chdir {}", dir.path().display()));
    actor.must("open l t");
    actor.must(&format!("chdir {}", elsewhere.path().display()));
    assert_eq!(actor.must("inspect t")["found"]["state"], "free");
    let child = actor.must("fork-on")["pid"].clone();
    actor.must("acquire l g never");
    assert_eq!(status(dir.path().join("t")).unwrap().holder.unwrap().pid(), child.as_i64());
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    actor.must("release g");
    actor.send("leave");
    assert_eq!(actor.receive()["event"], "forked");
}
