//! Reads what the next holder needs of the last record, at its fixed places.
//!
//! Every acquire of a lock that another process has held reads this. In most records the values before the fence have
//! fixed widths, so that the constant texts between them are compared, and nothing is searched for.

use super::canonical::parse_head;
use super::{
    BLOCK, CLOSE, CLOSE_NATIVE, CREATED_AT, FENCE, FENCE_WIDTH, FLOCK_STYLE, FOREIGN_START_TIME, LOCK_FILE_STYLE,
    MAX_SAFE, NATIVE, OPEN, PID_END, PID_KEY, PID_WIDTH, PriorState, RecordState, RecordStyle, STATE, STYLE, WIDE,
    state_text,
};

/// Reads what the next holder needs of a record: the fence, the state and the style, which are in its first lines. The text
/// must begin and end as [`Record::render`](super::Record::render) lays it out; the lines between are not read, which is
/// most of it. `None` leaves the text to the general reader. `unpadded` is tried first as the length without the
/// spaces at the end, and set to it.
#[inline]
pub(crate) fn parse_prior(bytes: &[u8], unpadded: &mut usize) -> Option<PriorState> {
    let text = match bytes.split_at_checked(*unpadded) {
        Some((text, padding)) if text.ends_with(&END) && is_padding(padding) => text,
        _ => {
            let text = without_padding(bytes);
            *unpadded = text.len();
            text
        }
    };
    at_fixed_places(text.strip_suffix(&END)?).or_else(|| parse_head(bytes))
}

/// The end of a record, but for its padding.
const END: [u8; CLOSE_NATIVE.len() + CLOSE.len()] = joined(&[CLOSE_NATIVE, CLOSE]);

/// The constant texts of the first lines, in their order. Between them are values of fixed widths.
const TO_PID: [u8; OPEN.len() + PID_KEY.len() + PID_END.len()] = joined(&[OPEN, PID_KEY, PID_END]);
const TO_DATE: [u8; 1 + CREATED_AT.len() + 1] = joined(&["\n", CREATED_AT, "\""]);
const AFTER_DATE: [u8; 3] = *b"\",\n";
const TO_FENCE: [u8; NATIVE.len() + FENCE.len()] = joined(&[NATIVE, FENCE]);
const TO_STATE: [u8; 2 + STATE.len()] = joined(&[",\n", STATE]);
const TO_STYLE: [u8; 1 + STYLE.len()] = joined(&["\n", STYLE]);
const IN_LOCK_FILE_STYLE: [u8; LOCK_FILE_STYLE.len() + 2] = joined(&[LOCK_FILE_STYLE, ",\n"]);
const IN_FLOCK_STYLE: [u8; FLOCK_STYLE.len() + 2] = joined(&[FLOCK_STYLE, ",\n"]);

/// The length of a date without its quotes.
const DATE: usize = 24;
/// The length of a number with its comma and its padding.
const PID: usize = PID_WIDTH + 1;
const START_TIME_LINE: usize = FOREIGN_START_TIME.len() + WIDE + 2;

/// Joins texts whose lengths sum up to `LENGTH`.
const fn joined<const LENGTH: usize>(texts: &[&str]) -> [u8; LENGTH] {
    let mut joined = [0; LENGTH];
    let (mut at, mut text) = (0, 0);
    while text < texts.len() {
        let (bytes, mut from) = (texts[text].as_bytes(), 0);
        while from < bytes.len() {
            joined[at] = bytes[from];
            (at, from) = (at + 1, from + 1);
        }
        text += 1;
    }
    assert!(at == LENGTH);
    joined
}

/// Reads the first lines of a record with a pid, with or without a start time, without a limit of its hold, and with a fence
/// of sixteen digits. The pid, the date and the start time are not read.
#[inline]
fn at_fixed_places(mut text: &[u8]) -> Option<PriorState> {
    constant(&mut text, &TO_PID)?;
    value::<PID>(&mut text)?;
    constant(&mut text, &TO_DATE)?;
    value::<DATE>(&mut text)?;
    constant(&mut text, &AFTER_DATE)?;
    // Some systems have none.
    if text.starts_with(FOREIGN_START_TIME.as_bytes()) && value::<START_TIME_LINE>(&mut text)?.last() != Some(&b'\n') {
        return None;
    }
    constant(&mut text, &TO_FENCE)?;
    let fence = sixteen_digits(value::<FENCE_WIDTH>(&mut text)?)?;
    constant(&mut text, &TO_STATE)?;
    let state = value(&mut text)?;
    let state = [RecordState::Held, RecordState::Released, RecordState::Aborted, RecordState::Acquiring]
        .into_iter()
        .find(|known| state_text(*known) == state)?;
    constant(&mut text, &TO_STYLE)?;
    let style = if text.starts_with(&IN_LOCK_FILE_STYLE) {
        RecordStyle::LockFile
    } else if text.starts_with(&IN_FLOCK_STYLE) {
        RecordStyle::Flock
    } else {
        return None;
    };
    // A line of suspended tenures would come before the style.
    Some(PriorState { fence, state, style, suspended: false })
}

/// Takes the next `LENGTH` bytes.
#[inline]
fn value<'a, const LENGTH: usize>(text: &mut &'a [u8]) -> Option<&'a [u8; LENGTH]> {
    let (value, rest) = text.split_first_chunk()?;
    *text = rest;
    Some(value)
}

/// Takes the next bytes if they are `expected`.
#[inline]
fn constant<const LENGTH: usize>(text: &mut &[u8], expected: &[u8; LENGTH]) -> Option<()> {
    (value::<LENGTH>(text)? == expected).then_some(())
}

/// Reads a fence of sixteen digits, the first of which is not zero.
#[inline]
fn sixteen_digits(text: &[u8; FENCE_WIDTH]) -> Option<u64> {
    let (upper, lower) = text.split_first_chunk::<8>()?;
    let number = eight_digits(upper)? * 100_000_000 + eight_digits(lower.try_into().ok()?)?;
    ((1_000_000_000_000_000..=MAX_SAFE).contains(&number)).then_some(number)
}

/// Reads eight digits, all at once: first each pair of them becomes a number, then each pair of those.
#[inline]
fn eight_digits(text: &[u8; 8]) -> Option<u64> {
    const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);
    const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);
    /// What makes 128 of a digit above nine.
    const ABOVE_NINE: u64 = u64::from_le_bytes([0x80 - 10; 8]);
    let digits = u64::from_le_bytes(*text) ^ ZEROS;
    // A byte of 128 or more has its own high bit; any other one carries into no byte above.
    if (digits | digits.wrapping_add(ABOVE_NINE)) & HIGH_BITS != 0 {
        return None;
    }
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

/// Returns whether a record's padding is all spaces. They are compared by the C library, many at once.
#[inline]
fn is_padding(bytes: &[u8]) -> bool {
    const SPACES: [u8; BLOCK] = [b' '; BLOCK];
    bytes.chunks(BLOCK).all(|chunk| chunk == &SPACES[..chunk.len()])
}

/// Returns a record's text without the spaces at its end, of which a short record has several hundred.
#[cold]
fn without_padding(mut bytes: &[u8]) -> &[u8] {
    const SPACES: u64 = u64::from_le_bytes([b' '; 8]);
    while let Some((rest, last)) = bytes.split_last_chunk::<64>()
        && *last == [b' '; 64]
    {
        bytes = rest;
    }
    while let Some((rest, last)) = bytes.split_last_chunk::<8>() {
        let others = u64::from_le_bytes(*last) ^ SPACES;
        if others != 0 {
            return &bytes[..bytes.len() - others.leading_zeros() as usize / 8];
        }
        bytes = rest;
    }
    while let [rest @ .., b' '] = bytes {
        bytes = rest;
    }
    bytes
}
