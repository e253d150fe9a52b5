//! The JSON form of a status and of a holder: `docs/json.md` has the meaning of each name.
//!
//! Scripts rely on the names and their order. A missing value is `null`.

use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::model::circle::{Circle, Waiting};
use crate::model::history::PastTenure;
use crate::model::holder::{Holder, HolderKind};
use crate::model::options::Style;
use crate::model::status::Status;
use crate::util::text;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusJson<'a> {
    target: &'a str,
    lock_file: &'a str,
    style: &'static str,
    state: &'static str,
    reasons: Vec<&'static str>,
    holder: Option<&'a Holder>,
    waiters: Option<usize>,
    open_by: &'a [i64],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    suspended: Vec<SuspendedJson>,
}

#[derive(Serialize)]
struct SuspendedJson {
    pid: i64,
    fence: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HolderJson<'a> {
    pid: Option<i64>,
    command_pid: Option<i64>,
    liveness: &'static str,
    why: &'a str,
    kind: &'static str,
    label: Option<&'a str>,
    command: Option<&'a str>,
    host: Option<&'a str>,
    created_at: Option<String>,
    acquired_at: Option<String>,
    age_ms: Option<u64>,
    starttime: Option<u64>,
    fence: Option<u64>,
    max_hold_ms: Option<u64>,
}

/// The form that `tenure status --json` prints. Bytes of a path that are not UTF-8 become U+FFFD.
impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StatusJson {
            target: &lossy(&self.target),
            lock_file: &lossy(&self.lock_file),
            style: match (self.server, self.style) {
                (Some(server), _) => server.as_str(),
                (None, Style::LockFile) => "lock-file",
                (None, Style::Flock) => "flock",
            },
            state: self.state.as_str(),
            reasons: self.reasons.iter().map(|reason| reason.as_str()).collect(),
            holder: self.holder.as_ref(),
            waiters: self.waiters,
            open_by: &self.open_by,
            suspended: self
                .suspended
                .iter()
                .map(|suspended| SuspendedJson { pid: suspended.pid, fence: suspended.fence })
                .collect(),
        }
        .serialize(serializer)
    }
}

/// The form that `tenure status --json` prints as `holder`.
impl Serialize for Holder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        HolderJson {
            pid: self.pid(),
            command_pid: self.command_pid(),
            liveness: self.liveness.name(),
            why: self.liveness.why(),
            kind: match self.kind {
                HolderKind::Native => "native",
                HolderKind::Foreign => "foreign",
            },
            label: self.label.as_deref(),
            command: self.command.as_deref(),
            host: self.host.as_deref(),
            created_at: self.created_at.and_then(text::date),
            acquired_at: self.acquired_at.and_then(text::date),
            age_ms: self.age().map(milliseconds),
            starttime: self.identity.as_ref().and_then(|identity| identity.start_time),
            fence: self.fence,
            max_hold_ms: self.max_hold.map(milliseconds),
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PastTenureJson<'a> {
    ended: &'static str,
    pid: Option<i64>,
    label: Option<&'a str>,
    command: Option<&'a str>,
    host: Option<&'a str>,
    from: Option<String>,
    until: Option<String>,
    lasted_ms: u64,
    last_sign: Option<String>,
    waited_ms: Option<u64>,
    exit_code: Option<i32>,
    fence: Option<u64>,
    shared: bool,
    why: Option<&'a str>,
    blocked_by_pid: Option<i64>,
    blocked_by: Option<&'a str>,
}

/// The form that `tenure history --json` prints.
impl Serialize for PastTenure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        PastTenureJson {
            ended: self.ended.as_str(),
            pid: self.pid,
            label: self.label.as_deref(),
            command: self.command.as_deref(),
            host: self.host.as_deref(),
            from: text::date(self.from),
            until: text::date(self.until),
            lasted_ms: milliseconds(self.lasted()),
            last_sign: self.last_sign.and_then(text::date),
            waited_ms: self.waited.map(milliseconds),
            exit_code: self.exit_code,
            fence: self.fence,
            shared: self.shared,
            why: self.why.as_deref(),
            blocked_by_pid: self.blocked_by_pid,
            blocked_by: self.blocked_by.as_deref(),
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WaitingJson<'a> {
    pid: i64,
    label: Option<&'a str>,
    command: Option<&'a str>,
    task: Option<u64>,
    task_name: Option<&'a str>,
    holds: &'a str,
    holder_pid: Option<i64>,
    waits_for: &'a str,
    slots: Option<u32>,
    since: Option<String>,
}

/// The form that `tenure status --deadlocks --json` prints.
impl Serialize for Circle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct CircleJson<'a> {
            waits: &'a [Waiting],
        }
        CircleJson { waits: &self.waits }.serialize(serializer)
    }
}

impl Serialize for Waiting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WaitingJson {
            pid: self.pid,
            label: self.label.as_deref(),
            command: self.command.as_deref(),
            task: self.task,
            task_name: self.task_name.as_deref(),
            holds: &lossy(&self.holds),
            holder_pid: self.holder_pid,
            waits_for: &lossy(&self.waits_for),
            slots: self.slots,
            since: self.since.and_then(text::date),
        }
        .serialize(serializer)
    }
}

/// Returns a path as text, because JSON has no bytes.
fn lossy(path: &Path) -> std::borrow::Cow<'_, str> {
    path.to_string_lossy()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_reason::StaleReason;
    use crate::model::status::{State, SuspendedHolder};
    use crate::process::Liveness;
    use crate::record::SuspendedTenure;

    #[test]
    fn names_and_order_are_stable() {
        let mut found = Status::free(Path::new("a"), Path::new("a.lock"));
        found.state = State::Held;
        found.reasons = vec![StaleReason::TooOld];
        found.open_by = vec![7];
        found.holder = Some(Holder::from_record(None, Liveness::alive("w")));
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            r#"{"target":"a","lockFile":"a.lock","style":"lock-file","state":"held","reasons":["too-old"],"#.to_owned()
                + r#""holder":{"pid":null,"commandPid":null,"liveness":"alive","why":"w","kind":"foreign","label":null,"command":null,"#
                + r#""host":null,"createdAt":null,"acquiredAt":null,"ageMs":null,"starttime":null,"fence":null,"#
                + r#""maxHoldMs":null},"waiters":null,"openBy":[7]}"#
        );
        let mut found = Status::free(Path::new("a"), Path::new("a.lock"));
        found.suspended = vec![SuspendedHolder::of(&SuspendedTenure { pid: 7, fence: 8 })];
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            r#"{"target":"a","lockFile":"a.lock","style":"lock-file","state":"free","reasons":[],"holder":null,"#
                .to_owned()
                + r#""waiters":null,"openBy":[],"suspended":[{"pid":7,"fence":8}]}"#
        );
    }
}
