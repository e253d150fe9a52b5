//! The fast reader, of records in our own layout: it says nothing of any other text.

use std::time::Duration;

use super::read::{date, short_text};
use super::scanner::{Scanner, is_spaces};
use super::{
    ACQUIRED_AT, BOOT_ID, CLOSE, CLOSE_NATIVE, COMMAND, COMMAND_PID, COMMAND_START_TIME, CREATED_AT, ENGINE_STYLE,
    FENCE, FENCE_WIDTH, FLOCK_STYLE, HOST, LABEL, LOCK_FILE_STYLE, MASKED_KEY, MAX_HOLD, MAX_SAFE, MAX_TEXT, NATIVE,
    Native, OPEN, PID_END, PID_KEY, PID_NAMESPACE, PID_WIDTH, PIDFD_INODE, Record, RecordState, RecordStyle,
    SEED_START_TIME, START_TIME, STATE, STYLE, Text, WIDE, state_text,
};

/// What a text in our own layout says. Text is left as it stands in it, in its quotes, and empty where it is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CanonicalRecord<'a> {
    pub(crate) fence: u64,
    pub(crate) state: RecordState,
    pub(crate) style: RecordStyle,
    pub(crate) boot_id: Option<&'a str>,
    pid: Option<u64>,
    created_at: &'a [u8],
    seed_start_time: Option<u64>,
    max_hold: Option<u64>,
    acquired_at: &'a [u8],
    pid_namespace: Option<u64>,
    pidfd_inode: Option<u64>,
    start_time: Option<u64>,
    host: &'a [u8],
    command: &'a [u8],
    command_pid: Option<u64>,
    command_start_time: Option<u64>,
    label: &'a [u8],
}

impl CanonicalRecord<'_> {
    /// The whole of it.
    pub(crate) fn record(&self) -> Record {
        Record {
            pid: self.pid.filter(|pid| *pid > 0).and_then(|pid| i64::try_from(pid).ok()),
            created_at: date(self.created_at),
            start_time: self.seed_start_time,
            max_hold: self.max_hold.filter(|hold| *hold > 0).map(Duration::from_millis),
            native: Some(Native {
                fence: Some(self.fence),
                state: self.state,
                style: self.style,
                acquired_at: date(self.acquired_at),
                boot_id: self.boot_id.map(Text::from),
                pid_namespace: self.pid_namespace,
                pidfd_inode: self.pidfd_inode,
                start_time: self.start_time,
                host: short_text(self.host),
                command: short_text(self.command),
                command_pid: self.command_pid,
                command_start_time: self.command_start_time,
                label: short_text(self.label),
            }),
            marker: None,
        }
    }
}

/// Reads a record without parsing JSON: `None` unless the text is exactly as [`Record::render`] lays it out, to the last
/// byte, and then the general reader says the same.
pub(crate) fn parse_canonical(bytes: &[u8]) -> Option<CanonicalRecord<'_>> {
    let mut own = CanonicalParser { scanner: Scanner { bytes, at: 0 }, more: true };
    own.take(OPEN)?;
    let masked = own.take(PID_KEY).is_none();
    if masked {
        own.take(MASKED_KEY)?;
    }
    own.take(PID_END)?;
    let pid = own.number(PID_WIDTH)?;
    // A record without a creation time would not be one, once its pid is masked.
    own.take(CREATED_AT)?;
    let created_at = own.string()?;
    let seed_start_time = own.optional_number(SEED_START_TIME, WIDE)?;
    let max_hold = own.optional_number(MAX_HOLD, 0)?;
    own.take(NATIVE)?;
    own.take(FENCE)?;
    let fence = own.number(FENCE_WIDTH).filter(|fence| *fence >= 1)?;
    own.take(STATE)?;
    let state = [RecordState::Held, RecordState::Released, RecordState::Aborted, RecordState::Acquiring]
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
    let acquired_at = own.optional_string(ACQUIRED_AT)?;
    let boot_id = match own.optional_string(BOOT_ID)? {
        [] => None,
        quoted => {
            let inner = &quoted[1..quoted.len() - 1];
            let plain = inner.len() <= MAX_TEXT && inner.iter().all(|byte| byte.is_ascii() && *byte != b'\\');
            Some(std::str::from_utf8(inner).ok().filter(|_| plain)?)
        }
    };
    let scan = CanonicalRecord {
        fence,
        state,
        style,
        boot_id,
        pid: (!masked).then_some(pid),
        created_at,
        seed_start_time,
        max_hold,
        acquired_at,
        pid_namespace: own.optional_number(PID_NAMESPACE, 0)?,
        pidfd_inode: own.optional_number(PIDFD_INODE, WIDE)?,
        start_time: own.optional_number(START_TIME, WIDE)?,
        host: own.optional_string(HOST)?,
        command: own.optional_string(COMMAND)?,
        command_pid: own.optional_number(COMMAND_PID, PID_WIDTH)?,
        command_start_time: own.optional_number(COMMAND_START_TIME, WIDE)?,
        label: own.optional_string(LABEL)?,
    };
    if own.more {
        return None;
    }
    own.take_bytes(CLOSE_NATIVE.as_bytes())?;
    own.take_bytes(CLOSE.as_bytes())?;
    is_spaces(&bytes[own.scanner.at..]).then_some(scan)
}

/// Steps through a record of our own layout.
struct CanonicalParser<'a> {
    scanner: Scanner<'a>,
    /// Did the last entry end with a comma?
    more: bool,
}

impl<'a> CanonicalParser<'a> {
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
    fn optional_number(&mut self, head: &str, width: usize) -> Option<Option<u64>> {
        match self.take(head) {
            Some(()) => self.number(width).map(Some),
            None => Some(None),
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
