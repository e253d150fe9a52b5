//! A short torture; `src/main.rs` describes the rounds, and how to run a long one.

#![allow(clippy::unwrap_used, reason = "tests use files and processes as any program does")]

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tenure_tests::{folder, has, is_root, needs};

#[test]
fn no_double_hold_under_kills_at_random() {
    // Without Python the natives still run.
    needs("python3", has("python3"));
    needs("node", has("node"));
    let apart = needs("root and unshare(1)", is_root() && has("unshare"));
    // On a busy machine chance may leave a minimum out, so that up to four runs are added up.
    let mut sums = Vec::new();
    while sums.len() < 4 && (sums.is_empty() || !too_few(&sums, apart).is_empty()) {
        sums.push(run());
    }
    assert_eq!(too_few(&sums, apart), [""; 0], "too few: {sums:?}");
    let mut kinds =
        vec!["lock-file", "flock", "mixed", "crowd", "mixed-crowd", "reopening", "forker", "sharer", "breakable"];
    kinds.extend(["run", "run --flock", "hot lock-file", "hot flock", "hot mixed", "hot crowd"]);
    kinds.extend(["slots alone", "slots crowd", "slots run"]);
    for (program, kind) in [("python3", "python"), ("node", "node"), ("flock", "flock(1)")] {
        kinds.extend(has(program).then_some(kind));
    }
    for kind in kinds {
        let granted = |sum: &Value| sum["grantsBy"][kind].as_u64().unwrap_or(0) > 0;
        assert!(sums.iter().any(granted), "{kind} was never granted: {sums:?}");
    }
}

/// Runs a short torture, which must find no fault, and returns what it counted.
fn run() -> Value {
    let dir = folder();
    let ran = Command::new(env!("CARGO_BIN_EXE_torture"))
        .args(["--for", "1s", "--round", "2s", "--dir", dir.path().to_str().unwrap()])
        // Cargo has built the command already, and would wait for itself.
        .env_remove("CARGO")
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    // The random seed is in the first line; the test's output shows everything when it fails.
    println!("{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "the torture found a fault: {}", ran.status);
    let sum: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&sum["doubles"]["native-native"], &sum["faults"]), (&json!(0), &json!([])), "{sum}");
    sum
}

/// Returns the counts that are below the minimum for a torture; on an idle machine the numbers are fifty times as high.
///
/// Anchors are seldom pruned in so short a time; takeover::pruning_beside_live_traffic_admits_no_second_holder covers that.
fn too_few(sums: &[Value], apart: bool) -> Vec<&'static str> {
    let least =
        [("grants", 200), ("takeovers", 5), ("kills", 30), ("stops", 5), ("breaks", 1), ("broken", 1), ("shares", 1)];
    let least = least.into_iter().chain([("pidsRecycled", u64::from(apart))]);
    let total = |what: &str| sums.iter().map(|sum| sum[what].as_u64().unwrap()).sum::<u64>();
    let mut few: Vec<_> = least.filter(|(what, least)| total(what) < *least).map(|(what, _)| what).collect();
    let slots =
        sums.iter().flat_map(|sum| sum["grantsBy"].as_object().unwrap()).filter(|(by, _)| by.starts_with("slots"));
    if slots.map(|(_, grants)| grants.as_u64().unwrap()).sum::<u64>() < 50 {
        few.push("grants of slots");
    }
    few
}
