//! A native that forks: the child's view of the parent's guard, and a child that acquires for itself.

use std::sync::atomic::{AtomicBool, Ordering};

use tenure::{Guard, Wait};

use crate::chance::Chance;
use crate::site::{Site, say};
use crate::workers::{Shown, hold, how_long, refused};

/// Forks with a guard, and without one; without one the child acquires, and is killed occasionally.
pub fn fork_repeatedly(site: &Site, locks: &[Shown], seed: u64, last: &AtomicBool) {
    let mut chance = Chance(seed);
    for count in 1.. {
        let is_last = last.load(Ordering::SeqCst);
        let shown = &locks[chance.below(locks.len() as u64) as usize];
        if !is_last && chance.one_in(2) {
            child_acquires(site, shown, &mut chance, count);
        } else {
            let wait = how_long(&mut chance, is_last);
            match shown.0.acquire_with(wait) {
                Ok(guard) => {
                    let guard = child_has_none(guard, shown);
                    hold(site, guard, &mut chance, count, shown.1);
                }
                Err(error) => refused(&error, wait),
            }
            if is_last {
                return;
            }
        }
        std::thread::sleep(chance.micros(2000));
    }
}

/// Asserts that the child's copy of the guard is lost, that its end releases nothing, and that another acquire in the
/// child is refused.
fn child_has_none(guard: Guard, (lock, _): &Shown) -> Guard {
    let mut guard = Some(guard);
    in_child(None, || {
        let guard = guard.take().expect("the child has its copy");
        let fault = |what: &str| say(&format!("fault a forked child {what}"));
        if !guard.check().is_err_and(|error| error.is_lost()) {
            fault("regarded its parent's lock as its own");
        }
        if lock.acquire_with(Wait::Never).is_ok() {
            fault("was granted beside its parent");
        }
        drop(guard);
    });
    let guard = guard.expect("the child's is the child's");
    if let Err(error) = guard.check() {
        say(&format!("fault the end of a forked child released its parent's lock: {error}"));
    }
    guard
}

fn child_acquires(site: &Site, (lock, visible): &Shown, chance: &mut Chance, count: u64) {
    let seed = chance.next();
    let kill_after = chance.one_in(3).then(|| chance.micros(3000));
    in_child(kill_after, || {
        site.forked();
        match lock.acquire_with(Wait::Forever) {
            Ok(guard) => hold(site, guard, &mut Chance(seed), count, *visible),
            Err(error) => refused(&error, Wait::Forever),
        }
    });
}

/// Forks without exec, and waits for the child, which ends with its parent.
fn in_child(kill_after: Option<std::time::Duration>, act: impl FnOnce()) {
    let parent = std::process::id();
    // SAFETY: only this thread uses the library here; the other waits for a line of its input.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: no precondition. A child that lost its parent before this ends by itself.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() as u32 == parent {
                act();
            }
            libc::_exit(0);
        }
    }
    if let Some(after) = kill_after {
        std::thread::sleep(after);
        // SAFETY: our own child, not reaped yet.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        say("child-killed");
    }
    let mut status = 0;
    // SAFETY: `status` is on this stack.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    let ended = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
    let killed = kill_after.is_some() && libc::WIFSIGNALED(status);
    if !ended && !killed {
        say(&format!("fault a forked child ended with {status}"));
    }
}
