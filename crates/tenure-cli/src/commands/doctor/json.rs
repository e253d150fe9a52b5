//! The answer as JSON.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::checks::{Check, Findings};
use super::stress::Outcome;

/// The whole answer. `--help` documents the names and their order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DoctorJson {
    folder: String,
    file_system: FileSystemJson,
    checks: Vec<Check>,
    stress: Option<StressJson>,
}

#[derive(Serialize)]
struct FileSystemJson {
    r#type: String,
    shared: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StressJson {
    processes: usize,
    seed: u64,
    duration_ms: u64,
    grants: u64,
    double_holds: u64,
    hand_off: HandOffJson,
    fairness: FairnessJson,
    kills: u64,
    takeovers: TakeoversJson,
    faults: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HandOffJson {
    count: u64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    max_us: Option<f64>,
}

#[derive(Serialize)]
struct FairnessJson {
    processes: usize,
    least: u64,
    most: u64,
    #[serde(rename = "longestWaitUs")]
    longest_wait_us: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TakeoversJson {
    count: u64,
    p50_us: Option<f64>,
    max_us: Option<f64>,
}

impl DoctorJson {
    pub(super) fn new(dir: &Path, findings: &Findings, outcome: Option<&Outcome>) -> DoctorJson {
        DoctorJson {
            folder: dir.to_string_lossy().into_owned(),
            file_system: FileSystemJson { r#type: findings.file_system.clone(), shared: findings.shared },
            checks: findings.checks.clone(),
            stress: outcome.map(StressJson::from),
        }
    }
}

impl From<&Outcome> for StressJson {
    fn from(outcome: &Outcome) -> StressJson {
        let microseconds = |time: Option<Duration>| time.map(|time| time.as_nanos() as f64 / 1000.0);
        let tally = outcome.tally();
        let (hand_offs, takeovers) = (tally.hand_offs(), tally.takeover_times());
        let (least, most) = outcome.fairness();
        StressJson {
            processes: outcome.plan.processes,
            seed: outcome.plan.seed,
            duration_ms: u64::try_from(outcome.ran_for.as_millis()).unwrap_or(u64::MAX),
            grants: tally.grants(),
            double_holds: tally.double_holds(),
            hand_off: HandOffJson {
                count: hand_offs.count(),
                p50_us: microseconds(hand_offs.percentile(50)),
                p99_us: microseconds(hand_offs.percentile(99)),
                max_us: microseconds(hand_offs.max()),
            },
            fairness: FairnessJson {
                processes: outcome.plan.steady(),
                least,
                most,
                longest_wait_us: tally.longest_wait().as_nanos() as f64 / 1000.0,
            },
            kills: outcome.kills,
            takeovers: TakeoversJson {
                count: tally.takeovers(),
                p50_us: microseconds(takeovers.percentile(50)),
                max_us: microseconds(takeovers.max()),
            },
            faults: outcome.faults.clone(),
        }
    }
}
