//! A native's process beside the acquire: its detached helper, its watchdog, its end.

use crate::config::{Config, Guard};
use crate::native::{Helper, Native, Pc};
use crate::state::{State, Uncovered, Who};

/// Makes the detached helper of native `i` take its next step.
pub(crate) fn helper_step(state: &mut State, i: usize) -> Option<()> {
    let who = Who::helper(i);
    state.natives[i].helper = match state.natives[i].helper {
        Helper::None => return None,
        Helper::Waits(ino) => {
            state.try_lock(ino, who).then_some(())?;
            Helper::Locked(ino)
        }
        Helper::Locked(ino) => {
            state.unlock(ino, who);
            Helper::None
        }
    };
    Some(())
}

/// Makes the watchdog check a helper in a kernel queue. If the path names another file, a new helper begins.
pub(crate) fn recheck(config: &Config, state: &mut State, i: usize) -> Option<()> {
    let native = &mut state.natives[i];
    let (waits_for, named) = match native.pc {
        Pc::Queue => (native.fd?, state.anchor),
        Pc::WaitNative => (native.judged?, state.lock),
        _ => return None,
    };
    (config.guards(Guard::Recheck) && named != Some(waits_for)).then_some(())?;
    let before = std::mem::replace(&mut native.helper, Helper::Waits(waits_for));
    if native.pc == Pc::Queue {
        native.fd = None;
        native.go(Pc::Open)?;
    } else {
        native.judged = None;
        native.go(Pc::TryLock)?;
    }
    if let Helper::Locked(ino) = before {
        state.unlock(ino, Who::helper(i));
    }
    Some(())
}

/// Makes the watchdog give up the name of a lock file whose anchor was broken, for the operator who cannot remove it.
pub(crate) fn give_up_name(config: &Config, state: &mut State, i: usize) -> Option<()> {
    let native = state.natives[i];
    let broken = native.held && matches!(native.pc, Pc::Hold | Pc::End) && state.anchor != native.fd;
    let copy = native.copy.filter(|copy| broken && state.inode(*copy).keeper == Some(Who::native(i)))?;
    config.guards(Guard::GivesUpTheName).then_some(())?;
    state.let_go(copy, Who::native(i));
    if state.lock == Some(copy) {
        state.removed(state.lock, Uncovered::ByPerson);
        state.lock = None;
    }
    state.unlock(copy, Who::native(i));
    Some(())
}

/// Makes the watchdog revoke a tenure: the release begins without the holder.
pub(crate) fn revoke(state: &mut State, i: usize) -> Option<()> {
    let native = &mut state.natives[i];
    (native.pc == Pc::Hold && state.left.revokes > 0).then_some(())?;
    state.left.revokes -= 1;
    native.revoked = true;
    native.go(Pc::End)
}

/// Makes the holder pass its tenure on to the next waiter of its process.
///
/// `at_once`: within `NAMES_CHECK_TTL` of the last check of the names.
pub(crate) fn pass(config: &Config, state: &mut State, i: usize, at_once: bool) -> Option<()> {
    let native = &mut state.natives[i];
    (config.pass && native.pc == Pc::Hold && native.rounds > 0 && !native.flock).then_some(())?;
    native.held = false;
    native.go(match (at_once, config.guards(Guard::PassWritesFirst)) {
        (true, true) => Pc::PassWriteAtOnce,
        (true, false) => Pc::PassLinks,
        (false, true) => Pc::PassWrite,
        (false, false) => Pc::PassAnchor,
    })
}

/// Ends the process. The kernel closes its descriptors.
pub(crate) fn crash(state: &mut State, i: usize) -> Option<()> {
    (!state.natives[i].has_ended()).then_some(())?;
    if state.past.wiped || state.past.broken {
        // Two natives with two anchors may both have used the swap. No native puts a file back that this one leaves there.
        state.removed(state.swap, Uncovered::ByPerson);
    }
    let (me, helper) = (Who::native(i), Who::helper(i));
    for inode in &mut state.inodes {
        inode.lock = inode.lock.filter(|who| *who != me && *who != helper);
        inode.keeper = inode.keeper.filter(|who| *who != me);
    }
    let Native { never, flock, .. } = state.natives[i];
    state.natives[i] = Native { pc: Pc::Dead, never, flock, ..Native::default() };
    Some(())
}
