use proptest::prelude::*;

use std::time::{Duration, SystemTime};

use super::read::{RECORD_KEYS, not_a_lock};
use super::render::timestamp;
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
            command_pid: Some(4243),
            command_start_time: Some(123_460),
            slots: Some(4),
            label: Some("run 8f2c".into()),
            suspended: None,
        }),
        marker: None,
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
        "    \"commandPid\": 4243,      \n",
        "    \"commandStartTime\": 123460,              \n",
        "    \"slots\": 4,\n",
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
        assert_eq!(parse_canonical(&rendered.bytes).unwrap().state, state);
        let mut expected = sample();
        expected.native.as_mut().unwrap().state = state;
        assert_eq!(read(&rendered.bytes), Content::Record(expected));
    }
}

#[test]
fn a_fence_is_sixteen_digits_at_its_place() {
    let rendered = |fence: u64| {
        let mut record = sample();
        record.max_hold = None;
        record.native.as_mut().unwrap().fence = Some(fence);
        record.render(0)
    };
    for fence in [1_000_000_000_000_000, 1_772_445_600_000_001, 8_999_999_999_999_999, MAX_SAFE, 999_999_999_999_999, 1]
    {
        assert_eq!(parse_prior(&rendered(fence).bytes, &mut 0).map(|prior| prior.fence), Some(fence));
    }
    let Rendered { bytes, fence_offset, .. } = rendered(1_772_445_600_000_001);
    for digit in 0..16 {
        for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
            let mut bytes = bytes.clone();
            bytes[fence_offset as usize + digit] = byte;
            assert_eq!(parse_prior(&bytes, &mut 0), None, "digit {digit} is {byte}");
        }
    }
    for fence in ["0772445600000001", "9007199254740992", "9999999999999999"] {
        let mut bytes = bytes.clone();
        bytes[fence_offset as usize..][..16].copy_from_slice(fence.as_bytes());
        assert_eq!(parse_prior(&bytes, &mut 0), None, "{fence}");
    }
}

#[test]
fn each_kind_of_record_tells_its_end() {
    for state in [RecordState::Held, RecordState::Released, RecordState::Aborted, RecordState::Acquiring] {
        for style in [RecordStyle::LockFile, RecordStyle::Flock, RecordStyle::Server] {
            for (start_time, max_hold, pid) in [
                (Some(7), None, Some(4242)),
                (None, None, Some(1)),
                (Some(7), Some(Duration::from_millis(5)), Some(1)),
                (Some(7), None, None),
            ] {
                let mut record = Record { start_time, max_hold, pid, ..sample() };
                let native = record.native.as_mut().unwrap();
                (native.state, native.style) = (state, style);
                let fence = native.fence.unwrap();
                for at_least in [0, 700, 1024, 5000] {
                    assert_eq!(
                        parse_prior(&record.render(at_least).bytes, &mut 0),
                        Some(PriorState { fence, state, style, suspended: false })
                    );
                }
            }
        }
    }
}

#[test]
fn a_masked_pid_is_no_pid() {
    let mut bytes = sample().render(0).bytes;
    let place = PID_KEY_OFFSET as usize;
    // Masking the key in place and rendering a record without a pid give the same bytes.
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
    // A single text already takes minutes under Miri.
    let texts = [&mut native.host, &mut native.command, &mut native.label, &mut native.boot_id];
    for text in texts.into_iter().take(if cfg!(miri) { 1 } else { 4 }) {
        *text = Some("\u{1}".repeat(if cfg!(miri) { 5_000 } else { 100_000 }).into());
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
        // On Windows times begin in 1601.
        assert!(cfg!(windows) || time.is_some());
        let Some(time) = time else { continue };
        odd.created_at = Some(time);
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
    let mut foreign = sample();
    foreign.native = None;
    let rendered = foreign.render(0);
    assert_eq!(rendered.state_offset, u64::MAX);
    assert_eq!(read(&rendered.bytes), Content::Record(foreign.clone()));
    assert!(serde_json::from_slice::<serde_json::Value>(&rendered.bytes).is_ok());
    foreign.max_hold = None;
    assert_eq!(read(&foreign.render(0).bytes), Content::Record(foreign));
}

#[test]
fn blanks_and_zeros_are_blank() {
    for bytes in [&b""[..], b" ", b"\n\n\t ", b"\0\0\0", b" \0\n\0 "] {
        assert_eq!(read(bytes), Content::Blank, "{bytes:?}");
    }
}

#[test]
fn a_record_has_at_least_one_of_the_fields() {
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
    // JavaScript accepts these, while a strict JSON parser in Rust does not.
    assert_eq!(record(r#"{"pid":7,"x":"\ud800","y":1e999}"#).pid, Some(7));
    let mut bytes = br#"{"pid":7,"x":""#.to_vec();
    bytes.extend_from_slice(b"\xff\"}");
    assert!(matches!(read(&bytes), Content::Record(Record { pid: Some(7), .. })));
    let depth = if cfg!(miri) { 1_000 } else { 30_000 };
    let deep = format!(r#"{{"pid":7,"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
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
    let bare = Native::bare(RecordState::Held);
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
fn the_identity_comes_from_the_record() {
    let identity = sample().identity().unwrap();
    assert_eq!((identity.pid, identity.start_time), (4242, Some(123_456)));
    assert_eq!((identity.pid_namespace, identity.pidfd_inode), (Some(4_026_531_836), Some(7731)));
    assert!(identity.boot_id.unwrap().starts_with("0f5d6a52"));
    let foreign = record(r#"{"pid":7,"starttime":8}"#).identity().unwrap();
    assert_eq!((foreign.pid, foreign.start_time, foreign.boot_id), (7, Some(8), None));
    assert_eq!(record(r#"{"starttime":8}"#).identity(), None);
    assert_eq!(sample().previous_fence(), Some(1_772_445_600_000_001));
    assert_eq!(record("{}").previous_fence(), None);
}

#[test]
fn the_fast_reader_takes_only_our_layout() {
    let bytes = sample().render(0).bytes;
    let scan = parse_canonical(&bytes).unwrap();
    assert_eq!(scan.fence, 1_772_445_600_000_001);
    assert_eq!(scan.boot_id, Some("0f5d6a52-6b4e-4f0c-a1a5-7e8d4f7e2a11"));
    let mut sly = sample();
    sly.native.as_mut().unwrap().label = Some("\"fence\": 9,\n    \"fence\": 9".into());
    assert_eq!(parse_canonical(&sly.render(0).bytes).unwrap().fence, 1_772_445_600_000_001);
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
        assert_eq!(parse_canonical(text.replacen(from, to, 1).as_bytes()), None, "{from} to {to}");
    }
    assert_eq!(parse_canonical(format!("{text}x").as_bytes()), None);
    assert_eq!(parse_canonical(format!("{text}\0").as_bytes()), None);
    assert_eq!(parse_canonical(b""), None);
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

/// Returns any text of these letters. `any::<String>()` uses a regular expression, whose parsing takes Miri minutes.
fn text(letter: impl Strategy<Value = char>, longest: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(letter, 0..=longest).prop_map(String::from_iter)
}

fn hex_or_dash() -> impl Strategy<Value = char> {
    proptest::sample::select(b"0123456789abcdef-".to_vec()).prop_map(char::from)
}

prop_compose! {
    fn natives()(
        fence in proptest::option::of(1..=MAX_SAFE),
        state in prop_oneof![Just(RecordState::Held), Just(RecordState::Released), Just(RecordState::Aborted)],
        style in prop_oneof![Just(RecordStyle::LockFile), Just(RecordStyle::Flock), Just(RecordStyle::Server)],
        acquired_at in proptest::option::of((0..4_000_000_000_000u64).prop_map(at)),
        numbers in proptest::array::uniform6(proptest::option::of(0..=MAX_SAFE)),
        boot_id in proptest::option::of(text(hex_or_dash(), 40)),
        texts in proptest::array::uniform3(proptest::option::of(text(any::<char>(), 32))),
        suspended in proptest::collection::vec((1..=MAX_SAFE, 1..=MAX_SAFE), 0..3),
    ) -> Native {
        let [pid_namespace, pidfd_inode, start_time, command_pid, command_start_time, slots] = numbers;
        let [host, command, label] = texts.map(|text| text.map(Into::into));
        let boot_id = boot_id.map(Into::into);
        Native {
            fence, state, style, acquired_at, boot_id, pid_namespace, pidfd_inode, start_time, host, command,
            command_pid, command_start_time, slots, label,
            suspended: Some(suspended).filter(|all| !all.is_empty()).map(|all| {
                all.into_iter().map(|(pid, fence)| SuspendedTenure { pid, fence }).collect()
            }),
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
        Record { pid, created_at: Some(created_at), start_time, max_hold, native, marker: None }
    }
}

/// Returns bytes that are nearly a record: a native record with a few bytes changed.
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
    fn a_written_record_is_read_back(record in records(), at_least in 0..3000u64) {
        let bytes = record.render(at_least).bytes;
        prop_assert!(bytes.len() as u64 >= at_least);
        prop_assert_eq!(read(&bytes), Content::Record(record.clone()));
        let other: Result<serde_json::Value, _> = serde_json::from_slice(&bytes);
        prop_assert!(other.is_ok());
        prop_assert_eq!(
            parse_prior(&bytes, &mut 0),
            parse_canonical(&bytes).map(|scan| PriorState {
                fence: scan.fence,
                state: scan.state,
                style: scan.style,
                suspended: false,
            })
        );
        match (parse_canonical(&bytes), &record.native) {
            (Some(scan), Some(native)) => {
                prop_assert_eq!(Some(scan.fence), native.fence);
                prop_assert_eq!((scan.state, scan.style), (native.state, native.style));
                prop_assert_eq!(scan.boot_id, native.boot_id.as_deref());
            }
            (scan, native) => {
                prop_assert!(scan.is_none());
                prop_assert!(
                    native.as_ref().is_none_or(|native| native.fence.is_none() || native.suspended.is_some())
                );
            }
        }
    }

    #[test]
    fn dates_match_the_general_formatter(millis in 0..253_402_300_799_999u64, nanos in 0..1_000_000u64) {
        let time = at(millis) + Duration::from_nanos(nanos);
        let text = iso_date(time).map(|text| String::from_utf8(text.to_vec()).unwrap());
        prop_assert_eq!(text, Some(format!("\"{:.3}\"", timestamp(time))));
    }

    #[test]
    fn a_cut_record_is_torn(record in records(), zeros in 0..600usize) {
        let whole = record.render(0).bytes;
        for length in (0..whole.len()).step_by(if cfg!(miri) { 241 } else { 1 }) {
            let mut bytes = whole[..length].to_vec();
            // The padding after the record is no part of it.
            let is_cut = length < whole.trim_ascii_end().len();
            prop_assert!(!is_cut || parse_prior(&bytes, &mut 0).is_none(), "cut at {}", length);
            bytes.resize(length + zeros, 0);
            match read(&bytes) {
                Content::Blank => prop_assert_eq!(length, 0),
                Content::Torn => {}
                Content::Record(read) => prop_assert_eq!(&read, &record),
                other => prop_assert!(false, "cut at {}: {:?}", length, other),
            }
        }
    }

    /// What the next holder needs is in the first lines, so it survives damage behind them.
    #[test]
    fn a_damaged_label_hides_no_state(record in records(), label in "[a-z]{8}") {
        let mut record = record;
        let Some(native) = &mut record.native else { return Ok(()) };
        native.label = Some(label.as_str().into());
        let bytes = record.render(0).bytes;
        let expected = parse_prior(&bytes, &mut 0);
        prop_assert_eq!(expected.is_some(), parse_canonical(&bytes).is_some());
        let damaged = String::from_utf8(bytes).unwrap().replace(&label, "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}");
        prop_assert_eq!(parse_canonical(damaged.as_bytes()), None);
        prop_assert_eq!(parse_prior(damaged.as_bytes(), &mut 0), expected);
    }

    /// The fixed places are those of every record, and the values between them are not misread.
    #[test]
    fn the_fixed_places_have_what_the_general_reader_finds(bytes in damaged(), guess in 0..1500_usize) {
        let (mut unpadded, mut guessed) = (0, guess);
        prop_assert_eq!(parse_prior(&bytes, &mut unpadded), parse_prior(&bytes, &mut guessed));
        prop_assert_eq!(unpadded, guessed);
        prop_assert_eq!(unpadded, bytes.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1));
        if let (Some(prior), Content::Record(Record { native: Some(native), .. })) = (parse_prior(&bytes, &mut 0), read(&bytes)) {
            prop_assert_eq!(Some(prior.fence), native.fence);
            prop_assert_eq!((prior.state, prior.style), (native.state, native.style));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), damaged()]) {
        let _ = parse_canonical(&bytes);
        let _ = parse_prior(&bytes, &mut 0);
        let _ = read(&bytes);
    }

    #[test]
    fn the_two_readers_agree(bytes in damaged()) {
        if let Some(scan) = parse_canonical(&bytes) {
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
        // This reader is more tolerant than serde_json, never stricter.
        let strict = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes);
        if let Ok(object) = strict {
            let ours = RECORD_KEYS.iter().any(|key| object.contains_key(*key));
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
    measure("parse_canonical", &|| parse_canonical(&bytes).map_or(0, |scan| scan.fence as usize & 1));
    measure("read", &|| matches!(read(&bytes), Content::Record(_)).into());
}

#[test]
fn suspended_tenures_are_read_back_and_leave_the_text_to_the_general_reader() {
    let mut record = sample();
    let two = [SuspendedTenure { pid: 7, fence: 1_772_445_600_000_000 }, SuspendedTenure { pid: 8, fence: 9 }];
    record.native.as_mut().unwrap().suspended = Some(two.into());
    let bytes = record.render(0).bytes;
    let text = String::from_utf8_lossy(&bytes);
    let line = r#"
    "suspended": [{"pid": 7, "fence": 1772445600000000}, {"pid": 8, "fence": 9}],
    "style": "lock-file","#;
    assert!(text.contains(line), "{text}");
    assert_eq!(read(&bytes), Content::Record(record.clone()));
    assert!(parse_canonical(&bytes).is_none() && parse_prior(&bytes, &mut 0).is_none());
    // A process that writes the next record compares the list.
    let mut cached = cached::CachedRecord::new(&record, 0);
    assert!(cached.state_of(&bytes).unwrap().suspended);
    assert!(cached.become_record(&record, 0) && !cached.become_record(&sample(), 0));
}

#[test]
fn a_malformed_list_of_suspended_tenures_counts_as_none() {
    let with = |list: &str| {
        let text = format!(r#"{{"pid": 1, "tenure": {{"version": 1, "fence": 5, "suspended": {list}}}}}"#);
        native(&text).suspended.map(|all| all.to_vec())
    };
    assert_eq!(with(r#"[{"pid": 7, "fence": 8, "more": []}]"#), Some(vec![SuspendedTenure { pid: 7, fence: 8 }]));
    for malformed in
        ["[]", "null", "7", "{}", r#"[{"pid": 7}]"#, r#"[{"pid": 0, "fence": 8}]"#, r#"[{"pid": 7, "fence": "8"}]"#]
    {
        assert_eq!(with(malformed), None, "{malformed}");
    }
    let many = vec![r#"{"pid": 7, "fence": 8}"#; 2 * MAX_SUSPENDED].join(", ");
    assert_eq!(with(&format!("[{many}]")).map(|all| all.len()), Some(MAX_SUSPENDED));
}
