//! Renders a record. Each value has the same offset and width in every record of one holder.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::value::{cut, plain};
use super::{
    ACQUIRED_AT, BLOCK, BOOT_ID, CLOSE, CLOSE_NATIVE, COMMAND, COMMAND_PID, COMMAND_START_TIME, CREATED_AT, FENCE,
    FENCE_WIDTH, FLOCK_STYLE, FOREIGN_START_TIME, HOST, LABEL, LOCK_FILE_STYLE, MASKED_KEY, MAX_BYTES, MAX_HOLD,
    MAX_SAFE, MAX_SUSPENDED, NATIVE, OPEN, PID_END, PID_KEY, PID_NAMESPACE, PID_WIDTH, PIDFD_INODE, Record,
    RecordStyle, Rendered, SERVER_STYLE, SLOTS, START_TIME, STATE, STYLE, SUSPENDED, SuspendedTenure, WIDE, state_text,
};

impl Record {
    /// Returns the JSON without padding.
    pub(crate) fn to_json(&self) -> String {
        String::from_utf8_lossy(&self.render(0).bytes).trim_end().to_owned()
    }

    /// Returns the JSON, padded with spaces to at least `at_least` bytes, so that it covers a longer record before it.
    ///
    /// `at_least` is limited to [`MAX_BYTES`], because a longer text is no record. A text with neither a pid nor any other
    /// field of OpenClaw's protocol would not be read as a record, so such a record needs a `created_at`.
    pub(crate) fn render(&self, at_least: u64) -> Rendered {
        let at_least = usize::try_from(at_least).unwrap_or(MAX_BYTES).min(MAX_BYTES);
        let mut out = Writer { bytes: Vec::with_capacity(at_least.max(2 * BLOCK)), comma: 0 };
        let pid = self.pid.and_then(|pid| u64::try_from(pid).ok()).filter(|pid| (1..=MAX_SAFE).contains(pid));
        out.push(OPEN);
        out.push(if pid.is_some() { PID_KEY } else { MASKED_KEY });
        out.number(PID_END, Some(pid.unwrap_or(0)), PID_WIDTH);
        let created_offset = out.offset_of(CREATED_AT, self.created_at.is_some());
        out.time(CREATED_AT, self.created_at);
        out.number(FOREIGN_START_TIME, self.start_time, WIDE);
        out.number(MAX_HOLD, self.max_hold.and_then(whole_millis), 0);
        let (mut state_offset, mut fence_offset, mut acquired_offset) = (u64::MAX, u64::MAX, u64::MAX);
        if let Some(native) = &self.native {
            out.push(NATIVE);
            fence_offset = out.offset_of(FENCE, native.fence.is_some());
            out.number(FENCE, native.fence, FENCE_WIDTH);
            out.push(STATE);
            state_offset = out.bytes.len() as u64;
            out.bytes.extend_from_slice(state_text(native.state));
            out.push("\n");
            if let Some(suspended) = native.suspended.as_deref().filter(|suspended| !suspended.is_empty()) {
                out.suspended(suspended);
            }
            out.push(STYLE);
            out.push(match native.style {
                RecordStyle::LockFile => LOCK_FILE_STYLE,
                RecordStyle::Flock => FLOCK_STYLE,
                RecordStyle::Server => SERVER_STYLE,
            });
            out.end_entry(0);
            acquired_offset = out.offset_of(ACQUIRED_AT, native.acquired_at.is_some());
            out.time(ACQUIRED_AT, native.acquired_at);
            out.text(BOOT_ID, native.boot_id.as_deref());
            out.number(PID_NAMESPACE, native.pid_namespace, 0);
            out.number(PIDFD_INODE, native.pidfd_inode, WIDE);
            out.number(START_TIME, native.start_time, WIDE);
            out.text(HOST, native.host.as_deref());
            out.text(COMMAND, native.command.as_deref());
            out.number(COMMAND_PID, native.command_pid, PID_WIDTH);
            out.number(COMMAND_START_TIME, native.command_start_time, WIDE);
            out.number(SLOTS, native.slots, 0);
            out.text(LABEL, native.label.as_deref());
            out.drop_comma();
            out.push(CLOSE_NATIVE);
        } else {
            out.drop_comma();
        }
        out.push(CLOSE);
        let mut bytes = out.bytes;
        let length = bytes.len().next_multiple_of(BLOCK).max(at_least);
        bytes.resize(length, b' ');
        Rendered { bytes, state_offset, fence_offset, created_offset, acquired_offset }
    }
}

/// Returns a limit in milliseconds, rounded up, so that a limit below one millisecond does not become none.
fn whole_millis(hold: Duration) -> Option<u64> {
    let millis = hold.as_nanos().div_ceil(1_000_000).min(u128::from(MAX_SAFE));
    u64::try_from(millis).ok().filter(|millis| *millis > 0)
}

/// Writes the lines of a record. An absent value has no line.
struct Writer {
    bytes: Vec<u8>,
    /// The offset of the last entry's comma.
    comma: usize,
}

impl Writer {
    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Returns the offset that the value of the next entry will have.
    fn offset_of(&self, head: &str, present: bool) -> u64 {
        if present { (self.bytes.len() + head.len()) as u64 } else { u64::MAX }
    }

    /// Ends an entry. The comma comes before the padding, so that a wider value moves no other line.
    fn end_entry(&mut self, padding: usize) {
        self.comma = self.bytes.len();
        self.bytes.push(b',');
        self.bytes.resize(self.bytes.len() + padding, b' ');
        self.bytes.push(b'\n');
    }

    fn number(&mut self, head: &str, value: Option<u64>, width: usize) {
        // Other JSON readers would round a larger number, which would then identify another process.
        let Some(mut value) = value.filter(|value| *value <= MAX_SAFE) else { return };
        self.push(head);
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[first..]);
        self.end_entry(width.saturating_sub(digits.len() - first));
    }

    fn time(&mut self, head: &str, time: Option<SystemTime>) {
        let Some(time) = time else { return };
        self.push(head);
        match iso_date(time) {
            Some(text) => self.bytes.extend_from_slice(&text),
            // Writing to a vector cannot fail.
            None => drop(write!(self.bytes, "\"{:.3}\"", timestamp(time))),
        }
        self.end_entry(0);
    }

    fn text(&mut self, head: &str, text: Option<&str>) {
        let Some(text) = text.map(cut) else { return };
        self.push(head);
        if plain(text.as_bytes()) == text.len() {
            self.push("\"");
            self.push(text);
            self.push("\"");
        } else {
            // Writing to a vector cannot fail.
            let _ = serde_json::to_writer(&mut self.bytes, text);
        }
        self.end_entry(0);
    }

    /// Writes the suspended tenures, of which there is at least one.
    #[cold]
    fn suspended(&mut self, tenures: &[SuspendedTenure]) {
        self.push(SUSPENDED);
        for (at, SuspendedTenure { pid, fence }) in tenures.iter().take(MAX_SUSPENDED).enumerate() {
            let before = if at == 0 { "[" } else { ", " };
            // Writing to a vector cannot fail.
            let _ = write!(self.bytes, "{before}{{\"pid\": {pid}, \"fence\": {fence}}}");
        }
        self.push("]");
        self.end_entry(0);
    }

    /// Replaces the last entry's comma, which JSON forbids, by a space.
    fn drop_comma(&mut self) {
        self.bytes[self.comma] = b' ';
    }
}

/// Formats a time as `"2026-03-02T10:00:00.000Z"`, with its quotes. Returns `None` before 1970 and after 9999. Integer
/// arithmetic is used because every acquire writes two dates, for which a general formatter takes a thousand instructions.
pub(crate) fn iso_date(time: SystemTime) -> Option<[u8; 26]> {
    /// The days of 400 years.
    const ERA: u64 = 146_097;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years that begin in March end with the leap day: H. Hinnant, "chrono-compatible low-level date algorithms".
    let days = days + 719_468;
    let of_era = days % ERA;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = days / ERA * 400 + year_of_era + u64::from(month <= 2);
    if year > 9999 {
        return None;
    }
    let (minutes, millis) = (second / 60, u64::from(since.subsec_millis()));
    let mut text = *b"\"0000-00-00T00:00:00.000Z\"";
    let mut put = |at: usize, number: u64| text[at..at + 2].copy_from_slice(&two_digits(number));
    put(1, year / 100);
    put(3, year % 100);
    put(6, month);
    put(9, day);
    put(12, minutes / 60);
    put(15, minutes % 60);
    put(18, second % 60);
    put(22, millis % 100);
    text[21] = b'0' + (millis / 100) as u8;
    Some(text)
}

/// Returns the two digits of `number`, which is below 100.
pub(super) const fn two_digits(number: u64) -> [u8; 2] {
    let number = number as u8;
    [b'0' + number / 10, b'0' + number % 10]
}

/// Converts a time, clamped to the years 0 to 9999, whose texts have one width.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    const FIRST: Timestamp = Timestamp::constant(-62_167_219_200, 0);
    match Timestamp::try_from(time) {
        Ok(timestamp) => timestamp.max(FIRST),
        Err(_) if time > SystemTime::UNIX_EPOCH => Timestamp::MAX,
        Err(_) => FIRST,
    }
}
