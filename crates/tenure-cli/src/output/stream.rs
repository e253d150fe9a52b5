//! Standard output and standard error.

use std::io::{self, Write};

use super::color;
use super::exit::{self, Failure};

/// Writes one line to standard error, after the command's name. A closed standard error is no failure.
pub(crate) fn message(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "tenure: {line}");
}

/// Whether the reader of standard output is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Present,
    Gone,
}

/// Writes text to standard output, with colours only where it is a terminal. A pipe that closed is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_to_reader(text).map(drop)
}

/// Writes text to standard output as [`print()`] does, and returns whether there is still a reader.
pub(crate) fn print_to_reader(text: &str) -> Result<Reader, Failure> {
    let mut out = io::stdout().lock();
    // The text is written in one call. A stream that strips colours would write each part of each line by itself.
    let strip = !color::is_wanted() && text.contains('\x1b');
    let plain = strip.then(|| anstream::adapter::strip_str(text).to_string());
    let text = plain.as_deref().unwrap_or(text);
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Present),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::new(exit::IO, format!("standard output: {error}"))),
    }
}
