//! Names of files, as the kernel takes them, and names that Win32 gives another meaning.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::path::Path;

use windows_sys::Wdk::System::SystemServices::RtlUpcaseUnicodeChar;

/// The longest file name, in UTF-16 units, of NTFS, ReFS, exFAT and FAT.
pub(crate) const NAME_MAX: usize = 255;

/// A file's name relative to a [`Dir`](super::Dir). It may hold a `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    text: OsString,
    /// The name as the kernel takes it, with `\` between folders.
    wide: Vec<u16>,
}

impl Name {
    /// Converts a name.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a name with a zero, and for one that [`special_name`] refuses.
    pub(crate) fn new(name: &OsStr) -> io::Result<Name> {
        let wide = name.encode_wide().map(|unit| if unit == u16::from(b'/') { u16::from(b'\\') } else { unit });
        let wide: Vec<u16> = wide.collect();
        if wide.contains(&0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name cannot hold a zero"));
        }
        for part in wide.split(|unit| *unit == u16::from(b'\\')) {
            if let Some(why) = special(part) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        }
        Ok(Name { text: name.to_owned(), wide })
    }

    /// Returns the name as the standard library has it.
    pub(crate) fn as_os_str(&self) -> &OsStr {
        &self.text
    }

    pub(super) fn as_wide(&self) -> &[u16] {
        &self.wide
    }

    /// Returns the last part of the name, without its folder.
    pub(super) fn last(&self) -> &[u16] {
        self.wide.rsplit(|unit| *unit == u16::from(b'\\')).next().unwrap_or_default()
    }
}

/// Returns the length of a name in the unit of [`NAME_MAX`].
pub(crate) fn name_len(name: &OsStr) -> usize {
    name.encode_wide().count()
}

/// Returns whether the path ends in a separator, `.` or `..`, as no file's path does.
pub(crate) fn ends_without_name(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let last = text.rsplit(std::path::is_separator).next().unwrap_or_default();
    matches!(last, "" | "." | "..")
}

/// Returns why Windows does not take `name` for a file of this name ("Naming Files, Paths, and Namespaces"): a device, a
/// stream of another file, a name that loses its end, or letters that no name may have.
///
/// The kernel's own calls accept most of these, but other programs could not open such a file.
pub(crate) fn special_name(name: &OsStr) -> Option<String> {
    special(&name.encode_wide().collect::<Vec<_>>())
}

fn special(name: &[u16]) -> Option<String> {
    let text = String::from_utf16_lossy(name);
    if let Some(letter) = text.chars().find(|letter| matches!(letter, '<' | '>' | ':' | '"' | '|' | '?' | '*')) {
        return Some(match letter {
            ':' => "Windows takes what follows a `:` for the name of a stream of another file".to_owned(),
            _ => format!("no name on Windows may hold a `{letter}`"),
        });
    }
    if text.chars().any(|letter| letter < ' ') {
        return Some("no name on Windows may hold a control character".to_owned());
    }
    if text.ends_with(['.', ' ']) && !matches!(text.as_str(), "." | "..") {
        return Some("Windows leaves out dots and spaces at the end of a name".to_owned());
    }
    // Before Windows 11, also with any suffix.
    let base = text.split('.').next().unwrap_or_default().trim_end_matches(' ').to_ascii_uppercase();
    let numbered = |device: &str| {
        base.strip_prefix(device).is_some_and(|rest| {
            let mut rest = rest.chars();
            matches!(rest.next(), Some('0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}')) && rest.next().is_none()
        })
    };
    let device = matches!(base.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$");
    (device || numbered("COM") || numbered("LPT"))
        .then(|| format!("`{base}` is a device on Windows, whatever its suffix"))
}

/// Converts a name to the letters by which a folder that ignores case compares it (`RtlUpcaseUnicodeChar`).
pub(super) fn folded(name: impl Iterator<Item = u16>) -> Vec<u16> {
    // SAFETY: RtlUpcaseUnicodeChar takes a number and has no precondition.
    name.map(|unit| unsafe { RtlUpcaseUnicodeChar(unit) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_another_meaning_are_refused() {
        for bad in [
            "aux",
            "AUX.txt",
            "nul",
            "Con.",
            "com1",
            "COM9.log.gz",
            "lpt3",
            "com\u{b9}",
            "prn .x",
            "conin$",
            "a:b",
            "a.",
            "a ",
            "a?",
            "a*b",
            "a|b",
            "a<",
            "a>",
            "a\"b",
            "a\tb",
        ] {
            assert!(special_name(OsStr::new(bad)).is_some(), "{bad:?}");
            assert_eq!(Name::new(OsStr::new(bad)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        }
        for good in ["auxiliary", "a.aux", "com10", "com", "console", "lpt", ".tenure/a.lock", "a b", "a..b", "ä", ".x"]
        {
            assert!(Name::new(OsStr::new(good)).is_ok(), "{good:?}");
        }
        assert_eq!(name_len(OsStr::new("ä😀")), 3, "in UTF-16 units");
    }

    #[test]
    fn case_is_folded_letter_by_letter() {
        let fold = |text: &str| String::from_utf16(&folded(text.encode_utf16())).unwrap();
        assert_eq!(fold("Foo.äß"), fold("fOO.Äß"));
        assert_ne!(fold("ß"), fold("ss"));
    }
}
