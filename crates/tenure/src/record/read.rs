//! Reads any text: a record, a torn one, or something else that must stay.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use jiff::{Timestamp, civil, tz};

use super::canonical::parse_canonical;
use super::marker::read_marker;
use super::render::cut;
use super::scanner::{Members, Scanner, Stop, is_spaces};
use super::{
    CREATED_AT, Content, MASKED_KEY, MAX_BYTES, MAX_SAFE, Native, OPEN, PID_END, PID_WIDTH, Record, RecordState,
    RecordStyle, Text,
};

/// The keys that make a JSON object a lock's record.
pub(super) const SEED_KEYS: [&[u8]; 4] = [b"pid", b"createdAt", b"starttime", b"maxHoldMs"];

/// Tells a record from a `Cargo.lock`.
pub(crate) fn read(bytes: &[u8]) -> Content {
    if bytes.len() > MAX_BYTES {
        return not_a_lock("larger than 64 KiB");
    }
    // Nearly all of them are our own.
    if let Some(own) = parse_canonical(bytes) {
        return Content::Record(own.record());
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
    if let Some(marker) = read_marker(bytes) {
        return Content::Record(marker);
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

pub(super) fn not_a_lock(what: &str) -> Content {
    Content::NotALock(what.to_owned())
}

pub(super) fn read_members(
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

pub(super) fn read_native(object: &[u8]) -> Option<Native> {
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
                    Some("acquiring") => RecordState::Acquiring,
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
            b"commandPid" => native.command_pid = integer(value),
            b"commandStartTime" => native.command_start_time = integer(value),
            b"label" => native.label = short_text(value),
            _ => {}
        }
    }
    version.map(|_| native)
}

/// A number that is an integer from 0 to 2^53 - 1, as JavaScript's `Number.isInteger` sees it.
pub(super) fn integer(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok().filter(|_| matches!(value.first(), Some(b'-' | b'0'..=b'9')))?;
    if let Ok(number) = digits.parse::<u64>() {
        return (number <= MAX_SAFE).then_some(number);
    }
    let number = digits.parse::<f64>().ok()?;
    (number.fract() == 0.0 && number >= 0.0 && number <= MAX_SAFE as f64).then_some(number as u64)
}

pub(super) fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        // A lone surrogate is no Unicode text: absent.
        return serde_json::from_str(&String::from_utf8_lossy(value)).ok().map(Cow::Owned);
    }
    // The lossy one looks at each byte by itself.
    Some(std::str::from_utf8(inner).map_or_else(|_| String::from_utf8_lossy(inner), Cow::Borrowed))
}

pub(super) fn short_text(value: &[u8]) -> Option<Text> {
    text(value).map(|text| cut(&text).into())
}

/// A date: an ISO timestamp with `Z` or an offset, or a date with or without a time, which is taken as UTC.
pub(super) fn date(value: &[u8]) -> Option<SystemTime> {
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
pub(super) fn first_key_may_be_ours(scanner: &Scanner<'_>) -> bool {
    let rest = &scanner.bytes[scanner.at..];
    match rest.strip_prefix(b"\"") {
        Some(begun) => SEED_KEYS.iter().any(|key| key.starts_with(begun)),
        None => rest.is_empty(),
    }
}

/// Does a torn text begin exactly as one of our records whose pid is masked? `_id` alone would prove nothing: other
/// programs write objects with such a key.
pub(super) fn begins_masked(text: &[u8]) -> bool {
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
pub(super) fn looks_like(text: &[u8]) -> &'static str {
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

pub(super) fn is_binary(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_err() || text.iter().any(|byte| *byte < b' ' && !byte.is_ascii_whitespace())
}
