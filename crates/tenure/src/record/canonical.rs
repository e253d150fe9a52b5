//! A fast reader for records in Tenure's own layout. It rejects any other text, which the general reader then reads.

use std::time::Duration;

use serde::de::IgnoredAny;

use super::value::{date, is_spaces, plain, short_text};
use super::{
    ACQUIRED_AT, BOOT_ID, CLOSE, CLOSE_NATIVE, COMMAND, COMMAND_PID, COMMAND_START_TIME, CREATED_AT, FENCE,
    FENCE_WIDTH, FLOCK_STYLE, FOREIGN_START_TIME, HOST, LABEL, LOCK_FILE_STYLE, MASKED_KEY, MAX_HOLD, MAX_SAFE,
    MAX_TEXT, NATIVE, Native, OPEN, PID_END, PID_KEY, PID_NAMESPACE, PID_WIDTH, PIDFD_INODE, PriorState, Record,
    RecordState, RecordStyle, SERVER_STYLE, SLOTS, START_TIME, STATE, STYLE, Text, WIDE, state_text,
};

/// The fields of a record in Tenure's own layout. Strings are raw JSON with their quotes, and empty where they are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CanonicalRecord<'a> {
    pub(crate) fence: u64,
    pub(crate) state: RecordState,
    pub(crate) style: RecordStyle,
    pub(crate) boot_id: Option<&'a str>,
    pid: Option<u64>,
    created_at: &'a str,
    foreign_start_time: Option<u64>,
    max_hold: Option<u64>,
    acquired_at: &'a str,
    pid_namespace: Option<u64>,
    pidfd_inode: Option<u64>,
    start_time: Option<u64>,
    host: &'a str,
    command: &'a str,
    command_pid: Option<u64>,
    command_start_time: Option<u64>,
    slots: Option<u64>,
    label: &'a str,
}

impl CanonicalRecord<'_> {
    /// Decodes the remaining fields into a [`Record`].
    pub(crate) fn record(&self) -> Record {
        Record {
            pid: self.pid.filter(|pid| *pid > 0).and_then(|pid| i64::try_from(pid).ok()),
            created_at: date(self.created_at),
            start_time: self.foreign_start_time,
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
                slots: self.slots,
                label: short_text(self.label),
                // A text with them is not in this layout.
                suspended: None,
            }),
            marker: None,
        }
    }
}

/// Reads a record without parsing JSON. Returns `None` unless the text is exactly as [`Record::render`] lays it out, to
/// the last byte, and names no suspended tenures. The general reader returns the same fields for such a text.
pub(crate) fn parse_canonical(bytes: &[u8]) -> Option<CanonicalRecord<'_>> {
    let mut parser = Parser { bytes, at: 0, more: true };
    let head = parser.head()?;
    let acquired_at = parser.optional_string(ACQUIRED_AT)?;
    let boot_id = match parser.optional_string(BOOT_ID)? {
        "" => None,
        quoted => {
            let inner = &quoted[1..quoted.len() - 1];
            let verbatim = inner.len() <= MAX_TEXT && inner.is_ascii() && !inner.contains('\\');
            Some(Some(inner).filter(|_| verbatim)?)
        }
    };
    let record = CanonicalRecord {
        fence: head.prior.fence,
        state: head.prior.state,
        style: head.prior.style,
        boot_id,
        pid: head.pid,
        created_at: head.created_at,
        foreign_start_time: head.foreign_start_time,
        max_hold: head.max_hold,
        acquired_at,
        pid_namespace: parser.optional_number(PID_NAMESPACE, 0)?,
        pidfd_inode: parser.optional_number(PIDFD_INODE, WIDE)?,
        start_time: parser.optional_number(START_TIME, WIDE)?,
        host: parser.optional_string(HOST)?,
        command: parser.optional_string(COMMAND)?,
        command_pid: parser.optional_number(COMMAND_PID, PID_WIDTH)?,
        command_start_time: parser.optional_number(COMMAND_START_TIME, WIDE)?,
        slots: parser.optional_number(SLOTS, 0)?,
        label: parser.optional_string(LABEL)?,
    };
    if parser.more {
        return None;
    }
    parser.take_bytes(CLOSE_NATIVE.as_bytes())?;
    parser.take_bytes(CLOSE.as_bytes())?;
    is_spaces(&bytes[parser.at..]).then_some(record)
}

/// Reads the fence, the state and the style, which are in the first lines. `None` where these lines are in another layout.
#[cold]
pub(super) fn parse_head(bytes: &[u8]) -> Option<PriorState> {
    Some(Parser { bytes, at: 0, more: true }.head()?.prior)
}

/// The first lines of a record, up to its style.
struct Head<'a> {
    pid: Option<u64>,
    created_at: &'a str,
    foreign_start_time: Option<u64>,
    max_hold: Option<u64>,
    prior: PriorState,
}

/// Steps through a record of Tenure's own layout.
struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether the last entry ended with a comma.
    more: bool,
}

impl<'a> Parser<'a> {
    fn head(&mut self) -> Option<Head<'a>> {
        self.take(OPEN)?;
        let masked = self.take(PID_KEY).is_none();
        if masked {
            self.take(MASKED_KEY)?;
        }
        self.take(PID_END)?;
        let pid = self.number(PID_WIDTH)?;
        // With its pid masked, a text without a creation time would not be read as a record.
        self.take(CREATED_AT)?;
        let created_at = self.string()?;
        let foreign_start_time = self.optional_number(FOREIGN_START_TIME, WIDE)?;
        let max_hold = self.optional_number(MAX_HOLD, 0)?;
        self.take(NATIVE)?;
        self.take(FENCE)?;
        let fence = self.number(FENCE_WIDTH).filter(|fence| *fence >= 1)?;
        self.take(STATE)?;
        let state = [RecordState::Held, RecordState::Released, RecordState::Aborted, RecordState::Acquiring]
            .into_iter()
            .find(|state| self.take_bytes(state_text(*state)).is_some())?;
        self.take("\n")?;
        self.take(STYLE)?;
        let style = match self.string()? {
            LOCK_FILE_STYLE => RecordStyle::LockFile,
            FLOCK_STYLE => RecordStyle::Flock,
            SERVER_STYLE => RecordStyle::Server,
            _ => return None,
        };
        let pid = (!masked).then_some(pid);
        Some(Head {
            pid,
            created_at,
            foreign_start_time,
            max_hold,
            prior: PriorState { fence, state, style, suspended: false },
        })
    }

    fn take_bytes(&mut self, expected: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(expected).then(|| self.at += expected.len())
    }

    /// Steps over the head of the next entry, where an entry may follow.
    fn take(&mut self, expected: &str) -> Option<()> {
        if self.more { self.take_bytes(expected.as_bytes()) } else { None }
    }

    /// Steps over the end of an entry: its comma, or the space in the comma's place, the padding and the newline.
    fn end_entry(&mut self, padding: usize) -> Option<()> {
        match self.bytes.get(self.at)? {
            b',' => self.more = true,
            b' ' => self.more = false,
            _ => return None,
        }
        let line = self.bytes.get(self.at + 1..self.at + padding + 2)?;
        let (newline, spaces) = line.split_last()?;
        self.at += padding + 2;
        (*newline == b'\n' && is_spaces(spaces)).then_some(())
    }

    fn number(&mut self, width: usize) -> Option<u64> {
        let rest = &self.bytes[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=16).contains(&count) || (rest[0] == b'0' && count > 1) {
            return None;
        }
        let number = rest[..count].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
        self.at += count;
        self.end_entry(width.saturating_sub(count))?;
        (number <= MAX_SAFE).then_some(number)
    }

    /// Returns a JSON string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let rest = self.bytes[self.at..].strip_prefix(b"\"")?;
        let mut end = plain(rest);
        while rest.get(end)? == &b'\\' {
            end += 2;
            end += plain(rest.get(end..)?);
        }
        let string = std::str::from_utf8(&self.bytes[self.at..self.at + end + 2]).ok()?;
        if rest[end] != b'"' || (string.contains('\\') && serde_json::from_str::<IgnoredAny>(string).is_err()) {
            return None;
        }
        self.at += string.len();
        self.end_entry(0)?;
        Some(string)
    }

    /// Returns `None` where the number is malformed, and `Some(None)` where it is absent.
    fn optional_number(&mut self, head: &str, width: usize) -> Option<Option<u64>> {
        match self.take(head) {
            Some(()) => self.number(width).map(Some),
            None => Some(None),
        }
    }

    /// Returns `None` where the string is malformed, and an empty text where it is absent.
    fn optional_string(&mut self, head: &str) -> Option<&'a str> {
        match self.take(head) {
            Some(()) => self.string(),
            None => Some(""),
        }
    }
}
