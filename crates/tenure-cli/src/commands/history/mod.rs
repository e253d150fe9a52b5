//! `tenure history`: shows who held a lock when.

mod chart;
mod svg;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::ValueHint;
use serde::Serialize;
use tenure::{Holder, PastTenure, State, Status, escape};

use self::chart::Chart;
use crate::output::json::{self, LockJson};
use crate::output::{Failure, describe, exit, stream, terminal};

/// Show who held a lock when, how each tenure ended, and which waits failed
///
/// A lock has a history if its holders keep one: `tenure run --history N`, or `history(N)` in a program. It has the last N
/// tenures, and as many acquires that failed because the lock was busy. The present holder is shown as `held`, and a holder
/// that crashed as `crashed`, with the last time at which it showed that it lived. All dates are in UTC.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  keep the last 100 tenures of a nightly job's lock:
    tenure run -n --history 100 --label nightly backup -- ./backup.sh
  the next morning: did the job run, how did it end, and if not, who was in the way?
    tenure history backup
  who held the lock when, as bars:
    tenure history --timeline backup
  the same as a picture:
    tenure history --svg backup > backup.svg
  the failed runs:
    tenure history --json backup | jq '.history[] | select(.exitCode != 0)'

How a tenure ended:
  released   the holder released the lock; EXIT is the exit code of its command
  crashed    the holder died while it held; HELD is how long it is known to have lived
  lost       the lock was lost, or its file removed, before the holder released it
  revoked    it lasted longer than its longest hold, and was revoked
  broken     an operator broke the lock, or another program stole it for its age
  busy       the lock was never held: another holder had it until the timeout
  deadlock   the lock was never held: the wait would have been for itself
  held       the present holder

Exit codes:
  0       success (a lock without a history has none)
  64      usage error
  69      the lock is on a server, which keeps no history
  74, 77  input or output failed; permission denied")]
pub(crate) struct Args {
    /// The path whose lock to show
    #[arg(value_hint = ValueHint::AnyPath)]
    target: PathBuf,

    /// Print one JSON object: {"target": .., "now": .., "history": [..]}
    #[arg(long, conflicts_with_all = ["timeline", "svg"])]
    json: bool,

    /// Draw who held the lock when, as bars
    #[arg(long)]
    timeline: bool,

    /// Print the bars as an SVG image
    #[arg(long, conflicts_with = "timeline")]
    svg: bool,
}

#[derive(Serialize)]
struct HistoryJson<'a> {
    target: String,
    now: LockJson<'a>,
    history: &'a [PastTenure],
}

/// A tenure or a failed wait, past or present.
pub(super) struct Row {
    ended: &'static str,
    pid: Option<i64>,
    label: Option<String>,
    command: Option<String>,
    from: SystemTime,
    until: SystemTime,
    /// Until when the holder is known to have lived; `None` where the lock was never held.
    held_until: Option<SystemTime>,
    waited: Option<Duration>,
    exit_code: Option<i32>,
    note: String,
}

impl Row {
    fn past(past: &PastTenure) -> Row {
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
    fn present(holder: &Holder, state: State, now: SystemTime) -> Option<Row> {
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
    fn held_for(&self) -> Option<Duration> {
        Some(self.held_until?.duration_since(self.from).unwrap_or_default())
    }

    /// Returns the name under which a timeline shows the row.
    fn name(&self) -> String {
        match (&self.label, &self.command, self.pid) {
            (Some(name), ..) | (None, Some(name), _) => escape::text(name),
            (None, None, Some(pid)) => format!("pid {pid}"),
            (None, None, None) => "an unknown process".to_owned(),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    // The holder first: a tenure that ends in between is shown twice, and would otherwise not be shown at all.
    let now = tenure::status(&args.target).map_err(|error| unsupported(&args.target, error))?;
    let history = tenure::history(&args.target)?;
    if args.json {
        let target = args.target.to_string_lossy().into_owned();
        json::print(&HistoryJson { target, now: LockJson::from(&now), history: &history })?;
        return Ok(exit::OK);
    }
    let rows = rows(&now, &history);
    if rows.is_empty() {
        let word = escape::word(&args.target);
        let name = describe::path(&args.target);
        stream::message(&format!("no history of {name}: keep one by `tenure run --history 100 {word} -- ..`"));
    } else if args.svg {
        stream::print(&svg::render(&describe::path(&args.target), &Chart::new(&rows)))?;
    } else if args.timeline {
        stream::print(&Chart::new(&rows).render(terminal::output_width().unwrap_or(80)))?;
    } else {
        stream::print(&table::render(&rows, terminal::output_width()))?;
    }
    Ok(exit::OK)
}

/// Returns the failure of a target on a server, before the server is asked.
fn unsupported(target: &Path, error: tenure::Error) -> Failure {
    tenure::history(target).err().filter(tenure::Error::is_unsupported).unwrap_or(error).into()
}

fn rows(now: &Status, history: &[PastTenure]) -> Vec<Row> {
    let mut rows: Vec<Row> = history.iter().map(Row::past).collect();
    let present = now.holder.as_ref().filter(|_| now.state != State::Free);
    // A tenure that ended between the two looks is in the history.
    let is_past = |holder: &Holder| {
        holder.fence.is_some() && history.iter().any(|past| past.fence == holder.fence && past.ended.was_held())
    };
    if let Some(holder) = present.filter(|holder| !is_past(holder)) {
        rows.extend(Row::present(holder, now.state, SystemTime::now()));
    }
    rows
}

/// Formats a date without milliseconds: `2026-03-02T10:00:00Z`.
fn date(time: SystemTime) -> String {
    match escape::date(time) {
        Some(date) => date.split('.').next().unwrap_or_default().to_owned() + "Z",
        None => "-".to_owned(),
    }
}
