//! The record: the JSON that says who holds.
//!
//! It is the anchor's text, and the lock file's too (one inode). Foreign programs read `pid`, `createdAt`,
//! `starttime` and `maxHoldMs`; what is ours stands in the object `tenure`.
//!
//! # Layout
//!
//! Every record begins with the same bytes up to the pid's key, and each value that may change while others read
//! stands at the same offset with the same width in every record of one holder, so that a reader never sees fields
//! shifted. A visible record is changed in three writes: the pid's key is masked (`"pid"` to `"_id"`: a fresh record
//! without a pid is left alone by everyone), the text is written with the key masked, and the key comes back.
//!
//! # Reading
//!
//! What others wrote is read as JavaScript reads it, because the seed does: `123.0` and `1e3` are integers, the last
//! of two equal keys counts, and a lone surrogate in some field that nobody looks at spoils nothing. A general JSON
//! parser differs in each of these or stops at the first torn byte, so a small scanner of our own does both whole and
//! torn text, in one pass and without recursion.

pub(crate) mod cached;
mod canonical;
pub(crate) mod io;
mod marker;
mod model;
mod read;
mod render;
mod scanner;
#[cfg(test)]
mod tests;

pub(crate) use canonical::{CanonicalRecord, parse_canonical};
pub(crate) use model::*;
pub(crate) use read::read;
pub(crate) use render::iso_date;
