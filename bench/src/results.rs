//! The results of every topic, with the date and machine of each measurement, as in `results.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::bare;
use crate::row::Row;

/// The measurements of one run.
pub(crate) struct Topic {
    pub(crate) rows: Vec<Row>,
    /// The machine, the kernel, the date.
    pub(crate) circumstances: BTreeMap<String, String>,
}

#[derive(Default)]
pub(crate) struct Results(pub(crate) BTreeMap<String, Topic>);

impl Results {
    /// Reads an earlier run's results; returns none if there are none.
    pub(crate) fn read(path: &Path) -> crate::Result<Results> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Results::default()),
            other => other?,
        };
        let value: Value = serde_json::from_str(&text)?;
        let topics = value["topics"].as_object().ok_or("no topics in the results")?;
        let read = |value: &Value| -> crate::Result<Topic> {
            let rows = value["rows"].as_array().ok_or("a topic without rows")?;
            let rows = rows.iter().map(|row| Row::from_json(row).ok_or("a malformed row"));
            let circumstances = value["circumstances"].as_object().ok_or("a topic without circumstances")?;
            let circumstances = circumstances.iter();
            Ok(Topic {
                rows: rows.collect::<Result<_, _>>()?,
                circumstances: circumstances
                    .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                    .collect(),
            })
        };
        Ok(Results(topics.iter().map(|(name, topic)| Ok((name.clone(), read(topic)?))).collect::<crate::Result<_>>()?))
    }

    pub(crate) fn write(&self, path: &Path) -> crate::Result<()> {
        let topics: serde_json::Map<String, Value> = self
            .0
            .iter()
            .map(|(name, topic)| {
                let rows: Vec<Value> = topic.rows.iter().map(Row::json).collect();
                (name.clone(), json!({ "circumstances": topic.circumstances, "rows": rows }))
            })
            .collect();
        Ok(std::fs::write(path, serde_json::to_string_pretty(&json!({ "topics": topics }))? + "\n")?)
    }

    pub(crate) fn rows(&self, topic: &str) -> &[Row] {
        self.0.get(topic).map_or(&[], |topic| &topic.rows)
    }

    /// Returns one number of one row.
    pub(crate) fn number(&self, topic: &str, case: &str, candidate: &str, name: &str) -> Option<f64> {
        let row = self.rows(topic).iter().find(|row| row.case == case && row.candidate == candidate)?;
        row.numbers.get(name).copied()
    }

    /// Returns the cases of a topic, in order.
    pub(crate) fn cases(&self, topic: &str) -> Vec<&str> {
        let mut cases: Vec<&str> = Vec::new();
        for row in self.rows(topic) {
            if !cases.contains(&row.case.as_str()) {
                cases.push(&row.case);
            }
        }
        cases
    }
}

pub(crate) fn circumstances(quick: bool) -> BTreeMap<String, String> {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let gigabytes = memory.and_then(|kb| kb.parse::<u64>().ok()).map_or(0, |kb| kb / 1024 / 1024);
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let all = [
        ("cpu", format!("{cpus} × {}", model.map_or("unknown", |(_, model)| model))),
        ("memory", format!("{gigabytes} GiB")),
        ("kernel", format!("Linux {}", bare::kernel())),
        ("date", date),
        ("effort", if quick { "a smoke test: no measurement" } else { "full" }.to_owned()),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
