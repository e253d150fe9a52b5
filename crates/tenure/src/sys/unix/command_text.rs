//! The text of a command line, from the arguments as a kernel has them.

/// Joins arguments that each end in a zero byte to a text of at most 1024 bytes. `None` for an empty one.
pub(crate) fn command_text(raw: &[u8]) -> Option<String> {
    const LIMIT: usize = 1024;
    let mut text = String::from_utf8_lossy(raw).replace('\0', " ");
    text.truncate(text.trim_end().len());
    if text.len() > LIMIT {
        let end = (0..=LIMIT - '…'.len_utf8()).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    (!text.is_empty()).then_some(text)
}

/// Returns the arguments in what macOS has for a process: their number, the program's path, zeros up to an aligned
/// address, the arguments, and the environment (`sysctl(3)`, `KERN_PROCARGS2`). `None` for other bytes.
#[cfg(any(target_os = "macos", test))]
pub(crate) fn counted_arguments(raw: &[u8]) -> Option<&[u8]> {
    let (count, rest) = raw.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_ne_bytes(*count)).ok()?;
    let path = rest.iter().position(|byte| *byte == 0)?;
    let zeros = rest[path..].iter().position(|byte| *byte != 0)?;
    let arguments = &rest[path + zeros..];
    let ends = arguments.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
    let end = ends.take(count).last()?;
    Some(&arguments[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        assert_eq!(command_text(b""), None);
        assert_eq!(command_text(b"\0\0 \0"), None);
        assert_eq!(command_text(b"node\0gateway.js\0\0\0").as_deref(), Some("node gateway.js"));
        assert_eq!(command_text(b"a\0\0b\0").as_deref(), Some("a  b"), "an empty argument stays");
        assert_eq!(command_text(b"a\xffb\0").as_deref(), Some("a\u{fffd}b"));
        assert_eq!(command_text(&[b'x'; 1024]).as_deref(), Some("x".repeat(1024).as_str()));
        for text in ["x".repeat(1025), "é".repeat(600), "x".repeat(1020) + "😀😀", "\u{fffd}".repeat(2000)] {
            let cut = command_text(text.as_bytes()).unwrap();
            let kept = cut.strip_suffix('…').unwrap();
            assert!(text.starts_with(kept) && cut.len() <= 1024 && cut.len() > 1020, "{}", cut.len());
        }
    }

    #[test]
    fn the_environment_is_no_part_of_the_arguments() {
        let with = |count: i32, rest: &[u8]| [&count.to_ne_bytes()[..], rest].concat();
        let text = |raw: &[u8]| counted_arguments(raw).and_then(command_text);
        let whole = with(2, b"/bin/cat\0\0\0\0cat\0a b\0PASSWORD=x\0");
        assert_eq!(text(&whole).as_deref(), Some("cat a b"));
        // The text was cut.
        assert_eq!(text(&with(9, b"/bin/cat\0\0cat\0a")).as_deref(), Some("cat"));
        for no in
            [&b""[..], b"\x01\0", &with(2, b""), &with(2, b"/bin/cat"), &with(2, b"/bin/cat\0\0"), &with(-1, b"a\0b\0")]
        {
            assert_eq!(text(no), None, "{no:?}");
        }
        assert_eq!(text(&with(0, b"/bin/cat\0\0PASSWORD=x\0")), None);
    }
}
