//! The OpenMetrics text format, version 1.0.0.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use super::survey::Survey;

/// Renders the metrics of a folder.
pub(super) fn render(folder: &str, survey: &Survey) -> String {
    let mut text = Text { folder: escape(folder), text: String::new() };
    text.family("tenure_locks", "", "Locks that are held, stale (the holder is dead) or unknown.");
    text.by_label("tenure_locks", "state", &survey.states);
    text.family("tenure_shared_locks", "", "Held locks that are shared.");
    text.number("tenure_shared_locks", survey.shared);
    text.family("tenure_slots", "", "Held locks that are slots.");
    text.number("tenure_slots", survey.slots);
    if let Some(waiters) = survey.waiters {
        text.family("tenure_waiters", "", "Processes in the queues of these locks.");
        text.number("tenure_waiters", waiters);
    }
    if let Some(longest) = survey.longest_hold {
        text.family("tenure_longest_hold_seconds", "seconds", "The age of the oldest tenure.");
        text.seconds("tenure_longest_hold_seconds", longest);
    }
    if let Some(past) = &survey.past {
        text.family("tenure_past_tenures", "", "Tenures that the histories of the locks keep, by how they ended.");
        text.by_label("tenure_past_tenures", "ended", &past.tenures);
        text.family("tenure_past_waits", "", "Acquires that the histories keep and that ended without the lock.");
        text.by_label("tenure_past_waits", "ended", &past.waits);
        if let Some(longest) = past.longest_wait {
            let name = "tenure_longest_past_wait_seconds";
            text.family(name, "seconds", "The longest wait that the histories keep.");
            text.seconds(name, longest);
        }
        if let Some(time) = past.last_crash.and_then(|time| time.duration_since(UNIX_EPOCH).ok()) {
            let name = "tenure_last_crash_timestamp_seconds";
            text.family(name, "seconds", "When the last crash that the histories keep was found.");
            text.seconds(name, time);
        }
    }
    text.text + "# EOF\n"
}

struct Text {
    /// The escaped value of the label.
    folder: String,
    text: String,
}

impl Text {
    /// Begins a family of gauges. A unit must be the end of the name.
    fn family(&mut self, name: &str, unit: &str, help: &str) {
        let _ = writeln!(self.text, "# TYPE {name} gauge");
        if !unit.is_empty() {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {name} {}", escape(help));
    }

    fn number(&mut self, name: &str, value: u64) {
        let _ = writeln!(self.text, "{name}{{folder=\"{}\"}} {value}", self.folder);
    }

    fn by_label(&mut self, name: &str, label: &str, values: &BTreeMap<&'static str, u64>) {
        for (key, value) in values {
            let _ = writeln!(self.text, "{name}{{folder=\"{}\",{label}=\"{key}\"}} {value}", self.folder);
        }
    }

    fn seconds(&mut self, name: &str, value: Duration) {
        let folder = &self.folder;
        let _ = writeln!(self.text, "{name}{{folder=\"{folder}\"}} {}.{:03}", value.as_secs(), value.subsec_millis());
    }
}

/// Escapes the value of a label, or a help text.
fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace('\n', r"\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::super::survey::Past;
    use super::*;

    #[test]
    fn all_families() {
        let survey = Survey {
            states: BTreeMap::from([("held", 2), ("stale", 1)]),
            shared: 1,
            slots: 0,
            waiters: Some(3),
            longest_hold: Some(Duration::from_millis(61_005)),
            past: Some(Past {
                tenures: BTreeMap::from([("crashed", 1)]),
                waits: BTreeMap::new(),
                longest_wait: Some(Duration::ZERO),
                last_crash: Some(UNIX_EPOCH + Duration::from_secs(1_772_445_600)),
            }),
        };
        let text = render("a \"b\"\\\nc", &survey);
        for line in [
            "tenure_locks{folder=\"a \\\"b\\\"\\\\\\nc\",state=\"held\"} 2",
            "# UNIT tenure_longest_hold_seconds seconds",
            "tenure_longest_hold_seconds{folder=\"a \\\"b\\\"\\\\\\nc\"} 61.005",
            "tenure_past_tenures{folder=\"a \\\"b\\\"\\\\\\nc\",ended=\"crashed\"} 1",
            "tenure_last_crash_timestamp_seconds{folder=\"a \\\"b\\\"\\\\\\nc\"} 1772445600.000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let text = render("a", &Survey::default());
        assert!(!text.contains("waiters") && !text.contains("longest") && !text.contains("past"), "{text}");
    }
}
