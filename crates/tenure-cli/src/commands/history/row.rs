//! One line of the history, as the table and the bars show it.

use std::time::{Duration, SystemTime};

use tenure::{Holder, PastTenure, State, escape};

/// A tenure or a failed wait, past or present.
pub(super) struct Row {
    pub(super) ended: &'static str,
    pub(super) pid: Option<i64>,
    pub(super) label: Option<String>,
    pub(super) command: Option<String>,
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
    /// Until when the holder is known to have lived; `None` where the lock was never held.
    pub(super) held_until: Option<SystemTime>,
    pub(super) waited: Option<Duration>,
    pub(super) exit_code: Option<i32>,
    pub(super) note: String,
}

impl Row {
    pub(super) fn past(past: &PastTenure) -> Row {
        let until = past.from + past.lasted();
        let blocker = past.blocked_by.as_deref().map(escape::text);
        let note = match (past.blocked_by_pid, blocker) {
            (Some(pid), Some(name)) => format!("held by pid {pid}, {name}"),
            (Some(pid), None) => format!("held by pid {pid}"),
            (None, Some(name)) => format!("held by {name}"),
            (None, None) => past.why.as_deref().map(escape::text).unwrap_or_default(),
        };
        Row {
            ended: past.ended.as_str(),
            pid: past.pid,
            label: past.label.clone(),
            command: past.command.clone(),
            from: past.from,
            until: past.until.max(past.from),
            held_until: past.ended.was_held().then_some(until),
            waited: past.waited,
            exit_code: past.exit_code,
            note: if past.shared && note.is_empty() { "shared".to_owned() } else { note },
        }
    }

    /// Returns the present holder, or the one that crashed and whose lock no other has acquired since.
    pub(super) fn present(holder: &Holder, state: State, now: SystemTime) -> Option<Row> {
        let from = holder.acquired_at.or(holder.created_at)?;
        let crashed = state == State::Stale;
        let last_sign = holder.created_at.filter(|&seen| seen > from).unwrap_or(from);
        Some(Row {
            ended: if crashed { "crashed" } else { "held" },
            pid: holder.pid(),
            label: holder.label.clone(),
            command: holder.command.clone(),
            from,
            until: now.max(from),
            held_until: Some(if crashed { last_sign } else { now.max(from) }),
            waited: None,
            exit_code: None,
            note: if holder.liveness.is_alive() { String::new() } else { escape::text(holder.liveness.why()) },
        })
    }

    /// Returns how long the lock was held.
    pub(super) fn held_for(&self) -> Option<Duration> {
        Some(self.held_until?.duration_since(self.from).unwrap_or_default())
    }

    /// Returns the name under which a timeline shows the row.
    pub(super) fn name(&self) -> String {
        match (&self.label, &self.command, self.pid) {
            (Some(name), ..) | (None, Some(name), _) => escape::text(name),
            (None, None, Some(pid)) => format!("pid {pid}"),
            (None, None, None) => "an unknown process".to_owned(),
        }
    }
}

/// Formats a date without milliseconds: `2026-03-02T10:00:00Z`.
pub(super) fn date(time: SystemTime) -> String {
    match escape::date(time) {
        Some(date) => date.split('.').next().unwrap_or_default().to_owned() + "Z",
        None => "-".to_owned(),
    }
}
