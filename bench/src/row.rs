//! One line of the results: a candidate in one case of one topic, and its numbers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::stats::Sorted;

/// One line of the results. The numbers' names contain the unit: `p50ns`, `grantsPerSecond`, `bytes`.
pub(crate) struct Row {
    pub(crate) topic: String,
    /// The variable of a topic's measurements: a file system, a number of processes.
    pub(crate) case: String,
    pub(crate) candidate: String,
    pub(crate) numbers: BTreeMap<String, f64>,
}

impl Row {
    pub(crate) fn new(topic: &str, case: impl ToString, candidate: &str, numbers: &[(&str, f64)]) -> Row {
        let numbers = numbers.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
        Row { topic: topic.to_owned(), case: case.to_string(), candidate: candidate.to_owned(), numbers }
    }

    pub(crate) fn times(topic: &str, case: impl ToString, candidate: &str, samples: Vec<u64>) -> Row {
        let sorted = Sorted::new(samples);
        let numbers = [
            ("p50ns", sorted.percentile(50) as f64),
            ("p99ns", sorted.percentile(99) as f64),
            ("samples", sorted.len() as f64),
        ];
        Row::new(topic, case, candidate, &numbers)
    }

    pub(crate) fn json(&self) -> Value {
        let mut value = json!({ "topic": self.topic, "case": self.case, "candidate": self.candidate });
        for (name, number) in &self.numbers {
            value[name] = json!((number * 1000.0).round() / 1000.0);
        }
        value
    }

    pub(crate) fn from_json(value: &Value) -> Option<Row> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let numbers = value.as_object()?.iter();
        let numbers = numbers.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect();
        Some(Row { topic: text("topic")?, case: text("case")?, candidate: text("candidate")?, numbers })
    }

    pub(crate) fn print(&self) {
        let numbers: Vec<_> = self.numbers.iter().map(|(name, number)| format!("{name} {}", short(*number))).collect();
        println!("  {:<18} {:<52} {}", self.case, self.candidate, numbers.join("  "));
    }
}

/// Formats a number with two decimals, or without decimals if it is an integer or at least 100.
pub(crate) fn short(number: f64) -> String {
    match number.abs() {
        big if big >= 100.0 || number.fract() == 0.0 => format!("{number:.0}"),
        _ => format!("{number:.2}"),
    }
}
