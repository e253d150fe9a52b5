//! The fast reader, of records in our own layout: it says nothing of any other text.

use super::scanner::{Scanner, is_spaces};
use super::{
    ACQUIRED_AT, BOOT_ID, CLOSE, CLOSE_NATIVE, COMMAND, CREATED_AT, ENGINE_STYLE, FENCE, FENCE_WIDTH, FLOCK_STYLE,
    HOST, LABEL, LOCK_FILE_STYLE, MASKED_KEY, MAX_HOLD, MAX_SAFE, MAX_TEXT, NATIVE, OPEN, OwnScan, PID_END, PID_KEY,
    PID_NAMESPACE, PID_WIDTH, PIDFD_INODE, RecordState, RecordStyle, SEED_START_TIME, START_TIME, STATE, STYLE, WIDE,
    state_text,
};

/// Reads what an acquire needs of the record before it, without parsing JSON: `None` unless the text is exactly as
/// [`Record::render`] lays it out, to the last byte, and then [`read`] says the same.
pub(crate) fn scan_own(bytes: &[u8]) -> Option<OwnScan<'_>> {
    let mut own = Own { scanner: Scanner { bytes, at: 0 }, more: true };
    own.take(OPEN)?;
    own.take(PID_KEY).or_else(|| own.take(MASKED_KEY))?;
    own.take(PID_END)?;
    own.number(PID_WIDTH)?;
    // A record without a creation time would not be one, once its pid is masked.
    own.take(CREATED_AT)?;
    own.string()?;
    own.optional_number(SEED_START_TIME, WIDE)?;
    own.optional_number(MAX_HOLD, 0)?;
    own.take(NATIVE)?;
    own.take(FENCE)?;
    let fence = own.number(FENCE_WIDTH).filter(|fence| *fence >= 1)?;
    own.take(STATE)?;
    let state = [RecordState::Held, RecordState::Released, RecordState::Aborted]
        .into_iter()
        .find(|state| own.take_bytes(state_text(*state)).is_some())?;
    own.take("\n")?;
    own.take(STYLE)?;
    let style = match own.string()? {
        style if style == LOCK_FILE_STYLE.as_bytes() => RecordStyle::LockFile,
        style if style == FLOCK_STYLE.as_bytes() => RecordStyle::Flock,
        style if style == ENGINE_STYLE.as_bytes() => RecordStyle::Engine,
        _ => return None,
    };
    own.optional_string(ACQUIRED_AT)?;
    let boot_id = match own.optional_string(BOOT_ID)? {
        [] => None,
        quoted => {
            let inner = &quoted[1..quoted.len() - 1];
            let plain = inner.len() <= MAX_TEXT && inner.iter().all(|byte| byte.is_ascii() && *byte != b'\\');
            Some(std::str::from_utf8(inner).ok().filter(|_| plain)?)
        }
    };
    own.optional_number(PID_NAMESPACE, 0)?;
    own.optional_number(PIDFD_INODE, WIDE)?;
    own.optional_number(START_TIME, WIDE)?;
    own.optional_string(HOST)?;
    own.optional_string(COMMAND)?;
    own.optional_string(LABEL)?;
    if own.more {
        return None;
    }
    own.take_bytes(CLOSE_NATIVE.as_bytes())?;
    own.take_bytes(CLOSE.as_bytes())?;
    is_spaces(&bytes[own.scanner.at..]).then_some(OwnScan { fence, state, style, boot_id })
}

/// Steps through a record of our own layout.
struct Own<'a> {
    scanner: Scanner<'a>,
    /// Did the last entry end with a comma?
    more: bool,
}

impl<'a> Own<'a> {
    fn take_bytes(&mut self, expected: &[u8]) -> Option<()> {
        self.scanner.bytes[self.scanner.at..].starts_with(expected).then(|| self.scanner.at += expected.len())
    }

    /// The next entry's head, where an entry may follow.
    fn take(&mut self, expected: &str) -> Option<()> {
        if self.more { self.take_bytes(expected.as_bytes()) } else { None }
    }

    fn end_entry(&mut self, padding: usize) -> Option<()> {
        match self.scanner.peek().ok()? {
            b',' => self.more = true,
            b' ' => self.more = false,
            _ => return None,
        }
        let line = self.scanner.bytes.get(self.scanner.at + 1..self.scanner.at + padding + 2)?;
        let (newline, spaces) = line.split_last()?;
        self.scanner.at += padding + 2;
        (*newline == b'\n' && is_spaces(spaces)).then_some(())
    }

    fn number(&mut self, width: usize) -> Option<u64> {
        let start = self.scanner.at;
        let rest = &self.scanner.bytes[start..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=16).contains(&count) || (rest[0] == b'0' && count > 1) {
            return None;
        }
        let number = rest[..count].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
        self.scanner.at += count;
        self.end_entry(width.saturating_sub(count))?;
        (number <= MAX_SAFE).then_some(number)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let string = self.scanner.string().ok()?;
        self.end_entry(0)?;
        Some(string)
    }

    /// `None` if it is malformed; an absent one is fine.
    fn optional_number(&mut self, head: &str, width: usize) -> Option<()> {
        match self.take(head) {
            Some(()) => self.number(width).map(|_| ()),
            None => Some(()),
        }
    }

    /// `None` if it is malformed; empty if it is absent.
    fn optional_string(&mut self, head: &str) -> Option<&'a [u8]> {
        match self.take(head) {
            Some(()) => self.string(),
            None => Some(&[]),
        }
    }
}
