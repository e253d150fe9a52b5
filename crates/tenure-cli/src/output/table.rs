//! Locks as a table: a heading, and one line for each lock, so that `grep` and `sort` work on it. For the locks of a server the
//! names are a [tree](super::tree).
//!
//! Where the table is too wide, the wide columns are cut first, and then the least important columns are left out. Table
//! crates wrap wide cells into several lines, or do not know which columns are the least important.

use std::borrow::Cow;

use tenure::{Holder, State, Status, escape};

use super::terminal::{cut_end, cut_start, width};
use super::{color, describe};

struct Column {
    heading: &'static str,
    /// The width to which every cell is cut, however wide the terminal is.
    most: usize,
    /// The width below which the column is not cut.
    least: usize,
    /// The columns with the lowest rank are left out first. A column with `ALL` always stays.
    rank: usize,
}

const fn column(heading: &'static str, most: usize, least: usize, rank: usize) -> Column {
    Column { heading, most, least, rank }
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
const WAITERS: usize = 5;
/// The order in which columns are cut.
const CUT: [usize; 3] = [3, 6, TARGET];
const GAP: usize = 2;

pub(crate) struct Table {
    columns: Vec<Column>,
    /// A name that is no lock has no state.
    rows: Vec<(Option<State>, Vec<String>)>,
    /// The targets are parts of names, whose beginning tells more than the end.
    is_tree: bool,
}

impl Table {
    /// Creates an empty table, with `more` headings after those that every table has.
    pub(crate) fn new(more: &[&'static str]) -> Table {
        let more = more.iter().map(|&heading| column(heading, ALL, ALL, ALL));
        Table { columns: COLUMNS.into_iter().chain(more).collect(), rows: Vec::new(), is_tree: false }
    }

    /// Creates an empty table for a tree of names.
    pub(crate) fn of_tree() -> Table {
        Table { is_tree: true, ..Table::new(&[]) }
    }

    /// Adds a row for a name that is no lock itself.
    pub(crate) fn add_name(&mut self, name: String) {
        let cells = std::iter::once(name).chain(vec![String::new(); self.columns.len() - 1]).collect();
        self.push(None, cells);
    }

    /// Adds a row for `found`, with a cell for each of the additional headings.
    pub(crate) fn add(&mut self, found: &Status, more: &[String]) {
        self.add_as(describe::path(&found.target), found, more);
    }

    /// As [`add`](Table::add), with another text for the target.
    pub(crate) fn add_as(&mut self, target: String, found: &Status, more: &[String]) {
        let holder = found.holder.as_ref();
        let text = |text: Option<&String>| text.map_or("-".into(), |text| escape::text(text));
        let cells = vec![
            target,
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
        self.push(Some(found.state), cells.into_iter().chain(more.iter().cloned()).collect());
    }

    fn push(&mut self, state: Option<State>, mut cells: Vec<String>) {
        for (cell, column) in cells.iter_mut().zip(&self.columns) {
            if column.most < ALL && width(cell) > column.most {
                *cell = cut_end(cell, column.most);
            }
        }
        self.rows.push((state, cells));
    }

    /// Renders the table, with no line wider than `limit` and no space at the end of a line.
    pub(crate) fn render(&self, limit: Option<usize>) -> String {
        let widths = self.widths(limit.unwrap_or(ALL));
        let shown: Vec<usize> = (0..widths.len()).filter(|&column| widths[column] > 0).collect();
        let headings = self.columns.iter().map(|column| column.heading.to_owned()).collect();
        let mut text = String::new();
        let rows = self.rows.iter().map(|(state, row)| (*state, row));
        for (state, row) in [(None, &headings)].into_iter().chain(rows) {
            for &column in &shown {
                if column != shown[0] {
                    pad(&mut text, GAP);
                }
                let columns = widths[column];
                let cell: Cow<'_, str> = match column {
                    _ if width(&row[column]) <= columns => row[column].as_str().into(),
                    TARGET if !self.is_tree => cut_start(&row[column], columns).into(),
                    _ => cut_end(&row[column], columns).into(),
                };
                let room = columns.saturating_sub(width(&cell));
                let cell = match state {
                    Some(state) if column == STATE => color::of_state(state, &cell).into(),
                    _ => cell,
                };
                let (before, after) = if column == WAITERS { (room, 0) } else { (0, room) };
                pad(&mut text, before);
                text += &cell;
                pad(&mut text, after);
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }

    /// Returns the width of each column; 0 for a column that is left out.
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
                (0..widths.len()).filter(|&column| widths[column] > 0).min_by_key(|&column| self.columns[column].rank);
            match least.filter(|&column| self.columns[column].rank < ALL) {
                // The columns that were cut to keep this one get their width back.
                Some(column) => {
                    let hidden: Vec<bool> = widths.iter().map(|&width| width == 0).collect();
                    widths =
                        natural.iter().zip(hidden).map(|(&width, hidden)| if hidden { 0 } else { width }).collect();
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
        table.push(
            Some(State::Held),
            row(["sessions/main.jsonl", "held", "4242", command, "2 h 5 min", "2", "run 8f2c"]),
        );
        table.push(Some(State::Stale), row(["a", "stale", "7", "-", "3 min", "-", "漢字漢字漢字漢字"]));
        table
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn an_empty_table_is_its_heading() {
        let heading = "TARGET  STATE  HOLDER  COMMAND  SINCE  WAITERS  LABEL  REMOVED\n";
        assert_eq!(Table::new(&["REMOVED"]).render(None), heading);
    }

    #[test]
    fn lines_fit_the_terminal_and_keep_the_target() {
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
