//! `tenure break`: an operator's takeover.

use std::path::PathBuf;

use clap::ValueHint;
use tenure::{BreakOptions, HolderKind, State, Status, Style};

use crate::exit::{self, Failure};
use crate::json::{self, BrokenJson, LockJson};
use crate::report;

/// Free a lock, whatever its holder does
///
/// For whoever is woken at night. What a dead holder left is removed; a live one, or one of which it cannot be told, is
/// refused without --force. With it the holder is not stopped: it may go on writing while the next one works. A holder
/// under `tenure run` learns of it within two seconds, and its command is ended; one that uses the library learns of it
/// when it checks; one that knows only the lock file never does. Whoever waits goes on within about a second.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  tenure status sessions/main.jsonl          first: who is it?
  kill 4242                                  better: end the holder, and the lock is free
  tenure break sessions/main.jsonl           removes what a dead holder left
  tenure break --force sessions/main.jsonl   takes it from a live one
  tenure break --json --force queue | jq .broken

Exit codes:
  0       done: it is free (or was)
  64      the call's words are off
  69      the holder has a flock(2) on the target alone, which nobody can take away: end it; or no
          server answers
  73      something that is no lock stands in the lock file's place
  74, 77  input or output failed; permission denied
  75      refused: its holder lives, or that cannot be told, and --force was not given; or it changed
          hands meanwhile")]
pub(crate) struct Args {
    /// The path that the lock protects
    #[arg(value_hint = ValueHint::AnyPath)]
    target: PathBuf,

    /// Break the lock of a live holder too, or of one of which it cannot be told: two may then be at work
    #[arg(short, long)]
    force: bool,

    /// Print one JSON object: the lock as it was, and "broken"
    #[arg(long)]
    json: bool,

    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let target = report::path(&args.target);
    let found = tenure::status(&args.target)?;
    let lives = matches!(found.state, State::Held | State::Unknown);
    if lives && !args.force {
        if args.json {
            json::print(&BrokenJson { found: LockJson::from(&found), broken: false })?;
        }
        let force = match only_flock(&found) {
            true => "--force cannot help: nobody can take its flock(2) away".to_owned(),
            false => format!("--force takes it away: {}", afterwards(&found)),
        };
        let held = report::held(&found);
        let message = format!("{target}: not broken: {held}. {force}. Better end the holder, which frees the lock");
        return Err(Failure::new(exit::BUSY, message));
    }
    if lives && !only_flock(&found) && !args.quiet && !args.json {
        report::say(&format!("breaking {target}: {}", report::held(&found)));
    }
    let broken = tenure::break_lock(&args.target, &BreakOptions::default().only(found).force(args.force))?;
    if args.json {
        json::print(&BrokenJson { found: LockJson::from(&broken.found), broken: broken.broken })?;
    } else if !args.quiet {
        report::print(&(done(&target, &broken.found, broken.broken) + "\n"))?;
    }
    Ok(match (broken.found.state, broken.broken) {
        (State::Free, _) | (_, true) => exit::OK,
        // Somebody was faster than we were with what the dead one left.
        (_, false) => exit::BUSY,
    })
}

fn is_foreign(found: &Status) -> bool {
    found.holder.as_ref().is_some_and(|holder| holder.kind == HolderKind::Foreign)
}

/// A program that is no user of Tenure has the target's `flock(2)`.
fn only_flock(found: &Status) -> bool {
    is_foreign(found) && found.style == Style::Flock
}

/// What a break means for those concerned.
fn afterwards(found: &Status) -> String {
    let holder = match found.style {
        _ if found.engine.is_some() => "it sees the loss at its next renewal, and may write until then",
        _ if is_foreign(found) => "it knows only the lock file, which goes, and may write on",
        Style::Flock => "it sees the loss when it checks, and has its flock(2) until it ends",
        Style::LockFile => "it sees the loss when it checks, and may write until then",
    };
    match found.waiters {
        Some(1) => format!("{holder}; 1 that waits goes on"),
        Some(waiters) if waiters > 1 => format!("{holder}; {waiters} that wait go on"),
        _ => holder.to_owned(),
    }
}

/// Everything that was done, in one line.
fn done(target: &str, found: &Status, broken: bool) -> String {
    match (found.state, broken) {
        (State::Free, _) => format!("{target} is free: nothing to break"),
        (State::Stale, true) => {
            let who = found.holder.as_ref().map_or("a dead holder".to_owned(), report::who);
            let end = found.holder.as_ref().map_or("died while it held".to_owned(), report::end_of);
            format!("removed what {who} left of the lock of {target}: it {end}")
        }
        (_, true) => format!("broke the lock of {target}, {}; {}", report::held(found), afterwards(found)),
        (_, false) => format!("{target} was taken by another meanwhile: nothing broken"),
    }
}
