//! `tenure history`: shows who held a lock when.

mod chart;
mod row;
mod svg;
mod table;

use std::path::PathBuf;
use std::time::SystemTime;

use clap::ValueHint;
use serde::Serialize;
use tenure::{Holder, PastTenure, State, Status, escape};

use self::chart::Chart;
use self::row::Row;
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
  the next morning: did the job run, how did it end, and if not, who held the lock?
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
  skipped    the lock was never held: another waited already, or a success was recent
  held       the present holder

Exit codes:
  0       success (a lock without a history has none)
  64      usage error
  69      the lock is on a server, which keeps no history
  73      the lock file's path is taken by a file that is no lock
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

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    if tenure::server::scheme(&args.target)?.is_some() {
        // The error that says so. A server need not be asked for it.
        tenure::history(&args.target)?;
    }
    // The holder first, because a tenure that ends in between is in the history then.
    let now = tenure::status(&args.target)?;
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
