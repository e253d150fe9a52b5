//! Holders that are killed at random, under a witness.
//!
//! `TENURE_STORM_SECONDS` is how long each storm lasts: 10 by default.

#![cfg(windows)]
#![allow(clippy::disallowed_methods, reason = "the test makes a file of its own")]

use std::time::{Duration, Instant};

use tenure_windows_tests::actor::{Actor, Kill};

const ACTORS: usize = 4;
/// The least that a storm must see.
const KILLS: u64 = 10;
const GRANTS: u64 = 50;
/// The grants after which all actors end, and others begin in an empty folder. Wine's server closes no file of a process while
/// any process has a lock on that file, and in a storm one always has.
const ROUND: u64 = 400;

/// An actor in a storm, and what it has said.
struct Fighter {
    actor: Actor,
    /// Its grants, how many came after a kill inside, and how many reported a crash.
    counts: [u64; 3],
    done: bool,
}

impl Fighter {
    /// Reads what the actor has said since. Panics where it saw two holders, or failed.
    fn listen(&mut self) {
        while let Some(line) = self.actor.line_within(Duration::ZERO) {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["grants", numbers @ ..] => {
                    for (count, number) in self.counts.iter_mut().zip(numbers) {
                        *count = number.parse().expect("a number");
                    }
                }
                ["done"] => self.done = true,
                _ => panic!("an actor says: {line}"),
            }
        }
    }
}

/// The counts of all actors: grants, how many came after a kill inside, how many reported a crash, and the kills.
#[derive(Default)]
struct Totals {
    counts: [u64; 3],
    killed: u64,
}

impl Totals {
    fn add(&mut self, counts: [u64; 3]) {
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum += count;
        }
    }

    fn are_enough(&self) -> bool {
        self.killed >= KILLS && self.counts[0] >= GRANTS
    }
}

fn storm(style: &str) {
    let seconds: u64 = std::env::var("TENURE_STORM_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    // A busy machine gets more time for as many kills.
    let limit = end + Duration::from_secs(300 + 2 * seconds);
    let mut seed = u64::from(std::process::id());
    let mut random = |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    let mut totals = Totals::default();
    while Instant::now() < end || !totals.are_enough() && Instant::now() < limit {
        round(style, end, limit, &mut random, &mut totals);
    }
    let Totals { counts: [grants, inside, reports], killed } = totals;
    println!("storm {style}: {grants} grants, {killed} kills, {inside} of them inside, {reports} reports, 0 doubles");
    assert!(totals.are_enough(), "too few in {:?}", begin.elapsed());
}

/// Lets actors fight in a folder, and kills them, until they have had [`ROUND`] grants or the time is over.
fn round(style: &str, end: Instant, limit: Instant, random: &mut impl FnMut(u64) -> u64, totals: &mut Totals) {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("tenure-storm-{}-{style}", std::process::id());
    let left = || limit.saturating_duration_since(Instant::now()).as_secs().max(1).to_string();
    let start = || {
        let actor = Actor::start(dir.path(), &["storm", style, &name, &left()]);
        assert_eq!(actor.line(), "storm");
        actor
    };
    let fresh = || Fighter { actor: start(), counts: [0; 3], done: false };
    let mut fighters: Vec<_> = (0..ACTORS).map(|_| fresh()).collect();
    let (mut before, mut grants) = (0, 0);
    while grants < ROUND && (Instant::now() < end || !totals.are_enough() && Instant::now() < limit) {
        std::thread::sleep(Duration::from_millis(50 + random(300)));
        let victim = random(ACTORS as u64) as usize;
        fighters[victim].actor.kill(if random(3) == 0 { Kill::Sigkill } else { Kill::Terminate });
        totals.killed += 1;
        // What it said before its end.
        std::thread::sleep(Duration::from_millis(5));
        fighters[victim].listen();
        totals.add(fighters[victim].counts);
        before += fighters[victim].counts[0];
        fighters[victim] = fresh();
        fighters.iter_mut().for_each(Fighter::listen);
        grants = before + fighters.iter().map(|fighter| fighter.counts[0]).sum::<u64>();
    }
    drop(std::fs::File::create_new(dir.path().join("stop")).unwrap());
    let patience = Instant::now() + Duration::from_secs(600);
    for fighter in &mut fighters {
        while !fighter.done {
            assert!(Instant::now() < patience, "an actor neither gets the lock nor ends");
            std::thread::sleep(Duration::from_millis(5));
            fighter.listen();
        }
        totals.add(fighter.counts);
    }
}

#[test]
fn killed_holders_in_lock_file_style() {
    storm("file");
}

#[test]
fn killed_holders_in_flock_style() {
    storm("flock");
}
