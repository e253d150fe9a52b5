//! The model follows the code: every function that it names exists.

use clap::ValueEnum;
use tenure_model::names::{self, Step};
use tenure_model::native::{Native, Pc};
use tenure_model::others::{BreakPc, PrunePc};
use tenure_model::prepare::PreparePc;

fn source(file: &str) -> &'static str {
    match file {
        "acquire" => include_str!("../../crates/tenure/src/file/acquire.rs"),
        "anchor" => include_str!("../../crates/tenure/src/file/anchor.rs"),
        "anchor_dir" => include_str!("../../crates/tenure/src/file/anchor_dir.rs"),
        "break_lock" => include_str!("../../crates/tenure/src/file/break_lock.rs"),
        "clean" => include_str!("../../crates/tenure/src/maintenance/clean.rs"),
        "release" => include_str!("../../crates/tenure/src/file/release.rs"),
        "reclaim" => include_str!("../../crates/tenure/src/file/reclaim.rs"),
        "guard" => include_str!("../../crates/tenure/src/guard.rs"),
        "copy" => include_str!("../../crates/tenure/src/file/lock_file/copy.rs"),
        "existing" => include_str!("../../crates/tenure/src/file/lock_file/existing.rs"),
        "flock_style" => include_str!("../../crates/tenure/src/file/lock_file/flock_style.rs"),
        "visible" => include_str!("../../crates/tenure/src/file/lock_file/visible.rs"),
        "paths" => include_str!("../../crates/tenure/src/file/paths.rs"),
        "prepare" => include_str!("../../crates/tenure/src/file/prepare.rs"),
        "publish" => include_str!("../../crates/tenure/src/file/lock_file/publish.rs"),
        "unpublish" => include_str!("../../crates/tenure/src/file/lock_file/unpublish.rs"),
        "queue" => concat!(
            include_str!("../../crates/tenure/src/wait/queue/acquire.rs"),
            include_str!("../../crates/tenure/src/wait/queue/helper.rs"),
            include_str!("../../crates/tenure/src/wait/queue/barging.rs"),
            include_str!("../../crates/tenure/src/wait/queue/release.rs"),
        ),
        "suspension" => include_str!("../../crates/tenure/src/wait/suspension.rs"),
        "suspended" => include_str!("../../crates/tenure/src/file/suspended.rs"),
        "takeover" => include_str!("../../crates/tenure/src/file/lock_file/takeover.rs"),
        "io" => include_str!("../../crates/tenure/src/record/io.rs"),
        "kernel_wait" => include_str!("../../crates/tenure/src/wait/kernel_wait.rs"),
        "tenure" => include_str!("../../crates/tenure/src/wait/tenure.rs"),
        other => panic!("no step names {other}.rs"),
    }
}

#[test]
fn every_step_names_a_function_of_the_code() {
    let natives = Pc::value_variants().iter().flat_map(|pc| {
        let waits = [false, true].map(|waits| Native { pc: *pc, waits, ..Native::default() });
        waits.into_iter().filter_map(|native| names::native(&native))
    });
    let prepare = PreparePc::value_variants().iter().map(|pc| names::prepare(*pc));
    let breaks = BreakPc::value_variants().iter().map(|pc| names::breaking(*pc));
    let prunes = PrunePc::value_variants().iter().map(|pc| names::pruning(*pc));
    let steps: Vec<Step> = natives.chain(prepare).chain(breaks).chain(prunes).collect();
    assert!(steps.len() > 100, "{} steps", steps.len());
    for Step { file, function, .. } in steps {
        assert!(source(file).contains(&format!("fn {function}(")), "no fn {function} in {file}.rs");
    }
    for function in ["help", "recheck", "revoke", "hand_off"] {
        assert!(source("queue").contains(&format!("fn {function}(")), "no fn {function} in queue/");
    }
}
