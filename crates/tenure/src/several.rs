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
/// Where two locks of one name on *different* clusters are acquired together, their order is that of what the clusters say of
/// themselves, however the targets name their servers: the cluster's id on etcd, the system identifier on PostgreSQL. Each is
/// asked for it first. Two clusters that say the same, such as etcd's of one member with default settings, are ordered by the names
/// of the servers.
///
/// # Errors
///
/// That of the first acquire that fails; those before it are released by then.
/// [`is_invalid_target`](crate::Error::is_invalid_target) where a lock is named twice;
/// [`is_lost`](crate::Error::is_lost) where the lease of one was lost while another was waited for.
pub fn acquire_all<'a>(locks: impl IntoIterator<Item = &'a Lock>, wait: Wait) -> Result<Vec<Guard>> {
    let locks: Vec<&Lock> = locks.into_iter().collect();
    let wait = match wait {
        Wait::For(_) => wait.deadline(Instant::now()).map_or(Wait::Forever, Wait::Until),
        other => other,
    };
    let order = distinct_order(&locks, wait)?;
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
/// smaller index. Servers that have to be asked must answer as those of an acquire: by the deadline, but they have a second at
/// least, and five seconds with [`Wait::Never`].
pub(crate) fn order(locks: &[&Lock], wait: Wait) -> Result<Vec<(usize, bool)>> {
    let mut ranks = locks.iter().map(|lock| lock.rank()).collect::<Result<Vec<_>>>()?;
    let answer_by = if wait == Wait::Never { None } else { wait.deadline(Instant::now()) };
    for at in rank::needing_cluster(&ranks) {
        ranks[at].set_cluster(locks[at].cluster(answer_by)?);
    }
    Ok(rank::in_order(&ranks))
}

/// Returns the indexes of locks in the order in which they are acquired. Fails where a lock is named twice.
pub(crate) fn distinct_order(locks: &[&Lock], wait: Wait) -> Result<Vec<usize>> {
    let order = order(locks, wait)?;
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
