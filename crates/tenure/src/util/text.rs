//! Escapes text for a terminal, and formats dates and durations.
//!
//! A label, a command, a host or a file name comes from another program: it must not move the cursor, set the terminal's
//! title or break a line.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// Replaces each control character (C0, C1, DEL), line separator and invisible direction mark in `text` by its escape.
///
/// ```
/// assert_eq!(tenure::escape::text("a\x1b[2J"), "a\\u{1b}[2J");
/// ```
pub fn text(text: &str) -> String {
    // Without an early end, so that the compiler compares many bytes at once.
    if text.bytes().fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte)) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Unicode's property Bidi_Control.
        let bidi = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let line = matches!(c, '\u{2028}' | '\u{2029}');
        if c.is_control() || bidi || line {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Formats a path for people: escaped, with the replacement character for bytes that are not UTF-8.
pub fn path(path: &Path) -> String {
    text(&path.to_string_lossy())
}

/// Formats a path as one word of a shell, quoted if necessary, so that it can be pasted into a command line. A path with control
/// characters, or that is not UTF-8, is written as `$'..'`.
///
/// ```
/// use std::path::Path;
///
/// assert_eq!(tenure::escape::word(Path::new("main.jsonl")), "main.jsonl");
/// assert_eq!(tenure::escape::word(Path::new("my file")), "'my file'");
/// ```
pub fn word(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(byte);
    // A leading dash would be read as an option.
    let front = if bytes.first() == Some(&b'-') { "./" } else { "" };
    // zsh replaces `=ls` by the path of the command `ls`.
    if !bytes.is_empty() && bytes[0] != b'=' && bytes.iter().all(plain) {
        return format!("{front}{}", path.display());
    }
    match path.to_str() {
        Some(utf8) if text(utf8) == utf8 => format!("'{front}{}'", utf8.replace('\'', "'\\''")),
        _ => {
            let mut out = format!("$'{front}");
            for &byte in bytes {
                match byte {
                    b'\'' | b'\\' => out.extend(['\\', char::from(byte)]),
                    b' '..=b'~' => out.push(char::from(byte)),
                    // Three digits, so that a digit behind the escape is not read as a part of it.
                    _ => {
                        let _ = write!(out, "\\{byte:03o}");
                    }
                }
            }
            out + "'"
        }
    }
}

/// Formats a date in ISO 8601, in UTC with milliseconds: `2026-03-02T10:00:00.000Z`. Returns `None` for a year that this
/// format cannot express.
///
/// ```
/// use std::time::SystemTime;
///
/// assert_eq!(tenure::escape::date(SystemTime::UNIX_EPOCH).as_deref(), Some("1970-01-01T00:00:00.000Z"));
/// ```
pub fn date(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| format!("{time:.3}"))
}

/// Formats a duration in one or two units, rounded down: `300 ms`, `4 s`, `3 min`, `2 h 5 min`, `3 d 4 h`.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(tenure::escape::duration(Duration::from_secs(7500)), "2 h 5 min");
/// ```
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min", seconds / 60),
        3600..=86_399 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_milliseconds_and_a_z() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_445_600_120);
        assert_eq!(date(time).as_deref(), Some("2026-03-02T10:00:00.120Z"));
        assert_eq!(date(SystemTime::UNIX_EPOCH).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        // Windows cannot express such a time at all.
        if let Some(far) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(1 << 50)) {
            assert_eq!(date(far), None);
        }
    }

    #[test]
    fn control_characters_cannot_reach_the_terminal() {
        assert_eq!(text("a\x1b]0;x\x07b\nc\u{9b}2J\u{202e}"), "a\\u{1b}]0;x\\u{7}b\\nc\\u{9b}2J\\u{202e}");
        assert_eq!(text("\u{61c}\u{200e}\u{2067}\u{2028}"), "\\u{61c}\\u{200e}\\u{2067}\\u{2028}");
        assert_eq!(text("plain – ünï"), "plain – ünï");
        assert_eq!(text("\u{61c}\u{200e}\u{2066}"), "\\u{61c}\\u{200e}\\u{2066}", "every direction mark");
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        let words = [
            ("sessions/main.jsonl", "sessions/main.jsonl"),
            ("-n", "./-n"),
            ("-a b", "'./-a b'"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("~", "'~'"),
            ("=ls", "'=ls'"),
            ("a=ls", "a=ls"),
            ("$(id)", "'$(id)'"),
            ("käse", "'käse'"),
            ("a\x1b]0;x\x07'7\\", "$'a\\033]0;x\\007\\'7\\\\'"),
            ("\u{202e}x", "$'\\342\\200\\256x'"),
        ];
        for (path, want) in words {
            assert_eq!(word(Path::new(path)), want);
        }
    }

    #[test]
    fn a_duration_has_one_or_two_units() {
        let words = [(0, "0 ms"), (999, "999 ms"), (1000, "1 s"), (59_999, "59 s"), (180_000, "3 min")];
        for (ms, want) in words {
            assert_eq!(duration(Duration::from_millis(ms)), want);
        }
        assert_eq!(duration(Duration::from_secs(7500)), "2 h 5 min");
        assert_eq!(duration(Duration::from_secs(3600)), "1 h");
        assert_eq!(duration(Duration::from_secs(86_400 * 3 + 4 * 3600)), "3 d 4 h");
    }
}
