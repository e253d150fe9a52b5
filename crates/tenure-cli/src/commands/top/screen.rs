//! The terminal while `top` has it: raw input, the alternate screen, and what ratatui draws on it.
//!
//! docs/design.md explains why no crate is between ratatui and the terminal.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::panic;

use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};

use crate::sys;

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";

/// The terminal's state while this exists. Dropping it restores the terminal.
pub(super) struct Screen;

impl Screen {
    pub(super) fn enter() -> io::Result<Screen> {
        sys::enter_raw_mode()?;
        let screen = Screen;
        write_all(ENTER)?;
        Ok(screen)
    }

    /// Enters the same state once more, after another program may have changed it.
    pub(super) fn take_again() -> io::Result<()> {
        sys::enter_raw_mode()?;
        write_all(ENTER)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Makes a panic restore the terminal before its message, which would be lost with the alternate screen.
pub(super) fn restore_at_panic() {
    let next = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        leave();
        next(info);
    }));
}

fn leave() {
    // The mode is restored first: a terminal that takes no output has it at least.
    if sys::leave_raw_mode() {
        let _ = write_all(LEAVE);
    }
}

fn write_all(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Draws on an ANSI terminal. A frame is written in one call.
pub(super) struct Ansi {
    frame: String,
}

impl Ansi {
    pub(super) fn new() -> Ansi {
        Ansi { frame: String::new() }
    }
}

impl Backend for Ansi {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        let (mut next, mut style) = (None, None);
        for (x, y, cell) in content {
            if next != Some((x, y)) {
                let _ = write!(self.frame, "\x1b[{};{}H", y + 1, x + 1);
            }
            if style != Some((cell.fg, cell.modifier)) {
                style = Some((cell.fg, cell.modifier));
                self.frame += "\x1b[0m";
                let modifiers = [(Modifier::BOLD, 1), (Modifier::DIM, 2), (Modifier::REVERSED, 7)];
                for (_, code) in modifiers.into_iter().filter(|(modifier, _)| cell.modifier.contains(*modifier)) {
                    let _ = write!(self.frame, "\x1b[{code}m");
                }
                if let Some(code) = foreground(cell.fg) {
                    let _ = write!(self.frame, "\x1b[{code}m");
                }
            }
            self.frame += cell.symbol();
            // Terminals differ in how wide some characters are.
            next = cell.symbol().is_ascii().then_some((x + 1, y));
        }
        self.frame += "\x1b[0m";
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.frame += "\x1b[?25l";
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.frame += "\x1b[?25h";
        Ok(())
    }

    /// Returns the first position: the cursor is moved before each use.
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        let _ = write!(self.frame, "\x1b[{};{}H", y + 1, x + 1);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.frame += match region {
            ClearType::All => "\x1b[2J",
            ClearType::AfterCursor => "\x1b[J",
            ClearType::BeforeCursor => "\x1b[1J",
            ClearType::CurrentLine => "\x1b[2K",
            ClearType::UntilNewLine => "\x1b[K",
        };
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        let (columns, rows) = sys::terminal_size();
        Ok(Size::new(columns, rows))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        let frame = std::mem::take(&mut self.frame);
        write_all(&frame)
    }
}

/// Returns the code of a colour. Only the terminal's own colours are used.
fn foreground(color: Color) -> Option<u8> {
    match color {
        Color::Red => Some(31),
        Color::Green => Some(32),
        Color::Yellow => Some(33),
        Color::Magenta => Some(35),
        Color::Cyan => Some(36),
        _ => None,
    }
}
