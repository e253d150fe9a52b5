//! The record: the JSON that says who holds.
//!
//! It is the anchor's text, and the lock file's too (one inode). Foreign programs read `pid`, `createdAt`,
//! `starttime` and `maxHoldMs`; what is ours stands in the object `tenure`.
//!
//! # Layout
//!
//! Every record begins with the same bytes up to the pid's key, and each value that may change while others read
//! stands at the same offset with the same width in every record of one holder, so that a reader never sees fields
//! shifted. A visible record is changed in three writes: the pid's key is masked (`"pid"` to `"_id"`: a fresh record
//! without a pid is left alone by everyone), the text is written with the key masked, and the key comes back.
//!
//! # Reading
//!
//! What others wrote is read as JavaScript reads it, because the seed does: `123.0` and `1e3` are integers, the last
//! of two equal keys counts, and a lone surrogate in some field that nobody looks at spoils nothing. A general JSON
//! parser differs in each of these or stops at the first torn byte, so a small scanner of our own does both whole and
//! torn text, in one pass and without recursion.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::{Timestamp, civil, tz};

use crate::process::Identity;

/// No record is read or written beyond this.
pub(crate) const MAX_BYTES: usize = 64 * 1024;
/// The largest integer that JSON's other readers hold exactly: 2^53 - 1.
pub(crate) const MAX_SAFE: u64 = (1 << 53) - 1;
/// Where the first byte of the pid's key stands in what we write: the `p` of `{\n  "pid"`.
pub(crate) const PID_KEY_OFFSET: u64 = 5;

/// How a tenure stands, by its own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordState {
    /// Held, or was when its holder died.
    Held,
    /// Released: written where no lock file's absence shows it.
    Released,
    /// Ended by a signal: the lock file was removed, and what it protected may be half-written.
    Aborted,
}

/// Whose protocol shows the tenure, by the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordStyle {
    LockFile,
    Flock,
    /// Kept by a server: no file shows it.
    Engine,
}

/// The fields of a lock file, each absent where it is missing or malformed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) pid: Option<i64>,
    /// When the lock file was made, or last refreshed: a string that is a date. Without an offset it is taken as UTC.
    pub(crate) created_at: Option<SystemTime>,
    pub(crate) start_time: Option<u64>,
    /// Absent where it is zero, too: a holder that means to hold for no time would be overdue from its first moment.
    pub(crate) max_hold: Option<Duration>,
    /// What only a native writes.
    pub(crate) native: Option<Native>,
}

/// A text of a record. Those of one process stand in all of its records, and are not copied for each.
pub(crate) type Text = Arc<str>;

/// The object `tenure`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Native {
    pub(crate) fence: Option<u64>,
    pub(crate) state: RecordState,
    pub(crate) style: RecordStyle,
    pub(crate) acquired_at: Option<SystemTime>,
    pub(crate) boot_id: Option<Text>,
    pub(crate) pid_namespace: Option<u64>,
    pub(crate) pidfd_inode: Option<u64>,
    pub(crate) start_time: Option<u64>,
    pub(crate) host: Option<Text>,
    pub(crate) command: Option<Text>,
    pub(crate) label: Option<Text>,
}

impl Native {
    /// Of nobody yet, in lock-file style.
    pub(crate) fn bare(state: RecordState) -> Native {
        Native {
            fence: None,
            state,
            style: RecordStyle::LockFile,
            acquired_at: None,
            boot_id: None,
            pid_namespace: None,
            pidfd_inode: None,
            start_time: None,
            host: None,
            command: None,
            label: None,
        }
    }
}

/// What the bytes at a lock file's place are.
#[derive(Clone, Debug, PartialEq)]
// Short-lived, one at a time: a box would cost more than the bytes.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Content {
    /// Empty, blank or zeros: a holder between create and write, or one that died there.
    Blank,
    /// A JSON object that is a record.
    Record(Record),
    /// A record cut short: begins as one does.
    Torn,
    /// Something else that must stay, and what it looks like in a few words.
    NotALock(String),
}

/// What [`scan_own`] takes from a record of our own layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnScan<'a> {
    pub(crate) fence: u64,
    pub(crate) state: RecordState,
    pub(crate) style: RecordStyle,
    pub(crate) boot_id: Option<&'a str>,
}

/// A record as bytes to write, and where in them the parts stand that change.
#[derive(Clone, Debug)]
pub(crate) struct Rendered {
    pub(crate) bytes: Vec<u8>,
    /// Where the state's fixed-width text (`"held",     `) begins. `u64::MAX`, where no write succeeds, if the record
    /// has no native part.
    pub(crate) state_offset: u64,
    /// As there, for the number of the fence and for the two dates with their quotes; `u64::MAX` where one is missing.
    pub(crate) fence_offset: u64,
    pub(crate) created_offset: u64,
    pub(crate) acquired_offset: u64,
}

// The line heads, for the writer and the fast reader alike, so that the two cannot drift apart.
const OPEN: &str = "{\n  \"";
const PID_KEY: &str = "pid";
const MASKED_KEY: &str = "_id";
const PID_END: &str = "\": ";
const CREATED_AT: &str = "  \"createdAt\": ";
const SEED_START_TIME: &str = "  \"starttime\": ";
const MAX_HOLD: &str = "  \"maxHoldMs\": ";
const NATIVE: &str = "  \"tenure\": {\n    \"version\": 1,\n";
const FENCE: &str = "    \"fence\": ";
const STATE: &str = "    \"state\": ";
const STYLE: &str = "    \"style\": ";
const ACQUIRED_AT: &str = "    \"acquiredAt\": ";
const BOOT_ID: &str = "    \"bootId\": ";
const PID_NAMESPACE: &str = "    \"pidNamespace\": ";
const PIDFD_INODE: &str = "    \"pidfdInode\": ";
const START_TIME: &str = "    \"startTime\": ";
const HOST: &str = "    \"host\": ";
const COMMAND: &str = "    \"command\": ";
const LABEL: &str = "    \"label\": ";
const CLOSE_NATIVE: &str = "  }\n";
const CLOSE: &str = "}";

const LOCK_FILE_STYLE: &str = "\"lock-file\"";
const FLOCK_STYLE: &str = "\"flock\"";
const ENGINE_STYLE: &str = "\"engine\"";

/// Digits that each number is padded to: the widest that it can be, so that a change moves nothing behind it.
const PID_WIDTH: usize = 10;
const FENCE_WIDTH: usize = 16;
const WIDE: usize = 20;

/// Free text beyond this is cut.
const MAX_TEXT: usize = 1024;
/// A record's length is a multiple of this, so that most records need no padding for the sake of the one before.
const BLOCK: usize = 512;

/// The keys that make a JSON object a lock's record.
const SEED_KEYS: [&[u8]; 4] = [b"pid", b"createdAt", b"starttime", b"maxHoldMs"];

/// Tells a record from a `Cargo.lock`.
pub(crate) fn read(bytes: &[u8]) -> Content {
    if bytes.len() > MAX_BYTES {
        return not_a_lock("larger than 64 KiB");
    }
    // A crash can leave zeros behind a text whose length reached the disk before its bytes did.
    let mut text = bytes;
    while let Some((rest, padding)) = text.split_last_chunk::<32>()
        && is_spaces(padding)
    {
        text = rest;
    }
    let end = text.iter().rposition(|byte| *byte != 0 && !byte.is_ascii_whitespace()).map_or(0, |last| last + 1);
    let text = &text[..end];
    if text.is_empty() {
        return Content::Blank;
    }
    let mut members = Members::new(text);
    if members.scanner.peek() != Ok(b'{') {
        return not_a_lock(looks_like(text));
    }
    let mut record = Record::default();
    let mut keys = 0usize;
    let mut known = false;
    match read_members(&mut members, &mut record, &mut keys, &mut known) {
        Ok(()) if members.scanner.at != text.len() => not_a_lock(looks_like(text)),
        Ok(()) if known || keys == 0 => Content::Record(record),
        Ok(()) => not_a_lock("a JSON object without any of a lock's fields"),
        Err(Stop::Bad) => not_a_lock(looks_like(text)),
        Err(Stop::Cut) if known || (keys == 0 && first_key_may_be_ours(&members.scanner)) || begins_masked(text) => {
            Content::Torn
        }
        Err(Stop::Cut) => not_a_lock("a JSON object, cut short, without any of a lock's fields"),
    }
}

fn not_a_lock(what: &str) -> Content {
    Content::NotALock(what.to_owned())
}

fn read_members(
    members: &mut Members<'_>,
    record: &mut Record,
    keys: &mut usize,
    known: &mut bool,
) -> Result<(), Stop> {
    while let Some(key) = members.next_key()? {
        *keys += 1;
        *known |= SEED_KEYS.contains(&&*key);
        let value = members.value()?;
        // The last of two equal keys counts, even if it is malformed.
        match &*key {
            b"pid" => record.pid = integer(value).filter(|pid| *pid > 0).and_then(|pid| i64::try_from(pid).ok()),
            b"createdAt" => record.created_at = date(value),
            b"starttime" => record.start_time = integer(value),
            b"maxHoldMs" => {
                record.max_hold = integer(value).filter(|hold| *hold > 0).map(Duration::from_millis);
            }
            b"tenure" => record.native = read_native(value),
            _ => {}
        }
    }
    Ok(())
}

fn read_native(object: &[u8]) -> Option<Native> {
    if object.first() != Some(&b'{') {
        return None;
    }
    let mut native = Native::bare(RecordState::Held);
    let mut version = None;
    let mut members = Members::new(object);
    while let Some(key) = members.next_key().ok()? {
        let value = members.value().ok()?;
        match &*key {
            b"version" => version = integer(value).filter(|version| *version >= 1),
            b"fence" => native.fence = integer(value).filter(|fence| *fence >= 1),
            // A state or style that only a later version knows must not read as "released".
            b"state" => {
                native.state = match text(value).as_deref() {
                    Some("released") => RecordState::Released,
                    Some("aborted") => RecordState::Aborted,
                    _ => RecordState::Held,
                }
            }
            b"style" => {
                native.style = match text(value).as_deref() {
                    Some("flock") => RecordStyle::Flock,
                    Some("engine") => RecordStyle::Engine,
                    _ => RecordStyle::LockFile,
                }
            }
            b"acquiredAt" => native.acquired_at = date(value),
            b"bootId" => native.boot_id = short_text(value),
            b"pidNamespace" => native.pid_namespace = integer(value),
            b"pidfdInode" => native.pidfd_inode = integer(value),
            b"startTime" => native.start_time = integer(value),
            b"host" => native.host = short_text(value),
            b"command" => native.command = short_text(value),
            b"label" => native.label = short_text(value),
            _ => {}
        }
    }
    version.map(|_| native)
}

/// A number that is an integer from 0 to 2^53 - 1, as JavaScript's `Number.isInteger` sees it.
fn integer(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok().filter(|_| matches!(value.first(), Some(b'-' | b'0'..=b'9')))?;
    if let Ok(number) = digits.parse::<u64>() {
        return (number <= MAX_SAFE).then_some(number);
    }
    let number = digits.parse::<f64>().ok()?;
    (number.fract() == 0.0 && number >= 0.0 && number <= MAX_SAFE as f64).then_some(number as u64)
}

fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        // A lone surrogate is no Unicode text: absent.
        return serde_json::from_str(&String::from_utf8_lossy(value)).ok().map(Cow::Owned);
    }
    Some(String::from_utf8_lossy(inner))
}

fn short_text(value: &[u8]) -> Option<Text> {
    text(value).map(|text| cut(&text).into())
}

/// A date: an ISO timestamp with `Z` or an offset, or a date with or without a time, which is taken as UTC.
fn date(value: &[u8]) -> Option<SystemTime> {
    let text = text(value)?;
    let timestamp = text
        .parse::<Timestamp>()
        .or_else(|_| text.parse::<civil::DateTime>().and_then(|civil| tz::Offset::UTC.to_timestamp(civil)))
        .ok()?;
    let since = timestamp.as_duration();
    if since.is_negative() {
        SystemTime::UNIX_EPOCH.checked_sub(since.unsigned_abs())
    } else {
        SystemTime::UNIX_EPOCH.checked_add(since.unsigned_abs())
    }
}

/// A text that ends within its first key, or before it: could that key become one of a record's?
fn first_key_may_be_ours(scanner: &Scanner<'_>) -> bool {
    let rest = &scanner.bytes[scanner.at..];
    match rest.strip_prefix(b"\"") {
        Some(begun) => SEED_KEYS.iter().any(|key| key.starts_with(begun)),
        None => rest.is_empty(),
    }
}

/// Does a torn text begin exactly as one of our records whose pid is masked? `_id` alone would prove nothing: other
/// programs write objects with such a key.
fn begins_masked(text: &[u8]) -> bool {
    let mut rest = text;
    for part in [OPEN, MASKED_KEY, PID_END] {
        match rest.strip_prefix(part.as_bytes()) {
            Some(behind) => rest = behind,
            None => return part.as_bytes().starts_with(rest),
        }
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return rest.is_empty();
    }
    let line = format!(",{:pad$}\n{}", "", CREATED_AT, pad = PID_WIDTH.saturating_sub(digits));
    let rest = &rest[digits..];
    rest.starts_with(line.as_bytes()) || line.as_bytes().starts_with(rest)
}

/// What a text that is no record looks like, in a few words.
fn looks_like(text: &[u8]) -> &'static str {
    let mut scanner = Scanner { bytes: text, at: 0 };
    scanner.blank();
    let first = text.get(scanner.at);
    let whole = scanner.value().is_ok() && scanner.at == text.len();
    match first {
        Some(b'[') if whole => "a JSON array",
        Some(b'"') if whole => "a JSON string",
        Some(b't' | b'f') if whole => "a JSON boolean",
        Some(b'n') if whole => "a JSON null",
        Some(_) if whole => "a JSON number",
        _ if is_binary(text) => "binary data",
        _ => "text that is no JSON",
    }
}

fn is_binary(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_err() || text.iter().any(|byte| *byte < b' ' && !byte.is_ascii_whitespace())
}

/// Why scanning ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The text ended first; so far it was JSON.
    Cut,
    /// This is no JSON.
    Bad,
}

/// How many bytes from here on mean themselves in a JSON string: up to a quote, a backslash or a control character.
fn plain(bytes: &[u8]) -> usize {
    let ends = |byte: u8| (byte == b'"') | (byte == b'\\') | (byte < b' ');
    let mut at = 0;
    // Without an early end within a chunk, so that its bytes are compared at once.
    for chunk in bytes.chunks_exact(16) {
        if chunk.iter().fold(false, |ended, byte| ended | ends(*byte)) {
            break;
        }
        at += 16;
    }
    at + bytes[at..].iter().position(|byte| ends(*byte)).unwrap_or(bytes.len() - at)
}

/// Steps over JSON values. It keeps its place where it stops.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Cut)
    }

    fn blank(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.peek()? != byte {
            return Err(Stop::Bad);
        }
        self.at += 1;
        Ok(())
    }

    /// A string with its quotes. Cut short, the place stays at its opening quote.
    fn string(&mut self) -> Result<&'a [u8], Stop> {
        let start = self.at;
        if self.peek()? != b'"' {
            return Err(Stop::Bad);
        }
        let mut next = start + 1;
        loop {
            next += plain(&self.bytes[next..]);
            match *self.bytes.get(next).ok_or(Stop::Cut)? {
                b'"' => break,
                b'\\' => match *self.bytes.get(next + 1).ok_or(Stop::Cut)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => next += 2,
                    b'u' => {
                        for place in next + 2..next + 6 {
                            if !self.bytes.get(place).ok_or(Stop::Cut)?.is_ascii_hexdigit() {
                                return Err(Stop::Bad);
                            }
                        }
                        next += 6;
                    }
                    _ => return Err(Stop::Bad),
                },
                0..=0x1f => return Err(Stop::Bad),
                _ => next += 1,
            }
        }
        self.at = next + 1;
        Ok(&self.bytes[start..self.at])
    }

    fn digits(&mut self) -> Result<(), Stop> {
        if !self.peek()?.is_ascii_digit() {
            return Err(Stop::Bad);
        }
        while self.peek().is_ok_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Stop> {
        if self.peek() == Ok(b'-') {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Ok(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Ok(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Stop> {
        word.bytes().try_for_each(|byte| self.expect(byte))
    }

    /// A value of any kind and depth, blanks before it skipped.
    fn value(&mut self) -> Result<&'a [u8], Stop> {
        self.blank();
        let start = self.at;
        // The closing brackets that are due: a list instead of recursion, so that depth costs no stack.
        let mut due: Vec<u8> = Vec::new();
        loop {
            self.blank();
            match self.peek()? {
                open @ (b'{' | b'[') => {
                    let close = if open == b'{' { b'}' } else { b']' };
                    self.at += 1;
                    self.blank();
                    if self.peek()? == close {
                        self.at += 1;
                    } else {
                        due.push(close);
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => return Err(Stop::Bad),
            }
            loop {
                let Some(&close) = due.last() else { return Ok(&self.bytes[start..self.at]) };
                self.blank();
                let byte = self.peek()?;
                if byte == close {
                    self.at += 1;
                    due.pop();
                } else if byte == b',' {
                    self.at += 1;
                    if close == b'}' {
                        self.blank();
                        self.key()?;
                    }
                    break;
                } else {
                    return Err(Stop::Bad);
                }
            }
        }
    }

    fn key(&mut self) -> Result<(), Stop> {
        self.string()?;
        self.blank();
        self.expect(b':')
    }
}

/// The members of one object, in turn: a key, then its value. The key is told before the value is looked at, because
/// a torn text may end between them.
struct Members<'a> {
    scanner: Scanner<'a>,
    first: bool,
}

impl<'a> Members<'a> {
    fn new(bytes: &'a [u8]) -> Members<'a> {
        let mut scanner = Scanner { bytes, at: 0 };
        scanner.blank();
        Members { scanner, first: true }
    }

    /// The next key; `None` behind the object's end.
    fn next_key(&mut self) -> Result<Option<Cow<'a, [u8]>>, Stop> {
        let scanner = &mut self.scanner;
        if self.first {
            scanner.expect(b'{')?;
        }
        scanner.blank();
        if scanner.peek()? == b'}' {
            scanner.at += 1;
            return Ok(None);
        }
        if !self.first {
            scanner.expect(b',')?;
            scanner.blank();
        }
        self.first = false;
        let raw = scanner.string()?;
        if !raw.contains(&b'\\') {
            return Ok(Some(Cow::Borrowed(&raw[1..raw.len() - 1])));
        }
        Ok(Some(Cow::Owned(text(raw).map(|key| key.into_owned().into_bytes()).unwrap_or_default())))
    }

    fn value(&mut self) -> Result<&'a [u8], Stop> {
        self.scanner.blank();
        self.scanner.expect(b':')?;
        self.scanner.value()
    }
}

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

fn is_spaces(bytes: &[u8]) -> bool {
    // Without an early end, so that many bytes are compared at once.
    bytes.iter().fold(0, |differs, byte| differs | (byte ^ b' ')) == 0
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

/// The state's text at its fixed width, as it stands at [`Rendered::state_offset`].
pub(crate) fn state_text(state: RecordState) -> &'static [u8] {
    match state {
        RecordState::Held => b"\"held\",     ",
        RecordState::Released => b"\"released\", ",
        RecordState::Aborted => b"\"aborted\",  ",
    }
}

impl Record {
    /// The JSON, padded with spaces to at least `at_least` bytes, so that a shorter record leaves no tail of a longer.
    ///
    /// `at_least` counts up to [`MAX_BYTES`]; text longer than that is no record anyway. A record that has neither a
    /// pid nor any other of the seed's fields would not be read as one: give it a `created_at`.
    pub(crate) fn render(&self, at_least: u64) -> Rendered {
        let at_least = usize::try_from(at_least).unwrap_or(MAX_BYTES).min(MAX_BYTES);
        let mut out = Writer { bytes: Vec::with_capacity(at_least.max(2 * BLOCK)), comma: 0 };
        let pid = self.pid.and_then(|pid| u64::try_from(pid).ok()).filter(|pid| (1..=MAX_SAFE).contains(pid));
        out.push(OPEN);
        out.push(if pid.is_some() { PID_KEY } else { MASKED_KEY });
        out.number(PID_END, Some(pid.unwrap_or(0)), PID_WIDTH);
        let created_offset = out.place_of(CREATED_AT, self.created_at.is_some());
        out.time(CREATED_AT, self.created_at);
        out.number(SEED_START_TIME, self.start_time, WIDE);
        out.number(MAX_HOLD, self.max_hold.and_then(whole_millis), 0);
        let (mut state_offset, mut fence_offset, mut acquired_offset) = (u64::MAX, u64::MAX, u64::MAX);
        if let Some(native) = &self.native {
            out.push(NATIVE);
            fence_offset = out.place_of(FENCE, native.fence.is_some());
            out.number(FENCE, native.fence, FENCE_WIDTH);
            out.push(STATE);
            state_offset = out.bytes.len() as u64;
            out.bytes.extend_from_slice(state_text(native.state));
            out.push("\n");
            out.push(STYLE);
            out.push(match native.style {
                RecordStyle::LockFile => LOCK_FILE_STYLE,
                RecordStyle::Flock => FLOCK_STYLE,
                RecordStyle::Engine => ENGINE_STYLE,
            });
            out.end_entry(0);
            acquired_offset = out.place_of(ACQUIRED_AT, native.acquired_at.is_some());
            out.time(ACQUIRED_AT, native.acquired_at);
            out.text(BOOT_ID, native.boot_id.as_deref());
            out.number(PID_NAMESPACE, native.pid_namespace, 0);
            out.number(PIDFD_INODE, native.pidfd_inode, WIDE);
            out.number(START_TIME, native.start_time, WIDE);
            out.text(HOST, native.host.as_deref());
            out.text(COMMAND, native.command.as_deref());
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

    /// The identity of the recorded process; `None` without a valid pid.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let pid = self.pid.filter(|pid| *pid > 0)?;
        let native = self.native.as_ref();
        Some(Identity {
            pid,
            // Off Linux only a native records one, in its own object.
            start_time: native.and_then(|native| native.start_time).or(self.start_time),
            boot_id: native.and_then(|native| native.boot_id.as_deref().map(str::to_owned)),
            pid_namespace: native.and_then(|native| native.pid_namespace),
            pidfd_inode: native.and_then(|native| native.pidfd_inode),
        })
    }

    /// The fence of the tenure that this record speaks of, for the next one to exceed.
    pub(crate) fn previous_fence(&self) -> Option<u64> {
        self.native.as_ref()?.fence
    }
}

/// Milliseconds, rounded up: a limit below one must not become none.
fn whole_millis(hold: Duration) -> Option<u64> {
    let millis = hold.as_nanos().div_ceil(1_000_000).min(u128::from(MAX_SAFE));
    u64::try_from(millis).ok().filter(|millis| *millis > 0)
}

/// The longest part of a text that is kept, cut between characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Writes the lines of a record; what is absent gets none.
struct Writer {
    bytes: Vec<u8>,
    /// Where the last entry's comma stands.
    comma: usize,
}

impl Writer {
    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Where the value of the next entry will stand.
    fn place_of(&self, head: &str, present: bool) -> u64 {
        if present { (self.bytes.len() + head.len()) as u64 } else { u64::MAX }
    }

    /// The comma comes before the padding, so that a value of another width needs no other line.
    fn end_entry(&mut self, padding: usize) {
        self.comma = self.bytes.len();
        self.bytes.push(b',');
        self.bytes.resize(self.bytes.len() + padding, b' ');
        self.bytes.push(b'\n');
    }

    fn number(&mut self, head: &str, value: Option<u64>, width: usize) {
        // JSON's other readers would round what is larger: another process's identity, then.
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

    /// JSON allows no comma behind the last entry. A space in its place keeps every width.
    fn drop_comma(&mut self) {
        self.bytes[self.comma] = b' ';
    }
}

/// `"2026-03-02T10:00:00.000Z"`, by integer arithmetic: a record is written at every acquire, and a general formatter takes
/// a thousand instructions for its two dates. `None` before 1970 and after 9999.
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
    let mut text = *b"\"0000-00-00T00:00:00.000Z\"";
    let mut put = |mut at: usize, mut number: u64| {
        while number > 0 {
            text[at] = b'0' + (number % 10) as u8;
            number /= 10;
            at -= 1;
        }
    };
    put(4, year);
    put(7, month);
    put(10, day);
    put(13, second / 3600);
    put(16, second / 60 % 60);
    put(19, second % 60);
    put(23, u64::from(since.subsec_millis()));
    Some(text)
}

/// Clamped to the years 0 to 9999, whose texts are all of one width.
fn timestamp(time: SystemTime) -> Timestamp {
    const FIRST: Timestamp = Timestamp::constant(-62_167_219_200, 0);
    match Timestamp::try_from(time) {
        Ok(timestamp) => timestamp.max(FIRST),
        Err(_) if time > SystemTime::UNIX_EPOCH => Timestamp::MAX,
        Err(_) => FIRST,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    /// 2026-03-02T10:00:00.000Z
    const MARCH: u64 = 1_772_445_600_000;

    fn sample() -> Record {
        Record {
            pid: Some(4242),
            created_at: Some(at(MARCH)),
            start_time: Some(123_456),
            max_hold: Some(Duration::from_millis(300_000)),
            native: Some(Native {
                fence: Some(1_772_445_600_000_001),
                state: RecordState::Held,
                style: RecordStyle::LockFile,
                acquired_at: Some(at(MARCH + 7)),
                boot_id: Some("0f5d6a52-6b4e-4f0c-a1a5-7e8d4f7e2a11".into()),
                pid_namespace: Some(4_026_531_836),
                pidfd_inode: Some(7731),
                start_time: Some(123_456),
                host: Some("build-7".into()),
                command: Some("node gateway.js".into()),
                label: Some("run 8f2c".into()),
            }),
        }
    }

    fn bare_native() -> Native {
        Native {
            fence: None,
            state: RecordState::Held,
            style: RecordStyle::LockFile,
            acquired_at: None,
            boot_id: None,
            pid_namespace: None,
            pidfd_inode: None,
            start_time: None,
            host: None,
            command: None,
            label: None,
        }
    }

    fn record(text: &str) -> Record {
        match read(text.as_bytes()) {
            Content::Record(record) => record,
            other => panic!("{text:?} is {other:?}"),
        }
    }

    fn native(text: &str) -> Native {
        record(text).native.unwrap_or_else(|| panic!("no native part in {text:?}"))
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let rendered = sample().render(0);
        let text = String::from_utf8(rendered.bytes.clone()).unwrap();
        let expected = concat!(
            "{\n",
            "  \"pid\": 4242,      \n",
            "  \"createdAt\": \"2026-03-02T10:00:00.000Z\",\n",
            "  \"starttime\": 123456,              \n",
            "  \"maxHoldMs\": 300000,\n",
            "  \"tenure\": {\n",
            "    \"version\": 1,\n",
            "    \"fence\": 1772445600000001,\n",
            "    \"state\": \"held\",     \n",
            "    \"style\": \"lock-file\",\n",
            "    \"acquiredAt\": \"2026-03-02T10:00:00.007Z\",\n",
            "    \"bootId\": \"0f5d6a52-6b4e-4f0c-a1a5-7e8d4f7e2a11\",\n",
            "    \"pidNamespace\": 4026531836,\n",
            "    \"pidfdInode\": 7731,                \n",
            "    \"startTime\": 123456,              \n",
            "    \"host\": \"build-7\",\n",
            "    \"command\": \"node gateway.js\",\n",
            "    \"label\": \"run 8f2c\" \n",
            "  }\n",
            "}",
        );
        assert_eq!(text.trim_end_matches(' '), expected);
        assert_eq!(text.len() % 512, 0);
        assert_eq!(text.as_bytes()[PID_KEY_OFFSET as usize], b'p');
        assert!(rendered.bytes[rendered.state_offset as usize..].starts_with(state_text(RecordState::Held)));
    }

    #[test]
    fn changing_values_move_nothing() {
        let line_starts = |record: &Record| -> Vec<usize> {
            let bytes = record.render(0).bytes;
            bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place).collect()
        };
        let short = sample();
        let mut long = sample();
        long.pid = Some(4_194_304);
        long.start_time = Some(MAX_SAFE);
        let native = long.native.as_mut().unwrap();
        native.start_time = Some(1);
        native.pidfd_inode = Some(MAX_SAFE);
        native.fence = Some(1);
        native.state = RecordState::Released;
        assert_eq!(line_starts(&short), line_starts(&long));
        long.pid = None;
        assert_eq!(line_starts(&short), line_starts(&long));
        let states = [RecordState::Held, RecordState::Released, RecordState::Aborted];
        assert!(states.iter().all(|state| state_text(*state).len() == state_text(RecordState::Held).len()));
    }

    #[test]
    fn a_state_can_be_written_in_place() {
        for state in [RecordState::Held, RecordState::Released, RecordState::Aborted] {
            let mut rendered = sample().render(0);
            let place = rendered.state_offset as usize;
            rendered.bytes[place..place + state_text(state).len()].copy_from_slice(state_text(state));
            assert_eq!(scan_own(&rendered.bytes).unwrap().state, state);
            let mut expected = sample();
            expected.native.as_mut().unwrap().state = state;
            assert_eq!(read(&rendered.bytes), Content::Record(expected));
        }
    }

    #[test]
    fn a_masked_pid_is_no_pid() {
        let mut bytes = sample().render(0).bytes;
        let place = PID_KEY_OFFSET as usize;
        // The same bytes by both ways: the key masked in place, and a record without a pid.
        bytes[place..place + 3].copy_from_slice(b"_id");
        let mut expected = sample();
        expected.pid = None;
        assert_eq!(read(&bytes), Content::Record(expected.clone()));
        assert_eq!(expected.identity(), None);
        let without = expected.render(0).bytes;
        assert!(without.starts_with(b"{\n  \"_id\": 0,         \n  \"createdAt\""));
        assert_eq!(read(&without), Content::Record(expected));
    }

    #[test]
    fn a_record_is_padded_to_what_it_covers() {
        assert_eq!(sample().render(0).bytes.len(), 1024);
        assert_eq!(sample().render(1024).bytes.len(), 1024);
        assert_eq!(sample().render(5000).bytes.len(), 5000);
        assert_eq!(sample().render(u64::MAX).bytes.len(), MAX_BYTES);
        let mut long = sample();
        let native = long.native.as_mut().unwrap();
        for text in [&mut native.host, &mut native.command, &mut native.label, &mut native.boot_id] {
            *text = Some("\u{1}".repeat(100_000).into());
        }
        let bytes = long.render(0).bytes;
        assert!(bytes.len() < MAX_BYTES / 2, "{}", bytes.len());
        assert!(matches!(read(&bytes), Content::Record(_)));
    }

    #[test]
    fn text_is_cut_between_characters() {
        let mut long = sample();
        long.native.as_mut().unwrap().label = Some(format!("{}{}", "x".repeat(1022), "\u{1f512}").into());
        let label = native(std::str::from_utf8(&long.render(0).bytes).unwrap()).label.unwrap();
        assert_eq!(*label, "x".repeat(1022));
        let foreign = format!(r#"{{"pid":1,"tenure":{{"version":1,"label":"{}"}}}}"#, "\u{e9}".repeat(600));
        assert_eq!(*native(&foreign).label.unwrap(), "\u{e9}".repeat(512));
    }

    #[test]
    fn unrepresentable_values_are_left_out_and_times_clamped() {
        let mut odd = sample();
        odd.pid = Some(-4);
        odd.max_hold = Some(Duration::ZERO);
        odd.start_time = Some(MAX_SAFE + 1);
        odd.native.as_mut().unwrap().pidfd_inode = Some(u64::MAX);
        for (time, text) in [
            (SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(1 << 40)), "0000-01-01T00:00:00.000Z"),
            (SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(1 << 37)), "0000-01-01T00:00:00.000Z"),
            (SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(1 << 40)), "9999-12-30T22:00:00.999Z"),
        ] {
            odd.created_at = time;
            let text = format!("\"createdAt\": \"{text}\",");
            let bytes = odd.render(0).bytes;
            let rendered = std::str::from_utf8(&bytes).unwrap();
            assert!(rendered.contains(&text), "{text} is not in {rendered}");
            for key in ["\"pid\"", "\"starttime\"", "\"maxHoldMs\"", "\"pidfdInode\""] {
                assert!(!rendered.contains(key), "{key} is in {rendered}");
            }
        }
        for pid in [0, MAX_SAFE as i64 + 1] {
            odd.pid = Some(pid);
            assert!(odd.render(0).bytes.starts_with(b"{\n  \"_id\": 0,         \n"), "{pid}");
        }
        odd.max_hold = Some(Duration::from_nanos(1));
        odd.pid = Some(1);
        let back = record(std::str::from_utf8(&odd.render(0).bytes).unwrap());
        assert_eq!((back.pid, back.max_hold), (Some(1), Some(Duration::from_millis(1))));
    }

    #[test]
    fn a_record_without_a_native_part_is_plain_json() {
        let mut seed = sample();
        seed.native = None;
        let rendered = seed.render(0);
        assert_eq!(rendered.state_offset, u64::MAX);
        assert_eq!(read(&rendered.bytes), Content::Record(seed.clone()));
        assert!(serde_json::from_slice::<serde_json::Value>(&rendered.bytes).is_ok());
        seed.max_hold = None;
        assert_eq!(read(&seed.render(0).bytes), Content::Record(seed));
    }

    #[test]
    fn blank_is_no_text_at_all() {
        for bytes in [&b""[..], b" ", b"\n\n\t ", b"\0\0\0", b" \0\n\0 "] {
            assert_eq!(read(bytes), Content::Blank, "{bytes:?}");
        }
    }

    #[test]
    fn records_have_one_of_the_fields() {
        for text in [
            "{}",
            " { } ",
            "{}\0\0\n\0",
            r#"{"pid":null}"#,
            r#"{"createdAt":{}}"#,
            r#"{"starttime":[1,{"a":"}"}]}"#,
            r#"{"name":"x","maxHoldMs":"y"}"#,
            r#"{"\u0070id":"escaped as JavaScript reads it"}"#,
        ] {
            assert!(matches!(read(text.as_bytes()), Content::Record(_)), "{text}: {:?}", read(text.as_bytes()));
        }
        assert_eq!(record("{}"), Record::default());
        assert_eq!(record(r#"{"\u0070id":7}"#).pid, Some(7));
        // What a JSON parser in Rust would stumble over, and JavaScript does not.
        assert_eq!(record(r#"{"pid":7,"x":"\ud800","y":1e999}"#).pid, Some(7));
        let mut bytes = br#"{"pid":7,"x":""#.to_vec();
        bytes.extend_from_slice(b"\xff\"}");
        assert!(matches!(read(&bytes), Content::Record(Record { pid: Some(7), .. })));
        let deep = format!(r#"{{"pid":7,"x":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(record(&deep).pid, Some(7));
    }

    #[test]
    fn torn_records_begin_as_records_do() {
        for text in [
            "{",
            "{ \n",
            "{\0\0\0",
            "{\"",
            "{\"p",
            "{\n  \"crea",
            "{\"pid\"",
            "{\"pid\": 12",
            "{\"pid\": 12\0\0\0\0",
            "{\"pid\": tr",
            "{\"pid\": -",
            "{\"pid\": 1,",
            "{\"name\":\"x\",\"pid\":1,\"y\":[{\"a\":\"b\\",
            "{\"pid\": 1, \"x\": \"\\u00",
            "{\n  \"_id\": 0,         \n  \"cre",
            "{\n  \"_id\": 4242",
        ] {
            assert_eq!(read(text.as_bytes()), Content::Torn, "{text:?}");
        }
    }

    #[test]
    fn other_files_are_no_locks() {
        for (text, what) in [
            ("[[package]]\nname = \"tenure\"\nversion = \"0.1.0\"\n", "text that is no JSON"),
            ("# yarn lockfile v1\n\n\"@a/b@^1\":\n  version \"1.0.0\"\n", "text that is no JSON"),
            (
                "{\n  \"name\": \"x\",\n  \"lockfileVersion\": 3,\n  \"packages\": {\"pid\": {}}\n}\n",
                "a JSON object without any of a lock's fields",
            ),
            (r#"{"PID":1}"#, "a JSON object without any of a lock's fields"),
            (r#"{"_id":1}"#, "a JSON object without any of a lock's fields"),
            (r#"{"tenure":{"version":1}}"#, "a JSON object without any of a lock's fields"),
            ("{\"package", "a JSON object, cut short, without any of a lock's fields"),
            ("{\"pack", "a JSON object, cut short, without any of a lock's fields"),
            ("{\"name\":\"x\",\"pi", "a JSON object, cut short, without any of a lock's fields"),
            ("{\"name\":{\"pid\":1", "a JSON object, cut short, without any of a lock's fields"),
            ("{\"_id\": 1", "a JSON object, cut short, without any of a lock's fields"),
            ("{\n  \"_id\": \"5f\"", "a JSON object, cut short, without any of a lock's fields"),
            ("{\n  \"_id\": 5,\n  \"na", "a JSON object, cut short, without any of a lock's fields"),
            ("{\"pid\":1}x", "text that is no JSON"),
            ("{\"pid\":1} {\"pid\":2}", "text that is no JSON"),
            ("{\"pid\":1,}", "text that is no JSON"),
            ("{\"pid\":01}", "text that is no JSON"),
            ("{pid:1}", "text that is no JSON"),
            ("{\"pid\":1\0\0,\"x\":2}", "binary data"),
            ("\0{\"pid\":1}", "binary data"),
            ("4242\n", "a JSON number"),
            ("[]", "a JSON array"),
            ("\"x\"", "a JSON string"),
            ("true", "a JSON boolean"),
            ("null", "a JSON null"),
            ("4242 host", "text that is no JSON"),
            ("a\0b", "binary data"),
        ] {
            assert_eq!(read(text.as_bytes()), not_a_lock(what), "{text:?}");
        }
        assert_eq!(read(b"\x7fELF\x02\x01\x01\xff\xfe"), not_a_lock("binary data"));
        let mut large = sample().render(u64::MAX).bytes;
        assert!(matches!(read(&large), Content::Record(_)));
        large.push(b' ');
        assert_eq!(read(&large), not_a_lock("larger than 64 KiB"));
        assert_eq!(read(&vec![0; MAX_BYTES + 1]), not_a_lock("larger than 64 KiB"));
    }

    #[test]
    fn only_integers_in_range_count() {
        for (text, pid, start_time, hold) in [
            ("1", Some(1), Some(1), Some(1)),
            ("123.0", Some(123), Some(123), Some(123)),
            ("1e3", Some(1000), Some(1000), Some(1000)),
            ("12.5e1", Some(125), Some(125), Some(125)),
            ("5000000", Some(5_000_000), Some(5_000_000), Some(5_000_000)),
            ("9007199254740991", Some(MAX_SAFE as i64), Some(MAX_SAFE), Some(MAX_SAFE)),
            ("9007199254740992", None, None, None),
            ("1e400", None, None, None),
            ("18446744073709551617", None, None, None),
            ("0", None, Some(0), None),
            ("-0", None, Some(0), None),
            ("-1", None, None, None),
            ("123.5", None, None, None),
            ("\"12\"", None, None, None),
            ("true", None, None, None),
            ("null", None, None, None),
            ("[1]", None, None, None),
            ("{}", None, None, None),
        ] {
            let read = record(&format!(r#"{{"pid":{text},"starttime":{text},"maxHoldMs": {text} }}"#));
            assert_eq!(read.pid, pid, "pid {text}");
            assert_eq!(read.start_time, start_time, "starttime {text}");
            assert_eq!(read.max_hold, hold.map(Duration::from_millis), "maxHoldMs {text}");
        }
        assert_eq!(record(r#"{"pid":1,"pid":2}"#).pid, Some(2));
        assert_eq!(record(r#"{"pid":1,"pid":"x"}"#).pid, None);
    }

    #[test]
    fn only_dates_count() {
        for (text, expected) in [
            ("\"2026-03-02T10:00:00.000Z\"", Some(at(MARCH))),
            ("\"2026-03-02T10:00:00Z\"", Some(at(MARCH))),
            ("\"2026-03-02T10:00:00.123456Z\"", Some(at(MARCH) + Duration::from_micros(123_456))),
            ("\"2026-03-02T12:00:00+02:00\"", Some(at(MARCH))),
            ("\"2026-03-02T10:00:00\"", Some(at(MARCH))),
            ("\"2026-03-02\"", Some(at(MARCH - 36_000_000))),
            ("\"2026-03-02T10:00:00.000\\u005a\"", Some(at(MARCH))),
            ("\"1969-12-31T23:59:59.000Z\"", Some(SystemTime::UNIX_EPOCH - Duration::from_secs(1))),
            ("\"2026-02-30T10:00:00.000Z\"", None),
            ("\"yesterday\"", None),
            ("\"10:00:00\"", None),
            ("\"\"", None),
            ("1772445600000", None),
            ("null", None),
        ] {
            assert_eq!(record(&format!(r#"{{"createdAt":{text}}}"#)).created_at, expected, "{text}");
        }
    }

    #[test]
    fn the_native_part_needs_a_version() {
        for text in ["1", "[]", "null", "{}", r#"{"version":0}"#, r#"{"version":"1"}"#, r#"{"fence":7}"#] {
            assert_eq!(record(&format!(r#"{{"pid":1,"tenure":{text}}}"#)).native, None, "{text}");
        }
        let bare = bare_native();
        assert_eq!(native(r#"{"pid":1,"tenure":{"version":2,"new":[]}}"#), bare);
        let odd = r#"{"pid":1,"tenure":{"version":1,"fence":0,"state":"resting","style":7,"acquiredAt":1,"host":{},
            "bootId":null,"pidNamespace":-1,"pidfdInode":"7","startTime":1.5,"command":["x"],"label":"\udfff"}}"#;
        assert_eq!(native(odd), bare);
        let known = r#"{"pid":1,"tenure":{"version":1,"state":"released","style":"flock","fence":9007199254740991}}"#;
        let known = native(known);
        assert_eq!((known.state, known.style), (RecordState::Released, RecordStyle::Flock));
        assert_eq!(known.fence, Some(MAX_SAFE));
        assert_eq!(native(r#"{"pid":1,"tenure":{"version":1,"fence":9007199254740992}}"#).fence, None);
    }

    #[test]
    fn identity_is_what_the_record_tells() {
        let identity = sample().identity().unwrap();
        assert_eq!((identity.pid, identity.start_time), (4242, Some(123_456)));
        assert_eq!((identity.pid_namespace, identity.pidfd_inode), (Some(4_026_531_836), Some(7731)));
        assert!(identity.boot_id.unwrap().starts_with("0f5d6a52"));
        let seed = record(r#"{"pid":7,"starttime":8}"#).identity().unwrap();
        assert_eq!((seed.pid, seed.start_time, seed.boot_id), (7, Some(8), None));
        assert_eq!(record(r#"{"starttime":8}"#).identity(), None);
        assert_eq!(sample().previous_fence(), Some(1_772_445_600_000_001));
        assert_eq!(record("{}").previous_fence(), None);
    }

    #[test]
    fn the_fast_reader_takes_only_our_layout() {
        let bytes = sample().render(0).bytes;
        let scan = scan_own(&bytes).unwrap();
        assert_eq!(scan.fence, 1_772_445_600_000_001);
        assert_eq!(scan.boot_id, Some("0f5d6a52-6b4e-4f0c-a1a5-7e8d4f7e2a11"));
        let mut sly = sample();
        sly.native.as_mut().unwrap().label = Some("\"fence\": 9,\n    \"fence\": 9".into());
        assert_eq!(scan_own(&sly.render(0).bytes).unwrap().fence, 1_772_445_600_000_001);
        let text = String::from_utf8(bytes.clone()).unwrap();
        for (from, to) in [
            ("\"fence\": 1772445600000001", "\"fence\": \"772445600000001"),
            ("\"fence\": 1772445600000001", "\"fence\": 0772445600000001"),
            ("\"fence\": 1772445600000001", "\"fence\": 9999999999999999"),
            ("\"version\": 1,", "\"version\": 2,"),
            ("\"version\": 1,", "\"version\": 1 "),
            ("\"held\",     ", "\"heat\",     "),
            ("\"lock-file\"", "\"lock-fire\""),
            ("\"run 8f2c\" \n", "\"run 8f2c\",\n"),
            ("\"run 8f2c\" \n  }", "\"run 8f2c\"\n   }"),
            ("4242,      \n", "4242,   \n   "),
            ("4242, ", "4242  "),
            ("300000,", "300000 "),
            ("2a11\",", "2a11\" "),
            ("\"build-7\",", "\"build-7\" "),
            ("\"0f5d6a52", "\"\\nf5d6a5"),
            ("\"pid\"", "\"pib\""),
            ("{\n  \"pid\"", "{ \n \"pid\""),
        ] {
            assert_ne!(text.replacen(from, to, 1), text, "{from}");
            assert_eq!(scan_own(text.replacen(from, to, 1).as_bytes()), None, "{from} to {to}");
        }
        assert_eq!(scan_own(format!("{text}x").as_bytes()), None);
        assert_eq!(scan_own(format!("{text}\0").as_bytes()), None);
        assert_eq!(scan_own(b""), None);
    }

    #[test]
    fn dates_at_the_edges() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso_date(at(millis)).map(|text| text.to_vec()), Some(format!("\"{text}\"").into_bytes()));
        }
        assert_eq!(iso_date(at(253_402_300_800_000)), None);
        assert_eq!(iso_date(SystemTime::UNIX_EPOCH - Duration::from_millis(1)), None);
    }

    prop_compose! {
        fn natives()(
            fence in proptest::option::of(1..=MAX_SAFE),
            state in prop_oneof![Just(RecordState::Held), Just(RecordState::Released), Just(RecordState::Aborted)],
            style in prop_oneof![Just(RecordStyle::LockFile), Just(RecordStyle::Flock), Just(RecordStyle::Engine)],
            acquired_at in proptest::option::of((0..4_000_000_000_000u64).prop_map(at)),
            numbers in proptest::array::uniform3(proptest::option::of(0..=MAX_SAFE)),
            boot_id in proptest::option::of("[0-9a-f-]{0,40}"),
            texts in proptest::array::uniform3(proptest::option::of(any::<String>())),
        ) -> Native {
            let [pid_namespace, pidfd_inode, start_time] = numbers;
            let [host, command, label] = texts.map(|text| text.map(Into::into));
            let boot_id = boot_id.map(Into::into);
            Native {
                fence, state, style, acquired_at, boot_id, pid_namespace, pidfd_inode, start_time, host, command, label,
            }
        }
    }

    prop_compose! {
        fn records()(
            pid in proptest::option::of(1..=MAX_SAFE as i64),
            created_at in (0..4_000_000_000_000u64).prop_map(at),
            start_time in proptest::option::of(0..=MAX_SAFE),
            max_hold in proptest::option::of((1..=MAX_SAFE).prop_map(Duration::from_millis)),
            native in proptest::option::of(natives()),
        ) -> Record {
            Record { pid, created_at: Some(created_at), start_time, max_hold, native }
        }
    }

    /// Bytes that are nearly a record: one of ours with a few of them changed.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let bytes = prop_oneof![any::<u8>(), proptest::sample::select(b"{}[]\",:\\ \n\0 09ex".to_vec())];
        (records(), proptest::collection::vec((any::<proptest::sample::Index>(), bytes), 1..4)).prop_map(
            |(record, changes)| {
                let mut bytes = record.render(0).bytes;
                for (place, byte) in changes {
                    let place = place.index(bytes.len());
                    bytes[place] = byte;
                }
                bytes
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read(record in records(), at_least in 0..3000u64) {
            let bytes = record.render(at_least).bytes;
            prop_assert!(bytes.len() as u64 >= at_least);
            prop_assert_eq!(read(&bytes), Content::Record(record.clone()));
            let other: Result<serde_json::Value, _> = serde_json::from_slice(&bytes);
            prop_assert!(other.is_ok());
            match (scan_own(&bytes), &record.native) {
                (Some(scan), Some(native)) => {
                    prop_assert_eq!(Some(scan.fence), native.fence);
                    prop_assert_eq!((scan.state, scan.style), (native.state, native.style));
                    prop_assert_eq!(scan.boot_id, native.boot_id.as_deref());
                }
                (scan, native) => {
                    prop_assert!(scan.is_none());
                    prop_assert!(native.as_ref().is_none_or(|native| native.fence.is_none()));
                }
            }
        }

        #[test]
        fn dates_are_the_general_formatters(millis in 0..253_402_300_799_999u64, nanos in 0..1_000_000u64) {
            let time = at(millis) + Duration::from_nanos(nanos);
            let text = iso_date(time).map(|text| String::from_utf8(text.to_vec()).unwrap());
            prop_assert_eq!(text, Some(format!("\"{:.3}\"", timestamp(time))));
        }

        #[test]
        fn a_cut_record_is_torn(record in records(), zeros in 0..600usize) {
            let whole = record.render(0).bytes;
            for length in (0..whole.len()).step_by(if cfg!(miri) { 61 } else { 1 }) {
                let mut bytes = whole[..length].to_vec();
                bytes.resize(length + zeros, 0);
                match read(&bytes) {
                    Content::Blank => prop_assert_eq!(length, 0),
                    Content::Torn => {}
                    Content::Record(read) => prop_assert_eq!(&read, &record),
                    other => prop_assert!(false, "cut at {}: {:?}", length, other),
                }
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), damaged()]) {
            let _ = scan_own(&bytes);
            let _ = read(&bytes);
        }

        #[test]
        fn the_two_readers_agree(bytes in damaged()) {
            if let Some(scan) = scan_own(&bytes) {
                let Content::Record(Record { native: Some(native), .. }) = read(&bytes) else {
                    return Err(TestCaseError::fail("the fast reader saw a record"));
                };
                prop_assert_eq!(Some(scan.fence), native.fence);
                prop_assert_eq!((scan.state, scan.style), (native.state, native.style));
                prop_assert_eq!(scan.boot_id, native.boot_id.as_deref());
            }
        }

        #[test]
        fn whole_objects_are_json(bytes in damaged()) {
            // Ours is the more tolerant reader, never the stricter one.
            let strict = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes);
            if let Ok(object) = strict {
                let ours = SEED_KEYS.iter().any(|key| object.contains_key(std::str::from_utf8(key).unwrap()));
                prop_assert_eq!(matches!(read(&bytes), Content::Record(_)), ours || object.is_empty());
            }
        }
    }

    // `cargo test --release -p tenure --lib -- --ignored --nocapture how_fast`
    #[test]
    #[ignore = "a measurement"]
    fn how_fast() {
        let record = sample();
        let bytes = record.render(0).bytes;
        let measure = |name: &str, work: &dyn Fn() -> usize| {
            let start = std::time::Instant::now();
            let mut sum = 0;
            for _ in 0..100_000 {
                sum += std::hint::black_box(work());
            }
            println!("{name}: {:?} each ({sum})", start.elapsed() / 100_000);
        };
        measure("render", &|| record.render(0).bytes.len());
        measure("scan_own", &|| scan_own(&bytes).map_or(0, |scan| scan.fence as usize & 1));
        measure("read", &|| matches!(read(&bytes), Content::Record(_)).into());
    }
}
