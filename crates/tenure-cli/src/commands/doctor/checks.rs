//! The checks of a folder.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tenure::escape;
use tenure::probe::{self, Answer, Feature, Probe};

use super::meanings::{self, Short};
use super::second_process;
use crate::output::Failure;

/// A check and its answer.
#[derive(Clone, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    answer: &'static str,
    pub(super) means: String,
    #[serde(skip)]
    pub(super) short: Short,
}

impl Check {
    pub(super) fn new(name: &'static str, answer: &Answer, means: &str) -> Check {
        let means = match answer {
            Answer::Yes => means.to_owned(),
            Answer::No(seen) | Answer::Unknown(seen) => format!("{means} ({})", escape::text(seen)),
        };
        let short = Short::of(answer);
        Check { name, answer: short.as_str(), means, short }
    }
}

/// The answers of all checks.
pub(super) struct Findings {
    pub(super) file_system: String,
    pub(super) shared: bool,
    pub(super) checks: Vec<Check>,
    /// The essential features that are missing.
    pub(super) lacks: Vec<&'static str>,
}

/// Checks a folder. `scratch` is an empty folder in it.
pub(super) fn check_folder(dir: &Path, scratch: &Path) -> Result<Findings, Failure> {
    let probe = probe::folder(scratch)?;
    let second = second_process::check(&scratch.join("lock"));
    let clock = clock(probe::newest_fence(dir).ok().flatten());
    let mut checks = Vec::new();
    for (feature, answer) in &probe.answers {
        let mut means = meanings::feature(*feature, Short::of(answer)).to_owned();
        match (feature, probe.free) {
            (Feature::Room, Some(free)) if answer.is_yes() => means += &format!("; {} free", bytes(free)),
            (Feature::Inotify, _) if answer.is_yes() && probe.shared => {
                means += "; for a holder on another machine it checks once a second"
            }
            _ => {}
        }
        checks.push(Check::new(feature.as_str(), answer, &means));
        if *feature == Feature::KernelLock {
            checks.push(Check::new("second-process", &second, meanings::second_process(Short::of(&second))));
        }
    }
    let trial = probe::tries_folders().then(|| trial(scratch));
    if let Some(trial) = &trial {
        checks.push(Check::new("trial", trial, meanings::trial(Short::of(trial))));
    }
    checks.push(Check::new("clock", &clock, meanings::clock(Short::of(&clock))));
    let mut lacks = lacks(&probe, &second);
    if trial.is_some_and(|trial| !trial.is_yes()) {
        lacks.push("a trial of locks with real processes that passes");
    }
    Ok(Findings { file_system: probe.file_system, shared: probe.shared, checks, lacks })
}

/// Tries locks with real processes.
pub(super) fn trial(scratch: &Path) -> Answer {
    probe::trial(scratch).unwrap_or_else(|error| Answer::Unknown(error.to_string()))
}

/// Returns the essential features that are missing.
fn lacks(probe: &Probe, second: &Answer) -> Vec<&'static str> {
    let is = |feature| probe.answer(feature).is_yes();
    let mut lacks = Vec::new();
    if !is(Feature::KernelLock) {
        lacks.push("the kernel lock (flock)");
    }
    if !is(Feature::Room) {
        lacks.push("room for a record");
    }
    if !is(Feature::HardLink) && !is(Feature::ExclusiveRename) {
        lacks.push("a way to publish a lock file (hard link or exclusive rename), which --flock does not need");
    }
    // Where one of those is missing, this check fails too.
    if lacks.is_empty() {
        lacks.extend(lacks_exclusion(second));
    }
    lacks
}

/// Returns the missing feature where a second process was not excluded, or the check failed.
pub(super) fn lacks_exclusion(second: &Answer) -> Option<&'static str> {
    match second {
        Answer::Yes => None,
        Answer::No(_) => Some("a lock that excludes a second process"),
        Answer::Unknown(_) => Some("a lock that could be tested with a second process"),
    }
}

/// Returns whether the clock can be trusted, given the newest fence in the folder.
fn clock(newest: Option<u64>) -> Answer {
    // Tolerates records of this moment, and clocks that are slewed.
    const SLACK: Duration = Duration::from_secs(1);
    let now = SystemTime::now();
    let granted = newest.and_then(|fence| SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(fence)));
    if let Some(ahead) = granted.and_then(|granted| granted.duration_since(now).ok())
        && ahead > SLACK
    {
        return Answer::No(format!("a grant in this folder is {} ahead of the clock", escape::duration(ahead)));
    }
    match probe::clock_is_steered() {
        Some(true) => Answer::Yes,
        Some(false) => Answer::Unknown("the kernel reports that it is not synchronised".to_owned()),
        None => Answer::Unknown("the kernel does not report whether it is synchronised".to_owned()),
    }
}

/// Formats a number of bytes in one unit without a fraction: `12 GB`.
fn bytes(count: u64) -> String {
    let units = ["bytes", "KB", "MB", "GB", "TB", "PB"];
    let mut rest = count;
    let mut unit = 0;
    while rest >= 10_000 && unit + 1 < units.len() {
        rest /= 1000;
        unit += 1;
    }
    format!("{rest} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_from_the_future_is_reported() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let at = |time: Duration| Some(time.as_micros() as u64);
        assert_ne!(Short::of(&clock(None)), Short::No);
        assert_ne!(Short::of(&clock(at(now - Duration::from_secs(3600)))), Short::No);
        let Answer::No(seen) = clock(at(now + Duration::from_secs(7300))) else { panic!() };
        assert!(seen.contains("2 h"), "{seen}");
    }

    #[test]
    fn bytes_in_one_unit() {
        let words = [(0, "0 bytes"), (9999, "9999 bytes"), (12_345, "12 KB"), (76_000_000_000, "76 GB")];
        for (count, want) in words {
            assert_eq!(bytes(count), want);
        }
    }
}
