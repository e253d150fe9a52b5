//! The results of calls, as words of a hash and as text.

use super::state::{mix, mix_bytes};
use crate::sys::types::Stat;

/// A result that a call returns to its caller: as a word of a hash, and as text.
pub(super) trait Answer {
    fn word(&self) -> u64;
    fn text(&self) -> String;
}

impl Answer for () {
    fn word(&self) -> u64 {
        1
    }

    fn text(&self) -> String {
        String::new()
    }
}

impl Answer for bool {
    fn word(&self) -> u64 {
        2 + u64::from(*self)
    }

    fn text(&self) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }
}

impl Answer for usize {
    fn word(&self) -> u64 {
        4 + *self as u64
    }

    fn text(&self) -> String {
        String::new()
    }
}

impl Answer for Option<Stat> {
    fn word(&self) -> u64 {
        let Some(stat) = self else { return 3 };
        let modified = stat.modified.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        let counts = stat.id.inode << 32 | stat.links << 24 | stat.size;
        mix(counts ^ u64::from(stat.mode) << 48, modified ^ u64::from(stat.owner) << 56)
    }

    fn text(&self) -> String {
        match self {
            Some(stat) => {
                format!("inode {}, {}, {} links, {} bytes", stat.id.inode, stat.kind.words(), stat.links, stat.size)
            }
            None => "does not exist".to_owned(),
        }
    }
}

impl Answer for Stat {
    fn word(&self) -> u64 {
        Some(*self).word()
    }

    fn text(&self) -> String {
        Some(*self).text()
    }
}

/// Bytes that were read.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Answer for Bytes<'_> {
    fn word(&self) -> u64 {
        mix_bytes(5, self.0)
    }

    fn text(&self) -> String {
        format!("{} bytes", self.0.len())
    }
}
