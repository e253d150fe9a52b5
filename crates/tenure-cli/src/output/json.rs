//! The output of `--json`. Scripts rely on the names and their order. A missing value is `null`. The form of a lock is the
//! library's (`Serialize` of a `Status`).

use std::ffi::OsStr;
use std::path::Path;

use serde::Serialize;
use tenure::{Cleaned, Status};

use super::exit::{self, Failure};
use super::stream;

/// A lock, as the answers of several commands contain it.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum LockJson<'a> {
    /// The library's own form of a status.
    Found(&'a Status),
    /// A lock whose files are not visible from here.
    Invisible(InvisibleJson),
}

/// The form of a status of which only the target is known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InvisibleJson {
    target: String,
    lock_file: String,
    style: &'static str,
    state: &'static str,
    reasons: [(); 0],
    holder: (),
    waiters: (),
    open_by: [(); 0],
}

/// The answer of `status`: the lock, and its slots where it has any.
#[derive(Serialize)]
pub(crate) struct StatusJson<'a> {
    #[serde(flatten)]
    found: LockJson<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slots: Vec<LockJson<'a>>,
}

impl<'a> StatusJson<'a> {
    pub(crate) fn new(found: &'a Status, slots: &'a [Status]) -> StatusJson<'a> {
        StatusJson { found: LockJson::from(found), slots: slots.iter().map(LockJson::from).collect() }
    }
}

/// The answer of `ls`.
#[derive(Serialize)]
pub(crate) struct ListJson<'a> {
    pub(crate) locks: Vec<LockJson<'a>>,
}

/// A lock in the answer of `clean`.
#[derive(Serialize)]
pub(crate) struct CleanedJson<'a> {
    #[serde(flatten)]
    found: LockJson<'a>,
    removed: bool,
    #[serde(rename = "onlyAged")]
    only_aged: bool,
    error: Option<String>,
}

/// The answer of `clean`.
#[derive(Serialize)]
pub(crate) struct CleanJson<'a> {
    pub(crate) locks: Vec<CleanedJson<'a>>,
    pub(crate) pruned: usize,
}

/// The answer of `break`: the lock as it was before the break.
#[derive(Serialize)]
pub(crate) struct BrokenJson<'a> {
    #[serde(flatten)]
    pub(crate) found: LockJson<'a>,
    pub(crate) broken: bool,
}

/// The answer of `status --deadlocks`.
#[derive(Serialize)]
pub(crate) struct DeadlocksJson<'a> {
    pub(crate) deadlocks: &'a [tenure::Circle],
}

/// The answer of `status --pid`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessJson<'a> {
    pub(crate) pid: u32,
    pub(crate) alive: bool,
    pub(crate) command: Option<String>,
    pub(crate) holds: Vec<LockJson<'a>>,
    pub(crate) waits_for: Vec<LockJson<'a>>,
    pub(crate) lost: Vec<LockJson<'a>>,
}

impl ProcessJson<'_> {
    /// Creates the answer for a process that does not exist.
    pub(crate) fn gone(pid: u32) -> ProcessJson<'static> {
        ProcessJson { pid, alive: false, command: None, holds: vec![], waits_for: vec![], lost: vec![] }
    }
}

impl<'a> LockJson<'a> {
    /// Describes a lock; `None` means that its files are not visible from here.
    pub(crate) fn of(target: &Path, found: Option<&'a Status>) -> LockJson<'a> {
        let lossy = |path: &OsStr| path.to_string_lossy().into_owned();
        let mut lock_file = target.as_os_str().to_owned();
        lock_file.push(".lock");
        found.map_or_else(
            || {
                LockJson::Invisible(InvisibleJson {
                    target: lossy(target.as_os_str()),
                    lock_file: lossy(&lock_file),
                    style: "lock-file",
                    state: "unknown",
                    reasons: [],
                    holder: (),
                    waiters: (),
                    open_by: [],
                })
            },
            LockJson::from,
        )
    }
}

impl<'a> From<&'a Status> for LockJson<'a> {
    fn from(found: &'a Status) -> LockJson<'a> {
        LockJson::Found(found)
    }
}

impl<'a> From<&'a Cleaned> for CleanedJson<'a> {
    fn from(cleaned: &'a Cleaned) -> CleanedJson<'a> {
        CleanedJson {
            found: LockJson::from(&cleaned.found),
            removed: cleaned.removed,
            only_aged: cleaned.only_aged,
            error: cleaned.error.as_ref().map(ToString::to_string),
        }
    }
}

/// Prints a value as one line of JSON.
pub(crate) fn print(value: &impl Serialize) -> Result<(), Failure> {
    stream::print(&line(value)?)
}

/// Returns a value as one line of JSON.
pub(crate) fn line(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string(value)
        .map_err(|error| Failure::new(exit::IO, format!("the answer cannot be written as JSON: {error}")))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invisible_lock_has_the_names_of_a_found_one_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let found = tenure::status(dir.path().join("a")).unwrap();
        let names = |lock: &LockJson<'_>| {
            let text = serde_json::to_string(lock).unwrap();
            let names = text.split('"').filter(|part| part.chars().all(char::is_alphabetic) && !part.is_empty());
            let is_name = |name: &&str| text.contains(&format!("\"{name}\":"));
            names.filter(is_name).map(str::to_owned).collect::<Vec<_>>()
        };
        let invisible = LockJson::of(Path::new("a"), None);
        assert_eq!(names(&invisible), names(&LockJson::from(&found)));
        assert_eq!(
            serde_json::to_string(&invisible).unwrap(),
            r#"{"target":"a","lockFile":"a.lock","style":"lock-file","state":"unknown","reasons":[],"holder":null,"waiters":null,"openBy":[]}"#
        );
    }
}
