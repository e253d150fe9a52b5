//! `tenure wait`: until a lock is free, held or changed, without ever taking it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use clap::{ValueEnum, ValueHint};
use tenure::{State, Status, escape, server};

use crate::exit::{self, Failure};
use crate::sys::{Stir, Watch};
use crate::{acquire, duration, report};

/// How long nothing may be noticed before it is looked again: what changes without a trace in a file (a bare kernel
/// lock, a folder that is made) is seen by that alone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The first of the looks that follow something noticed: a holder removes its lock file a little before it unlocks.
const LOOK_SOON: Duration = Duration::from_millis(1);

/// Wait until a lock is free, without taking it
///
/// It is only waited: by the time that you act on the answer another may hold. To do something while nobody else
/// does, use `tenure run`.
#[derive(clap::Args)]
#[command(after_long_help = "\
What is waited for:
  free      nobody holds; who died while holding does not count
  held      somebody holds, or it cannot be told whether
  changed   it is held by another than now, released, or taken

Examples:
  tenure wait sessions/main.jsonl && tail sessions/main.jsonl
  tenure wait --timeout 10s sessions/main.jsonl || echo 'still busy'
  tenure wait --until held build.lock && echo 'the build has begun'
  while tenure wait --until changed queue; do tenure status queue; done

Exit codes:
  0       it is so
  64      the call's words are off
  69      no server answers
  73      something that is no lock stands in the lock file's place
  74, 77  input or output failed; permission denied
  75      it was not so within the time given; who holds is said")]
pub(crate) struct Args {
    /// The path that the lock protects
    #[arg(value_hint = ValueHint::AnyPath)]
    target: PathBuf,

    /// Give up after this long (10 or 10s, 300ms, 5m, 1h30m; 0: at once). Without it: wait as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, env = "TENURE_TIMEOUT")]
    #[arg(hide_env_values = true, allow_hyphen_values = true)]
    timeout: Option<Duration>,

    /// What is waited for
    #[arg(long, value_name = "STATE", value_enum, default_value_t = Until::Free)]
    until: Until,

    /// Do not say who holds when the time is over; the exit code does
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
    // Beyond the clock's reach is for ever.
    let deadline = args.timeout.map(|timeout| began.checked_add(timeout));
    let mut watch = Watch::new(&args.target);
    let mut first = None;
    let mut pause = LOOK_AGAIN;
    let mut stir = Stir::Nothing;
    loop {
        // Before the look: what changes after it is then noticed.
        watch.watch_folders();
        let found = look(&args.target, deadline.flatten())?;
        let seen = (found.state, acquire::who(&found));
        let held = matches!(found.state, State::Held | State::Unknown);
        let done = match args.until {
            Until::Free => !held,
            Until::Held => held,
            // Between two looks it may have been taken and released.
            Until::Changed => stir == Stir::LockFile || *first.get_or_insert_with(|| seen.clone()) != seen,
        };
        if done {
            return Ok(exit::OK);
        }
        // The pid of a server's lock may be another machine's.
        let holder = found.holder.as_ref().filter(|_| found.engine.is_none());
        watch.watch_holder(holder.and_then(tenure::Holder::pid));
        let now = Instant::now();
        let left = match deadline {
            Some(Some(deadline)) if deadline <= now => return Ok(late(args, &found, now - began)),
            Some(Some(deadline)) => deadline - now,
            _ => Duration::MAX,
        };
        stir = watch.wait(left.min(pause)).map_err(|error| Failure::io("poll", &error))?;
        pause = match stir {
            Stir::Nothing => pause.saturating_mul(4).min(LOOK_AGAIN),
            _ => LOOK_SOON,
        };
    }
}

/// How long a server may take to answer at least, however soon the time is over.
const ANSWER: Duration = Duration::from_secs(1);

/// How it stands. A server that says nothing does not hold this up beyond the deadline.
fn look(target: &Path, deadline: Option<Instant>) -> Result<Status, Failure> {
    let Some(deadline) = deadline.filter(|_| matches!(server::scheme(target), Ok(Some(_)))) else {
        return Ok(tenure::status(target)?);
    };
    let (sender, answer) = channel();
    let asked = target.to_owned();
    let ask = move || {
        let _ = sender.send(tenure::status(&asked));
    };
    thread::Builder::new()
        .name("tenure-look".to_owned())
        .spawn(ask)
        .map_err(|error| Failure::io("a thread", &error))?;
    match answer.recv_timeout(deadline.saturating_duration_since(Instant::now()).max(ANSWER)) {
        Ok(found) => Ok(found?),
        Err(_) => {
            let message = format!("{}: the server did not answer within the time given", report::path(target));
            Err(Failure::new(exit::UNAVAILABLE, message))
        }
    }
}

fn late(args: &Args, found: &Status, waited: Duration) -> u8 {
    if !args.quiet {
        let target = report::path(&args.target);
        let waited = escape::duration(waited);
        let now = match (args.until, found.state) {
            (_, State::Held | State::Unknown) => report::held(found),
            (_, State::Stale) => "free (its last holder died)".to_owned(),
            (_, State::Free) => "free".to_owned(),
        };
        report::say(&match args.until {
            Until::Free => format!("{target}: still {now} (waited {waited}); `tenure status {target}` says more"),
            Until::Held => format!("{target}: still {now} (waited {waited})"),
            Until::Changed => format!("{target}: unchanged, {now} (waited {waited})"),
        });
    }
    exit::BUSY
}
