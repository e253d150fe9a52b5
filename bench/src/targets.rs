//! The targets and whether they are reached: ratios of one run, and a few absolute bounds. `bench/TARGETS.md` lists
//! them.

use crate::candidate::{self, FLOCK, FLOCK_STYLE, LINK, LOCK_FILE, OURS};
use crate::driver::{FROM_PYTHON, PYTHON_FILE_LOCK, PYTHON_FLOCK, PYTHON_LOCK_FILE, PYTHON_SOFT_LOCK};
use crate::results::Results;
use crate::uncontended::{self, CREATE, KERNEL, NO_RECORD, NODE, NODE_PEERS, OPEN_FLOCK, VISIBLE};
use crate::{crowd, handoff, idle, instructions, listing, many, threads, whole};

/// Locks of Python's package filelock, each with Tenure's replacement.
const FROM_PYTHON_BESIDE: [(&str, &str); 5] = [
    ("filelock SoftFileLock", PYTHON_LOCK_FILE),
    ("filelock StrictSoftFileLock", PYTHON_LOCK_FILE),
    ("filelock SoftFileLock", PYTHON_SOFT_LOCK),
    ("filelock FileLock", PYTHON_FLOCK),
    ("filelock FileLock", PYTHON_FILE_LOCK),
];

/// One bound.
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) bound: Bound,
    pub(crate) unit: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    pub(crate) fn met(&self) -> bool {
        match self.bound {
            Bound::AtMost(bound) => self.value <= bound,
            Bound::AtLeast(bound) => self.value >= bound,
        }
    }

    /// Returns the bound as text.
    pub(crate) fn wanted(&self) -> String {
        let (sign, bound) = match self.bound {
            Bound::AtMost(bound) => ("≤", bound),
            Bound::AtLeast(bound) => ("≥", bound),
        };
        format!("{sign} {}{}", crate::row::short(bound), self.unit)
    }
}

pub(crate) fn all(results: &Results) -> Vec<Target> {
    let mut found = Found { results, targets: Vec::new() };
    found.uncontended();
    found.hand_off();
    found.crowd();
    found.rest();
    found.targets
}

struct Found<'a> {
    results: &'a Results,
    targets: Vec<Target>,
}

impl Found<'_> {
    /// Adds a target, unless its numbers were not measured.
    fn add(&mut self, what: impl Into<String>, value: Option<f64>, bound: Bound, unit: &'static str) {
        if let Some(value) = value {
            self.targets.push(Target { what: what.into(), value, bound, unit });
        }
    }

    fn number(&self, topic: &str, case: &str, candidate: &str, name: &str) -> Option<f64> {
        self.results.number(topic, case, candidate, name)
    }

    fn ratio(&self, topic: &str, case: &str, pair: [&str; 2], name: &str) -> Option<f64> {
        Some(self.number(topic, case, pair[0], name)? / self.number(topic, case, pair[1], name)?)
    }

    fn uncontended(&mut self) {
        use Bound::{AtLeast, AtMost};
        let topic = uncontended::TOPIC;
        for fs in self.results.cases(topic) {
            let p50 = |found: &Self, one, other| found.ratio(topic, fs, [one, other], "p50ns");
            self.add(
                format!("lock-file style on {fs}, p50 to its floor (flock, record, link, unlink)"),
                p50(self, LOCK_FILE, LINK),
                AtMost(1.35),
                "×",
            );
            if fs == "ext4" {
                self.add(
                    format!("exclusive create + write + unlink on {fs}, p50 to lock-file style"),
                    p50(self, CREATE, LOCK_FILE),
                    AtLeast(3.0),
                    "×",
                );
            }
            self.add(
                format!("flock style on {fs}, p50 to open + flock + unlock + close"),
                p50(self, FLOCK_STYLE, OPEN_FLOCK),
                AtMost(2.0),
                "×",
            );
            self.add(
                format!("record(false) on {fs}, p50 to open + flock + unlock + close"),
                p50(self, NO_RECORD, OPEN_FLOCK),
                AtMost(1.0),
                "×",
            );
            self.add(
                format!("flock style on {fs}, p50 to flock + unlock of an open file"),
                p50(self, FLOCK_STYLE, FLOCK),
                AtMost(4.0),
                "×",
            );
            for peer in VISIBLE {
                for name in ["p50ns", "p99ns"] {
                    let ratio = self.ratio(topic, fs, [peer, LOCK_FILE], name);
                    let what = format!("{peer} on {fs}, {} to lock-file style", &name[..3]);
                    self.add(what, ratio, AtLeast(10.0), "×");
                }
            }
            for (peer, ours) in FROM_PYTHON_BESIDE {
                self.add(format!("{peer} on {fs}, p50 to {ours}"), p50(self, peer, ours), AtLeast(10.0), "×");
            }
            for peer in NODE_PEERS {
                self.add(format!("{peer} on {fs}, p50 to {NODE}"), p50(self, peer, NODE), AtLeast(10.0), "×");
            }
            for peer in KERNEL {
                let what = format!("record(false) on {fs}, p50 to {peer}");
                self.add(what, p50(self, NO_RECORD, peer), AtMost(1.0), "×");
            }
        }
    }

    fn hand_off(&mut self) {
        use Bound::AtMost;
        let topic = handoff::TOPIC;
        for case in self.results.cases(topic) {
            let Some((ending, fs)) = case.split_once(", ") else { continue };
            let released = ending == handoff::RELEASE;
            for ours in OURS {
                let bare = if released { candidate::bare_of(ours) } else { FLOCK };
                let ratio = self.ratio(topic, case, [ours, bare], "p50ns");
                let tail = self.number(topic, case, ours, "p99ns").map(|ns| ns / 1e6);
                if released {
                    let bound = if ours == FLOCK_STYLE { 2.0 } else { 1.4 };
                    self.add(format!("hand-off on {fs}, {ours}, p50 to {bare}"), ratio, AtMost(bound), "×");
                    self.add(format!("hand-off on {fs}, {ours}, p99"), tail, AtMost(1.0), " ms");
                } else {
                    self.add(format!("SIGKILL to grant on {fs}, {ours}, p50 to {bare}"), ratio, AtMost(1.3), "×");
                }
            }
            let p50 = |found: &Self, name, unit| found.number(topic, case, name, "p50ns").map(|ns| ns / unit);
            if released {
                for ours in FROM_PYTHON {
                    self.add(format!("hand-off on {fs}, {ours}, p50"), p50(self, ours, 1e3), AtMost(200.0), " µs");
                }
                self.add(format!("hand-off on {fs}, {NODE}, p50"), p50(self, NODE, 1e3), AtMost(150.0), " µs");
            }
            let foreign = p50(self, handoff::FOREIGN_TO_US, 1e6);
            let what = format!("a foreign holder's end by {ending} to our grant on {fs}, p50");
            self.add(what, foreign, AtMost(1.0), " ms");
        }
    }

    fn crowd(&mut self) {
        use Bound::{AtLeast, AtMost};
        for case in self.results.cases(crowd::TOPIC) {
            let Some((size, fs)) = case.split_once(", ") else { continue };
            let count: f64 = size.parse().unwrap_or(0.0);
            for ours in OURS {
                let what = format!("{size} processes on {fs}, {ours}");
                let pair = [ours, candidate::bare_of(ours)];
                let ratio = self.ratio(crowd::TOPIC, case, pair, "grantsPerSecond");
                let bound = if count >= 32.0 { 0.85 } else { 0.9 };
                self.add(format!("{what}, grants a second to {}", pair[1]), ratio, AtLeast(bound), "×");
                let fair = self.number(crowd::TOPIC, case, ours, "mostToLeast");
                if count >= 32.0 {
                    let bound = if count > 32.0 { 1.6 } else { 1.2 };
                    self.add(format!("{what}, most grants to least"), fair, AtMost(bound), "×");
                }
                let longest = self.number(crowd::TOPIC, case, ours, "longestWaitMs");
                self.add(format!("{what}, longest wait"), longest, AtMost(2.0 * count), " ms");
            }
        }
        for ours in OURS {
            let longest = self.number(crowd::GREEDY, "one waiter", ours, "longestWaitMs");
            self.add(format!("beside a greedy process, {ours}, longest wait"), longest, AtMost(2.0), " ms");
        }
    }

    fn rest(&mut self) {
        use Bound::{AtLeast, AtMost};
        for case in self.results.cases(instructions::TOPIC) {
            for (style, alone) in [("lock-file style", 2500.0), ("flock style", 2300.0)] {
                // Of a hand-off, the waiter's part: from the end of its wait to the return of the acquire.
                let bound = if case == instructions::ALONE { alone } else { 2000.0 };
                let count = self.number(instructions::TOPIC, case, style, "instructions");
                self.add(format!("{style}, instructions {case}"), count, AtMost(bound), "");
            }
        }
        for count in self.results.cases(threads::TOPIC) {
            for ours in [LOCK_FILE, FLOCK_STYLE] {
                let rate = self.number(threads::TOPIC, count, ours, "grantsPerSecond");
                self.add(format!("{count} threads, {ours}, grants a second"), rate, AtLeast(200_000.0), "");
                let longest = self.number(threads::TOPIC, count, ours, "longestToMean");
                self.add(format!("{count} threads, {ours}, longest wait to mean turn"), longest, AtMost(10.0), "×");
            }
        }
        for case in self.results.cases(many::TOPIC) {
            if !case.ends_with(" 100000") {
                continue;
            }
            let bytes = self.number(many::TOPIC, case, LOCK_FILE, "bytesEach");
            self.add(format!("{case} locks, memory of an idle one"), bytes, AtMost(250.0), " bytes");
            let ratio = self.number(many::TOPIC, case, LOCK_FILE, "lastToFirst");
            self.add(format!("{case} locks, an acquire of the last to one of the first"), ratio, AtMost(1.3), "×");
            // Beyond the limit of open files, a lock that was not used for long has to open its files again.
            let files = self.number(many::TOPIC, case, LOCK_FILE, "openFiles");
            let all_stay_open = files.is_some_and(|files| files >= 100_000.0);
            let few = case.replace(" 100000", " 100");
            let among = |case: &str| self.number(many::TOPIC, case, LOCK_FILE, "coldP50ns");
            let ratio = among(case).zip(among(&few)).filter(|_| all_stay_open).map(|(all, few)| all / few);
            self.add(format!("{case} locks, a random one to one among 100"), ratio, AtMost(1.3), "×");
        }
        for case in self.results.cases(listing::TOPIC) {
            for (word, bound) in [("tenure ls", 80.0), ("tenure clean", 120.0)] {
                let wall = self.number(listing::TOPIC, case, word, "p50ns").map(|ns| ns / 1e6);
                self.add(format!("{word} of {case}"), wall, AtMost(bound), " ms");
            }
        }
        for ours in [whole::STATIC, whole::DYNAMIC] {
            for case in self.results.cases(whole::TOPIC) {
                let ratio = self.ratio(whole::TOPIC, case, [ours, whole::FLOCK], "p50ns");
                self.add(format!("{ours}, on {case}, p50 to {}", whole::FLOCK), ratio, AtMost(1.1), "×");
            }
        }
        for case in self.results.cases(idle::TOPIC) {
            for ours in OURS {
                let each = self.number(idle::TOPIC, case, ours, "wakeUpsPerSecondEach");
                self.add(format!("{ours}, {case} that wait: wake-ups a second each"), each, AtMost(1.1), "");
            }
        }
    }
}
