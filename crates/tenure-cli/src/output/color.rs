//! Colours on standard output.

use std::io;
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};
use tenure::State;

/// Returns whether standard output takes colours.
pub(crate) fn is_wanted() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never)
}

/// Returns `text` in `style`.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Returns `text` in the colour of `state`, where standard output takes colours.
pub(crate) fn of_state(state: State, text: &str) -> String {
    if !is_wanted() {
        return text.to_owned();
    }
    let color = match state {
        State::Free => AnsiColor::Green,
        State::Held => AnsiColor::Yellow,
        State::Stale => AnsiColor::Magenta,
        State::Unknown => AnsiColor::Red,
    };
    styled(color.on_default(), text)
}
