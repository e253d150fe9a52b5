//! The rows of the table: their order, and which of them are shown.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::time::Duration;

use tenure::State;

/// A column of the table. The table can be sorted by each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Target,
    State,
    Held,
    Waiters,
    Waiting,
    Crashes,
    Pid,
    Command,
    Label,
}

impl Column {
    pub(super) const ALL: [Column; 9] = [
        Column::Target,
        Column::State,
        Column::Held,
        Column::Waiters,
        Column::Waiting,
        Column::Crashes,
        Column::Pid,
        Column::Command,
        Column::Label,
    ];

    pub(super) fn heading(self) -> &'static str {
        match self {
            Column::Target => "TARGET",
            Column::State => "STATE",
            Column::Held => "HELD",
            Column::Waiters => "WAITERS",
            Column::Waiting => "WAITING",
            Column::Crashes => "CRASHES",
            Column::Pid => "PID",
            Column::Command => "COMMAND",
            Column::Label => "LABEL",
        }
    }

    /// Returns whether the largest value comes first.
    pub(super) fn is_descending(self) -> bool {
        matches!(self, Column::Held | Column::Waiters | Column::Waiting | Column::Crashes)
    }
}

/// A lock of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The lock's own name, by which it is found again.
    pub(super) key: PathBuf,
    /// Texts are escaped.
    pub(super) target: String,
    pub(super) state: State,
    pub(super) held: Option<Duration>,
    pub(super) waiters: Option<usize>,
    pub(super) waiting: Option<Duration>,
    pub(super) crashes: u64,
    pub(super) pid: Option<i64>,
    /// Further holders of a shared lock.
    pub(super) sharers: usize,
    pub(super) command: String,
    pub(super) label: String,
}

impl Row {
    fn compare(&self, other: &Row, column: Column) -> Ordering {
        match column {
            Column::Target => self.target.cmp(&other.target),
            Column::State => self.state.as_str().cmp(other.state.as_str()),
            Column::Held => self.held.cmp(&other.held),
            Column::Waiters => self.waiters.cmp(&other.waiters),
            Column::Waiting => self.waiting.cmp(&other.waiting),
            Column::Crashes => self.crashes.cmp(&other.crashes),
            Column::Pid => self.pid.cmp(&other.pid),
            Column::Command => self.command.cmp(&other.command),
            Column::Label => self.label.cmp(&other.label),
        }
    }

    /// Returns whether the row has the filter's text, in whatever case.
    fn matches(&self, filter: &str) -> bool {
        let filter = filter.to_lowercase();
        [&self.target, &self.command, &self.label].iter().any(|text| text.to_lowercase().contains(&filter))
    }
}

/// The order of the rows, and which of them are shown.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) column: Column,
    pub(super) descending: bool,
    pub(super) filter: String,
}

impl Default for Order {
    fn default() -> Order {
        Order { column: Column::Held, descending: true, filter: String::new() }
    }
}

impl Order {
    pub(super) fn sort_by(&mut self, column: Column) {
        (self.column, self.descending) = (column, column.is_descending());
    }

    /// Sorts by the column that many further to the right.
    pub(super) fn step(&mut self, by: usize) {
        let at = Column::ALL.iter().position(|column| *column == self.column).unwrap_or(0);
        self.sort_by(Column::ALL[(at + by) % Column::ALL.len()]);
    }

    /// Returns the rows that are shown, in their order. Equal rows are in the order of their targets.
    pub(super) fn apply(&self, mut rows: Vec<Row>) -> Vec<Row> {
        rows.retain(|row| row.matches(&self.filter));
        rows.sort_by(|one, other| {
            let order = one.compare(other, self.column);
            let order = if self.descending { order.reverse() } else { order };
            order.then_with(|| one.key.cmp(&other.key))
        });
        rows
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn row(target: &str, held: u64, waiters: usize) -> Row {
        Row {
            key: target.into(),
            target: target.to_owned(),
            state: State::Held,
            held: Some(Duration::from_secs(held)),
            waiters: Some(waiters),
            waiting: None,
            crashes: 0,
            pid: Some(4242),
            sharers: 0,
            command: format!("make {target}"),
            label: "nightly".to_owned(),
        }
    }

    fn shown(order: &Order) -> Vec<String> {
        let rows = vec![row("a", 1, 3), row("b", 3, 0), row("c", 2, 3)];
        order.apply(rows).into_iter().map(|row| row.target).collect()
    }

    #[test]
    fn orders_and_filters() {
        let mut order = Order::default();
        assert_eq!(shown(&order), ["b", "c", "a"]);
        order.step(1);
        assert_eq!((order.column, shown(&order)), (Column::Waiters, ["a", "c", "b"].map(str::to_owned).to_vec()));
        order.descending = false;
        assert_eq!(shown(&order), ["b", "a", "c"]);
        order.step(Column::ALL.len() - 3);
        assert_eq!((order.column, shown(&order)), (Column::Target, ["a", "b", "c"].map(str::to_owned).to_vec()));
        order.filter = "MAKE B".to_owned();
        assert_eq!(shown(&order), ["b"]);
        order.filter = "none".to_owned();
        assert_eq!(shown(&order), [""; 0]);
    }
}
