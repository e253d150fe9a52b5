//! Reads and shortens single JSON values: integers, texts and dates.

use std::borrow::Cow;
use std::time::SystemTime;

use jiff::{Timestamp, civil, tz};

use super::{MAX_SAFE, MAX_TEXT, Text};

/// Returns an integer from 0 to 2^53 - 1, as JavaScript's `Number.isInteger` defines it: `123.0` and `1e3` are integers.
pub(super) fn integer(value: &str) -> Option<u64> {
    let number = Some(value).filter(|value| matches!(value.as_bytes().first(), Some(b'-' | b'0'..=b'9')))?;
    if let Ok(number) = number.parse::<u64>() {
        return (number <= MAX_SAFE).then_some(number);
    }
    let number = number.parse::<f64>().ok()?;
    (number.fract() == 0.0 && number >= 0.0 && number <= MAX_SAFE as f64).then_some(number as u64)
}

/// Returns the text of a JSON string, given with its quotes. A string that is no Unicode text (a lone surrogate) has none.
pub(super) fn text(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(value).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// Returns the text of a JSON string, cut to [`MAX_TEXT`] bytes.
pub(super) fn short_text(value: &str) -> Option<Text> {
    text(value).map(|text| cut(&text).into())
}

/// Returns the longest start of a text that a record keeps, cut between characters.
pub(super) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Reads a date: an ISO timestamp with `Z` or an offset, or a date with or without a time, which is taken as UTC.
pub(super) fn date(value: &str) -> Option<SystemTime> {
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

/// Counts the bytes that stand for themselves in a JSON string: up to a quote, a backslash or a control character.
pub(super) fn plain(bytes: &[u8]) -> usize {
    let ends = |byte: u8| (byte == b'"') | (byte == b'\\') | (byte < b' ');
    let mut at = 0;
    // Without an early end within a chunk, so that the compiler compares its bytes at once.
    for chunk in bytes.chunks_exact(16) {
        if chunk.iter().fold(false, |ended, byte| ended | ends(*byte)) {
            break;
        }
        at += 16;
    }
    at + bytes[at..].iter().position(|byte| ends(*byte)).unwrap_or(bytes.len() - at)
}

/// Returns whether all bytes are spaces.
pub(super) fn is_spaces(bytes: &[u8]) -> bool {
    // Without an early end, so that the compiler compares many bytes at once.
    bytes.iter().fold(0, |differs, byte| differs | (byte ^ b' ')) == 0
}
