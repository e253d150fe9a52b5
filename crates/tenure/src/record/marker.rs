//! Reads the lock file of a `SoftFileLock` of Python's package filelock: lines with a pid, a host and, since version 3.29, a
//! start token. A text whose last line has no newline was cut short and is rejected.

use super::{Marker, Record};
use crate::sys::FIRST_PID_NAMESPACE;

/// Maximum number of bytes that filelock reads.
const MAX_MARKER: usize = 1024;
/// Maximum length of a host name. filelock replaces a longer one by a digest.
const MAX_HOST: usize = 253;

/// Parses a marker. Returns `None` for any other text.
pub(super) fn read_marker(bytes: &[u8]) -> Option<Record> {
    if bytes.len() > MAX_MARKER {
        return None;
    }
    let mut lines = bytes.strip_suffix(b"\n")?.split(|byte| *byte == b'\n');
    let (pid, host, token, more) = (lines.next()?, lines.next()?, lines.next(), lines.next());
    let printable = (1..=MAX_HOST).contains(&host.len()) && host.iter().all(u8::is_ascii_graphic);
    if more.is_some() || !printable {
        return None;
    }
    let pid = decimal(pid).filter(|pid| pid.high == 0)?.low.try_into().ok().filter(|pid: &i32| *pid > 0)?;
    let token = token.map(decimal).map_or(Some(None), |token| token.map(Some))?;
    let marker = Marker {
        host: std::str::from_utf8(host).ok()?.into(),
        boot_id: token.filter(|token| token.high > 0).map(|token| uuid(token.high).into()),
    };
    let start_time = token.map(|token| token.low);
    Some(Record { pid: Some(pid.into()), start_time, marker: Some(marker), ..Record::default() })
}

/// A start token: a number of up to 192 bits, with a boot id above a start time.
#[derive(Clone, Copy)]
struct Token {
    high: u128,
    low: u64,
}

fn decimal(digits: &[u8]) -> Option<Token> {
    let mut token = Token { high: 0, low: 0 };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    for digit in digits {
        let low = u128::from(token.low) * 10 + u128::from(digit - b'0');
        token.low = low as u64;
        token.high = token.high.checked_mul(10)?.checked_add(low >> 64)?;
    }
    Some(token)
}

fn uuid(id: u128) -> String {
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

impl Marker {
    /// Returns whether the marker names the given host and pid namespace. filelock writes an unprintable byte in
    /// hexadecimal, and appends the namespace unless it is the machine's first.
    pub(crate) fn is_of(&self, host: &str, pid_namespace: Option<u64>) -> bool {
        let mut name = String::new();
        for byte in host.bytes() {
            match byte {
                0x21..=0x7E if byte != b'?' => name.push(char::from(byte)),
                _ => name.push_str(&format!("?{byte:02x}")),
            }
        }
        if let Some(namespace) = pid_namespace.filter(|namespace| *namespace != FIRST_PID_NAMESPACE) {
            name.push_str(&format!("?pidns-{namespace:x}"));
        }
        *self.host == *name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Content, read};

    fn marker(text: &str) -> Option<Record> {
        match read(text.as_bytes()) {
            Content::Record(record) => record.marker.is_some().then_some(record),
            _ => None,
        }
    }

    #[test]
    fn a_marker_has_pid_host_and_start() {
        // (0x0f5d.. << 64) | 123456
        let read = marker("4242\nbuild-7\n376746339903269534283317079396307589587826905600768467520\n").unwrap();
        assert_eq!(
            (read.pid, read.start_time, read.created_at, &read.native),
            (Some(4242), Some(123_456), None, &None)
        );
        let boot_id = read.identity().unwrap().boot_id;
        assert_eq!(boot_id.as_deref(), Some("0f5d6a52-6b4e-4f0c-a1a5-7e8d4f7e2a11"));
        let of = |text| marker(text).map(|record| (record.pid, record.start_time, record.marker.unwrap()));
        let (pid, start, found) = of("7\nbuild-7\n123456\n").unwrap();
        assert_eq!((pid, start, &*found.host, found.boot_id), (Some(7), Some(123_456), "build-7", None));
        let (_, start, found) = of("7\nbuild-7\n").unwrap();
        assert_eq!((start, found.boot_id), (None, None));
        // 2^64 * 3 + 5
        let (_, start, found) = of("7\nbuild-7\n55340232221128654853\n").unwrap();
        assert_eq!((start, found.boot_id.as_deref()), (Some(5), Some("00000000-0000-0000-0000-000000000003")));
    }

    #[test]
    fn other_texts_are_no_markers() {
        for text in [
            "4242\nbuild-7",
            "4242\n",
            "4242\n\n",
            "4242\nbuild 7\n",
            "4242\nbuild-7\n\n",
            "4242\nbuild-7\nx\n",
            "4242\nbuild-7\n1\n2\n",
            "0\nbuild-7\n",
            "-1\nbuild-7\n",
            "2147483648\nbuild-7\n",
            "18446744073709551623\nbuild-7\n",
            " 4242\nbuild-7\n",
            "4242\r\nbuild-7\r\n",
            "1\nfilelock-strict-v1\0\n0\n",
            "filelock/2\npid=4242\nhost=build-7\nmode=exclusive\n",
            "4242\nbuild-7\n99999999999999999999999999999999999999999999999999999999999999\n",
        ] {
            assert!(matches!(read(text.as_bytes()), Content::NotALock(_)), "{text:?}");
        }
        let long = format!("4242\n{}\n", "x".repeat(MAX_HOST + 1));
        assert!(matches!(read(long.as_bytes()), Content::NotALock(_)));
    }

    #[test]
    fn the_host_matches_as_filelock_writes_it() {
        let of = |host: &str| Marker { host: host.into(), boot_id: None };
        assert!(of("build-7").is_of("build-7", Some(FIRST_PID_NAMESPACE)));
        assert!(of("build-7").is_of("build-7", None));
        assert!(of("a?20b?3f").is_of("a b?", Some(FIRST_PID_NAMESPACE)));
        assert!(of("build-7?pidns-f0000001").is_of("build-7", Some(0xF000_0001)));
        assert!(!of("build-7").is_of("build-7", Some(0xF000_0001)));
        assert!(!of("build-7?pidns-f0000001").is_of("build-7", Some(FIRST_PID_NAMESPACE)));
        assert!(!of("build-8").is_of("build-7", None));
    }
}
