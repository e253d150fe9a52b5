//! Holders that are killed at random, under a witness.
//!
//! `TENURE_STORM_SECONDS` is how long each storm lasts: 5 by default.

#![cfg(windows)]

use std::time::{Duration, Instant};

use tenure_windows_tests::actor::{Actor, Kill};

const ACTORS: usize = 4;

fn storm(style: &str) {
    let seconds: u64 = std::env::var("TENURE_STORM_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let dir = tempfile::tempdir().unwrap();
    let name = format!("tenure-storm-{}-{style}", std::process::id());
    let end = Instant::now() + Duration::from_secs(seconds);
    let left = || end.saturating_duration_since(Instant::now()).as_secs().max(1).to_string();
    let start = || {
        let actor = Actor::start(dir.path(), &["storm", style, &name, &left()]);
        assert_eq!(actor.line(), "storm");
        actor
    };
    let mut actors: Vec<_> = (0..ACTORS).map(|_| (start(), [0_u64; 3])).collect();
    let mut seed = u64::from(std::process::id());
    let mut random = |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    let (mut total, mut killed) = ([0_u64; 3], 0_u64);
    let take = |(actor, counts): &mut (Actor, [u64; 3])| {
        let mut done = false;
        while let Some(line) = actor.line_within(Duration::ZERO) {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["grants", numbers @ ..] => {
                    for (count, number) in counts.iter_mut().zip(numbers) {
                        *count = number.parse().expect("a number");
                    }
                }
                ["done"] => done = true,
                _ => panic!("an actor says: {line}"),
            }
        }
        done
    };
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20 + random(60)));
        let victim = random(ACTORS as u64) as usize;
        actors[victim].0.kill(if random(3) == 0 { Kill::Sigkill } else { Kill::Terminate });
        killed += 1;
        // What it said before its end.
        std::thread::sleep(Duration::from_millis(5));
        take(&mut actors[victim]);
        for (sum, count) in total.iter_mut().zip(actors[victim].1) {
            *sum += count;
        }
        actors[victim] = (start(), [0; 3]);
        actors.iter_mut().for_each(|actor| drop(take(actor)));
    }
    let patience = Instant::now() + Duration::from_secs(180);
    for actor in &mut actors {
        while !take(actor) {
            assert!(Instant::now() < patience, "an actor neither gets the lock nor ends");
            std::thread::sleep(Duration::from_millis(5));
        }
        for (sum, count) in total.iter_mut().zip(actor.1) {
            *sum += count;
        }
    }
    let [grants, inside, reports] = total;
    println!("storm {style}: {grants} grants, {killed} kills, {inside} of them inside, {reports} reports, 0 doubles");
    assert!(grants > 50, "{grants} grants in {seconds} s");
    assert!(killed > 5, "{killed} kills");
}

#[test]
fn killed_holders_in_lock_file_style() {
    storm("file");
}

#[test]
fn killed_holders_in_flock_style() {
    storm("flock");
}
