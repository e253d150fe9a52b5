//! The simulated kernel returns the same as the real one.

#![cfg(target_os = "linux")]

use tenure_sim::sim::conformance::{EDGES, compare, queue_of_the_double, queue_of_the_kernel, random};

#[test]
fn facts_that_the_protocol_needs() {
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
fn waiters_are_served_in_order() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(queue_of_the_kernel(folder.path()).unwrap(), [1, 2]);
    assert_eq!(queue_of_the_double(), [1, 2]);
}
