//! Reading and writing a record that others may read or write at the same time.

use std::io;

use crate::record::{self, Content, MAX_BYTES, PID_KEY_OFFSET, Record, Rendered};
use crate::sys::File;

/// How often a text that keeps changing is read before the last reading has to do.
const TRIES: usize = 1000;

/// What a record says, by [`read_text`].
pub(crate) fn read_stable(file: &File) -> io::Result<Content> {
    Ok(record::read(&stable(|| read_once(file))?))
}

/// Reads until two readings agree: a record may change while it is read. `size`: what the file had just now, so that the
/// first reading need not look for its end.
pub(crate) fn read_text(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut first = usize::try_from(size).ok().filter(|size| *size <= MAX_BYTES);
    stable(|| match first.take() {
        Some(size) => {
            let mut bytes = vec![0; size];
            let length = file.read(&mut bytes)?;
            bytes.truncate(length);
            Ok(bytes)
        }
        None => read_once(file),
    })
}

/// Does the file read as `text` still?
pub(crate) fn reads(file: &File, text: &[u8]) -> io::Result<bool> {
    Ok(read_once(file)? == text)
}

pub(crate) fn stable(mut read: impl FnMut() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let mut last = read()?;
    for _ in 0..TRIES {
        let next = read()?;
        if next == last {
            break;
        }
        last = next;
    }
    Ok(last)
}

pub(crate) fn read_once(file: &File) -> io::Result<Vec<u8>> {
    // Not on the heap: musl asks the kernel for such a piece and gives it back, each time.
    let mut usual = [0; 2048];
    // Once: a reading that was cut short by chance agrees with no other.
    let length = file.read_part(&mut usual)?;
    if length < usual.len() {
        return Ok(usual[..length].to_vec());
    }
    // One byte more than is ever taken, so that a longer file is known for one.
    let mut bytes = vec![0; MAX_BYTES + 1];
    let length = file.read(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Writes a record: [`write_text`]. Returns where the state's text stands in it.
pub(crate) fn write(file: &File, record: &Record, size: u64, visible: bool) -> io::Result<u64> {
    let mut rendered = record.render(size);
    write_text(file, &mut rendered, visible)?;
    Ok(rendered.state_offset)
}

/// Writes a record's text; one that others can see is masked first, and its pid comes back last.
pub(crate) fn write_text(file: &File, rendered: &mut Rendered, visible: bool) -> io::Result<()> {
    if !visible {
        return file.write_at(&rendered.bytes, 0);
    }
    write_masked(file, &mut rendered.bytes)
}

/// In place of the first letter of the pid's key: nobody reads a pid then.
pub(crate) const MASKED: &[u8] = b"_";

/// Writes one of our own records' text where others see it.
pub(crate) fn write_masked(file: &File, bytes: &mut [u8]) -> io::Result<()> {
    let key = PID_KEY_OFFSET as usize;
    let first = bytes[key];
    file.write_at(MASKED, PID_KEY_OFFSET)?;
    bytes[key] = MASKED[0];
    // `"_id"` is the pid's key with its first byte changed.
    let written = file.write_at(bytes, 0);
    bytes[key] = first;
    written?;
    file.write_at(&[first], PID_KEY_OFFSET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_counts_once_a_second_one_agrees() {
        let read = |readings: &[&[u8]]| {
            let mut left = readings.iter().map(|reading| reading.to_vec());
            let read = stable(|| left.next().ok_or(io::ErrorKind::UnexpectedEof.into()));
            (read.ok(), left.count())
        };
        assert_eq!(read(&[b"old", b"old", b"new"]), (Some(b"old".to_vec()), 1));
        assert_eq!(read(&[b"old", b"ned", b"new", b"new"]), (Some(b"new".to_vec()), 0), "half of each was read");
        assert_eq!(read(&[b"old", b"new"]), (None, 0), "an error is one");
    }

    #[test]
    fn a_record_that_never_stands_still_ends_the_reading() {
        let mut count = 0_usize;
        let read = stable(|| {
            count += 1;
            Ok(count.to_string().into_bytes())
        });
        assert_eq!(read.unwrap(), (TRIES + 1).to_string().into_bytes());
    }
}
