//! Steps through JSON, whole or torn, in one pass and without recursion.

use std::borrow::Cow;

use super::read::text;

/// Why scanning ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The text ended first; so far it was JSON.
    Cut,
    /// This is no JSON.
    Bad,
}

/// How many bytes from here on mean themselves in a JSON string: up to a quote, a backslash or a control character.
pub(super) fn plain(bytes: &[u8]) -> usize {
    let ends = |byte: u8| (byte == b'"') | (byte == b'\\') | (byte < b' ');
    let mut at = 0;
    // Without an early end within a chunk, so that its bytes are compared at once.
    for chunk in bytes.chunks_exact(16) {
        if chunk.iter().fold(false, |ended, byte| ended | ends(*byte)) {
            break;
        }
        at += 16;
    }
    at + bytes[at..].iter().position(|byte| ends(*byte)).unwrap_or(bytes.len() - at)
}

/// Steps over JSON values. It keeps its place where it stops.
pub(super) struct Scanner<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Cut)
    }

    pub(super) fn blank(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.peek()? != byte {
            return Err(Stop::Bad);
        }
        self.at += 1;
        Ok(())
    }

    /// A string with its quotes. Cut short, the place stays at its opening quote.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Stop> {
        let start = self.at;
        if self.peek()? != b'"' {
            return Err(Stop::Bad);
        }
        let mut next = start + 1;
        loop {
            next += plain(&self.bytes[next..]);
            match *self.bytes.get(next).ok_or(Stop::Cut)? {
                b'"' => break,
                b'\\' => match *self.bytes.get(next + 1).ok_or(Stop::Cut)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => next += 2,
                    b'u' => {
                        for place in next + 2..next + 6 {
                            if !self.bytes.get(place).ok_or(Stop::Cut)?.is_ascii_hexdigit() {
                                return Err(Stop::Bad);
                            }
                        }
                        next += 6;
                    }
                    _ => return Err(Stop::Bad),
                },
                0..=0x1f => return Err(Stop::Bad),
                _ => next += 1,
            }
        }
        self.at = next + 1;
        Ok(&self.bytes[start..self.at])
    }

    pub(super) fn digits(&mut self) -> Result<(), Stop> {
        if !self.peek()?.is_ascii_digit() {
            return Err(Stop::Bad);
        }
        while self.peek().is_ok_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    pub(super) fn number(&mut self) -> Result<(), Stop> {
        if self.peek() == Ok(b'-') {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Ok(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Ok(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    pub(super) fn word(&mut self, word: &str) -> Result<(), Stop> {
        word.bytes().try_for_each(|byte| self.expect(byte))
    }

    /// A value of any kind and depth, blanks before it skipped.
    pub(super) fn value(&mut self) -> Result<&'a [u8], Stop> {
        self.blank();
        let start = self.at;
        // The closing brackets that are due: a list instead of recursion, so that depth costs no stack.
        let mut due: Vec<u8> = Vec::new();
        loop {
            self.blank();
            match self.peek()? {
                open @ (b'{' | b'[') => {
                    let close = if open == b'{' { b'}' } else { b']' };
                    self.at += 1;
                    self.blank();
                    if self.peek()? == close {
                        self.at += 1;
                    } else {
                        due.push(close);
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => return Err(Stop::Bad),
            }
            loop {
                let Some(&close) = due.last() else { return Ok(&self.bytes[start..self.at]) };
                self.blank();
                let byte = self.peek()?;
                if byte == close {
                    self.at += 1;
                    due.pop();
                } else if byte == b',' {
                    self.at += 1;
                    if close == b'}' {
                        self.blank();
                        self.key()?;
                    }
                    break;
                } else {
                    return Err(Stop::Bad);
                }
            }
        }
    }

    pub(super) fn key(&mut self) -> Result<(), Stop> {
        self.string()?;
        self.blank();
        self.expect(b':')
    }
}

/// The members of one object, in turn: a key, then its value. The key is told before the value is looked at, because
/// a torn text may end between them.
pub(super) struct Members<'a> {
    pub(super) scanner: Scanner<'a>,
    first: bool,
}

impl<'a> Members<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Members<'a> {
        let mut scanner = Scanner { bytes, at: 0 };
        scanner.blank();
        Members { scanner, first: true }
    }

    /// The next key; `None` behind the object's end.
    pub(super) fn next_key(&mut self) -> Result<Option<Cow<'a, [u8]>>, Stop> {
        let scanner = &mut self.scanner;
        if self.first {
            scanner.expect(b'{')?;
        }
        scanner.blank();
        if scanner.peek()? == b'}' {
            scanner.at += 1;
            return Ok(None);
        }
        if !self.first {
            scanner.expect(b',')?;
            scanner.blank();
        }
        self.first = false;
        let raw = scanner.string()?;
        if !raw.contains(&b'\\') {
            return Ok(Some(Cow::Borrowed(&raw[1..raw.len() - 1])));
        }
        Ok(Some(Cow::Owned(text(raw).map(|key| key.into_owned().into_bytes()).unwrap_or_default())))
    }

    pub(super) fn value(&mut self) -> Result<&'a [u8], Stop> {
        self.scanner.blank();
        self.scanner.expect(b':')?;
        self.scanner.value()
    }
}

pub(super) fn is_spaces(bytes: &[u8]) -> bool {
    // Without an early end, so that many bytes are compared at once.
    bytes.iter().fold(0, |differs, byte| differs | (byte ^ b' ')) == 0
}
