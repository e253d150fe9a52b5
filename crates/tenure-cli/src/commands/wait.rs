//! `tenure wait`: waits until a lock is free, held or changed, without acquiring it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use clap::{ValueEnum, ValueHint};
use tenure::{State, Status, escape, server};

use crate::locking::TenureId;
use crate::options::TimeoutOption;
use crate::output::{Failure, describe, exit, stream};
use crate::sys::{Change, Watch};

/// The longest interval between two checks. They notice changes that leave no trace in a watched file: of a bare kernel
/// lock, or a folder that is created.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The interval before the first check after a change. A holder removes its lock file a little before it unlocks.
const CHECK_SOON: Duration = Duration::from_millis(1);
/// The time that a server may take to answer at least, however soon the timeout is over.
const SERVER_TIMEOUT: Duration = Duration::from_secs(1);

/// Wait until a lock is free, without acquiring it
///
/// Another process may acquire the lock before you act on the answer. To run a command while no other process holds the
/// lock, use `tenure run`. A slot (`tenure run --slots`) is a lock of its own: name it, such as `gpu.slot-0`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Conditions:
  free      no process holds the lock; a dead holder does not count
  held      a process holds the lock, or the state is unknown
  changed   the holder changed: the lock was released, acquired, or passed to another process

Examples:
  show a file once its writer is done:
    tenure wait sessions/main.jsonl && tail sessions/main.jsonl
  wait for 10 seconds at most:
    tenure wait --timeout 10s sessions/main.jsonl || echo 'still busy'
  wait until another process acquires the lock:
    tenure wait --until held build.lock && echo 'the build has begun'
  print the status after every change:
    while tenure wait --until changed queue; do tenure status queue; done

Exit codes:
  0       the condition is met
  64      usage error
  69      no server answers
  73      the lock file's path is taken by a file that is no lock
  74, 77  input or output failed; permission denied
  75      the condition was not met within the timeout; the holder is reported")]
pub(crate) struct Args {
    /// The path whose lock to wait for
    #[arg(value_hint = ValueHint::AnyPath)]
    target: PathBuf,

    #[command(flatten)]
    timeout: TimeoutOption,

    /// The condition to wait for
    #[arg(long, value_name = "CONDITION", value_enum, default_value_t = Until::Free)]
    until: Until,

    /// Do not report the holder when the timeout is over; the exit code reports the timeout
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Until {
    Free,
    Held,
    Changed,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let began = Instant::now();
    // A deadline beyond the clock's range means no limit.
    let deadline = args.timeout.timeout.map(|timeout| began.checked_add(timeout));
    let mut watch = Watch::new(&args.target);
    let mut first = None;
    let mut pause = CHECK_INTERVAL;
    let mut change = Change::Nothing;
    loop {
        // The watches are set before the check, so that they notice every change after it.
        watch.watch_folders();
        let found = inspect(&args.target, deadline.flatten())?;
        let seen = (found.state, TenureId::of(&found));
        let held = matches!(found.state, State::Held | State::Unknown);
        let done = match args.until {
            Until::Free => !held,
            Until::Held => held,
            // The lock may have been acquired and released between two checks.
            Until::Changed => change == Change::LockFile || *first.get_or_insert_with(|| seen.clone()) != seen,
        };
        if done {
            return Ok(exit::OK);
        }
        // The pid of a server's holder may belong to another machine.
        let holder = found.holder.as_ref().filter(|_| found.server.is_none());
        watch.watch_holder(holder.and_then(tenure::Holder::pid));
        let now = Instant::now();
        let left = match deadline {
            Some(Some(deadline)) if deadline <= now => return Ok(report_timeout(args, &found, now - began)),
            Some(Some(deadline)) => deadline - now,
            _ => Duration::MAX,
        };
        change = watch.wait(left.min(pause)).map_err(|error| Failure::io("poll", &error))?;
        pause = match change {
            Change::Nothing => pause.saturating_mul(4).min(CHECK_INTERVAL),
            _ => CHECK_SOON,
        };
    }
}

/// Returns the state of the lock. A server that does not answer does not delay this much beyond the deadline.
fn inspect(target: &Path, deadline: Option<Instant>) -> Result<Status, Failure> {
    let Some(deadline) = deadline.filter(|_| matches!(server::scheme(target), Ok(Some(_)))) else {
        return Ok(tenure::status(target)?);
    };
    let (sender, answer) = channel();
    let asked = target.to_owned();
    let ask = move || {
        let _ = sender.send(tenure::status(&asked));
    };
    thread::Builder::new()
        .name("tenure-status".to_owned())
        .spawn(ask)
        .map_err(|error| Failure::io("a thread", &error))?;
    match answer.recv_timeout(deadline.saturating_duration_since(Instant::now()).max(SERVER_TIMEOUT)) {
        Ok(found) => Ok(found?),
        Err(_) => {
            let message = format!("{}: the server did not answer within the timeout", describe::path(target));
            Err(Failure::new(exit::UNAVAILABLE, message))
        }
    }
}

/// Reports that the timeout is over, and returns the exit code.
fn report_timeout(args: &Args, found: &Status, waited: Duration) -> u8 {
    if !args.quiet {
        let target = describe::path(&args.target);
        let waited = escape::duration(waited);
        let now = match (args.until, found.state) {
            (_, State::Held | State::Unknown) => describe::held(found),
            (_, State::Stale) => "free (its last holder died)".to_owned(),
            (_, State::Free) => "free".to_owned(),
        };
        stream::message(&match args.until {
            Until::Free => format!("{target}: still {now} (waited {waited}); for details: `tenure status {target}`"),
            Until::Held => format!("{target}: still {now} (waited {waited})"),
            Until::Changed => format!("{target}: unchanged, {now} (waited {waited})"),
        });
    }
    exit::BUSY
}
