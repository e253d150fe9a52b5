//! The output of `--json`. Scripts rely on the names and their order. A missing value is `null`.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tenure::{Cleaned, Holder, HolderKind, Status, Style};

use super::date::iso_8601;
use super::exit::{self, Failure};
use super::stream;

/// A lock, which is the whole answer of `status`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LockJson {
    target: String,
    lock_file: String,
    style: &'static str,
    state: &'static str,
    reasons: Vec<&'static str>,
    holder: Option<HolderJson>,
    waiters: Option<usize>,
    open_by: Vec<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HolderJson {
    pid: Option<i64>,
    command_pid: Option<i64>,
    liveness: &'static str,
    why: String,
    kind: &'static str,
    label: Option<String>,
    command: Option<String>,
    host: Option<String>,
    created_at: Option<String>,
    acquired_at: Option<String>,
    age_ms: Option<u64>,
    starttime: Option<u64>,
    fence: Option<u64>,
    max_hold_ms: Option<u64>,
}

/// The answer of `ls`.
#[derive(Serialize)]
pub(crate) struct ListJson {
    pub(crate) locks: Vec<LockJson>,
}

/// A lock in the answer of `clean`.
#[derive(Serialize)]
pub(crate) struct CleanedJson {
    #[serde(flatten)]
    found: LockJson,
    removed: bool,
    #[serde(rename = "onlyAged")]
    only_aged: bool,
    error: Option<String>,
}

/// The answer of `clean`.
#[derive(Serialize)]
pub(crate) struct CleanJson {
    pub(crate) locks: Vec<CleanedJson>,
    pub(crate) pruned: usize,
}

/// The answer of `break`: the lock as it was before the break.
#[derive(Serialize)]
pub(crate) struct BrokenJson {
    #[serde(flatten)]
    pub(crate) found: LockJson,
    pub(crate) broken: bool,
}

/// The answer of `status --pid`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessJson {
    pub(crate) pid: u32,
    pub(crate) alive: bool,
    pub(crate) command: Option<String>,
    pub(crate) holds: Vec<LockJson>,
    pub(crate) waits_for: Vec<LockJson>,
    pub(crate) lost: Vec<LockJson>,
}

impl ProcessJson {
    /// Creates the answer for a process that does not exist.
    pub(crate) fn gone(pid: u32) -> ProcessJson {
        ProcessJson { pid, alive: false, command: None, holds: vec![], waits_for: vec![], lost: vec![] }
    }
}

impl LockJson {
    /// Describes a lock; `None` means that its files are not visible from here.
    pub(crate) fn of(target: &Path, found: Option<&Status>) -> LockJson {
        let mut lock_file = target.as_os_str().to_owned();
        lock_file.push(".lock");
        found.map_or_else(
            || LockJson {
                target: lossy(target),
                lock_file: lossy(Path::new(&lock_file)),
                style: "lock-file",
                state: "unknown",
                reasons: Vec::new(),
                holder: None,
                waiters: None,
                open_by: Vec::new(),
            },
            LockJson::from,
        )
    }
}

impl From<&Status> for LockJson {
    fn from(found: &Status) -> LockJson {
        LockJson {
            target: lossy(&found.target),
            lock_file: lossy(&found.lock_file),
            style: match (found.server, found.style) {
                (Some(server), _) => server.as_str(),
                (None, Style::LockFile) => "lock-file",
                (None, Style::Flock) => "flock",
            },
            state: found.state.as_str(),
            reasons: found.reasons.iter().map(|reason| reason.as_str()).collect(),
            holder: found.holder.as_ref().map(HolderJson::from),
            waiters: found.waiters,
            open_by: found.open_by.clone(),
        }
    }
}

impl From<&Holder> for HolderJson {
    fn from(holder: &Holder) -> HolderJson {
        HolderJson {
            pid: holder.pid(),
            command_pid: holder.command_pid(),
            liveness: holder.liveness.name(),
            why: holder.liveness.why().to_owned(),
            kind: match holder.kind {
                HolderKind::Native => "native",
                HolderKind::Foreign => "foreign",
            },
            label: holder.label.clone(),
            command: holder.command.clone(),
            host: holder.host.clone(),
            created_at: holder.created_at.and_then(iso_8601),
            acquired_at: holder.acquired_at.and_then(iso_8601),
            age_ms: holder.age().map(milliseconds),
            starttime: holder.identity.as_ref().and_then(|identity| identity.start_time),
            fence: holder.fence,
            max_hold_ms: holder.max_hold.map(milliseconds),
        }
    }
}

impl From<&Cleaned> for CleanedJson {
    fn from(cleaned: &Cleaned) -> CleanedJson {
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
    let mut text = serde_json::to_string(value)
        .map_err(|error| Failure::new(exit::IO, format!("the answer cannot be written as JSON: {error}")))?;
    text.push('\n');
    stream::print(&text)
}

/// Returns a path as text. JSON has no bytes, so bytes that are not UTF-8 become the replacement character.
fn lossy(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_order_are_stable() {
        let lock = LockJson {
            target: "a".into(),
            lock_file: "a.lock".into(),
            style: "lock-file",
            state: "held",
            reasons: vec!["too-old"],
            holder: Some(HolderJson {
                pid: Some(1),
                command_pid: Some(2),
                liveness: "alive",
                why: "w".into(),
                kind: "native",
                label: None,
                command: None,
                host: None,
                created_at: None,
                acquired_at: None,
                age_ms: None,
                starttime: None,
                fence: None,
                max_hold_ms: None,
            }),
            waiters: None,
            open_by: vec![7],
        };
        assert_eq!(
            serde_json::to_string(&CleanedJson { found: lock, removed: true, only_aged: false, error: None }).unwrap(),
            r#"{"target":"a","lockFile":"a.lock","style":"lock-file","state":"held","reasons":["too-old"],"#.to_owned()
                + r#""holder":{"pid":1,"commandPid":2,"liveness":"alive","why":"w","kind":"native","label":null,"command":null,"#
                + r#""host":null,"createdAt":null,"acquiredAt":null,"ageMs":null,"starttime":null,"fence":null,"#
                + r#""maxHoldMs":null},"waiters":null,"openBy":[7],"removed":true,"onlyAged":false,"error":null}"#
        );
    }
}
