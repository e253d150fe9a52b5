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
const DATE_LENGTH: usize = 26;
/// The length in bytes of a fence.
const FENCE_LENGTH: usize = 16;

/// A record and its text.
#[derive(Debug)]
pub(crate) struct CachedRecord {
    record: Record,
    rendered: Rendered,
    /// The dates in the text.
    created: Milliseconds,
    acquired: Milliseconds,
}

/// A date in milliseconds since 1970. [`NO_DATE`] where the text has none, or one that [`iso_date`] does not write.
pub(crate) type Milliseconds = u64;
const NO_DATE: Milliseconds = u64::MAX;
const MINUTE: Milliseconds = 60_000;

/// Returns a date's milliseconds.
pub(crate) fn milliseconds(time: SystemTime) -> Option<Milliseconds> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    since.as_secs().checked_mul(1000)?.checked_add(since.subsec_millis().into())
}

impl CachedRecord {
    pub(crate) fn new(record: &Record, at_least: u64) -> CachedRecord {
        let written = |time: Option<SystemTime>| {
            time.filter(|time| iso_date(*time).is_some()).and_then(milliseconds).unwrap_or(NO_DATE)
        };
        CachedRecord {
            record: record.clone(),
            rendered: record.render(at_least),
            created: written(record.created_at),
            acquired: written(record.native.as_ref().and_then(|native| native.acquired_at)),
        }
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
        Some(PriorState {
            fence: native.fence?,
            state: native.state,
            style: native.style,
            suspended: native.suspended.is_some(),
        })
    }

    /// Patches the cached text into the text of `record`. Returns `false`, and the cache is unusable from then on, where
    /// more than the fence, the dates and the state differ, or the text must be longer.
    pub(crate) fn become_record(&mut self, record: &Record, at_least: u64) -> bool {
        let date = |time: Option<SystemTime>| time.and_then(milliseconds).unwrap_or(NO_DATE);
        let acquired = record.native.as_ref().and_then(|native| native.acquired_at);
        (self.rendered.bytes.len() as u64) >= at_least
            && self.record.is_same_but_for_the_tenure(record)
            && self.patch(record, record.created_at, date(record.created_at), date(acquired)).is_some()
    }

    /// As [`become_record`](CachedRecord::become_record), of a record that is known to differ in nothing else, and both
    /// of whose dates are `begun`.
    #[inline(always)]
    pub(crate) fn become_next(&mut self, record: &Record, begun: Milliseconds, at_least: u64) -> bool {
        (self.rendered.bytes.len() as u64) >= at_least && self.patch(record, record.created_at, begun, begun).is_some()
    }

    #[inline(always)]
    fn patch(
        &mut self,
        record: &Record,
        created_at: Option<SystemTime>,
        created: Milliseconds,
        acquired: Milliseconds,
    ) -> Option<()> {
        if self.acquired != acquired || self.created != created {
            self.patch_dates(created, acquired)?;
        }
        if acquired == NO_DATE || created == NO_DATE {
            return None;
        }
        let (theirs, ours) = (record.native.as_ref()?, self.record.native.as_mut()?);
        let Rendered { bytes, state_offset, fence_offset, .. } = &mut self.rendered;
        patch_fence(bytes, *fence_offset, ours.fence?, theirs.fence?)?;
        if ours.state != theirs.state {
            *bytes_at(bytes, *state_offset)? = *state_text(theirs.state);
        }
        self.record.created_at = created_at;
        (ours.fence, ours.state, ours.acquired_at) = (theirs.fence, theirs.state, theirs.acquired_at);
        Some(())
    }

    /// Writes two dates, of which at least one differs from the text's. Two equal ones are rendered once.
    #[cold]
    #[inline(never)]
    fn patch_dates(&mut self, created: Milliseconds, acquired: Milliseconds) -> Option<()> {
        let Rendered { bytes, created_offset, acquired_offset, .. } = &mut self.rendered;
        patch_date(bytes, *acquired_offset, &mut self.acquired, acquired)?;
        if created != acquired || self.created == NO_DATE {
            return patch_date(bytes, *created_offset, &mut self.created, created);
        }
        *bytes_at::<DATE_LENGTH>(bytes, *created_offset)? = *bytes_at::<DATE_LENGTH>(bytes, *acquired_offset)?;
        self.created = created;
        Some(())
    }

    /// Patches the cached text into that of the next tenure of this process. Returns the bytes to write and their offset:
    /// from the fence to `acquiredAt`. `createdAt`, by which foreign programs detect stale locks, keeps its older value.
    /// Returns `None` where more must change.
    pub(crate) fn follow(&mut self, record: &Record) -> Option<(&[u8], u64)> {
        let created = self.record.created_at?;
        record.created_at?.duration_since(created).ok().filter(|age| *age < MAX_DATE_AGE)?;
        if self.record.native.as_ref()?.state != record.native.as_ref()?.state
            || !self.record.is_same_but_for_the_tenure(record)
        {
            return None;
        }
        let acquired = milliseconds(record.native.as_ref()?.acquired_at?)?;
        self.patch(record, Some(created), milliseconds(created)?, acquired)?;
        let from = self.rendered.fence_offset;
        let to = self.rendered.acquired_offset + DATE_LENGTH as u64;
        let range = usize::try_from(from).ok()?..usize::try_from(to).ok()?;
        Some((self.rendered.bytes.get(range)?, from))
    }

    /// Updates the cached state after the caller wrote the state's text to the file.
    pub(crate) fn set_state(&mut self, state: RecordState) {
        let cached = bytes_at(&mut self.rendered.bytes, self.rendered.state_offset);
        if let (Some(cached), Some(native)) = (cached, &mut self.record.native) {
            *cached = *state_text(state);
            native.state = state;
        }
    }
}

/// Returns the bytes of a value with its fixed place and width.
fn bytes_at<const WIDTH: usize>(bytes: &mut [u8], offset: u64) -> Option<&mut [u8; WIDTH]> {
    let at = usize::try_from(offset).ok()?;
    bytes.get_mut(at..at.checked_add(WIDTH)?)?.try_into().ok()
}

/// Writes a date over the one in the text. Within a minute only its seconds and milliseconds differ.
#[inline]
fn patch_date(bytes: &mut [u8], offset: u64, in_text: &mut Milliseconds, date: Milliseconds) -> Option<()> {
    if *in_text == NO_DATE || date == NO_DATE {
        return None;
    }
    let text = bytes_at::<DATE_LENGTH>(bytes, offset)?;
    let in_minute = (date % MINUTE) as u32;
    if in_text.wrapping_sub(date - u64::from(in_minute)) < MINUTE {
        let millis = in_minute % 1000;
        text[18..20].copy_from_slice(&PAIRS[(in_minute / 1000) as usize]);
        text[21] = b'0' + (millis / 100) as u8;
        text[22..24].copy_from_slice(&PAIRS[(millis % 100) as usize]);
    } else {
        *text = iso_date(SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(date))?)?;
    }
    *in_text = date;
    Some(())
}

/// The fences of sixteen digits: the clock's microseconds from 2001 on.
const FENCES: std::ops::Range<u64> = 1_000_000_000_000_000..10_000_000_000_000_000;
/// The value of the upper eight digits' last one. They change every hundred seconds.
const UPPER: u64 = 100_000_000;

/// Writes a fence of sixteen digits over one of as many.
#[inline(always)]
fn patch_fence(bytes: &mut [u8], offset: u64, last: u64, fence: u64) -> Option<()> {
    if !FENCES.contains(&last) || !FENCES.contains(&fence) {
        return None;
    }
    let text = bytes_at::<FENCE_LENGTH>(bytes, offset)?;
    let (upper, lower) = text.split_at_mut(FENCE_LENGTH / 2);
    if last / UPPER != fence / UPPER {
        put_digits(upper, (fence / UPPER) as u32);
    }
    put_digits(lower, (fence % UPPER) as u32);
    Some(())
}

/// Writes eight digits. A number of 32 bits is divided by a multiplication.
#[inline(always)]
fn put_digits(text: &mut [u8], number: u32) {
    let [high, low] = [number / 10_000, number % 10_000];
    for (pair, number) in text.chunks_exact_mut(2).zip([high / 100, high % 100, low / 100, low % 100]) {
        pair.copy_from_slice(&PAIRS[number as usize]);
    }
}

/// The two digits of each number below 100.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = two_digits(number as u64);
        number += 1;
    }
    pairs
};

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
    fn within_a_minute_the_date_is_that_of_the_general_writer() {
        let mut cached = CachedRecord::new(&record(1_772_445_600_000_001, 1_772_445_600, RecordState::Held), 0);
        for millis in [0, 7, 42, 999, 1000, 1001, 59_999, 60_000, 59_998, 119_999, 86_400_000] {
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
