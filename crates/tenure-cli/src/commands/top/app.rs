//! What `top` shows, and what a key changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tenure::{Holder, State, escape};

use super::keys::Key;
use super::table::{Column, Order, Row};
use crate::commands::ls::without_dot;
use crate::output::describe;
use crate::watching::{Event, EventKind, Observer};

/// What `top` shows.
pub(super) struct App {
    pub(super) dir: PathBuf,
    pub(super) folder_exists: bool,
    pub(super) order: Order,
    pub(super) mode: Mode,
    /// The rows that are shown, in their order.
    pub(super) rows: Vec<Row>,
    pub(super) totals: Totals,
    pub(super) selected: usize,
    /// The first row that is on the screen.
    pub(super) offset: usize,
    /// The number of rows that were on the screen.
    pub(super) page: usize,
    /// The crashes that were seen of each lock.
    crashes: BTreeMap<PathBuf, u64>,
    takeovers: u64,
}

/// What keys mean at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    /// Letters are added to the filter.
    Filter,
    Help,
}

/// Sums over all locks, whatever the filter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) held: usize,
    pub(super) stale: usize,
    pub(super) unknown: usize,
    pub(super) waiters: usize,
    pub(super) crashes: u64,
    pub(super) takeovers: u64,
}

impl App {
    pub(super) fn new(dir: &Path) -> App {
        App {
            dir: dir.to_owned(),
            folder_exists: true,
            order: Order::default(),
            mode: Mode::Table,
            rows: Vec::new(),
            totals: Totals::default(),
            selected: 0,
            offset: 0,
            page: 1,
            crashes: BTreeMap::new(),
            takeovers: 0,
        }
    }

    /// Counts what has happened since the beginning.
    pub(super) fn count(&mut self, events: &[Event]) {
        for event in events {
            self.takeovers += u64::from(event.takeover);
            if let (EventKind::Crashed, Some(lock)) = (event.kind, &event.lock) {
                *self.crashes.entry(lock.target.clone()).or_default() += 1;
            }
        }
    }

    /// Takes over the present state of the locks.
    pub(super) fn update(&mut self, observer: &Observer) {
        let now = Instant::now();
        let mut totals =
            Totals { crashes: self.crashes.values().sum(), takeovers: self.takeovers, ..Totals::default() };
        let mut rows = Vec::new();
        for lock in observer.locks() {
            let status = &lock.status;
            match status.state {
                State::Free => {}
                State::Held => totals.held += 1,
                State::Stale => totals.stale += 1,
                State::Unknown => totals.unknown += 1,
            }
            totals.waiters += status.waiters.unwrap_or(0);
            let key = status.target.clone();
            let mut shown = status.clone();
            without_dot(&self.dir, &mut shown);
            let holder = shown.holder.as_ref();
            let text = |text: Option<&String>| text.map(|text| escape::text(text)).unwrap_or_default();
            rows.push(Row {
                target: describe::path(&shown.target),
                state: shown.state,
                held: holder.and_then(Holder::age),
                waiters: shown.waiters,
                waiting: lock.longest_wait(now),
                crashes: self.crashes.get(&key).copied().unwrap_or(0),
                pid: holder
                    .and_then(Holder::pid)
                    .or_else(|| shown.open_by.first().copied().filter(|_| holder.is_none())),
                sharers: if holder.is_none() { shown.open_by.len().saturating_sub(1) } else { 0 },
                command: text(holder.and_then(|holder| holder.command.as_ref())),
                label: text(holder.and_then(|holder| holder.label.as_ref())),
                key,
            });
        }
        self.totals = totals;
        self.folder_exists = observer.exists();
        self.show(rows);
    }

    /// Orders and filters the rows. The same lock stays selected where it is still there.
    pub(super) fn show(&mut self, rows: Vec<Row>) {
        let selected = self.rows.get(self.selected).map(|row| row.key.clone());
        self.rows = self.order.apply(rows);
        let same = selected.and_then(|key| self.rows.iter().position(|row| row.key == key));
        self.select(same.unwrap_or(self.selected));
    }

    fn select(&mut self, row: usize) {
        self.selected = row.min(self.rows.len().saturating_sub(1));
    }

    /// Does what a key asks for. Returns whether it asks for the end.
    pub(super) fn press(&mut self, key: Key) -> bool {
        let page = self.page.max(1);
        match (self.mode, key) {
            (Mode::Help, Key::Char('q') | Key::Function(10)) => return true,
            (Mode::Help, _) => self.mode = Mode::Table,
            (Mode::Filter, Key::Char(letter)) => self.order.filter.push(letter),
            (Mode::Filter, Key::Backspace) => drop(self.order.filter.pop()),
            (Mode::Filter, Key::Enter | Key::Function(4)) => self.mode = Mode::Table,
            (_, Key::Escape) => {
                self.order.filter.clear();
                self.mode = Mode::Table;
            }
            (_, Key::Function(10)) | (Mode::Table, Key::Char('q')) => return true,
            (_, Key::Up) | (Mode::Table, Key::Char('k')) => self.select(self.selected.saturating_sub(1)),
            (_, Key::Down) | (Mode::Table, Key::Char('j')) => self.select(self.selected + 1),
            (_, Key::PageUp) => self.select(self.selected.saturating_sub(page)),
            (_, Key::PageDown) => self.select(self.selected + page),
            (_, Key::Home) => self.select(0),
            (_, Key::End) => self.select(usize::MAX),
            (Mode::Table, Key::Char('?' | 'h') | Key::Function(1)) => self.mode = Mode::Help,
            (Mode::Table, Key::Char('/' | '\\') | Key::Function(4)) => self.mode = Mode::Filter,
            (Mode::Table, Key::Char('>' | '.') | Key::Function(6)) => self.order.step(1),
            (Mode::Table, Key::Char('<' | ',')) => self.order.step(Column::ALL.len() - 1),
            (Mode::Table, Key::Char('t' | 'T')) => self.order.sort_by(Column::Held),
            (Mode::Table, Key::Char('w' | 'W')) => self.order.sort_by(Column::Waiters),
            (Mode::Table, Key::Char('p' | 'P')) => self.order.sort_by(Column::Pid),
            (Mode::Table, Key::Char('r' | 'I')) => self.order.descending = !self.order.descending,
            (Mode::Filter | Mode::Table, _) => {}
        }
        false
    }
}
