//! Dates as JSON and people read them.

use std::time::SystemTime;

use jiff::Timestamp;

/// Returns a date in ISO 8601, in UTC with milliseconds: `2026-03-02T10:00:00.000Z`. Returns `None` for a year that this
/// format cannot express.
pub(crate) fn iso_8601(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_have_milliseconds_and_a_z() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_445_600_120);
        assert_eq!(iso_8601(time).as_deref(), Some("2026-03-02T10:00:00.120Z"));
        assert_eq!(iso_8601(SystemTime::UNIX_EPOCH).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        // Windows cannot express such a time at all.
        if let Some(far) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(1 << 50)) {
            assert_eq!(iso_8601(far), None);
        }
    }
}
