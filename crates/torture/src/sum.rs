//! The totals of a round, or of all rounds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::json;

#[derive(Default)]
pub struct Sum {
    pub grants: BTreeMap<String, u64>,
    /// Grants with a crash report.
    pub takeovers: u64,
    pub shares: u64,
    pub busy: u64,
    pub kills: u64,
    pub kills_of_holders: u64,
    pub stops: u64,
    /// Killed pid namespaces.
    pub namespaces_killed: u64,
    /// Processes that got the pid of a killed one.
    pub pids_recycled: u64,
    pub removed: u64,
    pub pruned: u64,
    pub breaks: u64,
    pub broken: u64,
    /// Pairs that were inside together after a break.
    pub overlaps: u64,
    /// The longest time without a grant during a round.
    pub longest_gap: Duration,
    pub doubles: BTreeMap<String, u64>,
    pub faults: Vec<String>,
}

impl Sum {
    pub fn add(&mut self, other: Sum) {
        for (kind, count) in other.grants {
            *self.grants.entry(kind).or_default() += count;
        }
        for (pair, count) in other.doubles {
            *self.doubles.entry(pair).or_default() += count;
        }
        self.takeovers += other.takeovers;
        self.shares += other.shares;
        self.busy += other.busy;
        self.kills += other.kills;
        self.kills_of_holders += other.kills_of_holders;
        self.stops += other.stops;
        self.namespaces_killed += other.namespaces_killed;
        self.pids_recycled += other.pids_recycled;
        self.removed += other.removed;
        self.pruned += other.pruned;
        self.breaks += other.breaks;
        self.broken += other.broken;
        self.overlaps += other.overlaps;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        self.faults.extend(other.faults);
    }

    fn double(&self, pair: &str) -> u64 {
        self.doubles.get(pair).copied().unwrap_or(0)
    }

    pub fn json(&self) -> serde_json::Value {
        json!({
            "grants": self.grants.values().sum::<u64>(),
            "grantsBy": self.grants,
            "takeovers": self.takeovers,
            "shares": self.shares,
            "busy": self.busy,
            "kills": self.kills,
            "killsOfHolders": self.kills_of_holders,
            "stops": self.stops,
            "namespacesKilled": self.namespaces_killed,
            "pidsRecycled": self.pids_recycled,
            "lockFilesRemoved": self.removed,
            "anchorsPruned": self.pruned,
            "breaks": self.breaks,
            "broken": self.broken,
            "overlapsAfterBreaks": self.overlaps,
            "longestGapMs": self.longest_gap.as_millis() as u64,
            "doubles": {
                "native-native": self.double("native-native"),
                "native-foreign": self.double("native-foreign"),
                "foreign-foreign": self.double("foreign-foreign"),
            },
            "faults": self.faults,
        })
    }
}

/// The record of a round with breaks: which holders overlapped, and which were notified of their loss.
#[derive(Default)]
pub struct Breaks {
    /// Maps the older fence of two overlapping holders to the younger.
    overlaps: HashMap<u64, u64>,
    kept: HashSet<u64>,
    lost: HashSet<u64>,
}

impl Breaks {
    pub fn overlap(&mut self, older: u64, younger: u64) {
        self.overlaps.insert(older, younger);
    }

    pub fn kept(&mut self, fence: u64) {
        self.kept.insert(fence);
    }

    pub fn lost(&mut self, fence: u64) {
        self.lost.insert(fence);
    }

    /// Checks the record: the older of two overlapping holders must have been notified of its loss, or have been
    /// killed; and there are no more losses than breaks.
    pub fn settle(&self, sum: &mut Sum) {
        sum.overlaps += self.overlaps.len() as u64;
        sum.broken += self.lost.len() as u64;
        for (older, younger) in &self.overlaps {
            if self.kept.contains(older) {
                *sum.doubles.entry("native-native".to_owned()).or_default() += 1;
                sum.faults.push(format!("fence {older} kept its lock, but overlapped with fence {younger}"));
            }
            if older == younger {
                sum.faults.push(format!("fence {older} was granted twice"));
            }
        }
        if self.lost.len() as u64 > sum.breaks {
            sum.faults.push(format!("{} holders lost their lock by {} breaks", self.lost.len(), sum.breaks));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(breaks: u64, book: impl FnOnce(&mut Breaks)) -> Sum {
        let (mut sum, mut account) = (Sum { breaks, ..Sum::default() }, Breaks::default());
        book(&mut account);
        account.settle(&mut sum);
        sum
    }

    #[test]
    fn the_older_of_two_overlapping_holders_must_have_lost_or_died() {
        let met = |book: &mut Breaks| book.overlap(7, 8);
        assert_eq!(settled(1, met).faults.len(), 0);
        let lost = settled(1, |book| {
            met(book);
            book.lost(7);
            book.kept(8);
        });
        assert_eq!((lost.faults.len(), lost.overlaps, lost.broken), (0, 1, 1));
        let double = settled(1, |book| {
            met(book);
            book.kept(7);
        });
        assert_eq!((double.faults.len(), double.doubles["native-native"]), (1, 1));
    }

    #[test]
    fn no_holder_loses_without_a_break() {
        assert_eq!(settled(0, |book| book.lost(7)).faults.len(), 1);
    }
}
