//! What a terminal needs: lines that fit it, and one that changes in place and goes away.
//!
//! docs/design.md says why no crate for progress bars draws it.

use std::io::{self, IsTerminal, Write};

use unicode_width::UnicodeWidthChar;

use crate::sys;

/// Where a terminal does not say how wide it is.
const USUAL_WIDTH: usize = 80;

/// How many columns standard output has; `None` where it is no terminal.
pub(crate) fn output_width() -> Option<usize> {
    let out = io::stdout();
    out.is_terminal().then(|| sys::columns(&out).unwrap_or(USUAL_WIDTH))
}

/// How many columns `text` takes, at most: terminals differ in what they join.
pub(crate) fn width(text: &str) -> usize {
    if is_plain(text) {
        return text.len();
    }
    text.chars().map(char_width).sum()
}

/// Does each byte take one column?
fn is_plain(text: &str) -> bool {
    // Without an early end, so that many bytes are compared at once.
    text.bytes().fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte))
}

pub(crate) fn char_width(c: char) -> usize {
    match c {
        // Asks for the picture of the character before it, which is wider than its letter.
        '\u{fe0f}' => 1,
        _ => c.width().unwrap_or(0),
    }
}

/// `text` in at most `columns`: its end is cut.
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

/// `text` in at most `columns`: its beginning is cut, because the end of a path is what tells it from others.
pub(crate) fn cut_start(text: &str, columns: usize) -> String {
    let backwards = |text: &str| text.chars().rev().collect::<String>();
    backwards(&cut_end(&backwards(text), columns))
}

/// One line on standard error that changes in place.
pub(crate) struct LiveLine {
    shown: bool,
}

impl LiveLine {
    /// `None` where it cannot be: standard error is no terminal, or one that cannot erase.
    pub(crate) fn new() -> Option<LiveLine> {
        let can_erase = std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
        (can_erase && io::stderr().is_terminal()).then_some(LiveLine { shown: false })
    }

    /// Shows `text` in place of what was shown, cut to the terminal as wide as it is now: a line that wraps could not
    /// be taken back.
    pub(crate) fn draw(&mut self, text: &str) {
        let err = io::stderr();
        let columns = sys::columns(&err).unwrap_or(USUAL_WIDTH);
        self.shown = true;
        // Short of the edge: some terminals wrap when the last column is written, and a key's `^C` shows after it.
        let room = columns.saturating_sub(1 + "^C".len());
        let _ = err.lock().write_all(format!("\r{}\x1b[K", cut_end(text, room)).as_bytes());
    }

    /// Takes it away. In the background the cursor is where the shell, or somebody's typing, has put it: then it stays.
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
    fn text_is_cut_by_columns_not_by_characters() {
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
