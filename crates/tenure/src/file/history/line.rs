//! One line of a history: JSON, between two line breaks.
//!
//! A line begins with a line break of its own, so a torn line before it spoils no other.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::model::history::{Ending, PastTenure};
use crate::util::text;

/// The longest line, with its line breaks. Texts are cut until the line is as short.
pub(super) const MAX_BYTES: usize = 512;
/// How many bytes of a text are kept at first.
const LONGEST_TEXT: usize = 160;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LineJson<'a> {
    ended: &'static str,
    from: String,
    until: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sign: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fence: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shared: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_by_pid: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nth: Option<u64>,
    /// The number of tenures that are kept. The reader cuts to it: the file may have more.
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<usize>,
}

/// A line as it was read, and the number of tenures that its writer keeps.
pub(super) struct Line {
    pub(super) past: PastTenure,
    pub(super) keep: Option<usize>,
}

/// Renders a line of at most [`MAX_BYTES`], whatever the texts are.
pub(super) fn render(past: &PastTenure, keep: usize) -> String {
    let mut longest = LONGEST_TEXT;
    loop {
        let short = |text: &'_ Option<String>| text.as_deref().map(|text| cut(text, longest).to_owned());
        let [command, label, host, why, blocked_by] =
            [&past.command, &past.label, &past.host, &past.why, &past.blocked_by].map(short);
        let line = LineJson {
            ended: past.ended.as_str(),
            from: date(past.from),
            until: date(past.until),
            pid: past.pid,
            command: command.as_deref(),
            label: label.as_deref(),
            host: host.as_deref(),
            last_sign: past.last_sign.map(date),
            waited_ms: past.waited.map(|waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)),
            exit_code: past.exit_code,
            fence: past.fence,
            shared: past.shared,
            why: why.as_deref(),
            blocked_by_pid: past.blocked_by_pid,
            blocked_by: blocked_by.as_deref(),
            nth: past.nth,
            keep: Some(keep).filter(|&keep| keep > 0),
        };
        let text = serde_json::to_string(&line).expect("a line has texts and numbers only");
        if text.len() + 2 <= MAX_BYTES || longest == 0 {
            return format!("\n{text}\n");
        }
        longest = longest * 3 / 4;
    }
}

/// Returns the beginning of a text, of at most that many bytes.
fn cut(text: &str, longest: usize) -> &str {
    match text.len() <= longest {
        true => text,
        false => &text[..(0..=longest).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0)],
    }
}

fn date(time: SystemTime) -> String {
    text::date(time).unwrap_or_default()
}

/// Parses all lines of a file. What is no line of a history is passed over.
pub(super) fn parse_all(text: &[u8]) -> Vec<Line> {
    text.split(|&byte| byte == b'\n').filter_map(parse).collect()
}

fn parse(line: &[u8]) -> Option<Line> {
    if line.is_empty() || line.len() > MAX_BYTES {
        return None;
    }
    let value: Value = serde_json::from_slice(line).ok()?;
    let ended = value["ended"].as_str()?;
    let ended = *Ending::ALL.iter().find(|ending| ending.as_str() == ended)?;
    let date = |name: &str| parse_date(value[name].as_str()?);
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let pid = |name: &str| value[name].as_i64().filter(|&pid| pid > 0);
    let past = PastTenure {
        pid: pid("pid"),
        command: text("command"),
        label: text("label"),
        host: text("host"),
        last_sign: date("lastSign"),
        waited: value["waitedMs"].as_u64().map(Duration::from_millis),
        exit_code: value["exitCode"].as_i64().and_then(|code| i32::try_from(code).ok()),
        fence: value["fence"].as_u64().filter(|&fence| fence <= crate::record::MAX_SAFE),
        shared: value["shared"] == true,
        why: text("why"),
        blocked_by_pid: pid("blockedByPid"),
        blocked_by: text("blockedBy"),
        nth: value["nth"].as_u64(),
        ..PastTenure::new(ended, date("from")?, date("until")?)
    };
    let keep = value["keep"].as_u64().and_then(|keep| usize::try_from(keep).ok());
    Some(Line { past, keep: keep.filter(|&keep| keep > 0) })
}

/// Parses a date since 1970.
fn parse_date(text: &str) -> Option<SystemTime> {
    let since = text.parse::<Timestamp>().ok()?.as_duration();
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from(since).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> PastTenure {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        PastTenure {
            pid: Some(4242),
            command: Some("node gateway.js".into()),
            label: Some("run 8f2c".into()),
            host: Some("build-7".into()),
            last_sign: Some(at(1_772_445_610)),
            waited: Some(Duration::from_millis(1500)),
            exit_code: Some(-1),
            fence: Some(1_772_445_600_000_001),
            shared: true,
            why: Some("its kernel lock is free".into()),
            blocked_by_pid: Some(7),
            blocked_by: Some("other".into()),
            nth: Some(3),
            ..PastTenure::new(Ending::Crashed, at(1_772_445_600), at(1_772_445_660))
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for past in [full(), PastTenure::new(Ending::Busy, full().from, full().until)] {
            let text = render(&past, 7);
            let lines = parse_all(text.as_bytes());
            assert_eq!(lines.len(), 1, "{text}");
            assert_eq!((&lines[0].past, lines[0].keep), (&past, Some(7)));
        }
        assert_eq!(parse_all(render(&full(), 0).as_bytes())[0].keep, None);
    }

    #[test]
    fn a_line_is_short_whatever_its_texts_are() {
        for text in ["x".repeat(5000), "\u{1b}\n\"".repeat(900), "漢".repeat(2000), "\u{1f980}".repeat(500)] {
            let text = Some(text);
            let past = PastTenure {
                command: text.clone(),
                label: text.clone(),
                host: text.clone(),
                why: text.clone(),
                blocked_by: text,
                ..full()
            };
            let line = render(&past, 10_000);
            assert!(line.len() <= MAX_BYTES, "{}", line.len());
            let read = &parse_all(line.as_bytes())[0].past;
            assert_eq!((read.pid, read.from), (past.pid, past.from));
            let (short, long) = (read.command.as_deref().unwrap(), past.command.as_deref().unwrap());
            assert!(long.starts_with(short) && short.len() > 5, "{short:?}");
        }
    }

    #[test]
    fn torn_and_hostile_lines_are_passed_over() {
        let whole = render(&full(), 1);
        let torn = &whole[..whole.len() / 2];
        let mut text = Vec::new();
        for part in [
            torn.as_bytes(),
            whole.as_bytes(),
            b"\n{\"ended\":\"released\"}\n",
            b"\n{\"ended\":\"eaten\",\"from\":\"2026-03-02T10:00:00.000Z\",\"until\":\"2026-03-02T10:00:00.000Z\"}\n",
            b"\n[1,2]\n\nnull\n\0\0\0\xff\xfe\n",
            "[".repeat(100_000).as_bytes(),
            b"\n",
            "[".repeat(400).as_bytes(),
            whole.as_bytes(),
            torn.as_bytes(),
        ] {
            text.extend_from_slice(part);
        }
        let lines = parse_all(&text);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.past == full()));
        let odd = br#"{"ended":"busy","from":"2026-03-02T10:00:00Z","until":"2026-03-02T10:00:00Z","pid":-4,"exitCode":1e9,"fence":"x","command":[],"keep":0}"#;
        let line = &parse_all(odd)[0];
        assert_eq!((line.past.pid, line.past.exit_code, line.past.fence, line.keep), (None, None, None, None));
    }
}
