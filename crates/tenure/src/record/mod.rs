//! The record: the JSON in an anchor and a lock file that identifies the holder.
//!
//! The record is the text of the anchor and of the lock file, which are one inode. Foreign programs read `pid`,
//! `createdAt`, `starttime` and `maxHoldMs`. All other fields are in the object `tenure`.
//!
//! # Layout
//!
//! Every record begins with the same bytes up to the pid's key, and each value that may change while others read
//! has the same offset and width in every record of one holder, so that a reader never sees shifted fields. A visible
//! record is changed in three writes: the pid's key is masked (`"pid"` becomes `"_id"`, and every program leaves a fresh
//! record without a pid alone), the text is written with the key masked, and the key is restored.
//!
//! # Reading
//!
//! Records of foreign programs are read as JavaScript reads them, because OpenClaw's protocol is written in it: `123.0`
//! and `1e3` are integers, the last of two equal keys counts, and a lone surrogate in an unused field does no harm. So
//! members are read as `serde_json`'s `RawValue`s and interpreted one by one. The members before the end of a torn text
//! decide whether it is the beginning of a record.

pub(crate) mod cached;
mod canonical;
pub(crate) mod io;
mod marker;
mod model;
mod prior;
mod read;
mod render;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use canonical::{CanonicalRecord, parse_canonical};
pub(crate) use model::*;
pub(crate) use prior::parse_prior;
pub(crate) use read::read;
pub(crate) use render::iso_date;
