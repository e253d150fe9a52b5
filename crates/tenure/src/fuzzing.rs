//! Checks properties of the readers for arbitrary bytes. The fuzzer (`fuzz/`) generates the bytes, and the ordinary tests use the
//! fixed corpus (`fuzz/corpus/`).
//!
//! Each check panics where its property is violated. This module is only compiled in tests and under cargo-fuzz.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::record::{self, Content, MAX_BYTES, MAX_SAFE, Record, parse_canonical, parse_prior, read};
use crate::util::text;

#[cfg(target_os = "linux")]
mod kernel_texts;
#[cfg(target_os = "linux")]
pub use kernel_texts::{locks, mountinfo, stat};

/// Checks the record's readers. The fast one agrees with the general one, which agrees with `serde_json` where that accepts the
/// text. A record that was read is written so that it is read again, and the beginning of it is never another program's file.
pub fn record(bytes: &[u8]) {
    let content = read(bytes);
    check_fast_reader(bytes, &content);
    if bytes.len() + 3 <= MAX_BYTES {
        let longer = [bytes, b"\0\n "].concat();
        assert_eq!(read(&longer), content, "trailing blanks and zeros change nothing");
    }
    if bytes.len() <= MAX_BYTES
        && let Ok(object) = serde_json::from_slice::<serde_json::Map<String, Value>>(bytes)
    {
        check_against_serde_json(&object, &content);
    }
    let Content::Record(found) = content else { return };
    let mut written = found.clone();
    if written.created_at.is_none() {
        written.created_at = Some(SystemTime::UNIX_EPOCH);
    }
    let rendered = written.render(bytes.len() as u64).bytes;
    assert!(rendered.len() >= bytes.len(), "the previous text is covered");
    let again = read(&rendered);
    check_fast_reader(&rendered, &again);
    let plain =
        |id: &record::Text| id.bytes().all(|byte| (b' '..=0x7f).contains(&byte) && byte != b'"' && byte != b'\\');
    let quick = |native: &record::Native| native.fence.is_some() && native.boot_id.as_ref().is_none_or(plain);
    assert_eq!(
        parse_canonical(&rendered).is_some(),
        found.native.as_ref().is_some_and(quick),
        "the fast reader accepts the canonical layout"
    );
    let Content::Record(again) = again else { panic!("{written:?} was written and read as {again:?}") };
    check_equal_to_the_millisecond(&written, &again);
    assert_eq!(read(&again.render(0).bytes), Content::Record(again), "written twice, it is the same");
    let length = bytes.iter().fold(bytes.len(), |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let cut = &rendered[..length % rendered.len()];
    assert!(!matches!(read(cut), Content::NotALock(_)), "cut at {}: {:?}", cut.len(), read(cut));
}

fn check_fast_reader(bytes: &[u8], content: &Content) {
    let Some(scan) = parse_canonical(bytes) else { return };
    assert_eq!(
        parse_prior(bytes, &mut 0).map(|prior| (prior.fence, prior.state, prior.style)),
        Some((scan.fence, scan.state, scan.style)),
        "the first lines say another thing"
    );
    let Content::Record(Record { native: Some(native), .. }) = content else {
        panic!("the fast reader saw a record, the general one {content:?}")
    };
    assert_eq!(Some(scan.fence), native.fence);
    assert_eq!((scan.state, scan.style), (native.state, native.style));
    assert_eq!(scan.boot_id, native.boot_id.as_deref());
}

fn check_against_serde_json(object: &serde_json::Map<String, Value>, content: &Content) {
    let ours = ["pid", "createdAt", "starttime", "maxHoldMs"].iter().any(|key| object.contains_key(*key));
    let record = match content {
        Content::Record(record) if ours || object.is_empty() => record,
        Content::NotALock(_) if !ours && !object.is_empty() => return,
        other => panic!("{object:?} is {other:?}"),
    };
    let pid = record.pid.map(|pid| u64::try_from(pid).expect("a pid is positive"));
    check_number(object.get("pid"), pid, 1, "pid");
    check_number(object.get("starttime"), record.start_time, 0, "starttime");
    let max_hold = record.max_hold.map(|hold| u64::try_from(hold.as_millis()).expect("it was read from a u64"));
    check_number(object.get("maxHoldMs"), max_hold, 1, "maxHoldMs");
    if record.created_at.is_some() {
        assert!(object.get("createdAt").is_some_and(Value::is_string));
    }
    let Some(native) = &record.native else { return };
    let object = object.get("tenure").and_then(Value::as_object).expect("only an object is the native part");
    check_number(object.get("fence"), native.fence, 1, "fence");
    check_number(object.get("pidNamespace"), native.pid_namespace, 0, "pidNamespace");
    check_number(object.get("pidfdInode"), native.pidfd_inode, 0, "pidfdInode");
    check_number(object.get("startTime"), native.start_time, 0, "startTime");
    check_number(object.get("commandPid"), native.command_pid, 0, "commandPid");
    check_number(object.get("commandStartTime"), native.command_start_time, 0, "commandStartTime");
    check_number(object.get("slots"), native.slots, 0, "slots");
    let texts =
        [("bootId", &native.boot_id), ("host", &native.host), ("command", &native.command), ("label", &native.label)];
    for (key, ours) in texts {
        let theirs = object.get(key).and_then(Value::as_str);
        assert_eq!(theirs.is_some(), ours.is_some(), "{key}");
        if let (Some(theirs), Some(ours)) = (theirs, ours) {
            assert!(theirs == &**ours || (ours.len() > 1020 && theirs.starts_with(&**ours)), "{key}");
        }
    }
}

fn check_number(theirs: Option<&Value>, ours: Option<u64>, least: u64, key: &str) {
    match theirs.and_then(Value::as_number) {
        Some(number) if number.is_u64() => {
            assert_eq!(number.as_u64().filter(|number| (least..=MAX_SAFE).contains(number)), ours, "{key}");
        }
        // serde_json rounds such a number its own way, by one unit in the last place.
        Some(number) => {
            let close = |ours: u64| number.as_f64().is_some_and(|theirs| (theirs - ours as f64).abs() <= 1.0);
            assert!(ours.is_none_or(close), "{key}: {number}, {ours:?}");
        }
        None => assert_eq!(ours, None, "{key}"),
    }
}

fn check_equal_to_the_millisecond(written: &Record, read: &Record) {
    let times = |record: &Record| [record.created_at, record.native.as_ref().and_then(|native| native.acquired_at)];
    for (written, read) in times(written).into_iter().zip(times(read)) {
        assert_eq!(written.is_some(), read.is_some());
        let (Some(written), Some(read)) = (written, read) else { continue };
        let apart = written.duration_since(read).unwrap_or_else(|error| error.duration());
        // `None` on Windows, where times begin in 1601.
        let year_zero = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(62_167_219_200));
        let clamped = year_zero.is_some_and(|year_zero| written < year_zero && read == year_zero);
        assert!(apart < Duration::from_millis(1) || clamped, "{written:?}, {read:?}");
    }
    let timeless = |record: &Record| {
        let mut record = record.clone();
        record.created_at = None;
        if let Some(native) = &mut record.native {
            native.acquired_at = None;
        }
        record
    };
    assert_eq!(timeless(written), timeless(read));
}

/// Checks the escaping. No character that moves the cursor or changes the text's direction remains, plain text stays unchanged,
/// and a shell reads a path's word as that path.
pub fn escaping(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let safe = text::text(&text);
    check_harmless(&safe);
    assert_eq!(text::text(&safe), safe, "escaped twice, it is the same");
    let plain = text.chars().all(|c| !c.is_control() && !is_bidi_or_separator(c));
    assert_eq!(plain, safe == text, "plain text stays unchanged");
    let named: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    let Some(path) = as_path(&named) else { return };
    check_harmless(&text::path(&path));
    let word = text::word(&path);
    check_harmless(&word);
    let read = read_word(&word).unwrap_or_else(|| panic!("{word} is not one word"));
    let expected = if named.first() == Some(&b'-') { [b"./", &named[..]].concat() } else { named };
    assert_eq!(read, expected, "{word}");
}

fn check_harmless(text: &str) {
    let c = text.chars().find(|c| c.is_control() || is_bidi_or_separator(*c));
    assert_eq!(c, None, "in {text:?}");
}

/// Returns whether a character has Unicode's property Bidi_Control, or separates lines or paragraphs.
fn is_bidi_or_separator(c: char) -> bool {
    let code = c as u32;
    code == 0x061c
        || (0x200e..=0x200f).contains(&code)
        || (0x2028..=0x202e).contains(&code)
        || (0x2066..=0x2069).contains(&code)
}

#[cfg(unix)]
fn as_path(bytes: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned())
}

#[cfg(not(unix))]
fn as_path(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(|text| Path::new(text).to_owned())
}

/// Reads one word as bash and zsh do: bare characters, `'..'`, `\'`, and `$'..'` with its escapes. Returns `None` if a shell
/// would not read it as one literal word.
fn read_word(word: &str) -> Option<Vec<u8>> {
    let mut rest = word.as_bytes();
    let mut out = Vec::new();
    if rest.is_empty() || matches!(rest[0], b'=' | b'~' | b'#' | b'-') {
        return None;
    }
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'\'' => {
                let end = rest.iter().position(|byte| *byte == b'\'')?;
                out.extend(&rest[..end]);
                rest = &rest[end + 1..];
            }
            b'\\' => {
                let (byte, behind) = rest.split_first()?;
                out.push(*byte);
                rest = behind;
            }
            b'$' => {
                rest = rest.strip_prefix(b"'")?;
                loop {
                    let (&byte, behind) = rest.split_first()?;
                    rest = behind;
                    match byte {
                        b'\'' => break,
                        b'\\' if matches!(rest.first()?, b'\'' | b'\\') => {
                            out.push(rest[0]);
                            rest = &rest[1..];
                        }
                        b'\\' => {
                            let digits = std::str::from_utf8(rest.get(..3)?).ok()?;
                            out.push(u8::from_str_radix(digits, 8).ok()?);
                            rest = &rest[3..];
                        }
                        byte => out.push(byte),
                    }
                }
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(byte),
            b'/' | b'.' | b'_' | b'-' | b'+' | b',' | b':' | b'@' | b'%' | b'=' => out.push(byte),
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    // Reads the corpus.
    #![allow(clippy::disallowed_methods)]

    use proptest::prelude::*;

    use super::*;

    /// Runs `check` on every file of the target's fixed corpus.
    pub(super) fn corpus(target: &str, check: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(paths.len() >= 5, "{} files in {}", paths.len(), folder.display());
        paths.sort();
        // Miri takes many seconds for a file.
        for path in paths.iter().step_by(if cfg!(miri) { 8 } else { 1 }) {
            println!("{}", path.display());
            check(&std::fs::read(path).unwrap());
        }
    }

    #[test]
    fn the_corpus_of_records() {
        corpus("record", record);
    }

    #[test]
    fn the_corpus_of_names() {
        corpus("escape", escaping);
    }

    pub(super) fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            proptest::collection::vec(any::<u8>(), 1..4),
            proptest::sample::select(vec![
                "\u{61c}", "\u{202e}", "\x1b[2J", "'", "\\", "\n", "\r", ")", " (", "$", "-", "~"
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
        ];
        proptest::collection::vec(part, 0..if cfg!(miri) { 5 } else { 20 }).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_name_escapes_its_quotes(bytes in hostile()) {
            escaping(&bytes);
        }

        #[test]
        fn a_record_with_hostile_texts_is_read_back(texts in proptest::array::uniform4(hostile()), pid in 1..=MAX_SAFE) {
            let [boot_id, host, command, label] = texts.map(|text| record::Text::from(String::from_utf8_lossy(&text)));
            let mut native = record::Native::bare(record::RecordState::Held);
            native.fence = Some(1);
            native.boot_id = Some(boot_id);
            native.host = Some(host);
            native.command = Some(command);
            native.label = Some(label);
            let pid = i64::try_from(pid).unwrap();
            let written = Record { pid: Some(pid), native: Some(native), ..Record::default() };
            super::record(&written.render(0).bytes);
            prop_assert_eq!(read(&written.render(0).bytes), Content::Record(written));
        }

        #[test]
        fn a_duration_is_exact_to_its_last_unit(seconds in prop_oneof![0..200_000u64, any::<u64>()], nanos in 0..1_000_000_000u32) {
            let whole = Duration::new(seconds, nanos);
            let words = text::duration(whole);
            let parts: Vec<_> = words.split(' ').collect();
            let unit = |name: &str| match name {
                "ms" => 1_u128,
                "s" => 1000,
                "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                other => panic!("{other} is no unit"),
            };
            prop_assert!(parts.len() == 2 || parts.len() == 4, "{}", words);
            let sum: u128 = parts.chunks(2).map(|pair| pair[0].parse::<u128>().unwrap() * unit(pair[1])).sum();
            // A second unit that would be zero is omitted.
            let last = match unit(parts[1]) {
                large if large >= 3_600_000 => if large == 3_600_000 { 60_000 } else { 3_600_000 },
                small => small,
            };
            prop_assert!(sum <= whole.as_millis() && whole.as_millis() < sum + last, "{} for {:?}", words, whole);
        }
    }
}
