//! Durations on the command line: `300ms`, `10s`, `5m`, `1h30m`, `2d`.
//!
//! A bare number is a number of seconds, as in flock(1), timeout(1) and systemd, and may have a fraction.

use std::time::Duration;

/// The units that are accepted, from large to small. A duration has each at most once, in this order.
const UNITS: [&str; 5] = ["d", "h", "m", "s", "ms"];

const FORMS: &str = "write 10 or 10s, 300ms, 5m, 1h30m or 2d";

/// Parses a duration. Returns [`Duration::MAX`] for a longer one.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit())) {
        return Err(format!("a duration is never negative; {FORMS}"));
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match text {
        _ if is_number && text.contains('.') => parse_fraction(text).ok_or_else(|| FORMS.to_owned()),
        _ if is_number && !text.is_empty() => parse_units(&format!("{text}s")),
        _ if has_units_in_order(text) => parse_units(text),
        _ => Err(FORMS.to_owned()),
    }
}

fn parse_units(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) => Ok(duration),
        Err(humantime::DurationError::NumberOverflow) => Ok(Duration::MAX),
        Err(_) => Err(FORMS.to_owned()),
    }
}

/// Parses a number of seconds with a fraction. Rounds up to milliseconds, so that a short time does not become none.
fn parse_fraction(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    let Ok(exact) = Duration::try_from_secs_f64(seconds) else { return Some(Duration::MAX) };
    let milliseconds = Duration::from_millis(exact.subsec_nanos().div_ceil(1_000_000).into());
    Some(Duration::from_secs(exact.as_secs()).saturating_add(milliseconds))
}

/// Returns whether the text consists of numbers with units from [`UNITS`] in their order. `humantime` alone would accept
/// spaces, other units, and each unit several times.
fn has_units_in_order(text: &str) -> bool {
    let mut allowed = UNITS.iter();
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_alphabetic())
        && text
            .split(|c: char| c.is_ascii_digit())
            .filter(|unit| !unit.is_empty())
            .all(|unit| allowed.any(|next| *next == unit))
}

/// Parses a duration that must be longer than zero.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err(format!("it must be longer than zero; {FORMS}")),
        duration => Ok(duration),
    }
}

/// Asserts the properties that every text has. The fuzzer (`fuzz/`) calls this with random texts, a test below with the
/// fixed corpus.
#[cfg(any(test, fuzzing))]
pub(crate) fn check(text: &str) {
    match parse(text) {
        Err(error) => {
            assert!(error.ends_with(FORMS), "{text:?}: {error}");
            assert!(parse_positive(text).is_err());
        }
        Ok(duration) => {
            assert!(text.bytes().all(|byte| byte.is_ascii_digit() || b"dhms.".contains(&byte)), "{text:?}");
            assert_eq!(parse_positive(text).is_ok(), !duration.is_zero(), "{text:?}");
            if duration < Duration::MAX {
                assert_eq!(parse(&canonical(duration)), Ok(duration), "{text:?}");
            }
        }
    }
}

/// Formats a duration of whole milliseconds.
#[cfg(any(test, fuzzing))]
fn canonical(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, milliseconds) in UNITS.into_iter().zip([86_400_000, 3_600_000, 60_000, 1000, 1]) {
        if rest >= milliseconds || (rest == 0 && text.is_empty() && unit == "ms") {
            text += &format!("{}{unit}", rest / milliseconds);
            rest %= milliseconds;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    // Reads the corpus.
    #![allow(clippy::disallowed_methods)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_corpus_of_durations() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/duration");
        let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 5, "{} files in {}", files.len(), folder.display());
        for file in files {
            println!("{}", file.display());
            check(&String::from_utf8_lossy(&std::fs::read(&file).unwrap()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn canonical_durations_are_parsed(milliseconds in prop_oneof![0..100_000_000u64, any::<u64>()]) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&canonical(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "([0-9]{0,30}(d|h|m|s|ms|[a-z-]| |\\PC){0,2}){0,4}") {
            check(&text);
        }

        #[test]
        fn the_parts_add_up(days in 0..1_000_000u64, hours in 0..1000u64, minutes in 0..1000u64, seconds in 0..1000u64) {
            let sum = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
            prop_assert_eq!(parse(&format!("{days}d{hours}h{minutes}m{seconds}s")), Ok(Duration::from_secs(sum)));
        }
    }

    #[test]
    fn accepted_forms() {
        let cases = [
            ("300ms", 300),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0", 0),
            ("0s", 0),
            ("0h0ms", 0),
            ("90m", 5_400_000),
            ("007s", 7000),
            ("10", 10_000),
            ("2.5", 2500),
            (".5", 500),
            ("1.", 1000),
            ("0.0", 0),
            ("0.0001", 1),
            ("1.0005", 1001),
        ];
        for (text, ms) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn other_forms_are_refused_with_a_hint() {
        let wrong = [
            "",
            "5 parsecs",
            "5parsecs",
            "s",
            "-5s",
            "-1",
            "-",
            "+5s",
            "1.5s",
            ".",
            "1.2.3",
            "1.s",
            "1m1h",
            "1s1s",
            "1s1",
            " 1s",
            "1s ",
            "1S",
            "1µs",
            "0x1s",
            "٣s",
            "1e3s",
            "--no-wait",
            "--",
        ];
        for text in wrong {
            let error = parse(text).expect_err(text);
            assert!(error.contains(FORMS), "{text}: {error}");
        }
        assert!(parse("-5s").unwrap_err().contains("negative"));
        // The word after an option whose duration was forgotten.
        assert_eq!(parse("--"), Err(FORMS.to_owned()));
    }

    #[test]
    fn longer_durations_become_the_longest() {
        assert_eq!(parse("99999999999999999999999999999999999999999999d"), Ok(Duration::MAX));
        assert_eq!(parse("18446744073709551616s"), Ok(Duration::MAX));
        assert_eq!(parse("18446744073709551616"), Ok(Duration::MAX));
        assert_eq!(parse("18446744073709551615s"), Ok(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn zero_is_refused_where_a_duration_must_be_positive() {
        assert!(parse_positive("0").unwrap_err().contains("longer than zero"));
        assert!(parse_positive("0ms").is_err());
        assert_eq!(parse_positive("1ms"), Ok(Duration::from_millis(1)));
    }
}
