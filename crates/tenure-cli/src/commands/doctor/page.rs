//! The answer as a page for people.

use std::path::Path;
use std::time::Duration;

use anstyle::AnsiColor;
use tenure::escape;

use super::checks::Findings;
use super::meanings::Short;
use super::stress::{Outcome, StressRun};
use crate::output::{color, describe, terminal};
use crate::sys;

/// Below this width, the meaning has lines of its own.
const NARROW: usize = 72;
/// Longer lines are hard to read.
const WIDE: usize = 110;
/// The widths of the longest name of a check, and of the longest answer.
const NAME: usize = 19;
const ANSWER: usize = 7;
const INDENT: usize = 2;

/// The width of the page, and the character for bars.
pub(crate) struct Page {
    /// `None` for a file or a pipe, where each check has one line.
    width: Option<usize>,
    block: char,
}

impl Page {
    pub(crate) fn of_terminal() -> Page {
        let width = sys::columns(&std::io::stdout());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| std::env::var_os(name).filter(|v| !v.is_empty()));
        let utf8 =
            locale.is_some_and(|locale| locale.to_string_lossy().to_lowercase().replace('-', "").contains("utf8"));
        Page { width: width.map(|width| width.min(WIDE)), block: if utf8 { '█' } else { '#' } }
    }

    pub(crate) fn render(&self, dir: &Path, findings: &Findings, stress: &StressRun) -> String {
        let mut text = String::new();
        let on_server = matches!(&*findings.file_system, "etcd" | "postgres");
        let mounts = match findings.shared {
            true if on_server => "which serves locks to many machines",
            true => "which two machines may mount",
            false => "which only one machine can mount",
        };
        let kind = escape::text(&findings.file_system);
        self.paragraph(&mut text, 0, &format!("{} is on {kind}, {mounts}", describe::path(dir)));
        text.push('\n');
        for check in &findings.checks {
            self.check(&mut text, &check.name.replace('-', " "), check.short, &check.means);
        }
        text.push('\n');
        if let StressRun::Done(outcome) = stress {
            self.stress(&mut text, outcome);
            text.push('\n');
        }
        self.verdict(&mut text, findings, stress);
        text
    }

    fn check(&self, text: &mut String, name: &str, answer: Short, means: &str) {
        let style = match answer {
            Short::Yes => AnsiColor::Green,
            Short::No => AnsiColor::Red,
            Short::Unknown => AnsiColor::Yellow,
        }
        .on_default();
        let answer = answer.as_str();
        let head = format!("{:INDENT$}{name:<NAME$}  {style}{answer}{style:#}", "");
        *text += &head;
        if self.width.is_some_and(|width| width < NARROW) {
            text.push('\n');
            return self.paragraph(text, INDENT * 2, means);
        }
        let column = INDENT + NAME + 2 + ANSWER + 2;
        let lines = wrap(means, self.width.map_or(usize::MAX, |width| width - column));
        for (number, line) in lines.iter().enumerate() {
            let room = if number == 0 { ANSWER - answer.len() + 2 } else { column };
            *text += &format!("{:room$}{line}\n", "");
        }
    }

    fn stress(&self, text: &mut String, outcome: &Outcome) {
        let tally = outcome.tally();
        let ran_for = outcome.ran_for;
        let a_second = tally.grants() as f64 / ran_for.as_secs_f64().max(0.001);
        let mut line = |name: &str, value: String| {
            // The value begins at a fixed column, and a long value has more lines below it.
            let lines = wrap(&value, self.width.map_or(usize::MAX, |width| width.saturating_sub(18).max(16)));
            for (number, part) in lines.iter().enumerate() {
                let name = if number == 0 { name } else { "" };
                *text += &format!("{:INDENT$}{name:<14}  {part}\n", "");
            }
        };
        let (processes, seed) = (outcome.plan.processes, outcome.plan.seed);
        line("stress", format!("{processes} processes for {}, seed {seed}", escape::duration(ran_for)));
        line("grants", format!("{}, {} a second", tally.grants(), a_second.round()));
        line("double holds", tally.double_holds().to_string());
        let hand_offs = tally.hand_offs();
        line(
            "hand-off",
            match hand_offs.max() {
                Some(max) => format!(
                    "p50 {}, p99 {}, max {}: from a release to the next grant in another process",
                    time(hand_offs.percentile(50)),
                    time(hand_offs.percentile(99)),
                    time(Some(max))
                ),
                None => "none was observed".to_owned(),
            },
        );
        let (least, most) = outcome.fairness();
        let steady = outcome.plan.steady();
        let longest = time(Some(tally.longest_wait()));
        line(
            "fairness",
            format!("{least} to {most} grants each, of the {steady} processes never killed; longest wait {longest}"),
        );
        let takeovers = tally.takeover_times();
        line("kills", format!("{}; {} takeovers from a dead holder", outcome.kills, tally.takeovers()));
        if let Some(max) = takeovers.max() {
            let (p50, max) = (time(takeovers.percentile(50)), time(Some(max)));
            line("takeover", format!("p50 {p50}, max {max}: from the kill to the next grant"));
        }
        if hand_offs.count() > 0 {
            text.push('\n');
            self.paragraph(text, INDENT, "hand-off times, each row twice as long as the row above");
            self.histogram(text, &hand_offs.doublings());
        }
    }

    fn histogram(&self, text: &mut String, rows: &[(Duration, u64)]) {
        let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
        let digits = most.to_string().len();
        let room = self.width.unwrap_or(80).saturating_sub(INDENT + 8 + 2 + digits + 2).clamp(8, 50);
        for (from, count) in rows {
            // A count above 0 always has a bar.
            let cells = (u128::from(*count) * room as u128).div_ceil(u128::from(most)) as usize;
            let bar = self.block.to_string().repeat(cells);
            let from = time(Some(*from));
            let line = format!("{:INDENT$}{from:>8}  {count:>digits$}  {bar}", "");
            *text += line.trim_end();
            text.push('\n');
        }
    }

    fn verdict(&self, text: &mut String, findings: &Findings, stress: &StressRun) {
        let (good, bad) = (AnsiColor::Green.on_default().bold(), AnsiColor::Red.on_default().bold());
        let faults = stress.outcome().map_or(&[][..], |outcome| &outcome.faults);
        if !findings.lacks.is_empty() {
            *text += &color::styled(bad, "not fit for use");
            let skipped = if matches!(stress, StressRun::Skipped) { "; there was no stress run" } else { "" };
            self.tail(text, "not fit for use", &format!(": missing: {}{skipped}", findings.lacks.join(", ")));
        } else if !faults.is_empty() {
            *text += &color::styled(bad, "not fit for use");
            self.tail(text, "not fit for use", ": the stress run found");
            for fault in faults {
                self.paragraph(text, INDENT, &format!("- {}", escape::text(fault)));
            }
        } else {
            *text += &color::styled(good, "fit for use");
            let kind = escape::text(&findings.file_system);
            let more = match findings.shared {
                true if matches!(&*findings.file_system, "etcd" | "postgres") => String::new(),
                true => format!(
                    " on this machine. It is fit for several machines only if flock on {kind} works across machines: \
                     `tenure run T -- sleep 60` on one, then `tenure run -n T -- true` on the other must exit with 75"
                ),
                false => String::new(),
            };
            self.tail(text, "fit for use", &more);
        }
    }

    /// Adds the rest of a paragraph. `before` is its beginning without colours, which was added already.
    fn tail(&self, text: &mut String, before: &str, rest: &str) {
        let lines = wrap(&format!("{before}{rest}"), self.width.unwrap_or(usize::MAX));
        for (number, line) in lines.iter().enumerate() {
            *text += if number == 0 { line.strip_prefix(before).unwrap_or(line) } else { line };
            text.push('\n');
        }
    }

    fn paragraph(&self, text: &mut String, indent: usize, words: &str) {
        for line in wrap(words, self.width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(8))) {
            *text += &format!("{:indent$}{line}\n", "");
        }
    }
}

/// Formats a duration with two digits: `950 ns`, `18 µs`, `3.4 ms`, `12 s`.
fn time(time: Option<Duration>) -> String {
    let Some(time) = time else { return "-".to_owned() };
    let nanoseconds = time.as_nanos() as f64;
    let (value, unit) = match nanoseconds {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    if value < 9.95 && unit != "ns" { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// Breaks text into lines of at most `width` columns, between words. A word that is longer than a line is broken too.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let columns = terminal::width(word);
        if used > 0 && used + 1 + columns > width {
            lines.push(String::new());
            used = 0;
        } else if used > 0 {
            add(&mut lines, ' ');
            used += 1;
        }
        for c in word.chars() {
            let columns = terminal::char_width(c);
            if used > 0 && used + columns > width {
                lines.push(String::new());
                used = 0;
            }
            add(&mut lines, c);
            used += columns;
        }
    }
    lines
}

/// Adds a character to the last line.
fn add(lines: &mut [String], c: char) {
    if let Some(line) = lines.last_mut() {
        line.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("one", usize::MAX), ["one"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("a abcdef b", 4), ["a", "abcd", "ef b"]);
        assert_eq!(wrap("漢字 漢字漢字", 5), ["漢字", "漢字", "漢字"]);
        for width in 1..40 {
            let lines = wrap("a lock that excludes a second process, ünïcödé", width);
            assert!(lines.iter().all(|line| terminal::width(line) <= width), "{width}: {lines:?}");
        }
    }

    #[test]
    fn times_in_the_unit_that_fits() {
        let words = [
            (7, "7 ns"),
            (950, "950 ns"),
            (1024, "1.0 µs"),
            (18_000, "18 µs"),
            (3_400_000, "3.4 ms"),
            (12_000_000_000, "12 s"),
        ];
        for (nanoseconds, want) in words {
            assert_eq!(time(Some(Duration::from_nanos(nanoseconds))), want);
        }
        assert_eq!(time(None), "-");
    }
}
