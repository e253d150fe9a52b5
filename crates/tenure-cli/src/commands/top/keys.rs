//! Keys, as a terminal sends them.

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// F1 to F12.
    Function(u8),
    /// A key of no use here.
    Other,
}

/// Finds keys in the bytes from a terminal. A key may be in several pieces.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pending: Vec<u8>,
}

impl Keys {
    /// Returns the keys that are complete with these bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while let Some((key, length)) = first(&self.pending) {
            self.pending.drain(..length);
            keys.push(key);
        }
        keys
    }

    /// Returns whether a key has begun. It may be the escape key, which is also the first byte of other keys.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns the key that is pending, after nothing has followed for a while.
    pub(super) fn flush(&mut self) -> Option<Key> {
        match std::mem::take(&mut self.pending).as_slice() {
            [] => None,
            [0x1b] => Some(Key::Escape),
            _ => Some(Key::Other),
        }
    }
}

/// Returns the first key, and its number of bytes. `None` if it is incomplete.
fn first(bytes: &[u8]) -> Option<(Key, usize)> {
    match *bytes {
        [] => None,
        [b'\r' | b'\n', ..] => Some((Key::Enter, 1)),
        [0x7f | 0x08, ..] => Some((Key::Backspace, 1)),
        [0x1b, b'[', ref rest @ ..] => sequence(rest).map(|(key, length)| (key, length + 2)),
        [0x1b, b'O', letter, ..] => Some((with_letter(letter), 3)),
        [0x1b] | [0x1b, b'O'] => None,
        // Escape, and then another key.
        [0x1b, ..] => Some((Key::Escape, 1)),
        [0..0x20, ..] => Some((Key::Other, 1)),
        [byte, ..] => {
            let length = match byte {
                0..0x80 => 1,
                0xc0..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0..0xf8 => 4,
                _ => return Some((Key::Other, 1)),
            };
            let text = bytes.get(..length)?;
            let letter = std::str::from_utf8(text).ok().and_then(|text| text.chars().next());
            Some(letter.map_or((Key::Other, 1), |letter| (Key::Char(letter), length)))
        }
    }
}

/// Returns the key of a sequence after `ESC [`, and the number of bytes.
fn sequence(rest: &[u8]) -> Option<(Key, usize)> {
    // The console of Linux sends `ESC [ [ A` for F1.
    if let [b'[', tail @ ..] = rest {
        return tail.first().map(|letter| {
            let number = letter.wrapping_sub(b'A') + 1;
            (if (1..=5).contains(&number) { Key::Function(number) } else { Key::Other }, 2)
        });
    }
    let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte))?;
    let numbers = rest[..end].split(|byte| *byte == b';').next().unwrap_or_default();
    let number: u8 = std::str::from_utf8(numbers).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let key = match (rest[end], number) {
        (b'~', 1 | 7) => Key::Home,
        (b'~', 4 | 8) => Key::End,
        (b'~', 5) => Key::PageUp,
        (b'~', 6) => Key::PageDown,
        (b'~', 11..=15) => Key::Function(number - 10),
        (b'~', 17..=21) => Key::Function(number - 11),
        (b'~', 23 | 24) => Key::Function(number - 12),
        (letter, _) => with_letter(letter),
    };
    Some((key, end + 1))
}

fn with_letter(letter: u8) -> Key {
    match letter {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'M' => Key::Enter,
        b'P'..=b'S' => Key::Function(letter - b'P' + 1),
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_terminals() {
        let mut keys = Keys::default();
        let cases: [(&[u8], &[Key]); 12] = [
            (b"q/", &[Key::Char('q'), Key::Char('/')]),
            ("é漢".as_bytes(), &[Key::Char('é'), Key::Char('漢')]),
            (b"\r\x7f", &[Key::Enter, Key::Backspace]),
            (b"\x1b[A\x1bOB", &[Key::Up, Key::Down]),
            (b"\x1b[5~\x1b[6~", &[Key::PageUp, Key::PageDown]),
            (b"\x1b[H\x1b[1~\x1b[F\x1b[4~", &[Key::Home, Key::Home, Key::End, Key::End]),
            (b"\x1bOP\x1b[11~\x1b[[A", &[Key::Function(1); 3]),
            (b"\x1b[15~\x1b[17~\x1b[21~\x1b[24~", &[5, 6, 10, 12].map(Key::Function)),
            (b"\x1b[1;5A", &[Key::Up]),
            (b"\x1b[200~x", &[Key::Other, Key::Char('x')]),
            (b"\x1bq", &[Key::Escape, Key::Char('q')]),
            (b"\xff\x01", &[Key::Other, Key::Other]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(keys.push(bytes), expected, "{bytes:?}");
            assert!(!keys.is_pending(), "{bytes:?}");
        }
    }

    #[test]
    fn a_key_in_pieces() {
        let mut keys = Keys::default();
        for piece in [&b"\x1b"[..], b"[", b"1"] {
            assert_eq!(keys.push(piece), []);
        }
        assert_eq!(keys.push(b"7~"), [Key::Function(6)]);
        assert_eq!(keys.push(&"é".as_bytes()[..1]), []);
        assert_eq!(keys.push(&"é".as_bytes()[1..]), [Key::Char('é')]);
        assert_eq!(keys.push(b"\x1b"), []);
        assert_eq!((keys.flush(), keys.flush()), (Some(Key::Escape), None));
    }
}
