//! The history as a table: one line for each tenure, so that `grep` and `sort` work on it.

use tenure::escape;

use super::row::{Row, date};
use crate::output::terminal::{cut_end, width};

/// The heading of a column; the width to which its cells are always cut; the width to which they are cut where the line would
/// be too wide, and which comes first then.
struct Column(&'static str, usize, usize);

const COLUMNS: [Column; 9] = [
    Column("ENDED", 10, 10),
    Column("FROM", 24, 24),
    Column("HELD", 14, 14),
    Column("WAITED", 14, 14),
    Column("EXIT", 11, 11),
    Column("PID", 20, 20),
    Column("LABEL", 30, 6),
    Column("COMMAND", 40, 8),
    Column("NOTE", 60, 10),
];
/// The columns that are cut in a narrow terminal, and then left out, in that order.
const CUT: [usize; 3] = [7, 8, 6];
/// The columns that are left out after those, before the line is cut.
const LEFT_OUT: [usize; 3] = [5, 3, 4];

/// Renders the table, with no line wider than `limit`.
pub(super) fn render(rows: &[Row], limit: Option<usize>) -> String {
    let mut lines = vec![COLUMNS.map(|column| column.0.to_owned())];
    lines.extend(rows.iter().map(cells));
    let mut widths: [usize; 9] = std::array::from_fn(|column| {
        lines.iter().map(|line| width(&line[column]).min(COLUMNS[column].1)).max().unwrap_or(0)
    });
    let limit = limit.unwrap_or(usize::MAX);
    let over = |widths: &[usize; 9]| {
        let shown = widths.iter().filter(|&&width| width > 0);
        (shown.clone().sum::<usize>() + 2 * shown.count().saturating_sub(1)).saturating_sub(limit)
    };
    for column in CUT {
        let spare = widths[column].saturating_sub(COLUMNS[column].2);
        widths[column] -= spare.min(over(&widths));
    }
    for column in CUT.into_iter().chain(LEFT_OUT) {
        if over(&widths) > 0 {
            widths[column] = 0;
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut out = String::new();
        for (cell, &columns) in line.iter().zip(&widths).filter(|(_, columns)| **columns > 0) {
            let cell = cut_end(cell, columns);
            let room = columns.saturating_sub(width(&cell)) + 2;
            out += &cell;
            out.extend(std::iter::repeat_n(' ', room));
        }
        text += &cut_end(out.trim_end_matches(' '), limit);
        text.push('\n');
    }
    text
}

fn cells(row: &Row) -> [String; 9] {
    let none = || "-".to_owned();
    let text = |text: &Option<String>| text.as_deref().map_or_else(none, escape::text);
    [
        row.ended.to_owned(),
        date(row.from),
        row.held_for().map_or_else(none, escape::duration),
        row.waited.map_or_else(none, escape::duration),
        row.exit_code.map_or_else(none, |code| code.to_string()),
        row.pid.map_or_else(none, |pid| pid.to_string()),
        text(&row.label),
        text(&row.command),
        if row.note.is_empty() { none() } else { row.note.clone() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::history::chart::tests::rows;

    #[test]
    fn lines_fit_the_terminal() {
        for limit in 20..200 {
            let text = render(&rows(), Some(limit));
            assert!(text.lines().all(|line| width(line) <= limit && !line.ends_with(' ')), "{limit}:\n{text}");
            assert_eq!(text.lines().count(), rows().len() + 1);
        }
        assert_eq!(
            render(&rows(), Some(80)).lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
            ["ENDED", "FROM", "HELD", "WAITED", "EXIT", "PID", "LABEL", "NOTE"]
        );
    }

    #[test]
    fn every_cell_is_escaped() {
        let text = render(&rows(), None);
        assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}"), "{text}");
        assert!(text.contains("held by pid 7, nightly") && text.contains("-1"), "{text}");
    }
}
