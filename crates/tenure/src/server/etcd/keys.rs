//! The names of the keys on a cluster, and for which of them an acquire waits.
//!
//! | key | written by |
//! | --- | --- |
//! | `NAME/<lease in hex>` | an exclusive acquire, as in etcd's recipe. A second one of the same lease ends in `.1`, and so on |
//! | `NAME/shared:<lease in hex>` | a shared acquire, likewise |
//! | `.tenure/NAME` | the last exclusive holder. It outlives the lease |

use super::messages::{RangeRequest, end_of};
use crate::sys::LockKind;

/// The prefix of the records that outlive their leases.
pub(super) const RECORDS: &str = ".tenure/";
/// How the last part of a shared acquire's key begins. No lease in hex does.
const SHARED: &str = "shared:";

/// Returns the key of an acquire in the queue of `name`. `index` distinguishes it from others of the same lease.
pub(super) fn place(name: &str, kind: LockKind, lease: i64, index: usize) -> String {
    let shared = if kind == LockKind::Shared { SHARED } else { "" };
    match index {
        0 => format!("{name}/{shared}{lease:x}"),
        _ => format!("{name}/{shared}{lease:x}.{index}"),
    }
}

/// Returns the key at which the record of `name` outlives its lease.
pub(super) fn record(name: &str) -> String {
    format!("{RECORDS}{name}")
}

/// Returns whether a key below `name` is that of a shared acquire.
pub(super) fn is_shared(name: &str, key: &[u8]) -> bool {
    let rest = key.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"/"));
    rest.is_some_and(|rest| rest.starts_with(SHARED.as_bytes()))
}

/// Returns whether the last part of a key is that of a lease.
pub(super) fn is_of_lease(end: &str, lease: i64) -> bool {
    let end = end.strip_prefix(SHARED).unwrap_or(end);
    let (end, number) = end.split_once('.').unwrap_or((end, "0"));
    lease != 0 && i64::from_str_radix(end, 16) == Ok(lease) && number.parse::<usize>().is_ok()
}

/// Returns the ranges of the keys below `name` for which an acquire waits where they are older than its own: all keys, or
/// all but the shared ones.
pub(super) fn rivals(name: &str, kind: LockKind) -> Vec<RangeRequest> {
    let all = RangeRequest::below(&format!("{name}/"));
    match kind {
        LockKind::Exclusive => vec![all],
        LockKind::Shared => {
            let shared = format!("{name}/{SHARED}");
            let after = RangeRequest { key: end_of(&shared), ..all.clone() };
            vec![RangeRequest { range_end: shared.into_bytes(), ..all }, after]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_lock_ends_in_its_lease() {
        assert!(is_of_lease("2f", 0x2f) && is_of_lease("2f.3", 0x2f) && is_of_lease("shared:2f.3", 0x2f));
        assert!(!is_of_lease("2f", 0x30) && !is_of_lease("2f.x", 0x2f) && !is_of_lease("config", 0x2f));
        assert!(!is_of_lease("shared:2e", 0x2f) && !is_of_lease("shared:", 0x2f));
        assert!(!is_of_lease("0", 0), "data");
    }

    #[test]
    fn a_share_waits_for_all_keys_but_shares() {
        let is_rival = |kind: LockKind, key: &str| {
            rivals("a", kind).iter().any(|range| (&*range.key..&*range.range_end).contains(&key.as_bytes()))
        };
        let (share, second) = (place("a", LockKind::Shared, 0x2f, 0), place("a", LockKind::Shared, 0x2f, 1));
        assert_eq!((&*share, &*second), ("a/shared:2f", "a/shared:2f.1"));
        for key in [&share, &second] {
            assert!(is_shared("a", key.as_bytes()) && !is_shared("b", key.as_bytes()));
            assert!(is_rival(LockKind::Exclusive, key) && !is_rival(LockKind::Shared, key), "{key}");
        }
        // Tenure's, `etcdctl lock`'s, of the recipe with other ends, and the greatest key below the name.
        for key in ["a/2f", "a/2f.1", "a/694d8f2e3a5b0c11", "a/shared", "a/shared9", "a/shared;", "a/z", "a/\u{7f}"] {
            assert!(!is_shared("a", key.as_bytes()));
            assert!(is_rival(LockKind::Exclusive, key) && is_rival(LockKind::Shared, key), "{key}");
        }
        for other in ["a", "a.b/2f", "a0", "b/shared:2f"] {
            assert!(!is_rival(LockKind::Exclusive, other) && !is_rival(LockKind::Shared, other), "{other}");
        }
    }
}
