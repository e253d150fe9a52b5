//! The instructions of an acquire and release, as `bench/count` counts them: its numbers, without its bounds.

use std::process::Command;

use crate::row::Row;
use crate::setup::Setup;

pub(crate) const TOPIC: &str = "instructions";
/// The case of an acquire and release without contention.
pub(crate) const ALONE: &str = "for an acquire and release";

pub(crate) fn measure(setup: &Setup) -> crate::Result<Vec<Row>> {
    let output = Command::new("bash").arg(setup.source.join("count")).output()?;
    let text = String::from_utf8(output.stdout)?;
    // It also fails beyond a bound of its own, which is for CI.
    let rows: Vec<Row> = text.lines().filter_map(row).collect();
    match rows.is_empty() {
        true => Err(format!("bench/count: {}", String::from_utf8_lossy(&output.stderr)).into()),
        false => Ok(rows),
    }
}

/// Reads a line such as `flock style: 3546 instructions for an acquire and release, at most 4500`.
fn row(line: &str) -> Option<Row> {
    let (style, rest) = line.split_once(": ")?;
    let (count, what) = rest.split_once(" instructions ")?;
    let (what, _) = what.split_once(", at most ")?;
    Some(Row::new(TOPIC, what, style, &[("instructions", count.parse().ok()?)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_count() {
        let row = row("flock style: 3546 instructions for an acquire and release, at most 4500").unwrap();
        assert_eq!((row.case.as_str(), row.candidate.as_str()), (ALONE, "flock style"));
        assert_eq!(row.numbers["instructions"], 3546.0);
        assert!(super::row("   Compiling tenure v0.1.0").is_none());
    }
}
