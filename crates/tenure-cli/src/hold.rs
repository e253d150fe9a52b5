//! `tenure hold`: a lock for a shell script, over several commands.

use std::io::{self, IsTerminal, Read};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction};
use tenure::{Guard, escape};

use crate::acquire::{self, LockArgs, Stop};
use crate::exit::{self, Failure};
use crate::readers::{self, Readers};
use crate::report;
use crate::run;
use crate::sys::{Signals, Waker};

/// How often the lock is checked.
const TICK: Duration = Duration::from_secs(1);

/// Hold a lock for a script, until standard input ends
///
/// Once the lock is held, its record is printed as one line of JSON ({} where none is kept), and nothing more. It is
/// released when standard input ends, so also when the script dies, or by a signal. Where one command will do, `tenure
/// run` is the better choice: it ends the command when the lock is lost, and the command keeps the lock alive.
#[derive(clap::Args)]
#[command(mut_arg("targets", one_target))]
#[command(after_long_help = "\
Examples:
  a script in bash that holds over several commands:

    coproc LOCK { exec tenure hold --timeout 10s sessions/main.jsonl; }
    lock=$!
    read -r record <&\"${LOCK[0]}\" || { wait \"$lock\"; exit; }   # busy: 75
    ./append.sh
    ./compact.sh
    exec {LOCK[1]}>&-              # lets go
    wait \"$lock\" || exit           # 76: it was lost in the meantime

  the fence, for a resource that refuses a holder from the past:

    fence=$(jq .tenure.fence <<<\"$record\")

  by hand, until Ctrl-D:

    tenure hold --label 'repair by hand' sessions/main.jsonl

Exit codes:
  0        released at the end of standard input
  64       the call's words are off
  69       this system cannot do what is needed, or no server answers
  73       the lock's files cannot be made, or something that is no lock is in the way
  74       input or output failed
  75       busy: held by another within the time given (--busy-exit-code changes it)
  76       lost: the lock was broken or revoked, which ends this at once; or its lock file was
           removed: others who use Tenure are still kept out then, so it is held to the end
  77       permission denied
  128 + N  signal N ended it; the lock was released first

The lock is this process's, not the script's: kill -9 of it frees the lock under a script that works
on. With standard input from /dev/null it is released at once.")]
pub(crate) struct Args {
    #[command(flatten)]
    lock: LockArgs,
}

fn one_target(targets: Arg) -> Arg {
    targets.action(ArgAction::Set).num_args(1).help("What to lock: the path that the lock protects")
}

pub(crate) fn run(args: Args) -> Result<u8, Failure> {
    let signals = Signals::catch_ending().map_err(|error| Failure::io("signals", &error))?;
    let held = match acquire::acquire(&args.lock, &signals) {
        Ok(held) => held,
        Err(Stop::Failed(failure)) => return Err(failure),
        Err(Stop::Signalled(signal)) => return Ok(run::die_by(signal)),
    };
    let overrun_at = args.lock.max_hold.and_then(|max_hold| held.since.checked_add(max_hold));
    let Some(guard) = held.guards.into_iter().next() else { return Ok(exit::OK) };
    let input =
        end_of_input(signals.waker()).map_err(|error| Failure::io("a thread that reads standard input", &error))?;
    // Nobody may read it: the lock is held all the same.
    report::print(&(one_line(&guard.record_json()) + "\n"))?;
    if io::stdin().is_terminal() && !args.lock.quiet {
        report::say(&format!("holding {} until Ctrl-D", report::path(guard.target())));
    }
    let readers = Readers::watch([&guard]);
    let mut holding = Holding { args: &args.lock, guard, overrun_at, lost: false };
    let signal = holding.until(&signals, &input)?;
    let stay_until = readers.stay_until();
    let released = holding.release();
    readers::stay(stay_until);
    match signal {
        Some(signal) => released.map(|_| run::die_by(signal)),
        None => released,
    }
}

/// The record without its line breaks: in JSON they never stand within a text.
fn one_line(record: &str) -> String {
    record.lines().map(str::trim).collect()
}

/// Tells when standard input ends. Read by a thread of its own: whoever shares it may be faster than we are after a
/// `poll`, and a read that blocks hears no signal.
fn end_of_input(waker: Waker) -> io::Result<Receiver<io::Result<()>>> {
    let (sender, receiver) = channel();
    thread::Builder::new().name("tenure-input".to_owned()).spawn(move || {
        let mut input = io::stdin().lock();
        let mut spare = [0; 4096];
        let end = loop {
            match input.read(&mut spare) {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let _ = sender.send(end);
        waker.wake();
    })?;
    Ok(receiver)
}

struct Holding<'a> {
    args: &'a LockArgs,
    guard: Guard,
    overrun_at: Option<Instant>,
    /// It was lost in part: its lock file is gone.
    lost: bool,
}

impl Holding<'_> {
    /// Until the input ends, a signal comes or the lock is lost.
    fn until(&mut self, signals: &Signals, input: &Receiver<io::Result<()>>) -> Result<Option<i32>, Failure> {
        let mut next_check = Instant::now() + acquire::look_within(TICK, [&self.guard]);
        loop {
            let next = self.overrun_at.map_or(next_check, |at| at.min(next_check));
            signals
                .wait(None, Some(next.saturating_duration_since(Instant::now())))
                .map_err(|error| Failure::io("poll", &error))?;
            if let Some(signal) = acquire::ending_signal(signals) {
                return Ok(Some(signal));
            }
            match input.try_recv() {
                Ok(Ok(())) | Err(TryRecvError::Disconnected) => return Ok(None),
                Ok(Err(error)) => return Err(Failure::io("standard input", &error)),
                Err(TryRecvError::Empty) => {}
            }
            let now = Instant::now();
            if now >= next_check {
                self.check()?;
                next_check = Instant::now() + acquire::look_within(TICK, [&self.guard]);
            }
            if self.overrun_at.is_some_and(|at| now >= at) {
                self.overrun_at = None;
                let (target, allowed) = (report::path(self.guard.target()), self.args.max_hold.unwrap_or_default());
                let allowed = escape::duration(allowed);
                report::say(&format!("{target} has been held for longer than {allowed}: it stays held"));
            }
        }
    }

    /// Letting go of natives too because a lock file was removed would only make it worse.
    fn check(&mut self) -> Result<(), Failure> {
        if !self.guard.excludes_natives() {
            let error = self.guard.check().err();
            let error = error.map_or_else(|| report::path(self.guard.target()), |error| report::lost(&error));
            return Err(Failure::new(exit::LOST, format!("{error}: released")));
        }
        match self.guard.check() {
            Err(error) if error.is_lost() && !self.lost => {
                self.lost = true;
                report::say(&format!("{}: it stays held", report::lost(&error)));
            }
            _ => {}
        }
        Ok(())
    }

    fn release(self) -> Result<u8, Failure> {
        let target = report::path(self.guard.target());
        match self.guard.release() {
            Ok(()) if self.args.verbose => report::say(&format!("released {target}")),
            Ok(()) => {}
            Err(error) if error.is_lost() && self.lost => {}
            Err(error) => return Err(error.into()),
        }
        Ok(if self.lost { exit::LOST } else { exit::OK })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_on_one_line_is_the_same_record() {
        let record = "{\n  \"pid\": 1,\n  \"tenure\": {\n    \"label\": \"a \\n  b\"\n  }\n}   \n  ";
        let line = one_line(record);
        assert_eq!(line, r#"{"pid": 1,"tenure": {"label": "a \n  b"}}"#);
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&line), value(record));
    }
}
