//! The history as bars: a line for each program, and time from left to right.

use std::time::{Duration, SystemTime};

use super::row::{Row, date};
use crate::output::terminal::{cut_end, width};

/// What a part of a bar shows. Where two are in one column, the later one of these is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The program waited for the lock.
    Waited,
    /// The holder had died by then, or died within: from its last sign of life until it was found dead.
    Died,
    Held,
    /// The moment at which a waiter gave up.
    GaveUp,
    /// The last sign of life of a holder that crashed.
    Crashed,
}

impl Part {
    const ALL: [Part; 5] = [Part::Held, Part::Waited, Part::GaveUp, Part::Crashed, Part::Died];

    fn sign(self) -> char {
        match self {
            Part::Waited => '·',
            Part::Died => '░',
            Part::Held => '█',
            Part::GaveUp => '!',
            Part::Crashed => '✗',
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Part::Waited => "waited",
            Part::Died => "died in between",
            Part::Held => "held",
            Part::GaveUp => "gave up",
            Part::Crashed => "crashed",
        }
    }
}

/// A part of a bar.
pub(super) struct Span {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
    pub(super) part: Part,
}

/// The bars of all programs.
pub(super) struct Chart {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
    /// The programs in the order in which they came, each with its spans.
    pub(super) lines: Vec<(String, Vec<Span>)>,
}

impl Chart {
    pub(super) fn new(rows: &[Row]) -> Chart {
        let mut lines: Vec<(String, Vec<Span>)> = Vec::new();
        for row in rows {
            let name = row.name();
            let at = lines.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                lines.push((name, Vec::new()));
                lines.len() - 1
            });
            lines[at].1.extend(spans(row));
        }
        let spans = || lines.iter().flat_map(|(_, spans)| spans);
        Chart {
            from: spans().map(|span| span.from).min().unwrap_or(SystemTime::UNIX_EPOCH),
            until: spans().map(|span| span.until).max().unwrap_or(SystemTime::UNIX_EPOCH),
            lines,
        }
    }

    /// Returns where a moment is between the left end, 0, and the right end, 1.
    pub(super) fn place(&self, time: SystemTime) -> f64 {
        let since = |time: SystemTime| time.duration_since(self.from).unwrap_or_default().as_secs_f64();
        since(time) / since(self.until).max(0.001)
    }

    /// Renders the bars for a terminal of that many columns.
    pub(super) fn render(&self, limit: usize) -> String {
        let widest = self.lines.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
        let names = widest.min(limit / 3).max(1);
        let columns = limit.saturating_sub(names + 1).max(1);
        let column = |time| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the width")]
            let column = (self.place(time) * columns as f64) as usize;
            column.min(columns - 1)
        };
        let mut text = String::new();
        for (name, spans) in &self.lines {
            let mut cells: Vec<Option<Part>> = vec![None; columns];
            for span in spans {
                let (first, mut last) = (column(span.from), column(span.until));
                // A span ends where the next column begins.
                if last > first && span.until < self.until {
                    last -= 1;
                }
                cells[first..=last].iter_mut().for_each(|cell| *cell = (*cell).max(Some(span.part)));
            }
            let name = cut_end(name, names);
            let room = names.saturating_sub(width(&name)) + 1;
            let bar: String = cells.iter().map(|cell| cell.map_or(' ', Part::sign)).collect();
            text += format!("{name}{}{bar}", " ".repeat(room)).trim_end();
            text.push('\n');
        }
        text + &self.axis(names + 1, columns) + &self.legend(limit)
    }

    fn axis(&self, indent: usize, columns: usize) -> String {
        let (from, until) = (date(self.from), date(self.until));
        let room = columns.saturating_sub(width(&from) + width(&until));
        match room {
            // Both dates fit under the bars.
            2.. => format!("{}{from}{}{until}\n", " ".repeat(indent), " ".repeat(room)),
            _ => format!("{}\n{}\n", cut_end(&from, indent + columns), cut_end(&until, indent + columns)),
        }
    }

    fn legend(&self, limit: usize) -> String {
        let is_used = |part: &&Part| self.lines.iter().any(|(_, spans)| spans.iter().any(|span| span.part == **part));
        let words = Part::ALL.iter().filter(is_used).map(|part| format!("{} {}", part.sign(), part.words()));
        cut_end(&words.collect::<Vec<_>>().join("   "), limit) + "\n"
    }
}

fn spans(row: &Row) -> Vec<Span> {
    let span = |from, until, part| Span { from, until, part };
    let Some(held_until) = row.held_until else {
        return vec![span(row.from, row.until, Part::Waited), span(row.until, row.until, Part::GaveUp)];
    };
    let mut spans = Vec::new();
    if let Some(waited) = row.waited.filter(|&waited| waited > Duration::ZERO) {
        spans.push(span(row.from.checked_sub(waited).unwrap_or(row.from), row.from, Part::Waited));
    }
    spans.push(span(row.from, held_until, Part::Held));
    if row.ended == "crashed" {
        spans.push(span(held_until, row.until, Part::Died));
        spans.push(span(held_until, held_until, Part::Crashed));
    }
    spans
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::commands::history) fn rows() -> Vec<Row> {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_445_600 + seconds);
        let row = |ended, label: &str, from, until, held_until: Option<u64>| Row {
            ended,
            pid: Some(4242),
            label: Some(label.to_owned()),
            command: Some("./backup.sh --all --verbose --and-so-on --for-ever".to_owned()),
            from: at(from),
            until: at(until),
            held_until: held_until.map(at),
            waited: None,
            exit_code: Some(-1),
            note: String::new(),
        };
        let mut rows = vec![
            row("released", "nightly", 0, 100, Some(100)),
            row("crashed", "\u{1b}[2J漢字", 100, 500, Some(200)),
            row("busy", "other", 300, 400, None),
            row("held", "nightly", 900, 1000, Some(1000)),
        ];
        rows[2].note = "held by pid 7, nightly".to_owned();
        rows[3].waited = Some(Duration::from_secs(100));
        rows
    }

    #[test]
    fn bars_show_what_was_when() {
        assert_eq!(
            Chart::new(&rows()).render(62),
            "\
nightly       ████                                  ·····█████
\\u{1b}[2J漢字     █████✗░░░░░░░░░░░░░░
other                       ·····!
              2026-03-02T10:00:00Z        2026-03-02T10:16:40Z
█ held   · waited   ! gave up   ✗ crashed   ░ died in between
"
        );
    }

    #[test]
    fn bars_fit_the_terminal() {
        for limit in 10..120 {
            let text = Chart::new(&rows()).render(limit);
            assert!(text.lines().all(|line| width(line) <= limit), "{limit}:\n{text}");
        }
        // A single moment is a bar of one column.
        let mut moment = rows();
        moment.truncate(1);
        (moment[0].until, moment[0].held_until) = (moment[0].from, Some(moment[0].from));
        let text = Chart::new(&moment).render(40);
        assert_eq!(text.matches('█').count(), 1 + 1, "{text}");
    }
}
