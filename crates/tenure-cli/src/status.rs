//! `tenure status`: who holds, since when, does it live, who waits.

use std::path::PathBuf;

use clap::ValueHint;
use tenure::{HolderKind, State, Status, Style, escape};

use crate::exit::{self, Failure};
use crate::json::{self, LockJson};
use crate::{process, report};

/// Say who holds a lock, since when, whether it lives, and who waits
///
/// Looking never creates a file, waits, or disturbs a holder.
#[derive(clap::Args)]
#[command(override_usage = "tenure status [OPTIONS] TARGET
       tenure status [--json] --pid N")]
#[command(after_long_help = "\
States:
  free      nobody holds
  held      its holder lives
  stale     its holder is dead: who acquires now takes over
  unknown   it cannot be told from here; who acquires waits

Examples:
  tenure status sessions/main.jsonl
  tenure status --json sessions/main.jsonl | jq .holder.pid
  tenure status --check sessions/main.jsonl || echo busy
  tenure status --pid 4242                   what that process holds and waits for

Exit codes:
  0       done; with --check: it could be had now (free or stale)
  64      the call's words are off
  69      no server answers
  73      something that is no lock stands in the lock file's place
  74, 77  input or output failed; permission denied (--pid: of another user's process)
  75      with --check: held or unknown")]
pub(crate) struct Args {
    /// The path that the lock protects
    #[arg(value_hint = ValueHint::AnyPath, required_unless_present = "pid")]
    target: Option<PathBuf>,

    /// Say what this process holds and waits for, in place of a target
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["target", "check"])]
    pid: Option<u32>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Print nothing (but what --json asks for); the exit code is 0 for free or stale, 75 for held or unknown
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let Some(target) = &args.target else {
        // One of the two is there, or clap would have said so.
        return args.pid.map_or(Ok(exit::USAGE), |pid| process::run(pid, args.json));
    };
    let found = tenure::status(target)?;
    if args.json {
        json::print(&LockJson::from(&found))?;
    } else if !args.check {
        report::print(&words(&found))?;
    }
    Ok(match found.state {
        State::Held | State::Unknown if args.check => exit::BUSY,
        _ => exit::OK,
    })
}

fn words(found: &Status) -> String {
    let style = match (found.engine, found.style) {
        (Some(engine), _) => format!(" ({})", engine.as_str()),
        (None, Style::LockFile) => String::new(),
        (None, Style::Flock) => " (flock)".to_owned(),
    };
    let state = report::coloured(found.state, found.state.as_str());
    let mut text = format!("{}: {state}{style}\n", report::path(&found.target));
    let mut line = |name: &str, value: String| text += &format!("  {name:<9} {value}\n");
    if let Some(holder) = &found.holder {
        line("holder", report::who(holder));
        line("liveness", format!("{}: {}", holder.liveness.name(), escape::text(holder.liveness.why())));
        if found.state == State::Stale
            && let Some(pid) = report::still_running(holder)
        {
            line("runs", format!("pid {pid} still runs, but no longer holds"));
        }
        if holder.kind == HolderKind::Foreign {
            let knows = match (found.engine, found.style) {
                (Some(_), _) => "the server's own lock",
                (None, Style::LockFile) => "the lock file",
                (None, Style::Flock) => "flock(2)",
            };
            line("kind", format!("foreign: it knows only {knows}"));
        }
        if let Some(since) = holder.acquired_at.or(holder.created_at).and_then(report::since) {
            line("since", since);
        }
        if let Some(host) = &holder.host {
            line("host", escape::text(host));
        }
        if let Some(fence) = holder.fence {
            line("fence", fence.to_string());
        }
        if let Some(max_hold) = holder.max_hold {
            line("max hold", escape::duration(max_hold));
        }
    }
    if !found.reasons.is_empty() {
        let reasons: Vec<&str> = found.reasons.iter().map(|reason| reason.as_str()).collect();
        line("reasons", reasons.join(", "));
    }
    if let Some(waiters) = found.waiters.filter(|&waiters| waiters > 0) {
        line("waiting", waiters.to_string());
    }
    if !found.open_by.is_empty() {
        line("open by", report::pids(&found.open_by));
    }
    let lock_file = report::path(&found.lock_file);
    match found.state {
        State::Free => {}
        State::Stale if found.engine.is_some() => line("next", "who acquires now takes over".to_owned()),
        State::Held if found.engine.is_some() => line("there", lock_file),
        State::Held if found.style == Style::Flock => {}
        State::Held => line("lock file", lock_file),
        State::Stale => line("next", "who acquires now takes over; `tenure clean` removes it".to_owned()),
        State::Unknown => line("next", format!("who acquires waits; the lock file is {lock_file}")),
    }
    text
}
