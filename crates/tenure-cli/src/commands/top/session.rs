//! The terminal's session: waits for changes, keys and signals, and draws.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;

use super::app::App;
use super::keys::Keys;
use super::screen::{self, Ansi, Screen};
use super::view;
use crate::locking::die_by;
use crate::options::WalkOptions;
use crate::output::{Failure, describe, exit};
use crate::sys::{self, Note, Signals, WakeUps};
use crate::watching::Observer;

/// The interval at which the times are updated.
const REDRAW: Duration = Duration::from_secs(1);
/// The time in which the rest of a key arrives that begins as the escape key does.
const REST_OF_KEY: Duration = Duration::from_millis(50);

/// The reason why `top` ends.
enum End {
    Quit,
    Signal(i32),
}

pub(super) fn run(dir: &Path, walk: WalkOptions) -> Result<u8, Failure> {
    let can_move_cursor = std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
    if !(io::stdin().is_terminal() && io::stdout().is_terminal() && can_move_cursor) {
        let name = describe::path(dir);
        let message = format!(
            "`tenure top` needs a terminal that can move its cursor (TERM), for its input and its output; `tenure ls {name}` \
             lists the locks once, and `tenure events {name}` prints what happens to them"
        );
        return Err(Failure::new(exit::UNAVAILABLE, message));
    }
    let failed = |error| Failure::io("signals", &error);
    let mut signals = Signals::catch_ending().map_err(failed)?;
    signals.catch_for_the_command().map_err(failed)?;
    let (mut observer, _) = Observer::begin("top", dir, walk)?;
    let mut app = App::new(dir);
    screen::restore_at_panic();
    let end = work(&mut app, &mut observer, &signals)?;
    Ok(match end {
        End::Quit => exit::OK,
        End::Signal(signal) => die_by(signal),
    })
}

/// Shows the locks until the user quits. The terminal is restored when this returns.
fn work(app: &mut App, observer: &mut Observer, signals: &Signals) -> Result<End, Failure> {
    let failed = |error: io::Error| Failure::io("terminal", &error);
    let mut screen = Some(Screen::enter().map_err(failed)?);
    let mut terminal = Terminal::new(Ansi::new()).map_err(failed)?;
    let mut keys = Keys::default();
    loop {
        app.update(observer);
        terminal.draw(|frame| view::draw(frame, app)).map_err(failed)?;
        let limit = if keys.is_pending() { REST_OF_KEY } else { REDRAW };
        let wake_ups = WakeUps { notes: true, input: true, ..WakeUps::default() };
        let (events, woken) = observer.wait(wake_ups, limit)?;
        app.count(&events);
        while let Some(note) = signals.next() {
            let Note::Signal(arrival) = note else { continue };
            match arrival.signal {
                sys::SIGTSTP => {
                    drop(screen.take());
                    sys::stop_self();
                    screen = Some(Screen::enter().map_err(failed)?);
                    terminal.clear().map_err(failed)?;
                }
                // Another program may have had the terminal since.
                sys::SIGCONT => {
                    Screen::take_again().map_err(failed)?;
                    terminal.clear().map_err(failed)?;
                }
                signal if sys::ENDING.contains(&signal) => return Ok(End::Signal(signal)),
                // The next frame has the window's new size.
                _ => {}
            }
        }
        let pressed = match woken.input {
            true => match sys::read_terminal().map_err(failed)? {
                bytes if bytes.is_empty() => return Ok(End::Quit),
                bytes => keys.push(&bytes),
            },
            false => keys.flush().into_iter().collect(),
        };
        for key in pressed {
            if app.press(key) {
                return Ok(End::Quit);
            }
        }
    }
}
