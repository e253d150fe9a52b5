//! The simulated kernel answers as the real one does.

#![cfg(target_os = "linux")]

use tenure_sim::sim::conformance::{EDGES, compare, queue_of_the_double, queue_of_the_kernel, random};

#[test]
fn what_the_protocol_rests_on() {
    for (at, ops) in EDGES.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        if let Err(difference) = compare(folder.path(), ops) {
            panic!("script {at}: {difference}");
        }
    }
}

#[test]
fn random_calls() {
    for seed in 0..300 {
        let folder = tempfile::tempdir().unwrap();
        if let Err(difference) = compare(folder.path(), &random(seed, 150)) {
            panic!("seed {seed}: {difference}");
        }
    }
}

#[test]
fn who_waits_first_is_served_first() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(queue_of_the_kernel(folder.path()).unwrap(), [1, 2]);
    assert_eq!(queue_of_the_double(), [1, 2]);
}
