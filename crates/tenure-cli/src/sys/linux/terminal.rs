//! The terminal of a full-screen program.

use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::termios::{self, InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

/// The mode of the terminal before [`enter_raw_mode`].
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Makes keys readable one by one, and not shown. Those that send signals still do.
pub(crate) fn enter_raw_mode() -> io::Result<()> {
    let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    let now = termios::tcgetattr(io::stdin())?;
    let mut raw = before.get_or_insert(now).clone();
    raw.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHONL | LocalModes::IEXTEN);
    raw.input_modes &= !(InputModes::ICRNL | InputModes::INLCR | InputModes::IGNCR | InputModes::IXON);
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    Ok(termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?)
}

/// Restores the mode of the terminal. Returns `false` if it was not changed.
pub(crate) fn leave_raw_mode() -> bool {
    let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() else { return false };
    let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &before);
    true
}

/// Reads the keys that were pressed. Empty at the end of the input.
pub(crate) fn read_terminal() -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 1024];
    let count = loop {
        match rustix::io::read(io::stdin(), &mut bytes) {
            Err(Errno::INTR) => {}
            // The terminal was closed.
            Err(Errno::IO) => break 0,
            other => break other?,
        }
    };
    bytes.truncate(count);
    Ok(bytes)
}

/// Returns the numbers of columns and rows.
pub(crate) fn terminal_size() -> (u16, u16) {
    let known = |number: u16, default: u16| if number == 0 { default } else { number };
    termios::tcgetwinsize(io::stdout()).map_or((80, 24), |size| (known(size.ws_col, 80), known(size.ws_row, 24)))
}
