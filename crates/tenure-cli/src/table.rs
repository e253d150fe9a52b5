//! Locks as a table: a heading and one line each, so that `grep` and `sort` work on it.
//!
//! Table crates wrap what is too wide into several lines, or know nothing of which column matters least; here the wide
//! columns are cut first, and then the least important ones give way.

use std::borrow::Cow;

use tenure::{Holder, State, Status, escape};

use crate::report;
use crate::terminal::{cut_end, cut_start, width};

struct Column {
    heading: &'static str,
    /// What it is wide at most, where there is room.
    most: usize,
    /// What it may be cut to.
    least: usize,
    /// Columns with the lowest number go first where there is no room; `MAX`: never.
    stays: usize,
}

const fn column(heading: &'static str, most: usize, least: usize, stays: usize) -> Column {
    Column { heading, most, least, stays }
}

const ALL: usize = usize::MAX;
const COLUMNS: [Column; 7] = [
    column("TARGET", ALL, 10, ALL),
    column("STATE", ALL, ALL, ALL),
    column("HOLDER", 24, ALL, 4),
    column("COMMAND", 40, 8, 1),
    column("SINCE", ALL, ALL, 3),
    column("WAITERS", ALL, ALL, 2),
    column("LABEL", 30, 6, 0),
];
const TARGET: usize = 0;
const STATE: usize = 1;
const NUMBER: usize = 5;
/// The order in which they are cut.
const CUT: [usize; 3] = [3, 6, TARGET];
const GAP: usize = 2;

pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<(State, Vec<String>)>,
}

impl Table {
    /// With `more` headings after those of every lock.
    pub(crate) fn new(more: &[&'static str]) -> Table {
        let more = more.iter().map(|&heading| column(heading, ALL, ALL, ALL));
        Table { columns: COLUMNS.into_iter().chain(more).collect(), rows: Vec::new() }
    }

    /// A row for `found`, with as many cells more as there are headings.
    pub(crate) fn add(&mut self, found: &Status, more: &[String]) {
        let holder = found.holder.as_ref();
        let text = |text: Option<&String>| text.map_or("-".into(), |text| escape::text(text));
        let cells = vec![
            report::path(&found.target),
            found.state.as_str().to_owned(),
            match holder.and_then(Holder::pid) {
                Some(pid) => pid.to_string(),
                None if found.open_by.is_empty() => "-".to_owned(),
                None => found.open_by.iter().map(i64::to_string).collect::<Vec<_>>().join(","),
            },
            text(holder.and_then(|holder| holder.command.as_ref())),
            holder.and_then(Holder::age).map_or("-".to_owned(), escape::duration),
            found.waiters.map_or("-".to_owned(), |waiters| waiters.to_string()),
            text(holder.and_then(|holder| holder.label.as_ref())),
        ];
        self.push(found.state, cells.into_iter().chain(more.iter().cloned()).collect());
    }

    fn push(&mut self, state: State, mut cells: Vec<String>) {
        for (cell, column) in cells.iter_mut().zip(&self.columns) {
            if column.most < ALL {
                *cell = cut_end(cell, column.most);
            }
        }
        self.rows.push((state, cells));
    }

    /// The table as text, no line wider than `limit` where there is one, and nothing after the last column.
    pub(crate) fn render(&self, limit: Option<usize>) -> String {
        let widths = self.widths(limit.unwrap_or(ALL));
        let shown: Vec<usize> = (0..widths.len()).filter(|&column| widths[column] > 0).collect();
        let headings = self.columns.iter().map(|column| column.heading.to_owned()).collect();
        let mut text = String::new();
        let rows = self.rows.iter().map(|(state, row)| (Some(*state), row));
        for (state, row) in [(None, &headings)].into_iter().chain(rows) {
            for &column in &shown {
                if column != shown[0] {
                    pad(&mut text, GAP);
                }
                let columns = widths[column];
                let cell: Cow<'_, str> = match column {
                    _ if width(&row[column]) <= columns => row[column].as_str().into(),
                    TARGET => cut_start(&row[column], columns).into(),
                    _ => cut_end(&row[column], columns).into(),
                };
                let room = columns.saturating_sub(width(&cell));
                let cell = match state {
                    Some(state) if column == STATE => report::coloured(state, &cell).into(),
                    _ => cell,
                };
                let (before, after) = if column == NUMBER { (room, 0) } else { (0, room) };
                pad(&mut text, before);
                text += &cell;
                pad(&mut text, after);
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }

    /// How wide each column is; 0 for one that is left out.
    fn widths(&self, limit: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|column| width(column.heading)).collect();
        for (_, row) in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = width(cell).max(*widest);
            }
        }
        let natural = widths.clone();
        loop {
            let total: usize = widths.iter().filter(|&&width| width > 0).map(|width| width + GAP).sum::<usize>() - GAP;
            let mut over = total.saturating_sub(limit);
            for column in CUT {
                let spare = widths[column].saturating_sub(self.columns[column].least.min(natural[column]));
                let cut = spare.min(over);
                widths[column] -= cut;
                over -= cut;
            }
            if over == 0 {
                return widths;
            }
            let least =
                (0..widths.len()).filter(|&column| widths[column] > 0).min_by_key(|&column| self.columns[column].stays);
            match least.filter(|&column| self.columns[column].stays < ALL) {
                // What was cut for its sake comes back.
                Some(column) => {
                    let gone: Vec<bool> = widths.iter().map(|&width| width == 0).collect();
                    widths = natural.iter().zip(gone).map(|(&width, gone)| if gone { 0 } else { width }).collect();
                    widths[column] = 0;
                }
                None => {
                    widths[TARGET] = widths[TARGET].saturating_sub(over).max(1);
                    return widths;
                }
            }
        }
    }
}

fn pad(text: &mut String, columns: usize) {
    text.extend(std::iter::repeat_n(' ', columns));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[]);
        let row = |cells: [&str; 7]| cells.map(str::to_owned).to_vec();
        let command = "node gateway.js --port 8080 --verbose --and-so-on --for-ever";
        table.push(State::Held, row(["sessions/main.jsonl", "held", "4242", command, "2 h 5 min", "2", "run 8f2c"]));
        table.push(State::Stale, row(["a", "stale", "7", "-", "3 min", "-", "漢字漢字漢字漢字"]));
        table
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_table_without_rows_is_its_heading() {
        let heading = "TARGET  STATE  HOLDER  COMMAND  SINCE  WAITERS  LABEL  REMOVED\n";
        assert_eq!(Table::new(&["REMOVED"]).render(None), heading);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_the_target_stays() {
        let table = table();
        for limit in 20..150 {
            for line in plain(&table.render(Some(limit))).lines() {
                assert!(width(line) <= limit, "{limit}: {line}");
            }
        }
        assert_eq!(
            plain(&table.render(Some(80))),
            "TARGET               STATE  HOLDER  COMMAND   SINCE      WAITERS  LABEL\n\
             sessions/main.jsonl  held   4242    node ga…  2 h 5 min        2  run 8f2c\n\
             a                    stale  7       -         3 min            -  漢字漢字漢字…\n"
        );
        assert_eq!(
            plain(&table.render(Some(40))),
            "TARGET          STATE  HOLDER  SINCE\n\
             …ns/main.jsonl  held   4242    2 h 5 min\n\
             a               stale  7       3 min\n"
        );
    }

    #[test]
    fn without_a_limit_only_long_commands_and_labels_are_cut() {
        let text = plain(&table().render(None));
        assert!(
            text.contains("sessions/main.jsonl") && text.contains("--verbose -…") && text.contains("漢字漢字漢字漢字"),
            "{text}"
        );
    }
}
