//! Whole processes: `tenure run T -- true` beside `flock T true`, measured by hyperfine.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::row::Row;
use crate::setup::Setup;

pub(crate) const TOPIC: &str = "whole command";
pub(crate) const FLOCK: &str = "flock T true";
pub(crate) const STATIC: &str = "tenure run T -- true, static";
pub(crate) const DYNAMIC: &str = "tenure run T -- true";

pub(crate) fn measure(setup: &Setup) -> crate::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (fs, folder) in setup.folders()? {
        rows.extend(measure_on(setup, &fs, folder)?);
    }
    Ok(rows)
}

fn measure_on(setup: &Setup, fs: &str, folder: &Path) -> crate::Result<Vec<Row>> {
    let folder = tempfile::tempdir_in(folder)?;
    let export = folder.path().join("times.json");
    let mut calls = vec![("true", "true".to_owned()), (FLOCK, FLOCK.to_owned())];
    for (at, command) in setup.commands.iter().enumerate() {
        // A copy, as `cargo install` makes one: the linker's own file starts more slowly.
        let copy = setup.folder().join(format!("tenure-{at}"));
        std::fs::copy(command, &copy)?;
        let command = copy.to_str().ok_or("a command's path is no text")?;
        let names = [[DYNAMIC, "tenure run --flock T -- true"], [STATIC, "tenure run --flock T -- true, static"]];
        let names = names.get(at).ok_or("more than two commands")?;
        calls.push((names[0], format!("{command} run T -- true")));
        calls.push((names[1], format!("{command} run --flock T -- true")));
    }
    let mut samples = vec![Vec::new(); calls.len()];
    // Several short rounds, so that a disturbance of the machine affects all commands.
    for _ in 0..setup.pick(10, 1) {
        let mut hyperfine = Command::new("hyperfine");
        hyperfine.args(["-N", "--warmup", "5", "--runs", setup.pick("60", "5"), "--export-json"]).arg(&export);
        hyperfine.args(calls.iter().map(|(_, call)| call)).current_dir(folder.path());
        let output = hyperfine.output()?;
        if !output.status.success() {
            return Err(format!("hyperfine: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let found: Value = serde_json::from_slice(&std::fs::read(&export)?)?;
        for (samples, result) in samples.iter_mut().zip(found["results"].as_array().ok_or("no results")?) {
            let times = result["times"].as_array().ok_or("no times")?;
            samples.extend(times.iter().filter_map(Value::as_f64).map(|seconds| (seconds * 1e9) as u64));
        }
    }
    let named = calls.iter().zip(samples);
    Ok(named.map(|((name, _), samples)| Row::times(TOPIC, fs, name, samples)).collect())
}
