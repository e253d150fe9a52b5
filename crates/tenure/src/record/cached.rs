//! Caches the record that this process wrote last to an anchor.
//!
//! Between two tenures of one process only the fence, the state and the dates change, so they are patched into the cached
//! text. A text that is equal to the cached one, byte for byte, need not be parsed.

use std::time::{Duration, SystemTime};

use crate::record::render::two_digits;
use crate::record::{PriorState, Record, RecordState, Rendered, iso_date, state_text};

/// Maximum age of the visible `createdAt` that the next tenure of the same process keeps.
const MAX_DATE_AGE: Duration = Duration::from_secs(1);
/// The length in bytes of a date with its quotes.
const DATE_LENGTH: u64 = 26;

/// A record and its text.
#[derive(Debug)]
pub(crate) struct CachedRecord {
    record: Record,
    rendered: Rendered,
    /// The last date that was written, with its seconds since 1970.
    last_date: Option<(u64, [u8; DATE_LENGTH as usize])>,
}

impl CachedRecord {
    pub(crate) fn new(record: &Record, at_least: u64) -> CachedRecord {
        CachedRecord { record: record.clone(), rendered: record.render(at_least), last_date: None }
    }

    /// Returns the text of `time`, as [`iso_date`]. Within a second only its milliseconds change.
    fn date(&mut self, time: SystemTime) -> Option<[u8; DATE_LENGTH as usize]> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let text = match self.last_date {
            Some((second, mut text)) if second == since.as_secs() => {
                let millis = u64::from(since.subsec_millis());
                text[21] = b'0' + (millis / 100) as u8;
                text[22..24].copy_from_slice(&two_digits(millis % 100));
                text
            }
            _ => iso_date(time)?,
        };
        self.last_date = Some((since.as_secs(), text));
        Some(text)
    }

    /// Returns the text, to be written. The caller undoes any change that it makes to it.
    pub(crate) fn rendered_mut(&mut self) -> &mut Rendered {
        &mut self.rendered
    }

    /// Returns the state that `bytes` record, if they are equal to the cached text.
    pub(crate) fn state_of(&self, bytes: &[u8]) -> Option<PriorState> {
        if self.rendered.bytes != bytes {
            return None;
        }
        let native = self.record.native.as_ref()?;
        Some(PriorState { fence: native.fence?, state: native.state, style: native.style })
    }

    /// Patches the cached text into the text of `record`. Returns `false`, and the cache is unusable from then on, where
    /// more than the fence, the dates and the state differ, or the text must be longer.
    pub(crate) fn become_record(&mut self, record: &Record, at_least: u64) -> bool {
        (self.rendered.bytes.len() as u64) >= at_least
            && record.created_at.is_some_and(|created_at| self.patch(record, created_at).is_some())
    }

    fn patch(&mut self, record: &Record, created_at: SystemTime) -> Option<()> {
        if !self.record.is_same_but_for_the_tenure(record) {
            return None;
        }
        let theirs = record.native.as_ref()?;
        let acquired = self.date(theirs.acquired_at?)?;
        let created = if Some(created_at) == theirs.acquired_at { acquired } else { self.date(created_at)? };
        let ours = self.record.native.as_mut()?;
        let fence = digits(theirs.fence?)?;
        FENCES.contains(&ours.fence?).then_some(())?; // The old fence has the same width.
        let offsets = &self.rendered;
        let changes: [(u64, &[u8]); 4] = [
            (offsets.created_offset, &created),
            (offsets.fence_offset, &fence),
            (offsets.state_offset, state_text(theirs.state)),
            (offsets.acquired_offset, &acquired),
        ];
        for (offset, text) in changes {
            let at = usize::try_from(offset).ok()?;
            self.rendered.bytes.get_mut(at..at.checked_add(text.len())?)?.copy_from_slice(text);
        }
        self.record.created_at = Some(created_at);
        (ours.fence, ours.state, ours.acquired_at) = (theirs.fence, theirs.state, theirs.acquired_at);
        Some(())
    }

    /// Patches the cached text into that of the next tenure of this process. Returns the bytes to write and their offset:
    /// from the fence to `acquiredAt`. `createdAt`, by which foreign programs detect stale locks, keeps its older value.
    /// Returns `None` where more must change.
    pub(crate) fn follow(&mut self, record: &Record) -> Option<(&[u8], u64)> {
        let created = self.record.created_at?;
        record.created_at?.duration_since(created).ok().filter(|age| *age < MAX_DATE_AGE)?;
        if self.record.native.as_ref()?.state != record.native.as_ref()?.state {
            return None;
        }
        self.patch(record, created)?;
        let from = self.rendered.fence_offset;
        let to = self.rendered.acquired_offset + DATE_LENGTH;
        let range = usize::try_from(from).ok()?..usize::try_from(to).ok()?;
        Some((self.rendered.bytes.get(range)?, from))
    }

    /// Updates the cached state after the caller wrote the state's text to the file.
    pub(crate) fn set_state(&mut self, state: RecordState) {
        let text = state_text(state);
        let offset = usize::try_from(self.rendered.state_offset).ok();
        let cached = offset.and_then(|at| self.rendered.bytes.get_mut(at..at + text.len()));
        if let (Some(cached), Some(native)) = (cached, &mut self.record.native) {
            cached.copy_from_slice(text);
            native.state = state;
        }
    }
}

/// The fences of sixteen digits: the clock's microseconds from 2001 on.
const FENCES: std::ops::Range<u64> = 1_000_000_000_000_000..10_000_000_000_000_000;

/// Returns the digits of a fence that has sixteen of them.
fn digits(number: u64) -> Option<[u8; 16]> {
    FENCES.contains(&number).then_some(())?;
    let mut text = [0; 16];
    // Two halves of eight digits each fit into 32 bits, where a division is a multiplication.
    for (half, number) in text.chunks_exact_mut(8).zip([number / 100_000_000, number % 100_000_000]) {
        let mut rest = number as u32;
        for pair in half.chunks_exact_mut(2).rev() {
            pair.copy_from_slice(&two_digits(u64::from(rest % 100)));
            rest /= 100;
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{self, Content, Native, RecordStyle};

    fn record(fence: u64, seconds: u64, state: RecordState) -> Record {
        let at = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let native = Native {
            fence: Some(fence),
            acquired_at: at,
            style: RecordStyle::Flock,
            host: Some("build-7".into()),
            ..Native::bare(state)
        };
        Record {
            pid: Some(4242),
            created_at: at,
            start_time: Some(7),
            max_hold: None,
            native: Some(native),
            marker: None,
        }
    }

    #[test]
    fn a_patched_text_is_the_rendered_one() {
        let first = record(1_772_445_600_000_001, 1_772_445_600, RecordState::Held);
        let mut cached = CachedRecord::new(&first, 0);
        for state in [RecordState::Held, RecordState::Aborted, RecordState::Released] {
            let next = record(1_772_445_600_123_456, 1_772_449_999, state);
            assert!(cached.become_record(&next, 512));
            assert_eq!(cached.rendered_mut().bytes, next.render(0).bytes);
            let seen = cached.state_of(&next.render(0).bytes).unwrap();
            assert_eq!((seen.fence, seen.state), (1_772_445_600_123_456, state));
        }
        cached.set_state(RecordState::Held);
        let held = record(1_772_445_600_123_456, 1_772_449_999, RecordState::Held);
        assert_eq!(record::read(&cached.rendered_mut().bytes), Content::Record(held));
    }

    #[test]
    fn within_a_second_the_date_is_that_of_the_general_writer() {
        let mut cached = CachedRecord::new(&record(1_772_445_600_000_001, 1_772_445_600, RecordState::Held), 0);
        for millis in [0, 7, 42, 999, 1000, 1001, 59_999, 86_400_000] {
            let mut next = record(1_772_445_600_000_002, 1_772_445_600, RecordState::Held);
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_445_600_000 + millis);
            next.created_at = Some(at);
            next.native.as_mut().unwrap().acquired_at = Some(at + Duration::from_millis(3));
            assert!(cached.become_record(&next, 0));
            assert_eq!(cached.rendered_mut().bytes, next.render(0).bytes, "{millis} ms");
        }
    }

    #[test]
    fn the_next_tenure_changes_only_its_own_lines() {
        let first = record(1_772_445_600_000_001, 1_772_445_600, RecordState::Held);
        let mut cached = CachedRecord::new(&first, 0);
        let mut next = record(1_772_445_600_000_002, 1_772_445_600, RecordState::Held);
        next.native.as_mut().unwrap().acquired_at = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_445_601));
        let mut disk = cached.rendered_mut().bytes.clone();
        let (text, offset) = cached.follow(&next).unwrap();
        disk[offset as usize..][..text.len()].copy_from_slice(text);
        assert_eq!(record::read(&disk), Content::Record(next.clone()));
        assert_eq!(cached.rendered_mut().bytes, disk);
        next.created_at = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_445_602));
        assert!(cached.follow(&next).is_none(), "its date is too old");
    }

    #[test]
    fn a_record_that_does_not_fit_is_not_patched() {
        let first = record(1_772_445_600_000_001, 1_772_445_600, RecordState::Held);
        let mut longer = record(1_772_445_600_000_002, 1_772_445_600, RecordState::Held);
        assert!(!CachedRecord::new(&first, 0).become_record(&longer, 5000), "the text before was longer");
        longer.pid = Some(4243);
        assert!(!CachedRecord::new(&first, 0).become_record(&longer, 0), "another process");
        let short = record(7, 1_772_445_600, RecordState::Held);
        assert!(!CachedRecord::new(&first, 0).become_record(&short, 0), "a fence of other width");
        assert!(!CachedRecord::new(&short, 0).become_record(&first, 0), "a fence of other width");
        assert!(CachedRecord::new(&first, 0).state_of(b"{}").is_none());
    }
}
