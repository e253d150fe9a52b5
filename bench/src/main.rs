//! Tenure measured beside the bare system calls that it is made of.
//!
//! `cargo run --release -p tenure-bench -- [--dir DIR] [--json FILE] [--quick]`
//!
//! Everything is measured in one run, in small batches that rotate between the candidates, so that whatever disturbs
//! the machine disturbs all of them. Only the ratios carry over to another machine. Nothing passes or fails by time.
//!
//! - [`uncontended`]: acquire and release with nobody else there;
//! - [`handoff`]: from a release, or from a SIGKILL of the holder, to the next process's grant.

// What is compared with the library here is the bare system call.
#![allow(clippy::disallowed_methods)]

mod bare;
mod handoff;
mod stats;
mod uncontended;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How much is measured.
struct Effort {
    /// Rounds of [`uncontended::BATCH`] each, per candidate.
    rounds: usize,
    handoffs: usize,
    kills: usize,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tenure-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut dir = None;
    let mut json_file = None;
    let mut effort = Effort { rounds: 200, handoffs: 500, kills: 100 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--dir" => dir = Some(PathBuf::from(args.next().ok_or("--dir: which?")?)),
            "--json" => json_file = Some(PathBuf::from(args.next().ok_or("--json: which file?")?)),
            "--quick" => effort = Effort { rounds: 20, handoffs: 50, kills: 10 },
            handoff::ROLE => return handoff::child(&mut args),
            _ => return Err("usage: tenure-bench [--dir DIR] [--json FILE] [--quick]".into()),
        }
    }

    let mut folders = vec![tempfile::tempdir_in(dir.as_deref().unwrap_or(Path::new(".")))?];
    if Path::new("/dev/shm").is_dir() {
        folders.push(tempfile::tempdir_in("/dev/shm")?);
    }
    let machine = json!({
        "kernel": bare::kernel(),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "batch": uncontended::BATCH,
    });
    println!("Linux {}, {} CPUs", machine["kernel"].as_str().unwrap_or("?"), machine["cpus"]);

    let mut results = Vec::new();
    for folder in &folders {
        let fs = bare::file_system(folder.path())?;
        let rows = uncontended::measure(folder.path(), effort.rounds)?;
        stats::print(&format!("acquire + release, nobody else there ({fs})"), &rows);
        results.extend(rows.iter().map(|row| row.json("acquire+release", &fs)));
    }
    let folder = folders[0].path();
    let fs = bare::file_system(folder)?;
    for (what, ending, rounds) in [
        ("release to next grant", handoff::Ending::Release, effort.handoffs),
        ("kill to next grant", handoff::Ending::Kill, effort.kills),
    ] {
        let rows = handoff::measure(folder, ending, rounds)?;
        stats::print(&format!("from a holder's {what}, two processes ({fs})"), &rows);
        results.extend(rows.iter().map(|row| row.json(what, &fs)));
    }
    if let Some(path) = json_file {
        let text = serde_json::to_string_pretty(&json!({ "machine": machine, "results": results }))?;
        std::fs::write(path, text + "\n")?;
    }
    Ok(())
}
