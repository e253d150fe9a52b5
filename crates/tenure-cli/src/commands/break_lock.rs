//! `tenure break`: takes a lock by force.

use std::path::PathBuf;

use clap::ValueHint;
use tenure::{BreakOptions, Broken, HolderKind, State, Status, Style, escape};

use crate::output::json::{self, BrokenJson, LockJson};
use crate::output::{Failure, describe, exit, stream};

/// Break a lock: remove a stale one, or with --force take it from a live holder
///
/// Without --force only a dead holder's lock is removed. With --force the lock of a live holder, or of a holder whose state
/// is unknown, is taken by force. This does not stop the holder, which may continue to write while the next holder works. A
/// holder under `tenure run` notices the loss within two seconds, and its command is ended. A holder that uses the library
/// notices it when it checks; a program that knows only the lock file never does. Waiters continue within about a second.
///
/// A slot (`tenure run --slots`) is a lock of its own: name it, such as `gpu.slot-0`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  tenure status sessions/main.jsonl          first find out who holds the lock
  kill 4242                                  better: end the holder, which releases the lock
  tenure break sessions/main.jsonl           remove a dead holder's lock
  tenure break --force sessions/main.jsonl   take the lock from a live holder
  tenure break --json --force queue | jq .broken
                                             true if a lock was broken

Exit codes:
  0       the lock is free (or was free already)
  64      usage error
  69      the holder is a program with a flock(2) on the target, which cannot be broken: end the
          program; or no server answers
  73      the lock file's path is taken by a file that is no lock
  74, 77  input or output failed; permission denied
  75      refused: the holder lives, or its state is unknown, and --force was not given; or another
          process acquired the lock meanwhile")]
pub(crate) struct Args {
    /// The path whose lock to break
    #[arg(value_hint = ValueHint::AnyPath)]
    target: PathBuf,

    /// Break the lock of a live holder too, or of one whose state is unknown: two processes may then work at once
    #[arg(short, long)]
    force: bool,

    /// Print one JSON object: the lock before the break, and "broken"
    #[arg(long)]
    json: bool,

    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let target = describe::path(&args.target);
    let found = tenure::status(&args.target)?;
    if found.state == State::Free && !args.quiet && !args.json {
        let slots = tenure::slots(&args.target)?;
        if let Some(first) = slots.first() {
            stream::print(&only_slots(&target, slots.len(), first))?;
            return Ok(exit::OK);
        }
    }
    let lives = matches!(found.state, State::Held | State::Unknown);
    if lives && !args.force {
        if args.json {
            json::print(&BrokenJson { found: LockJson::from(&found), broken: false })?;
        }
        let force = match found.is_foreign_flock() {
            true => "--force cannot help, because a flock(2) cannot be broken".to_owned(),
            false => {
                let word = escape::word(&args.target);
                format!("to take it by force: `tenure break --force {word}`; {}", consequences(&found))
            }
        };
        let held = describe::held(&found);
        let message = format!("{target}: not broken: {held}; better end the holder, which releases the lock; {force}");
        return Err(Failure::new(exit::BUSY, message));
    }
    if lives && !found.is_foreign_flock() && !args.quiet && !args.json {
        stream::message(&format!("breaking {target}: {}", describe::held(&found)));
    }
    let broken = tenure::break_lock(&args.target, &BreakOptions::default().only(found).force(args.force))?;
    if args.json {
        json::print(&BrokenJson { found: LockJson::from(&broken.found), broken: broken.broken })?;
    } else if !args.quiet {
        stream::print(&(outcome(&target, &broken) + "\n"))?;
    }
    Ok(match (broken.found.state, broken.broken) {
        (State::Free, _) | (_, true) => exit::OK,
        // Another process took over the stale lock first.
        (_, false) => exit::BUSY,
    })
}

fn is_foreign(found: &Status) -> bool {
    found.holder.as_ref().is_some_and(|holder| holder.kind == HolderKind::Foreign)
}

/// Describes what a break means for the holder and for the waiters.
fn consequences(found: &Status) -> String {
    let holder = match found.style {
        _ if found.server.is_some() && found.holder.is_none() => {
            "its holders notice the loss at their next renewal, and may continue until then"
        }
        _ if found.server.is_some() => "the holder notices the loss at its next renewal, and may write until then",
        _ if is_foreign(found) => "the holder knows only the lock file, which is removed, and may continue to write",
        Style::Flock => "the holder notices the loss when it checks, and keeps its flock(2) until it ends",
        Style::LockFile => "the holder notices the loss when it checks, and may write until then",
    };
    match found.waiters {
        Some(1) => format!("{holder}; 1 waiter continues"),
        Some(waiters) if waiters > 1 => format!("{holder}; {waiters} waiters continue"),
        _ => holder.to_owned(),
    }
}

/// Describes a free lock with slots that are not free, in one line.
fn only_slots(target: &str, count: usize, first: &Status) -> String {
    let are = if count == 1 { "is" } else { "are" };
    let word = escape::word(&first.target);
    format!(
        "{target} itself is free, but {count} of its slots {are} not: break each by its name, as by `tenure break {word}`\n"
    )
}

/// Describes what was done, in one line.
fn outcome(target: &str, done: &Broken) -> String {
    let found = &done.found;
    match (found.state, done.broken) {
        (State::Free, _) => format!("{target} is free: nothing to break"),
        (State::Stale, true) => {
            let dead = found.holder.as_ref().map_or("a dead holder".to_owned(), describe::holder);
            let end = found.holder.as_ref().map_or("died while it held the lock".to_owned(), describe::end_of);
            format!("removed the stale lock of {target}: {dead} {end}")
        }
        (_, true) => format!("broke the lock of {target}, {}; {}", describe::held(found), consequences(found)),
        (_, false) => format!("{target} was acquired by another process meanwhile: nothing broken"),
    }
}
