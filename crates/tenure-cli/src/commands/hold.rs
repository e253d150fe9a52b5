//! `tenure hold`: holds a lock for a shell script, over several commands.

use std::io::{self, IsTerminal, Read};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction};
use tenure::{Guard, escape};

use crate::locking::{self, Readers, Refresh, Stop};
use crate::options::LockOptions;
use crate::output::{Failure, describe, exit, stream};
use crate::sys::{self, Signals, Waker};

/// The longest interval between two checks of the lock.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Hold a lock for a script, until standard input ends
///
/// When the lock is acquired, `tenure` prints its record as one line of JSON ({} without a record), and nothing more. It
/// releases the lock when standard input ends, which includes the death of the script, and at a signal. For a single
/// command use `tenure run`: it ends the command when the lock is lost, and the lock stays held while the command works.
#[derive(clap::Args)]
#[command(mut_arg("targets", one_target))]
#[command(after_long_help = "\
Examples:
  a script in bash that runs several commands under one lock:

    coproc LOCK { exec tenure hold --timeout 10s sessions/main.jsonl; }
    lock=$!
    read -r record <&\"${LOCK[0]}\" || { wait \"$lock\"; exit; }   # busy: 75
    ./append.sh
    ./compact.sh
    exec {LOCK[1]}>&-              # releases the lock
    wait \"$lock\" || exit           # 76: the lock was lost meanwhile

  the fencing token, by which a resource can refuse a past holder:

    fence=$(jq .tenure.fence <<<\"$record\")

  by hand, until Ctrl-D:

    tenure hold --label 'repair by hand' sessions/main.jsonl

Exit codes:
  0        the lock was released at the end of standard input
  64       usage error
  69       the system lacks something that the call needs, or no server answers
  73       a lock file cannot be created, or its path is taken by a file that is no lock
  74       input or output failed
  75       busy: the lock was not free within the timeout (--busy-exit-code changes the code)
  76       lost: the lock was broken or revoked, which ends `tenure` at once. Or the lock file was
           removed: then other users of Tenure are excluded until standard input ends
  77       permission denied
  79       not needed: another call waits already (--if-busy queue-one)
  128 + N  signal N ended `tenure`, which released the lock first

The lock belongs to this process, not to the script. If this process is killed by SIGKILL, the lock
is free while the script continues. With standard input from /dev/null the lock is released at once.")]
pub(crate) struct Args {
    #[command(flatten)]
    lock: LockOptions,
}

fn one_target(targets: Arg) -> Arg {
    targets.action(ArgAction::Set).num_args(1).help("The path to lock")
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let signals = Signals::catch_ending().map_err(|error| Failure::io("signals", &error))?;
    let held = match locking::acquire(&args.lock, args.lock.library_options()?, Refresh::ByLibrary, &signals) {
        Ok(held) => held,
        Err(Stop::Failed(failure)) => return Err(failure),
        Err(Stop::Signalled(signal)) => return Ok(locking::die_by(signal)),
    };
    let overrun_at = args.lock.max_hold.and_then(|max_hold| held.since.checked_add(max_hold));
    let Some(guard) = held.guards.into_iter().next() else { return Ok(exit::OK) };
    let input =
        end_of_input(signals.waker()).map_err(|error| Failure::io("a thread that reads standard input", &error))?;
    // The lock is held even if no process reads the record.
    stream::print(&(one_line(&guard.record_json()) + "\n"))?;
    if io::stdin().is_terminal() && !args.lock.quiet {
        stream::message(&format!("holding {} until {}", describe::path(guard.target()), sys::END_OF_INPUT));
    }
    let readers = Readers::watch([&guard]);
    let mut holding = Holding { args: &args.lock, guard, overrun_at, lock_file_lost: false };
    let signal = holding.wait(&signals, &input)?;
    let linger_until = readers.linger_until();
    let released = holding.release();
    locking::linger(linger_until);
    match signal {
        Some(signal) => released.map(|_| locking::die_by(signal)),
        None => released,
    }
}

/// Removes the line breaks of a record. JSON text never contains one within a string.
fn one_line(record: &str) -> String {
    record.lines().map(str::trim).collect()
}

/// Reports the end of standard input to the returned channel, and wakes this thread.
///
/// A thread of its own reads the input. A read in this thread could block, even after a `poll`, where another process shares
/// the input, and a blocked thread handles no signal.
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
    args: &'a LockOptions,
    guard: Guard,
    overrun_at: Option<Instant>,
    /// The lock file was removed, so foreign programs are no longer excluded.
    lock_file_lost: bool,
}

impl Holding<'_> {
    /// Waits until the input ends, a signal arrives or the lock is lost. Returns the signal.
    fn wait(&mut self, signals: &Signals, input: &Receiver<io::Result<()>>) -> Result<Option<i32>, Failure> {
        let mut next_check = Instant::now() + locking::check_interval(CHECK_INTERVAL, [&self.guard]);
        loop {
            let next = self.overrun_at.map_or(next_check, |at| at.min(next_check));
            signals
                .wait(None, Some(next.saturating_duration_since(Instant::now())))
                .map_err(|error| Failure::io("poll", &error))?;
            if let Some(signal) = locking::next_ending_signal(signals) {
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
                next_check = Instant::now() + locking::check_interval(CHECK_INTERVAL, [&self.guard]);
            }
            if self.overrun_at.is_some_and(|at| now >= at) {
                self.overrun_at = None;
                let target = describe::path(self.guard.target());
                let max_hold = escape::duration(self.args.max_hold.unwrap_or_default());
                stream::message(&format!("{target} has been held for longer than {max_hold}: it stays held"));
            }
        }
    }

    /// Checks the lock. A lock without its lock file stays held, because it still excludes natives.
    fn check(&mut self) -> Result<(), Failure> {
        if !self.guard.excludes_natives() {
            let error = self.guard.check().err();
            let loss =
                error.map_or_else(|| describe::path(self.guard.target()), |error| describe::without_hint(&error));
            return Err(Failure::new(exit::LOST, format!("{loss}: released")));
        }
        match self.guard.check() {
            Err(error) if error.is_lost() && !self.lock_file_lost => {
                self.lock_file_lost = true;
                stream::message(&format!("{}: it stays held", describe::without_hint(&error)));
            }
            _ => {}
        }
        Ok(())
    }

    fn release(self) -> Result<u8, Failure> {
        let target = describe::path(self.guard.target());
        match self.guard.release() {
            Ok(()) if self.args.verbose => stream::message(&format!("released {target}")),
            Ok(()) => {}
            Err(error) if error.is_lost() && self.lock_file_lost => {}
            Err(error) => return Err(error.into()),
        }
        Ok(if self.lock_file_lost { exit::LOST } else { exit::OK })
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
