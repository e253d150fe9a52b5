//! Reads any text: a record, a torn one, or something else that must stay.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::canonical::parse_canonical;
use super::marker::read_marker;
use super::value::{date, integer, is_spaces, short_text, text};
use super::{
    CREATED_AT, Content, MASKED_KEY, MAX_BYTES, MAX_SUSPENDED, Native, OPEN, PID_END, PID_WIDTH, Record, RecordState,
    RecordStyle, SuspendedTenure, SuspendedTenures,
};

/// The keys of which a JSON object must have at least one to be a lock's record.
pub(super) const RECORD_KEYS: [&str; 4] = ["pid", "createdAt", "starttime", "maxHoldMs"];

/// Reads the text of a lock file or an anchor, and distinguishes a record from other content such as a
/// `Cargo.lock`.
pub(crate) fn read(bytes: &[u8]) -> Content {
    if bytes.len() > MAX_BYTES {
        return not_a_lock("larger than 64 KiB");
    }
    // Nearly all records are in Tenure's own layout.
    if let Some(canonical) = parse_canonical(bytes) {
        return Content::Record(canonical.record());
    }
    // A crash can leave zeros behind a text whose length reached the disk before its bytes did.
    let mut rest = bytes;
    while let Some((start, padding)) = rest.split_last_chunk::<32>()
        && is_spaces(padding)
    {
        rest = start;
    }
    let end = rest.iter().rposition(|byte| *byte != 0 && !byte.is_ascii_whitespace()).map_or(0, |last| last + 1);
    let rest = &rest[..end];
    if rest.is_empty() {
        return Content::Blank;
    }
    if let Some(marker) = read_marker(bytes) {
        return Content::Record(marker);
    }
    let json = String::from_utf8_lossy(rest);
    if !after_blanks(&json).starts_with('{') {
        return not_a_lock(looks_like(rest, &json));
    }
    let (members, parsed) = members(&json);
    let known = members.iter().any(|(key, _)| RECORD_KEYS.contains(&&**key));
    match parsed {
        Ok(()) if known || members.is_empty() => Content::Record(record(&members)),
        Ok(()) => not_a_lock("a JSON object without any of a lock's fields"),
        Err(error) if !(error.is_eof() || ends_in_a_number(&json)) => not_a_lock(looks_like(rest, &json)),
        Err(_) if known || (members.is_empty() && first_key_may_be_ours(&json)) || begins_masked(&json) => {
            Content::Torn
        }
        Err(_) => not_a_lock("a JSON object, cut short, without any of a lock's fields"),
    }
}

pub(super) fn not_a_lock(what: &str) -> Content {
    Content::NotALock(what.to_owned())
}

/// The members of a JSON object in their order. Where the text ends behind a key, the key has no value.
type Members<'a> = Vec<(Cow<'a, str>, Option<&'a RawValue>)>;

/// Parses a JSON object. Its members up to an error are returned, too.
fn members(json: &str) -> (Members<'_>, serde_json::Result<()>) {
    let mut members = Members::new();
    let mut parser = serde_json::Deserializer::from_str(json);
    let parsed = parser.deserialize_map(Collect(&mut members)).and_then(|()| parser.end());
    (members, parsed)
}

struct Collect<'m, 'a>(&'m mut Members<'a>);

impl<'a> Visitor<'a> for Collect<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&RawValue>()? {
            let member = self.0.len();
            self.0.push((text(key.get()).unwrap_or_default(), None));
            self.0[member].1 = Some(map.next_value()?);
        }
        Ok(())
    }
}

fn record(members: &Members<'_>) -> Record {
    let mut record = Record::default();
    for (key, value) in members {
        let value = value.map_or("", RawValue::get);
        // The last of two equal keys counts, even if it is malformed.
        match &**key {
            "pid" => record.pid = integer(value).filter(|pid| *pid > 0).and_then(|pid| i64::try_from(pid).ok()),
            "createdAt" => record.created_at = date(value),
            "starttime" => record.start_time = integer(value),
            "maxHoldMs" => record.max_hold = integer(value).filter(|hold| *hold > 0).map(Duration::from_millis),
            "tenure" => record.native = native(value),
            _ => {}
        }
    }
    record
}

fn native(json: &str) -> Option<Native> {
    let (members, parsed) = members(json);
    parsed.ok()?;
    let mut native = Native::bare(RecordState::Held);
    let mut version = None;
    for (key, value) in &members {
        let value = value.map_or("", RawValue::get);
        match &**key {
            "version" => version = integer(value).filter(|version| *version >= 1),
            "fence" => native.fence = integer(value).filter(|fence| *fence >= 1),
            // A state or style that only a later version knows must not read as "released".
            "state" => {
                native.state = match text(value).as_deref() {
                    Some("released") => RecordState::Released,
                    Some("aborted") => RecordState::Aborted,
                    Some("acquiring") => RecordState::Acquiring,
                    _ => RecordState::Held,
                }
            }
            "style" => {
                native.style = match text(value).as_deref() {
                    Some("flock") => RecordStyle::Flock,
                    Some("server") => RecordStyle::Server,
                    _ => RecordStyle::LockFile,
                }
            }
            "acquiredAt" => native.acquired_at = date(value),
            "bootId" => native.boot_id = short_text(value),
            "pidNamespace" => native.pid_namespace = integer(value),
            "pidfdInode" => native.pidfd_inode = integer(value),
            "startTime" => native.start_time = integer(value),
            "host" => native.host = short_text(value),
            "command" => native.command = short_text(value),
            "commandPid" => native.command_pid = integer(value),
            "commandStartTime" => native.command_start_time = integer(value),
            "slots" => native.slots = integer(value),
            "label" => native.label = short_text(value),
            "suspended" => native.suspended = suspended(value),
            _ => {}
        }
    }
    version.map(|_| native)
}

/// Reads the suspended tenures. A list with a malformed entry counts as none.
fn suspended(json: &str) -> Option<SuspendedTenures> {
    #[derive(serde::Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        pid: &'a RawValue,
        #[serde(borrow)]
        fence: &'a RawValue,
    }
    let entries: Vec<Entry<'_>> = serde_json::from_str(json).ok()?;
    let read = |entry: &Entry<'_>| {
        let (pid, fence) = (integer(entry.pid.get())?, integer(entry.fence.get())?);
        (pid > 0 && fence > 0).then_some(SuspendedTenure { pid, fence })
    };
    let tenures: Option<Vec<_>> = entries.iter().take(MAX_SUSPENDED).map(read).collect();
    tenures.filter(|tenures| !tenures.is_empty()).map(Into::into)
}

fn after_blanks(json: &str) -> &str {
    json.trim_start_matches([' ', '\t', '\n', '\r'])
}

/// Returns whether a text that does not parse was cut within a number, as after `-` or `1e`: with one more digit, only its
/// end is missing. `serde_json` reports such a number as malformed.
fn ends_in_a_number(json: &str) -> bool {
    let longer = format!("{json}0");
    json.ends_with(['-', '+', '.', 'e', 'E']) && members(&longer).1.is_err_and(|error| error.is_eof())
}

/// Returns whether a text that ends within its first key, or before it, may be cut from a record.
fn first_key_may_be_ours(json: &str) -> bool {
    let rest = after_blanks(&after_blanks(json)[1..]);
    match rest.strip_prefix('"') {
        Some(start) => RECORD_KEYS.iter().any(|key| key.starts_with(start)),
        None => rest.is_empty(),
    }
}

/// Returns whether a torn text begins exactly as a native record whose pid is masked. The key `_id` alone proves nothing,
/// because other programs write objects with such a key.
fn begins_masked(json: &str) -> bool {
    let mut rest = json;
    for part in [OPEN, MASKED_KEY, PID_END] {
        match rest.strip_prefix(part) {
            Some(behind) => rest = behind,
            None => return part.starts_with(rest),
        }
    }
    let behind = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = rest.len() - behind.len();
    if digits == 0 {
        return rest.is_empty();
    }
    let line = format!(",{:pad$}\n{}", "", CREATED_AT, pad = PID_WIDTH.saturating_sub(digits));
    behind.starts_with(&line) || line.starts_with(behind)
}

/// Describes a text that is no record, in a few words. `json` is the same text in UTF-8.
fn looks_like(bytes: &[u8], json: &str) -> &'static str {
    let whole = serde_json::from_str::<IgnoredAny>(json).is_ok();
    match after_blanks(json).as_bytes().first() {
        Some(b'[') if whole => "a JSON array",
        Some(b'"') if whole => "a JSON string",
        Some(b't' | b'f') if whole => "a JSON boolean",
        Some(b'n') if whole => "a JSON null",
        Some(_) if whole => "a JSON number",
        _ if is_binary(bytes) => "binary data",
        _ => "text that is no JSON",
    }
}

fn is_binary(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err() || bytes.iter().any(|byte| *byte < b' ' && !byte.is_ascii_whitespace())
}
