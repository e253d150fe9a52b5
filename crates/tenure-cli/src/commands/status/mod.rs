//! `tenure status`: shows the holder of a lock and its state.

mod deadlocks;
mod process;

use std::path::PathBuf;

use clap::ValueHint;
use tenure::{HolderKind, State, Status, Style, escape};

use self::process::Format;
use crate::output::json::{self, StatusJson};
use crate::output::{Failure, color, describe, exit, stream};

/// Show who holds a lock, since when, whether the holder lives, and how many wait
///
/// `status` never creates a file, waits, or disturbs a holder. With slots (`tenure run --slots`) it shows each that is held
/// or stale.
#[derive(clap::Args)]
#[command(override_usage = "tenure status [OPTIONS] TARGET
       tenure status [--json] --pid N
       tenure status [--json] --deadlocks [DIR]")]
#[command(after_long_help = "\
States:
  free      no process holds the lock
  held      the holder lives
  stale     the holder is dead: the next acquire takes the lock over
  unknown   whether the holder lives cannot be determined from here; an acquire waits

Examples:
  show the holder of a lock:
    tenure status sessions/main.jsonl
  print its pid:
    tenure status --json sessions/main.jsonl | jq .holder.pid
  test in a script whether the lock is busy:
    tenure status --check sessions/main.jsonl || echo busy
  show the locks that a process holds and waits for:
    tenure status --pid 4242
  show the programs that wait for each other in a circle:
    tenure status --deadlocks

Deadlocks:
A wait that would close a circle (A holds x and waits for y, B holds y and waits for x) fails at
once, with exit code 75 and a message that names each program. So --deadlocks finds the circles of
programs that turned this check off. It reports only what is proven by the notes in which holders
say what they wait for: not the waits of flock(1) or of tasks, and no locks on a server.

Exit codes:
  0       success; with --check: the lock and each of its slots are free or stale
  64      usage error
  69      no server answers
  73      the lock file's path is taken by a file that is no lock
  74, 77  input or output failed; permission denied (--pid: another user's process)
  75      with --check: the lock or a slot is held, or its state is unknown")]
pub(crate) struct Args {
    /// The path whose lock to show
    #[arg(value_hint = ValueHint::AnyPath, required_unless_present_any = ["pid", "deadlocks"])]
    target: Option<PathBuf>,

    /// Show the locks that this process holds and waits for, instead of a target's lock
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["target", "check"])]
    pid: Option<u32>,

    /// Show the circles of programs that wait for each other: with a part in this folder and below, or on this machine
    #[arg(long, conflicts_with_all = ["pid", "check"])]
    deadlocks: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Print nothing, except with --json. The exit code is 0 if the lock and each of its slots are free or stale, 75 otherwise
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let format = if args.json { Format::Json } else { Format::Text };
    if args.deadlocks {
        return deadlocks::run(args.target.as_deref(), format);
    }
    let Some(target) = &args.target else {
        // Without a target clap requires a pid.
        return args.pid.map_or(Ok(exit::USAGE), |pid| process::run(pid, format));
    };
    let found = tenure::status(target)?;
    let slots = tenure::slots(target)?;
    if args.json {
        json::print(&StatusJson::new(&found, &slots))?;
    } else if !args.check {
        // A lock that is held by slots only is not described as free.
        let alone = Some(&found).filter(|found| found.state != State::Free || slots.is_empty());
        stream::print(&alone.into_iter().chain(&slots).map(text).collect::<String>())?;
    }
    let busy = |found: &Status| matches!(found.state, State::Held | State::Unknown);
    Ok(if args.check && [&found].into_iter().chain(&slots).any(busy) { exit::BUSY } else { exit::OK })
}

/// Describes a lock in lines of text.
fn text(found: &Status) -> String {
    let style = match (found.server, found.style) {
        (Some(server), _) => format!(" ({})", server.as_str()),
        (None, Style::LockFile) => String::new(),
        (None, Style::Flock) => " (flock)".to_owned(),
    };
    let state = color::of_state(found.state, found.state.as_str());
    let mut text = format!("{}: {state}{style}\n", describe::path(&found.target));
    let mut line = |name: &str, value: String| text += &format!("  {name:<9} {value}\n");
    if let Some(holder) = &found.holder {
        line("holder", describe::holder(holder));
        line("liveness", format!("{}: {}", holder.liveness.name(), escape::text(holder.liveness.why())));
        if found.state == State::Stale
            && let Some(pid) = describe::running_process(holder)
        {
            line("runs", format!("pid {pid} still runs, but no longer holds the lock"));
        }
        if holder.kind == HolderKind::Foreign {
            let knows = match (found.server, found.style) {
                (Some(_), _) => "the server's own lock",
                (None, Style::LockFile) => "the lock file",
                (None, Style::Flock) => "flock(2)",
            };
            line("kind", format!("foreign: the holder knows only {knows}"));
        }
        if let Some(since) = holder.acquired_at.or(holder.created_at).and_then(describe::since) {
            line("since", since);
        }
        if let Some(host) = &holder.host {
            line("host", escape::text(host));
        }
        if let Some(fence) = holder.fence {
            line("fence", fence.to_string());
        }
        if let Some(slots) = holder.slots {
            line("slots", format!("at most {slots} hold, as long as this one does"));
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
        line("open by", describe::pids(&found.open_by));
    }
    if !found.suspended.is_empty() {
        let pids: Vec<i64> = found.suspended.iter().map(|suspended| suspended.pid).collect();
        line("suspended", format!("by {}, to be resumed before those that wait", describe::pids(&pids)));
    }
    let lock_file = describe::path(&found.lock_file);
    match found.state {
        State::Free => {}
        State::Stale if found.server.is_some() => line("next", "the next acquire takes the lock over".to_owned()),
        State::Held if found.server.is_some() => line("location", lock_file),
        State::Held if found.style == Style::Flock => {}
        State::Held => line("lock file", lock_file),
        State::Stale => {
            let aged = if found.is_stale_by_age_alone() { " --aged" } else { "" };
            line("next", format!("the next acquire takes the lock over; `tenure clean{aged}` removes it"));
        }
        State::Unknown => line("next", format!("an acquire waits; the lock file is {lock_file}")),
    }
    text
}
