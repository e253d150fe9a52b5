//! Deadlocks: a wait that would close a circle fails at once and names it, and no other wait does.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::incompatible_msrv,
    reason = "tests use files and processes as any program does, and are compiled by the present Rust"
)]

mod circles;
mod graphs;
mod slots;
mod tasks;

use std::path::{Path, PathBuf};

use tenure_tests::{Actor, until};

/// Returns the wait notes beside a lock.
fn notes(target: &Path) -> Vec<PathBuf> {
    let name = target.file_name().unwrap().to_str().unwrap();
    let of_lock = |path: &PathBuf| {
        let file = path.file_name().unwrap().to_str().unwrap();
        file.starts_with(&format!("{name}.lock.")) && file.ends_with(".waits")
    };
    let anchors = std::fs::read_dir(target.with_file_name(".tenure")).unwrap();
    anchors.map(|entry| entry.unwrap().path()).filter(of_lock).collect()
}

/// Returns whether the holder of `target` has said that it waits for another lock.
fn is_announced(target: &Path) -> bool {
    let is_complete = |note: &PathBuf| std::fs::metadata(note).is_ok_and(|note| note.len() > 0);
    notes(target).iter().any(is_complete)
}

/// Waits until the holder of `target` has said that it waits for another lock.
fn until_announced(target: &Path) {
    until("its holder says that it waits", || is_announced(target));
}

/// Starts an actor that holds the lock of each path, under the names `g0`, `g1` and so on, opened as `l0`, `l1` with these
/// keys.
fn holder(held: &[&Path], keys: &str) -> Actor {
    let mut actor = Actor::start();
    for (at, target) in held.iter().enumerate() {
        actor.must(&format!("open l{at} {} {keys}", target.display()));
        actor.must(&format!("acquire l{at} g{at} never"));
    }
    actor
}

/// Sends an actor into a wait on its main thread, which holds `held`, and returns once it has said so.
fn wait_for(actor: &mut Actor, target: &Path, keys: &str, wait: &str, held: &[&Path]) {
    actor.must(&format!("open w {} {keys}", target.display()));
    actor.send(&format!("acquire w got {wait}"));
    held.iter().for_each(|held| until_announced(held));
}

fn paths<const N: usize>(dir: &Path, names: [&str; N]) -> [PathBuf; N] {
    names.map(|name| dir.join(name))
}
