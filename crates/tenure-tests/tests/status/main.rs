//! Status, sweeps and breaks: reports are true, live locks stay, and no process is disturbed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

mod breaking;
mod cleaning;
mod reclaiming;
mod reports;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tenure::Status;
use tenure_tests::{Actor, lock_file, opened};

fn holding(target: &Path, keys: &str) -> Actor {
    let mut actor = opened(target, keys);
    actor.must("acquire l g never");
    actor
}

fn anchor(target: &Path) -> PathBuf {
    target.parent().unwrap().join(".tenure").join(lock_file(target).file_name().unwrap())
}

fn pid_of(found: &Status) -> Option<i64> {
    found.holder.as_ref().and_then(tenure::Holder::pid)
}

fn words(found: &Status) -> Vec<&'static str> {
    found.reasons.iter().map(|reason| reason.as_str()).collect()
}

/// Returns every path below a folder, with its bytes and its time of change.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let bytes = if meta.is_file() { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
        if meta.is_dir() {
            found.extend(tree(&entry.path()));
        }
        found.insert(entry.path(), (bytes, meta.modified().unwrap()));
    }
    found
}
