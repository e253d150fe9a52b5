//! Percentiles, and a table with ratios.

use serde_json::{Value, json};

/// One candidate's times in nanoseconds, sorted.
pub(crate) struct Row {
    name: &'static str,
    sorted: Vec<u64>,
}

impl Row {
    pub(crate) fn new(name: &'static str, mut samples: Vec<u64>) -> Row {
        samples.sort_unstable();
        Row { name, sorted: samples }
    }

    /// The value below which `percent` of the samples lie.
    fn percentile(&self, percent: usize) -> u64 {
        let at = (self.sorted.len() * percent / 100).min(self.sorted.len().saturating_sub(1));
        self.sorted.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn json(&self, what: &str, fs: &str) -> Value {
        json!({
            "what": what,
            "fileSystem": fs,
            "candidate": self.name,
            "samples": self.sorted.len(),
            "p50ns": self.percentile(50),
            "p99ns": self.percentile(99),
        })
    }
}

/// Prints the rows with the ratio of each median to that of the first.
pub(crate) fn print(title: &str, rows: &[Row]) {
    println!("\n{title}");
    println!("{:<58} {:>10} {:>10} {:>9} {:>8}", "", "p50 µs", "p99 µs", "to first", "samples");
    let first = rows.first().map_or(1, |row| row.percentile(50)).max(1) as f64;
    for row in rows {
        println!(
            "{:<58} {:>10.1} {:>10.1} {:>8.1}x {:>8}",
            row.name,
            row.percentile(50) as f64 / 1e3,
            row.percentile(99) as f64 / 1e3,
            row.percentile(50) as f64 / first,
            row.sorted.len(),
        );
    }
}
