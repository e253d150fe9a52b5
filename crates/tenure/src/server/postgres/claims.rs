//! The advisory locks that a session has. A lock is reentrant within its session, so between the locks of one session it is
//! this process that excludes, and the server does not.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::AbortHandle;

use super::users::User;
use super::word::Word;
use crate::server::tenure::ServerTenure;
use crate::sys::LockKind;

/// An advisory lock that the session has.
pub(super) struct Claimed {
    pub(super) name: Arc<str>,
    pub(super) number: i64,
    pub(super) kind: LockKind,
    /// The fence, once its row is written.
    pub(super) fence: i64,
    /// The word of a shared lock, once it is written.
    pub(super) word: Option<Arc<Word>>,
    pub(super) tenure: Option<Arc<ServerTenure>>,
    pub(super) is_publishing: bool,
    /// The task that acts on `max_hold`.
    pub(super) timer: Option<AbortHandle>,
    /// Keeps the sessions.
    _user: User,
}

/// The claims to one number or name: one, or several shared ones. The server has counted them once.
struct Grip {
    kind: LockKind,
    claims: usize,
}

struct Named {
    grip: Grip,
    number: i64,
    word: Arc<Word>,
}

/// What the server's grant of a lock means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// The new claim; `None` where another one of this session excludes it.
    pub(super) key: Option<u64>,
    /// The session had the lock already, and the server has counted it once more.
    pub(super) is_surplus: bool,
}

#[derive(Default)]
pub(super) struct Claims {
    last: u64,
    claims: HashMap<u64, Claimed>,
    /// By the numbers of the advisory locks. Two names may have the same.
    numbers: HashMap<i64, Grip>,
    names: HashMap<Arc<str>, Named>,
}

impl Claims {
    /// Returns whether the session has no advisory lock.
    pub(super) fn are_none(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Returns whether no claim is left that is not about to be unlocked.
    pub(super) fn are_all_left(&self) -> bool {
        self.claims.is_empty()
    }

    pub(super) fn has_number(&self, number: i64) -> bool {
        self.numbers.contains_key(&number)
    }

    pub(super) fn numbers(&self) -> Vec<i64> {
        self.numbers.keys().copied().collect()
    }

    /// Returns whether the session has no lock but that of a name.
    pub(super) fn are_at_most(&self, name: &str) -> bool {
        self.names.keys().all(|ours| **ours == *name)
    }

    /// Returns whether the session has nothing but a claim that was taken out.
    pub(super) fn are_only(&self, claim: &Claimed) -> bool {
        self.claims.is_empty() && self.numbers.len() == 1 && self.numbers.contains_key(&claim.number)
    }

    /// Returns the kind in which the session has the lock of a name.
    pub(super) fn kind_of(&self, name: &str) -> Option<LockKind> {
        self.names.get(name).map(|named| named.grip.kind)
    }

    /// Returns what the shared claims to a name write together.
    pub(super) fn word_of(&self, name: &str) -> Option<Arc<Word>> {
        self.names.get(name).map(|named| Arc::clone(&named.word))
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut Claimed> {
        self.claims.get_mut(&key)
    }

    pub(super) fn contains(&self, key: u64) -> bool {
        self.claims.contains_key(&key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Claimed)> {
        self.claims.iter().map(|(key, claim)| (*key, claim))
    }

    pub(super) fn tenures(&self) -> impl Iterator<Item = &Arc<ServerTenure>> {
        self.claims.values().filter_map(|claim| claim.tenure.as_ref())
    }

    /// Records an advisory lock that the server has granted.
    pub(super) fn take(&mut self, name: &Arc<str>, number: i64, kind: LockKind, user: User) -> Taken {
        let had = self.numbers.get_mut(&number);
        let is_surplus = had.is_some();
        match had {
            Some(grip) if kind == LockKind::Shared && grip.kind == LockKind::Shared => grip.claims += 1,
            Some(_) => return Taken { key: None, is_surplus },
            None => drop(self.numbers.insert(number, Grip { kind, claims: 1 })),
        }
        let new = || Named { grip: Grip { kind, claims: 0 }, number, word: Arc::default() };
        self.names.entry(Arc::clone(name)).or_insert_with(new).grip.claims += 1;
        self.last += 1;
        let name = Arc::clone(name);
        let claimed = Claimed {
            name,
            number,
            kind,
            fence: 0,
            word: None,
            tenure: None,
            is_publishing: false,
            timer: None,
            _user: user,
        };
        self.claims.insert(self.last, claimed);
        Taken { key: Some(self.last), is_surplus }
    }

    /// Adds a claim to a lock that the session shares. `None` where it has no share any more.
    pub(super) fn join(&mut self, name: &Arc<str>, user: User) -> Option<u64> {
        let named = self.names.get(name).filter(|named| named.grip.kind == LockKind::Shared)?;
        let number = named.number;
        self.take(name, number, LockKind::Shared, user).key
    }

    /// Takes a claim out, to be unlocked. Until [`forget`](Claims::forget), its name and number stay.
    pub(super) fn remove(&mut self, key: u64) -> Option<Claimed> {
        self.claims.remove(&key)
    }

    /// Forgets the name and the number of a claim that was taken out. Returns whether it was the last one, so that the
    /// server must unlock the number.
    pub(super) fn forget(&mut self, claim: &Claimed) -> bool {
        if let Some(named) = self.names.get_mut(&claim.name) {
            named.grip.claims -= 1;
            if named.grip.claims == 0 {
                self.names.remove(&claim.name);
            }
        }
        let Some(grip) = self.numbers.get_mut(&claim.number) else { return false };
        grip.claims -= 1;
        let is_last = grip.claims == 0;
        if is_last {
            self.numbers.remove(&claim.number);
        }
        is_last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::postgres::users::Users;

    #[test]
    fn a_lock_is_counted_once_and_shared_only_with_shares() {
        use LockKind::{Exclusive, Shared};
        let (users, mut claims) = (Users::new(), Claims::default());
        let [a, b]: [Arc<str>; 2] = ["a", "b"].map(Arc::from);
        let first = claims.take(&a, 7, Shared, users.add());
        assert_eq!(first, Taken { key: Some(1), is_surplus: false });
        assert_eq!((claims.kind_of("a"), claims.kind_of("b")), (Some(Shared), None));
        assert_eq!(claims.join(&a, users.add()), Some(2));
        // Another name with the same number.
        assert_eq!(claims.take(&b, 7, Exclusive, users.add()), Taken { key: None, is_surplus: true });
        assert_eq!(claims.take(&b, 7, Shared, users.add()), Taken { key: Some(3), is_surplus: true });
        assert_eq!((claims.kind_of("b"), claims.are_at_most("a")), (Some(Shared), false));
        for (key, is_last) in [(1, false), (3, false), (2, true)] {
            let claim = claims.remove(key).unwrap();
            assert_eq!(claims.forget(&claim), is_last);
        }
        assert!(claims.are_none() && claims.kind_of("a").is_none() && claims.join(&a, users.add()).is_none());
        assert_eq!(claims.take(&b, 7, Exclusive, users.add()).key, Some(4));
        for kind in [Shared, Exclusive] {
            assert_eq!(claims.take(&a, 7, kind, users.add()), Taken { key: None, is_surplus: true });
        }
        assert!(claims.join(&b, users.add()).is_none() && !claims.are_none());
    }
}
