//! A short torture of slots on real servers, with kills.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::process::Command;

use serde_json::{Value, json};
use tenure_tests::folder;
use tenure_tests::servers::{etcd, postgres};

/// Runs the round with slots until it has had some grants and kills. It must find no fault.
fn torture(server: &str) {
    let (mut grants, mut kills) = (0, 0);
    // On a busy machine chance may leave a minimum out.
    for _ in 0..4 {
        let dir = folder();
        let ran = Command::new(env!("CARGO_BIN_EXE_torture"))
            .args(["--only", "slots", "--for", "1s", "--round", "6s", "--processes", "6", "--server", server])
            .arg("--dir")
            .arg(dir.path())
            // Cargo has built the command already, and would wait for itself.
            .env_remove("CARGO")
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        println!("{said}{}", String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "the torture found a fault: {}", ran.status);
        let sum: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!((&sum["doubles"]["native-native"], &sum["faults"]), (&json!(0), &json!([])), "{sum}");
        grants += sum["grants"].as_u64().unwrap();
        kills += sum["kills"].as_u64().unwrap();
        if grants >= 20 && kills >= 2 {
            return;
        }
    }
    panic!("too few: {grants} grants, {kills} kills");
}

#[test]
fn no_more_than_the_smallest_number_hold_on_etcd() {
    if etcd::there() {
        let cluster = etcd::Cluster::start(1);
        torture(&cluster.target("torture", 2));
    }
}

#[test]
fn no_more_than_the_smallest_number_hold_on_postgresql() {
    if postgres::there() {
        let postgres = postgres::Postgres::start();
        torture(&postgres.target("torture", 2));
    }
}
