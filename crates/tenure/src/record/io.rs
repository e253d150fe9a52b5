//! Reads and writes a record that other processes may read or write at the same time.

use std::io;

use crate::record::{self, Content, MAX_BYTES, PID_KEY_OFFSET, Record, Rendered};
use crate::sys::File;

/// Maximum number of further readings while a text keeps changing. Then the last reading is used.
const TRIES: usize = 1000;

/// Reads a file's content, repeatedly until two readings agree.
pub(crate) fn read_stable(file: &File) -> io::Result<Content> {
    Ok(record::read(&stable(|| read_once(file))?))
}

/// Reads a file's text until two readings agree, because a record may change while it is read. `size` is the file's last
/// known size, so that the first reading need not look for the end.
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

/// Returns whether the file's text is still `text`.
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
    // On the stack, because musl requests a block of this size from the kernel each time.
    let mut usual = [0; 2048];
    // A single read is enough, because a short reading agrees with no other.
    let length = file.read_part(&mut usual)?;
    if length < usual.len() {
        return Ok(usual[..length].to_vec());
    }
    // One byte more than a record may have, so that a longer file is recognized.
    let mut bytes = vec![0; MAX_BYTES + 1];
    let length = file.read(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Writes a record as [`write_text`] does. Returns the offset of the state's text.
pub(crate) fn write(file: &File, record: &Record, size: u64, visible: bool) -> io::Result<u64> {
    let mut rendered = record.render(size);
    write_text(file, &mut rendered, visible)?;
    Ok(rendered.state_offset)
}

/// Writes a record's text. In a `visible` file the pid is masked first and restored last.
pub(crate) fn write_text(file: &File, rendered: &mut Rendered, visible: bool) -> io::Result<()> {
    if !visible {
        return file.write_at(&rendered.bytes, 0);
    }
    write_masked(file, &mut rendered.bytes)
}

/// Replaces the first letter of the pid's key, so that no program reads a pid.
pub(crate) const MASKED: &[u8] = b"_";

/// Writes a native record's text to a visible file.
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
    fn a_text_is_accepted_after_two_equal_readings() {
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
    fn the_last_reading_is_used_while_the_text_keeps_changing() {
        let mut count = 0_usize;
        let read = stable(|| {
            count += 1;
            Ok(count.to_string().into_bytes())
        });
        assert_eq!(read.unwrap(), (TRIES + 1).to_string().into_bytes());
    }
}
