//! Text on a terminal: lines that fit it, and a line that is updated in place and erased.
//!
//! docs/design.md explains why no crate for progress bars draws that line.

use std::io::{self, IsTerminal, Write};

use unicode_width::UnicodeWidthChar;

use crate::sys;

/// The width that is assumed where a terminal does not report one.
const DEFAULT_WIDTH: usize = 80;

/// Returns the number of columns of standard output; `None` where it is no terminal.
pub(crate) fn output_width() -> Option<usize> {
    let out = io::stdout();
    out.is_terminal().then(|| sys::columns(&out).unwrap_or(DEFAULT_WIDTH))
}

/// Returns the number of columns that `text` takes at most. Terminals differ in which characters they join.
pub(crate) fn width(text: &str) -> usize {
    if is_plain(text) {
        return text.len();
    }
    text.chars().map(char_width).sum()
}

/// Returns whether each byte takes one column.
fn is_plain(text: &str) -> bool {
    // The loop does not end early, so that the compiler can compare many bytes at once.
    text.bytes().fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte))
}

/// Returns the number of columns that a character takes.
pub(crate) fn char_width(c: char) -> usize {
    match c {
        // This selector asks for the emoji form of the character before it, which is wider than its text form.
        '\u{fe0f}' => 1,
        _ => c.width().unwrap_or(0),
    }
}

/// Cuts the end of `text` so that it takes at most `columns`.
pub(crate) fn cut_end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    if is_plain(text) && columns > 0 {
        return format!("{}…", &text[..columns - 1]);
    }
    let mut left = columns.saturating_sub(1);
    let fits = |c: &char| {
        let fits = char_width(*c) <= left;
        left = left.saturating_sub(char_width(*c));
        fits
    };
    text.chars().take_while(fits).chain((columns > 0).then_some('…')).collect()
}

/// Cuts the beginning of `text` so that it takes at most `columns`. The end of a path distinguishes it best.
pub(crate) fn cut_start(text: &str, columns: usize) -> String {
    let backwards = |text: &str| text.chars().rev().collect::<String>();
    backwards(&cut_end(&backwards(text), columns))
}

/// A line on standard error that is updated in place.
pub(crate) struct LiveLine {
    shown: bool,
}

impl LiveLine {
    /// Creates the line. Returns `None` where standard error is no terminal, or a terminal that cannot erase.
    pub(crate) fn new() -> Option<LiveLine> {
        let can_erase = std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
        (can_erase && io::stderr().is_terminal()).then_some(LiveLine { shown: false })
    }

    /// Shows `text` in place of the text before it. The text is cut to the terminal's present width, because a line that
    /// wraps could not be erased.
    pub(crate) fn draw(&mut self, text: &str) {
        let err = io::stderr();
        let columns = sys::columns(&err).unwrap_or(DEFAULT_WIDTH);
        self.shown = true;
        // Some terminals wrap when the last column is written, and a key's `^C` may be echoed after the text.
        let room = columns.saturating_sub(1 + "^C".len());
        let _ = err.lock().write_all(format!("\r{}\x1b[K", cut_end(text, room)).as_bytes());
    }

    /// Erases the line. In the background the line stays, because the shell or the user's typing has moved the cursor.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) && sys::in_foreground() {
            let _ = io::stderr().lock().write_all(b"\r\x1b[K");
        }
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_columns_and_not_by_characters() {
        assert_eq!(cut_end("short", 5), "short");
        assert_eq!(cut_end("longer", 5), "long…");
        assert_eq!(cut_end("ünïcödé", 4), "ünï…");
        assert_eq!(cut_end("漢字漢字", 8), "漢字漢字");
        assert_eq!(cut_end("漢字漢字", 7), "漢字漢…");
        assert_eq!(cut_end("漢字漢字", 6), "漢字…");
        assert_eq!(cut_end("ab", 1), "…");
        assert_eq!(cut_end("ab", 0), "");
        assert_eq!(cut_start("sessions/main.jsonl", 11), "…main.jsonl");
        assert_eq!(cut_start("漢字", 3), "…字");
    }

    #[test]
    fn widths() {
        assert_eq!((width("ab"), width("漢"), width("e\u{301}"), width("☎\u{fe0f}")), (2, 2, 1, 2));
    }
}
