//! Acquires several locks, all or none.

use std::time::Instant;

use crate::guard::Guard;
use crate::lock::Lock;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::Wait;
use crate::model::rank;

/// Acquires several locks, all or none: of files, of servers, or both. Returns their guards in the order of `locks`.
///
/// All callers acquire in the same order, as `tenure run` with several targets does, whatever the order of `locks`. So they
/// never wait for each other in a circle. One deadline serves all of them.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use tenure::{Lock, Wait, acquire_all};
///
/// let (from, to) = (Lock::open(dir.path().join("from"))?, Lock::open(dir.path().join("to"))?);
/// let guards = acquire_all([&to, &from], Wait::Forever)?;
/// assert_eq!(guards[0].target(), to.target());
/// # Ok(())
/// # }
/// ```
///
/// The members of one etcd cluster should have the same names in all targets of all programs. Where two locks of the same
/// name on *different* clusters are acquired together, their order is that of the servers' names.
///
/// # Errors
///
/// That of the first acquire that fails; those before it are released by then.
/// [`is_invalid_target`](crate::Error::is_invalid_target) where a lock is named twice;
/// [`is_lost`](crate::Error::is_lost) where the lease of one was lost while another was waited for.
pub fn acquire_all<'a>(locks: impl IntoIterator<Item = &'a Lock>, wait: Wait) -> Result<Vec<Guard>> {
    let locks: Vec<&Lock> = locks.into_iter().collect();
    let order = distinct_order(&locks)?;
    let wait = match wait {
        Wait::For(_) => wait.deadline(Instant::now()).map_or(Wait::Forever, Wait::Until),
        other => other,
    };
    let mut guards: Vec<Option<Guard>> = locks.iter().map(|_| None).collect();
    for at in order {
        // An error drops the guards so far, which releases them.
        guards[at] = Some(locks[at].acquire_with(wait)?);
    }
    let guards: Vec<Guard> = guards.into_iter().flatten().collect();
    check_leases(&guards)?;
    Ok(guards)
}

/// Returns the indexes of locks in the order in which they are acquired, and for each whether it is the same lock as one with a
/// smaller index.
pub(crate) fn order(locks: &[&Lock]) -> Result<Vec<(usize, bool)>> {
    Ok(rank::in_order(&locks.iter().map(|lock| lock.rank()).collect::<Result<Vec<_>>>()?))
}

/// Returns the indexes of locks in the order in which they are acquired. Fails where a lock is named twice.
pub(crate) fn distinct_order(locks: &[&Lock]) -> Result<Vec<usize>> {
    let order = order(locks)?;
    if let Some((at, _)) = order.iter().find(|(_, repeats)| *repeats) {
        let detail = "it is named twice among the locks to acquire";
        return Err(Error::new(ErrorKind::InvalidTarget, locks[*at].target(), detail));
    }
    Ok(order.into_iter().map(|(at, _)| at).collect())
}

/// Fails where a lease was lost while another lock was waited for.
pub(crate) fn check_leases(guards: &[Guard]) -> Result<()> {
    guards.iter().filter(|guard| guard.lease().is_some()).try_for_each(Guard::check)
}
