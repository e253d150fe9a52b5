//! Draws the table, the help, and the lines around them.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use tenure::{State, escape};

use super::app::{App, Mode};
use super::table::{Column, Row};
use crate::output::terminal::{cut_end, cut_start, width};
use crate::output::{color, describe};

const GAP: usize = 2;
/// The columns that are cut in a narrow terminal, with the width that is left at least.
const CUT: [(Column, usize); 3] = [(Column::Command, 8), (Column::Label, 6), (Column::Target, 10)];
/// The order in which columns are left out after that.
const LEFT_OUT: [Column; 8] = [
    Column::Label,
    Column::Command,
    Column::Crashes,
    Column::Waiting,
    Column::Pid,
    Column::Waiters,
    Column::State,
    Column::Held,
];

const HELP: [&str; 17] = [
    "q F10 Ctrl-C    quit",
    "Up Down k j     select a lock; also Page Up, Page Down, Home, End",
    "> < F6          sort by the next or the previous column",
    "t w p           sort by the time held, the number of waiters, the pid",
    "r I             reverse the order",
    "/ F4            filter by target, label or command; Enter keeps it, Esc removes it",
    "Ctrl-Z          suspend",
    "",
    "STATE           held; stale: the holder is dead; unknown: it cannot be decided",
    "HELD            how long the lock has been held",
    "WAITERS         how many processes wait for it",
    "WAITING         how long the longest of them has been seen to wait",
    "CRASHES         how many holders have died since this was started",
    "PID COMMAND     the holder, or the first of those that share the lock",
    "LABEL           the holder's name for itself",
    "",
    "Any key goes back to the table.",
];

pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    let row = |number: u16| Rect { y: area.y + number, height: 1, ..area };
    let columns = usize::from(area.width);
    if area.height == 0 || columns == 0 {
        return;
    }
    // A small terminal has the rows, and then the lines around them as far as there is room.
    let head = u16::from(area.height >= 4);
    let foot = u16::from(area.height >= 3);
    let heading = u16::from(area.height >= 2);
    if head > 0 {
        frame.render_widget(Line::raw(cut_end(&summary(app), columns)), row(0));
    }
    let body = Rect { y: area.y + head, height: area.height - head - foot, ..area };
    if app.mode == Mode::Help {
        for (number, line) in (0..body.height).zip(HELP) {
            frame.render_widget(Line::raw(cut_end(line, columns)), Rect { y: body.y + number, height: 1, ..body });
        }
    } else {
        app.page = usize::from(body.height - heading);
        app.offset = app.offset.min(app.selected).max((app.selected + 1).saturating_sub(app.page.max(1)));
        let layout = layout(&app.rows, columns);
        if heading > 0 {
            frame.render_widget(heading_line(app, &layout, columns), Rect { height: 1, ..body });
        }
        for (number, at) in (0..body.height - heading).zip(app.offset..app.rows.len()) {
            let line = row_line(&app.rows[at], &layout, columns, at == app.selected);
            frame.render_widget(line, Rect { y: body.y + heading + number, height: 1, ..body });
        }
        if app.rows.is_empty() && body.height > heading {
            let line = Line::raw(cut_end(&empty(app), columns));
            frame.render_widget(line, Rect { y: body.y + heading, height: 1, ..body });
        }
    }
    if foot > 0 {
        draw_foot(frame, app, row(area.height - 1));
    }
}

/// Returns what is said in place of rows.
fn empty(app: &App) -> String {
    let dir = describe::path(&app.dir);
    match app.folder_exists {
        false => format!("{dir} does not exist; its locks will be shown once it does"),
        true if app.order.filter.is_empty() => format!("no locks in {dir}"),
        true => format!("no lock in {dir} has this text; Esc removes the filter"),
    }
}

fn summary(app: &App) -> String {
    let totals = &app.totals;
    let mut text = format!("tenure top {}: {} held", describe::path(&app.dir), totals.held);
    let mut add = |number: u64, one: &str, many: &str| {
        if number > 0 {
            text += &format!(", {number} {}", if number == 1 { one } else { many });
        }
    };
    add(totals.stale as u64, "stale", "stale");
    add(totals.unknown as u64, "unknown", "unknown");
    add(totals.waiters as u64, "waiter", "waiters");
    add(totals.crashes, "crash", "crashes");
    add(totals.takeovers, "takeover", "takeovers");
    text
}

fn draw_foot(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let columns = usize::from(area.width);
    if app.mode == Mode::Filter {
        let text = format!("filter: {}", escape::text(&app.order.filter));
        // The end of a long filter is where it is written.
        let shown = cut_start(&text, columns.saturating_sub(1));
        let at = u16::try_from(width(&shown)).unwrap_or(0).min(area.width.saturating_sub(1));
        frame.render_widget(Line::raw(shown), area);
        frame.set_cursor_position(Position { x: area.x + at, y: area.y });
        return;
    }
    let keys = "q Quit  ? Help  / Filter  > < Sort  r Reverse";
    let text = match app.order.filter.as_str() {
        "" => keys.to_owned(),
        filter => format!("filter: {} (Esc removes it)  {keys}", escape::text(filter)),
    };
    frame.render_widget(Line::raw(cut_end(&text, columns)).reversed(), area);
}

/// The columns that are shown, with their widths.
type Layout = Vec<(Column, usize)>;

fn layout(rows: &[Row], columns: usize) -> Layout {
    let natural = |column: Column| {
        let cells = rows.iter().map(|row| width(&cell(row, column))).max().unwrap_or(0);
        let most = if column == Column::Command { 40 } else { usize::MAX };
        // The heading has a mark where the table is sorted by it.
        cells.min(most).max(column.heading().len() + 1)
    };
    let all: Layout = Column::ALL.into_iter().map(|column| (column, natural(column))).collect();
    let mut left_out = 0;
    loop {
        let mut shown = all.clone();
        shown.retain(|(column, _)| !LEFT_OUT[..left_out].contains(column));
        let total = shown.iter().map(|(_, width)| width + GAP).sum::<usize>() - GAP;
        let mut over = total.saturating_sub(columns);
        for (cut, least) in CUT {
            if let Some((_, width)) = shown.iter_mut().find(|(column, _)| *column == cut) {
                let spare = width.saturating_sub(least).min(over);
                *width -= spare;
                over -= spare;
            }
        }
        if over == 0 {
            return shown;
        }
        left_out += 1;
        if left_out > LEFT_OUT.len() {
            return vec![(Column::Target, columns)];
        }
    }
}

fn heading_line(app: &App, layout: &Layout, columns: usize) -> Line<'static> {
    let mark = if app.order.descending { '▼' } else { '▲' };
    let heading = |column: Column| match column == app.order.column {
        true => format!("{}{mark}", column.heading()),
        false => column.heading().to_owned(),
    };
    let cells = layout.iter().map(|(column, width)| pad(*column, &heading(*column), *width));
    let text = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
    Line::raw(fill(text, columns)).bold()
}

fn row_line(row: &Row, layout: &Layout, columns: usize, is_selected: bool) -> Line<'static> {
    let mut spans = Vec::new();
    let mut used = 0;
    for (number, (column, width)) in layout.iter().enumerate() {
        let gap = if number == 0 { 0 } else { GAP };
        let text = format!("{}{}", " ".repeat(gap), pad(*column, &cell(row, *column), *width));
        used += gap + width;
        let style = if *column == Column::State { of_state(row.state) } else { Style::new() };
        spans.push(Span::styled(text, style));
    }
    spans.push(Span::raw(" ".repeat(columns.saturating_sub(used))));
    let line = Line::from(spans);
    if is_selected { line.reversed() } else { line }
}

fn fill(mut text: String, columns: usize) -> String {
    text.extend(std::iter::repeat_n(' ', columns.saturating_sub(width(&text))));
    text
}

/// Returns the text with exactly that width.
fn pad(column: Column, text: &str, columns: usize) -> String {
    let text = if column == Column::Target { cut_start(text, columns) } else { cut_end(text, columns) };
    let room = " ".repeat(columns.saturating_sub(width(&text)));
    let is_number = matches!(column, Column::Held | Column::Waiters | Column::Waiting | Column::Crashes | Column::Pid);
    if is_number { room + &text } else { text + &room }
}

fn cell(row: &Row, column: Column) -> String {
    let none = || "-".to_owned();
    match column {
        Column::Target => row.target.clone(),
        Column::State => row.state.as_str().to_owned(),
        Column::Held => row.held.map_or_else(none, escape::duration),
        Column::Waiters => row.waiters.map_or_else(none, |waiters| waiters.to_string()),
        Column::Waiting => row.waiting.map_or_else(none, escape::duration),
        Column::Crashes => row.crashes.to_string(),
        Column::Pid => match (row.pid, row.sharers) {
            (None, _) => none(),
            (Some(pid), 0) => pid.to_string(),
            (Some(pid), more) => format!("{pid}+{more}"),
        },
        Column::Command if row.command.is_empty() => none(),
        Column::Command => row.command.clone(),
        Column::Label => row.label.clone(),
    }
}

fn of_state(state: State) -> Style {
    if !color::is_wanted() {
        return Style::new();
    }
    Style::new().fg(match state {
        State::Free => Color::Green,
        State::Held => Color::Yellow,
        State::Stale => Color::Magenta,
        State::Unknown => Color::Red,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::keys::Key;
    use super::super::table::tests::row;
    use super::*;

    /// Returns the lines of a screen of that size.
    fn screen(app: &mut App, columns: u16, rows: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, app)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y: u16| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..rows).map(|y| line(y).trim_end().to_owned()).collect()
    }

    fn app() -> App {
        let mut app = App::new(Path::new("jobs"));
        app.show((0..20).map(|number| row(&format!("job-{number:02}"), 1000 - number, 1)).collect());
        app.totals.held = 20;
        app
    }

    #[test]
    fn every_size_is_drawn() {
        for mode in [Mode::Table, Mode::Filter, Mode::Help] {
            let mut app = app();
            app.mode = mode;
            app.order.filter = "job".to_owned();
            for columns in (1..20).chain([50, 100]) {
                for rows in (1..6).chain([24]) {
                    screen(&mut app, columns, rows);
                }
            }
        }
        let lines = screen(&mut app(), 20, 3);
        assert_eq!(lines, ["TARGET    HELD▼", "job-00   16 min", "q Quit  ? Help  / F…"]);
        assert!(screen(&mut app(), 12, 1)[0].starts_with("job-00"));
    }

    #[test]
    fn a_wide_screen_has_all_columns() {
        let lines = screen(&mut app(), 120, 6);
        assert_eq!(lines[0], "tenure top jobs: 20 held");
        let headings: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(headings, ["TARGET", "STATE", "HELD▼", "WAITERS", "WAITING", "CRASHES", "PID", "COMMAND", "LABEL"]);
        for part in ["job-00", "held", "16 min", "4242", "make job-00", "nightly"] {
            assert!(lines[2].contains(part), "{part}: {lines:?}");
        }
    }

    #[test]
    fn keys_move_and_scroll() {
        let mut app = app();
        screen(&mut app, 80, 8);
        assert_eq!(app.page, 5);
        app.press(Key::PageDown);
        app.press(Key::Down);
        let lines = screen(&mut app, 80, 8);
        assert!(lines[2].starts_with("job-02") && lines[6].starts_with("job-06"), "{lines:?}");
        app.press(Key::End);
        app.press(Key::Down);
        assert!(screen(&mut app, 80, 8)[6].starts_with("job-19"));
        app.press(Key::Char('r'));
        // The same lock stays selected.
        let rows = app.rows.clone();
        app.show(rows);
        assert_eq!((app.rows[app.selected].target.as_str(), app.selected), ("job-19", 0));
        assert!(screen(&mut app, 80, 8)[2].starts_with("job-19"));
    }

    #[test]
    fn the_filter_is_edited_and_removed() {
        let mut app = app();
        for key in [Key::Char('/'), Key::Char('q'), Key::Backspace, Key::Char('0'), Key::Char('7')] {
            assert!(!app.press(key));
        }
        assert_eq!(screen(&mut app, 80, 8)[7], "filter: 07");
        let rows = app.rows.clone();
        app.show(rows);
        app.press(Key::Enter);
        assert_eq!((app.mode, app.rows.len()), (Mode::Table, 1));
        app.press(Key::Escape);
        assert_eq!(app.order.filter, "");
        assert!(app.press(Key::Char('q')));
    }

    #[test]
    fn without_locks_it_says_so() {
        let mut app = App::new(Path::new("jobs"));
        assert_eq!(screen(&mut app, 80, 5)[2], "no locks in jobs");
        app.order.filter = "x".to_owned();
        assert!(screen(&mut app, 80, 5)[2].contains("Esc removes the filter"));
        app.folder_exists = false;
        assert!(screen(&mut app, 80, 5)[2].contains("does not exist"));
    }
}
