//! Measures Tenure beside the bare system calls of its protocol and beside its peers; `bench/run` starts it.
//!
//! All compared candidates are measured in one run, in small batches that rotate if possible, so that a disturbance of
//! the machine affects all of them. Only the ratios are valid for another machine. No time is a test.

// The library is compared with the bare system call here.
#![allow(clippy::disallowed_methods)]

mod bare;
mod candidate;
mod crowd;
mod driver;
mod handoff;
mod idle;
mod instructions;
mod listing;
mod many;
mod plot;
mod profile;
mod report;
mod results;
mod row;
mod setup;
mod stats;
mod targets;
mod threads;
mod uncontended;
mod whole;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::results::{Results, Topic};
use crate::row::Row;
use crate::setup::Setup;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: tenure-bench measure RESULTS.json [--quick] [--only TOPIC].. --dir DIR --peers DIR --source DIR --command TENURE..
       tenure-bench report RESULTS.json PAGE.md TARGETS.md PLOT.svg
       tenure-bench misses RESULTS.json";

/// A topic's name, and the function that measures it.
type Measure = fn(&Setup) -> Result<Vec<Row>>;
const TOPICS: [(&str, Measure); 12] = [
    (uncontended::TOPIC, uncontended::measure),
    (instructions::TOPIC, instructions::measure),
    (profile::TOPIC, profile::measure),
    (handoff::TOPIC, handoff::measure),
    (crowd::TOPIC, crowd::measure),
    (crowd::GREEDY, crowd::greedy),
    (threads::TOPIC, threads::measure),
    (many::TOPIC, many::measure),
    (listing::TOPIC, listing::measure),
    (whole::TOPIC, whole::measure),
    (idle::TOPIC, idle::measure),
    (crowd::GROWTH, crowd::growth),
];

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
    let mut args = std::env::args().skip(1);
    let word = args.next().ok_or(USAGE)?;
    match word.as_str() {
        "measure" => measure(&mut args),
        "report" => {
            let [results, page, goals, plot] = std::array::from_fn(|_| args.next());
            let results = Results::read(Path::new(&results.ok_or(USAGE)?))?;
            report::write(Path::new(&page.ok_or(USAGE)?), Path::new(&goals.ok_or(USAGE)?), &results)?;
            plot::draw(Path::new(&plot.ok_or(USAGE)?), &results)
        }
        "misses" => {
            report::print_misses(&Results::read(Path::new(&args.next().ok_or(USAGE)?))?);
            Ok(())
        }
        handoff::ROLE => handoff::child(&mut args),
        crowd::ROLE => crowd::child(&mut args),
        many::ROLE => many::child(&mut args),
        listing::ROLE => listing::child(&mut args),
        _ => Err(USAGE.into()),
    }
}

fn measure(args: &mut impl Iterator<Item = String>) -> Result<()> {
    let file = PathBuf::from(args.next().ok_or(USAGE)?);
    let (mut quick, mut only, mut commands) = (false, Vec::new(), Vec::new());
    let (mut dir, mut peers, mut source) = (None, None, None);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(USAGE);
        match arg.as_str() {
            "--quick" => quick = true,
            "--only" => only.push(value()?),
            "--command" => commands.push(PathBuf::from(value()?)),
            "--dir" => dir = Some(PathBuf::from(value()?)),
            "--peers" => peers = Some(PathBuf::from(value()?)),
            "--source" => source = Some(PathBuf::from(value()?)),
            _ => return Err(USAGE.into()),
        }
    }
    if let Some(other) = only.iter().find(|only| TOPICS.iter().all(|(name, _)| name != only)) {
        let names: Vec<_> = TOPICS.iter().map(|(name, _)| *name).collect();
        return Err(format!("no topic {other:?}; there are: {}", names.join(", ")).into());
    }
    let (dir, peers, source) = (dir.ok_or(USAGE)?, peers.ok_or(USAGE)?, source.ok_or(USAGE)?);
    let setup = Setup::new(&dir, quick, commands, peers, source)?;
    let mut results = Results::read(&file)?;
    for (name, measure) in TOPICS {
        if !only.is_empty() && !only.iter().any(|only| only == name) {
            continue;
        }
        println!("{name}");
        let rows = measure(&setup).map_err(|error| format!("{name}: {error}"))?;
        rows.iter().for_each(Row::print);
        results.0.insert(name.to_owned(), Topic { rows, circumstances: results::circumstances(quick) });
        results.write(&file)?;
    }
    Ok(())
}
