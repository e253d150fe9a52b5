//! Functions that only the command `tenure` and the packages for other languages need. They are no part of the interface.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use crate::file::{held_for_command, slots};
use crate::guard::Guard;
use crate::lock::Lock;
use crate::model::error::{Error, Result};
use crate::model::options::Wait;
use crate::model::requester::{self, RequesterId};
use crate::server;
use crate::several;
use crate::sys;

/// Makes every child that *any* thread of this process starts inherit the kernel lock, while the returned value lives. Drop
/// it as soon as the child that is meant runs.
///
/// For a process that starts one child, this saves the fork that [`Guard::keep_for`] needs: `posix_spawn` starts the child.
///
/// # Errors
///
/// As [`Guard::keep_for`].
pub fn keep_for_children(guard: &Guard) -> Result<KeptForChildren> {
    let files = guard.descriptors()?;
    for file in &files {
        let failed = |error| Error::io(guard.target(), "the lock cannot be handed to the command", error);
        sys::inherit_always(file).map_err(failed)?;
    }
    Ok(KeptForChildren { _files: files })
}

/// While this lives, the children that this process starts inherit the kernel lock: [`keep_for_children`].
#[must_use = "children inherit the lock only while this lives"]
#[derive(Debug)]
pub struct KeptForChildren {
    _files: Vec<sys::Inherited>,
}

/// Returns the indexes of locks in the order in which several are acquired, each lock once: as [`acquire_all`], for a caller
/// that acquires them one after the other. Servers that have to be asked must answer in the time that an acquire with `wait`
/// gives them.
///
/// # Errors
///
/// As [`Lock::open`]; [`is_unreachable`](crate::Error::is_unreachable) where a server did not answer.
///
/// [`acquire_all`]: crate::acquire_all
pub fn order_of(locks: &[&Lock], wait: Wait) -> Result<Vec<usize>> {
    let order = several::order(locks, wait)?;
    Ok(order.into_iter().filter(|(_, repeats)| !repeats).map(|(at, _)| at).collect())
}

/// As [`order_of`], for a caller that wants a guard of each. Fails where a lock is named twice.
///
/// # Errors
///
/// As [`acquire_all`](crate::acquire_all).
pub fn distinct_order_of(locks: &[&Lock], wait: Wait) -> Result<Vec<usize>> {
    several::distinct_order(locks, wait)
}

/// Fails where a lease was lost while another lock was waited for.
///
/// # Errors
///
/// As [`Guard::check`].
pub fn check_leases(guards: &[Guard]) -> Result<()> {
    several::check_leases(guards)
}

/// Returns the name of a lock on its server, or the name below which `target` lists; `None` for a file.
pub fn name_on_server(target: &Path) -> Option<String> {
    server::name(target)
}

/// Returns the identity of this thread, for [`on_behalf_of`].
pub fn this_thread() -> RequesterId {
    requester::this_thread()
}

/// Runs `acquires`, in which this thread acquires on behalf of the thread `waiter`, which waits for it and holds the locks. So what
/// `waiter` holds counts as what this thread holds, if the wait would close a circle.
pub fn on_behalf_of<T>(waiter: RequesterId, acquires: impl FnOnce() -> T) -> T {
    let _entered = requester::enter(waiter);
    acquires()
}

/// The variable by which a command finds the locks that are held for it: a JSON array of targets, outermost first.
pub const HELD: &str = held_for_command::VARIABLE;

/// Returns the value of [`HELD`] for a command that this process runs under `guards`: the targets of the variable that this
/// process has itself, and those of `guards`. What is not in it is part of no circle of waits.
pub fn held_for_command(guards: &[Guard]) -> String {
    let files = guards.iter().filter(|guard| guard.lease().is_none());
    held_for_command::with(files.map(|guard| match guard.slot() {
        Some(number) => Cow::Owned(slots::slot_path(guard.target(), number)),
        None => Cow::Borrowed(guard.target()),
    }))
}

/// Declares that this process does not end while one of its threads waits for a lock, unless a signal ends it. So if the
/// process is a holder's command, its waits are that holder's.
pub fn declare_that_waits_block_the_end() {
    held_for_command::declare_that_waits_block_the_end();
}

/// Returns the time within which a SIGTERM asks this process to end, if it came from an acquire with
/// [`IfBusy::Replace`](crate::IfBusy::Replace): from the fields `si_errno` and `si_value` of a queued signal (`sigqueue(3)`).
pub fn requested_grace(errno: i32, value: i32) -> Option<Duration> {
    sys::EndRequest::of_signal(errno, value).map(|request| request.grace)
}
