//! Writes the tables of `docs/comparison.md`, for users, and of `bench/TARGETS.md`, for developers. Each page has two
//! marks, between which this module replaces the text; the rest is written by hand.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::candidate::LOCK_FILE;
use crate::results::{Results, Topic};
use crate::row::{Row, short};
use crate::targets::{self, Target};
use crate::{crowd, handoff, uncontended, whole};

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// The topics in the order of the page, each with its heading and the meaning of its cases.
const TOPICS: [(&str, &str, &str); 12] = [
    ("uncontended", "Acquire and release, without contention", "file system"),
    ("instructions", "Instructions of the library, without those of the C library and the kernel", "what"),
    ("profile", "Where the time of an acquire and release goes, call by call", "file system, style"),
    ("hand-off", "From a holder's end to the next one's grant, two processes", "the holder's end, file system"),
    (
        "crowd",
        "Processes that reacquire one lock all the time and hold it for 20 µs each, for 10 s (tmpfs: 5 s)",
        "processes, file system",
    ),
    (
        "greedy",
        "A process that reacquires as fast as it can beside one that acquires once a millisecond, 10 s",
        "waiters",
    ),
    ("threads", "Threads of one process", "threads"),
    ("many locks", "Very many locks in one process", "locks"),
    ("listing", "`tenure ls` and `tenure clean`", "folder"),
    ("whole command", "Whole processes", "file system"),
    ("idle waiters", "Wake-ups of waiters, in a wait of 10 s", "waiters"),
    ("growth", "Growth with the number of processes, 1 s each", "processes"),
];

/// A number's name in the results, its heading, and its divisor.
const COLUMNS: [(&str, &str, f64); 22] = [
    ("p50ns", "p50 µs", 1e3),
    ("p99ns", "p99 µs", 1e3),
    ("grantsPerSecond", "grants a second", 1.0),
    ("mostToLeast", "most / least", 1.0),
    ("longestWaitMs", "longest wait, ms", 1.0),
    ("handOffP50ns", "hand-off p50 µs", 1e3),
    ("handOffP99ns", "hand-off p99 µs", 1e3),
    ("grants", "grants of the waiter", 1.0),
    ("greedyGrants", "grants of the greedy process", 1.0),
    ("meanTurnNs", "mean turn µs", 1e3),
    ("longestToMean", "longest / mean", 1.0),
    ("bytesEach", "bytes each, idle", 1.0),
    ("firstP50ns", "first, p50 µs", 1e3),
    ("lastP50ns", "last, p50 µs", 1e3),
    ("lastToFirst", "last / first", 1.0),
    ("coldP50ns", "unused for long, p50 µs", 1e3),
    ("openFiles", "open files", 1.0),
    ("wakeUpsPerSecondEach", "wake-ups a second, each", 1.0),
    ("systemCalls", "system calls", 1.0),
    ("instructions", "instructions", 1.0),
    ("ratio", "ratio", 1.0),
    ("samples", "samples", 1.0),
];

/// The topics whose tables also have ratios: the candidate to which each row is compared, and the number.
const RATIOS: [(&str, &str, &str); 4] = [
    (uncontended::TOPIC, LOCK_FILE, "p50ns"),
    (handoff::TOPIC, LOCK_FILE, "p50ns"),
    (crowd::TOPIC, LOCK_FILE, "grantsPerSecond"),
    (whole::TOPIC, whole::FLOCK, "p50ns"),
];

/// Writes the measured figures into the page `figures`, and how they compare with the targets into the page `goals`.
pub(crate) fn write(figures: &Path, goals: &Path, results: &Results) -> crate::Result<()> {
    replace_measured(figures, &tables(results)?)?;
    replace_measured(goals, &target_table(results)?)
}

/// Replaces the text between the two marks of a page.
fn replace_measured(page: &Path, measured: &str) -> crate::Result<()> {
    let missing = |mark: &str| format!("{} has no mark {mark}", page.display());
    let text = std::fs::read_to_string(page)?;
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| missing(END))?;
    Ok(std::fs::write(page, format!("{before}{BEGIN}\n{measured}{END}{after}"))?)
}

fn target_table(results: &Results) -> Result<String, std::fmt::Error> {
    let targets = targets::all(results);
    let missed = targets.iter().filter(|target| !target.met()).count();
    let mut out = String::new();
    writeln!(out, "\n{missed} of {} targets are missed.\n", targets.len())?;
    writeln!(out, "| what | wanted | measured | |\n| --- | --- | --- | --- |")?;
    for target in targets {
        let met = if target.met() { "reached" } else { "**missed**" };
        let (wanted, unit) = (target.wanted(), target.unit);
        writeln!(out, "| {} | {wanted} | {}{unit} | {met} |", target.what, short(target.value))?;
    }
    writeln!(out)?;
    Ok(out)
}

fn tables(results: &Results) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    for (name, heading, cases) in TOPICS {
        if let Some(topic) = results.0.get(name) {
            writeln!(out, "\n### {heading}\n")?;
            table(&mut out, results, name, topic, cases)?;
        }
    }
    writeln!(out)?;
    Ok(out)
}

fn table(out: &mut String, results: &Results, name: &str, topic: &Topic, cases: &str) -> std::fmt::Result {
    let used: BTreeSet<&str> = topic.rows.iter().flat_map(|row| row.numbers.keys().map(String::as_str)).collect();
    let columns: Vec<_> = COLUMNS.iter().filter(|(name, ..)| used.contains(name)).collect();
    write!(out, "| {cases} | |")?;
    columns.iter().try_for_each(|(_, heading, _)| write!(out, " {heading} |"))?;
    let compared = RATIOS.into_iter().find(|(topic, ..)| *topic == name);
    if let Some((_, reference, number)) = compared {
        let heading = COLUMNS.iter().find(|(name, ..)| *name == number).map_or(number, |(_, heading, _)| *heading);
        write!(out, " {} to {reference} |", heading.trim_end_matches(" µs"))?;
    }
    write!(out, "\n| --- | --- |{}\n", " ---: |".repeat(columns.len() + usize::from(compared.is_some())))?;
    let mut last = "";
    for row in &topic.rows {
        // A case is named once.
        let case = if row.case == last { "" } else { &row.case };
        last = &row.case;
        write!(out, "| {case} | {} |", row.candidate)?;
        columns.iter().try_for_each(|(name, _, unit)| write!(out, " {} |", cell(row, name, *unit)))?;
        if let Some((_, reference, number)) = compared {
            let base = results.number(name, &row.case, reference, number);
            let ratio = row.numbers.get(number).zip(base).map(|(own, base)| format!("{:.2}×", own / base));
            write!(out, " {} |", ratio.unwrap_or_default())?;
        }
        writeln!(out)?;
    }
    let about = |name: &str| topic.circumstances.get(name).map_or("?", String::as_str);
    writeln!(out, "\n{}, {}, {}, {}.", about("cpu"), about("memory"), about("kernel"), about("date"))?;
    if about("effort") != "full" {
        writeln!(out, "**{}**", about("effort"))?;
    }
    Ok(())
}

fn cell(row: &Row, name: &str, unit: f64) -> String {
    row.numbers.get(name).map(|number| short(number / unit)).unwrap_or_default()
}

/// Prints the targets that are missed.
pub(crate) fn print_misses(results: &Results) {
    let missed: Vec<Target> = targets::all(results).into_iter().filter(|target| !target.met()).collect();
    if missed.is_empty() {
        println!("\nevery target is reached");
        return;
    }
    println!("\nnot reached:");
    for target in missed {
        println!("  {}: {}{}, wanted {}", target.what, short(target.value), target.unit, target.wanted());
    }
}
