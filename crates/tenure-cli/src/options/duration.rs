//! Durations as people write them: `300ms`, `10s`, `5m`, `1h30m`, `2d`. A bare number is seconds, as for flock(1), timeout(1)
//! and systemd; it may have a fraction.

use std::time::Duration;

/// The units from large to small; a duration names each at most once, in this order.
const UNITS: [(&str, u128); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const FORMS: &str = "write 10 or 10s, 300ms, 5m, 1h30m or 2d";

/// Reads a duration; one beyond what a [`Duration`] holds is the longest there is.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit())) {
        return Err(format!("a duration is never negative; {FORMS}"));
    }
    if let Some(milliseconds) = seconds(text) {
        return Ok(of_milliseconds(milliseconds));
    }
    let mut milliseconds = 0u128;
    let mut allowed = 0;
    let mut rest = text;
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        let place = UNITS.iter().position(|(name, _)| *name == unit);
        let Some(place) = place.filter(|place| *place >= allowed && digits > 0) else {
            return Err(FORMS.to_owned());
        };
        milliseconds = milliseconds.saturating_add(value(number).saturating_mul(UNITS[place].1));
        allowed = place + 1;
        rest = &rest[digits + letters..];
        if rest.is_empty() {
            break;
        }
    }
    Ok(of_milliseconds(milliseconds))
}

/// The milliseconds of a bare number: `10`, `2.5`, `.5`. Rounded up, so that a short time is not taken for none.
fn seconds(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(3));
    let up = u128::from(rest.bytes().any(|digit| digit != b'0'));
    Some(value(whole).saturating_mul(1000).saturating_add(value(&format!("{kept:0<3}")) + up))
}

fn value(digits: &str) -> u128 {
    digits.bytes().fold(0, |sum: u128, digit| sum.saturating_mul(10).saturating_add(u128::from(digit - b'0')))
}

fn of_milliseconds(milliseconds: u128) -> Duration {
    let Ok(seconds) = u64::try_from(milliseconds / 1000) else { return Duration::MAX };
    Duration::new(seconds, (milliseconds % 1000) as u32 * 1_000_000)
}

/// As [`parse`], where a duration of nothing makes no sense.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err(format!("it must be longer than zero; {FORMS}")),
        duration => Ok(duration),
    }
}

/// What holds for any text: checked by the fuzzer (`fuzz/`) on texts that it invents, and on its fixed corpus below.
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

/// A duration of whole milliseconds as it may be written.
#[cfg(any(test, fuzzing))]
fn canonical(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, milliseconds) in UNITS {
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
        fn what_is_written_is_read(milliseconds in prop_oneof![0..100_000_000u64, any::<u64>()]) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&canonical(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "([0-9]{0,30}(d|h|m|s|ms|[a-z-]| |\\PC){0,2}){0,4}") {
            check(&text);
        }

        #[test]
        fn the_parts_add_up(days in 0..1_000_000u64, hours in 0..1000u64, minutes in 0..1000u64, seconds in 0..1000u64) {
            let sum = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
            prop_assert_eq!(parse(&format!("{days}d{hours}h{minutes}m{seconds}s")), Ok(Duration::from_secs(sum)));
        }
    }

    #[test]
    fn the_forms_that_are_right() {
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
    fn everything_else_says_which_forms_are_right() {
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
        // The next word, where the duration was forgotten.
        assert_eq!(parse("--"), Err(FORMS.to_owned()));
    }

    #[test]
    fn beyond_any_clock_is_the_longest_there_is() {
        assert_eq!(parse("99999999999999999999999999999999999999999999d"), Ok(Duration::MAX));
        assert_eq!(parse("18446744073709551616s"), Ok(Duration::MAX));
        assert_eq!(parse("18446744073709551616"), Ok(Duration::MAX));
        assert_eq!(parse("18446744073709551615s"), Ok(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn zero_is_refused_where_it_makes_no_sense() {
        assert!(parse_positive("0").unwrap_err().contains("longer than zero"));
        assert!(parse_positive("0ms").is_err());
        assert_eq!(parse_positive("1ms"), Ok(Duration::from_millis(1)));
    }
}
