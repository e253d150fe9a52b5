//! `tenure hold`: holds a lock for a shell script, over several commands.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction};
use serde::Serialize;
use serde_json::value::RawValue;
use tenure::{Guard, Holder, Previous, Requester, ResumeFuture, Resumed, Suspended, escape};

use crate::locking::{self, Announcer, Readers, Refresh, Stop};
use crate::options::LockOptions;
use crate::output::{Failure, describe, exit, stream};
use crate::sys::{self, Signals, Waker};

/// The maximum length of a line of standard input.
const MAX_LINE: u64 = 4096;
/// The maximum number of lines that are read before they are answered.
const MAX_LINES: usize = 16;
/// The longest interval between two checks of the lock.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Hold a lock for a script, until standard input ends
///
/// When the lock is acquired, `tenure` prints its record as one line of JSON ({} without a record). It releases the lock
/// when standard input ends, which includes the death of the script, and at a signal. For a single command use
/// `tenure run`: it ends the command when the lock is lost, and the lock stays held while the command works.
///
/// A script that writes the line `suspend` lets others hold the lock for a while, and takes it again by the line `resume`,
/// before those that wait already. Each line is answered by a line of JSON.
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

  let others in while a model answers, and read again what they may have changed:

    echo suspend >&\"${LOCK[1]}\"; read -r answer <&\"${LOCK[0]}\"
    ./ask-the-model.sh
    echo resume >&\"${LOCK[1]}\"
    read -r answer <&\"${LOCK[0]}\" || { wait \"$lock\"; exit; }   # busy at the timeout: 75
    if jq -e .changed <<<\"$answer\" >/dev/null; then ./read-again.sh; fi

  by hand, until Ctrl-D:

    tenure hold --label 'repair by hand' sessions/main.jsonl

Lines of standard input, and the answers:
  suspend    {\"suspended\": true, \"fence\": N, \"goesFirst\": true}. `tenure status` shows the
             suspended holder. \"goesFirst\" is false where the system cannot order the waiters
  resume     {\"resumed\": true, \"changed\": true, \"meanwhile\": \"others\", \"crashed\": null,
             \"record\": {..}} once the lock is held again; it waits as --timeout and --no-wait
             say. \"changed\" is false only if it is proven that no other program held the lock
             meanwhile (\"meanwhile\" is \"nobody\"). \"crashed\" is the holder that died while
             it held
  others     {\"error\": \"..\"}, and nothing changes; also for `resume` without `suspend`, and for
             a lock that cannot be suspended: of several (--shared, --slots), without a record
             (--no-record), on a server. Empty lines have no answer

Exit codes:
  0        the lock was released at the end of standard input, or was suspended by then
  64       usage error
  69       the system lacks something that the call needs, or no server answers
  73       a lock file cannot be created, or its path is taken by a file that is no lock
  74       input or output failed
  75       busy: the lock was not free within the timeout, also after `resume` (--busy-exit-code
           changes the code)
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
    let input = lines(signals.waker()).map_err(|error| Failure::io("a thread that reads standard input", &error))?;
    // The lock is held even if no process reads the record.
    stream::print(&(one_line(&guard.record_json()) + "\n"))?;
    if io::stdin().is_terminal() && !args.lock.quiet {
        stream::message(&format!("holding {} until {}", describe::path(guard.target()), sys::END_OF_INPUT));
    }
    let readers = Readers::watch([&guard]);
    let mut holding = Holding {
        args: &args.lock,
        signals: &signals,
        state: State::Held(guard, readers),
        overrun_at,
        linger_until: None,
        lock_file_lost: false,
    };
    let signal = holding.wait(&input)?;
    let linger_until = holding.linger_until();
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

/// What arrives on standard input.
enum Input {
    Line(String),
    End(io::Result<()>),
}

/// Reports the lines of standard input and its end to the returned channel, and wakes this thread.
///
/// A thread of its own reads the input. A read in this thread could block, even after a `poll`, where another process shares
/// the input, and a blocked thread handles no signal.
fn lines(waker: Waker) -> io::Result<Receiver<Input>> {
    let (sender, receiver) = sync_channel(MAX_LINES);
    thread::Builder::new().name("tenure-input".to_owned()).spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = match input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) => Input::End(Ok(())),
                Ok(_) => Input::Line(String::from_utf8_lossy(&line).trim().to_owned()),
                Err(error) => Input::End(Err(error)),
            };
            let is_end = matches!(read, Input::End(_));
            let sent = sender.send(read);
            waker.wake();
            if is_end || sent.is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

/// Wakes the main thread when a resumed lock is granted.
struct Bell(Waker);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

/// The state of the lock.
enum State<'a> {
    Held(Guard, Readers),
    Suspended(Suspended),
    Resuming(ResumeFuture, Option<Announcer<'a>>),
    /// Between two states, or after a failure.
    Over,
}

struct Holding<'a> {
    args: &'a LockOptions,
    signals: &'a Signals,
    state: State<'a>,
    overrun_at: Option<Instant>,
    /// Until when this process stays after the end of a tenure that is over.
    linger_until: Option<Instant>,
    /// The lock file was removed, so foreign programs are no longer excluded.
    lock_file_lost: bool,
}

/// The answer to `suspend`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SuspendedJson {
    suspended: bool,
    fence: u64,
    goes_first: bool,
}

/// The answer to `resume`.
#[derive(Serialize)]
struct ResumedJson<'a> {
    resumed: bool,
    changed: bool,
    meanwhile: &'static str,
    crashed: Option<&'a Holder>,
    record: &'a RawValue,
}

/// The answer to a line that changed nothing.
#[derive(Serialize)]
struct ErrorJson {
    error: String,
}

fn answer(answer: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(answer).map_err(|error| Failure::new(exit::IO, error.to_string()))?;
    stream::print(&(line + "\n"))
}

fn refuse(error: String) -> Result<(), Failure> {
    answer(&ErrorJson { error })
}

impl<'a> Holding<'a> {
    /// Waits until the input ends, a signal arrives or the lock is lost, and obeys the lines of the input. Returns the signal.
    fn wait(&mut self, input: &Receiver<Input>) -> Result<Option<i32>, Failure> {
        let mut inbox = VecDeque::new();
        let mut next_check = self.next_check();
        loop {
            self.signals.wait(None, Some(self.pause(next_check))).map_err(|error| Failure::io("poll", &error))?;
            if let Some(signal) = locking::next_ending_signal(self.signals) {
                return Ok(Some(signal));
            }
            self.poll_resumption()?;
            loop {
                while inbox.len() < MAX_LINES {
                    match input.try_recv() {
                        Ok(arrived) => inbox.push_back(arrived),
                        Err(TryRecvError::Disconnected | TryRecvError::Empty) => break,
                    }
                }
                // What follows `resume` is obeyed once the lock is held. The end is obeyed at once.
                let next = match self.state {
                    State::Resuming(..) if !matches!(inbox.back(), Some(Input::End(_))) => None,
                    State::Resuming(..) => inbox.pop_back(),
                    _ => inbox.pop_front(),
                };
                match next {
                    Some(Input::Line(line)) => self.obey(&line)?,
                    Some(Input::End(Ok(()))) => return Ok(None),
                    Some(Input::End(Err(error))) => return Err(Failure::io("standard input", &error)),
                    None => break,
                }
            }
            let now = Instant::now();
            if now >= next_check {
                self.check()?;
                next_check = self.next_check();
            }
            if let State::Held(guard, _) = &self.state
                && self.overrun_at.is_some_and(|at| now >= at)
            {
                self.overrun_at = None;
                let target = describe::path(guard.target());
                let max_hold = escape::duration(self.args.max_hold.unwrap_or_default());
                stream::message(&format!("{target} has been held for longer than {max_hold}: it stays held"));
            }
        }
    }

    fn next_check(&self) -> Instant {
        let guard = match &self.state {
            State::Held(guard, _) => Some(guard),
            _ => None,
        };
        Instant::now() + locking::check_interval(CHECK_INTERVAL, guard)
    }

    /// Returns for how long there is nothing to do.
    fn pause(&self, next_check: Instant) -> Duration {
        let left = |at: Instant| at.saturating_duration_since(Instant::now());
        match &self.state {
            State::Held(..) => left(self.overrun_at.map_or(next_check, |at| at.min(next_check))),
            State::Resuming(future, announcer) => {
                let update = announcer.as_ref().map(Announcer::next_update);
                let deadline = future.deadline().map(left);
                update.into_iter().chain(deadline).fold(left(next_check), Duration::min)
            }
            State::Suspended(_) | State::Over => left(next_check),
        }
    }

    /// Obeys a line of the input.
    fn obey(&mut self, line: &str) -> Result<(), Failure> {
        match (line, std::mem::replace(&mut self.state, State::Over)) {
            ("", state) => self.state = state,
            ("suspend", State::Held(guard, readers)) => return self.suspend(guard, readers),
            ("resume", State::Suspended(suspended)) => return self.resume(suspended),
            (line, state) => {
                self.state = state;
                return refuse(match line {
                    "suspend" => "the lock is suspended already".to_owned(),
                    "resume" => "the lock is held: `suspend` comes first".to_owned(),
                    other => format!("neither `suspend` nor `resume`: {}", escape::text(other)),
                });
            }
        }
        Ok(())
    }

    fn suspend(&mut self, guard: Guard, readers: Readers) -> Result<(), Failure> {
        if let Err(error) = guard.can_suspend()
            && !error.is_lost()
        {
            self.state = State::Held(guard, readers);
            return refuse(error.to_string());
        }
        self.linger_until = readers.linger_until().or(self.linger_until);
        let suspended = guard.suspend()?;
        if self.args.verbose {
            stream::message(&format!("suspended {}", describe::path(suspended.target())));
        }
        let (fence, goes_first) = (suspended.fence(), suspended.goes_first());
        (self.state, self.overrun_at) = (State::Suspended(suspended), None);
        answer(&SuspendedJson { suspended: true, fence, goes_first })
    }

    fn resume(&mut self, suspended: Suspended) -> Result<(), Failure> {
        let future = suspended.begin_resume(self.args.wait(), Requester::Task);
        let future = future.map_err(|error| locking::failure(self.args, self.target(), error))?;
        let announcer = (!self.args.quiet).then(|| Announcer::new(self.target(), None, None, self.signals));
        self.state = State::Resuming(future, announcer);
        self.poll_resumption()
    }

    fn target(&self) -> &'a Path {
        self.args.targets.first().map_or(Path::new(""), |target| target)
    }

    /// Asks whether a lock that is being resumed is held again, and gives up at its deadline.
    fn poll_resumption(&mut self) -> Result<(), Failure> {
        let State::Resuming(future, announcer) = &mut self.state else { return Ok(()) };
        let waker = Arc::new(Bell(self.signals.waker())).into();
        let outcome = match Pin::new(&mut *future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending if future.deadline().is_some_and(|deadline| deadline <= Instant::now()) => {
                match std::mem::replace(&mut self.state, State::Over) {
                    State::Resuming(future, _) => future.give_up(),
                    _ => return Ok(()),
                }
            }
            Poll::Pending => {
                if let Some(announcer) = announcer {
                    announcer.update();
                }
                return Ok(());
            }
        };
        self.state = State::Over;
        self.resumed(outcome.map_err(|error| locking::failure(self.args, self.target(), error))?)
    }

    fn resumed(&mut self, resumed: Resumed) -> Result<(), Failure> {
        let changed = resumed.changed();
        let Resumed { guard, meanwhile, .. } = resumed;
        let crashed = match guard.previous() {
            Previous::Crashed(holder) => Some(&**holder),
            Previous::Clean => None,
        };
        if let Some(holder) = crashed
            && !self.args.quiet
        {
            stream::message(&describe::takeover(self.target(), holder));
        }
        if self.args.verbose {
            stream::message(&format!("resumed {}", describe::path(guard.target())));
        }
        let record = RawValue::from_string(one_line(&guard.record_json()));
        let record = record.map_err(|error| Failure::new(exit::IO, error.to_string()))?;
        let meanwhile = meanwhile.as_str();
        answer(&ResumedJson { resumed: true, changed, meanwhile, crashed, record: &record })?;
        self.overrun_at = self.args.max_hold.and_then(|max_hold| Instant::now().checked_add(max_hold));
        let readers = Readers::watch([&guard]);
        self.state = State::Held(guard, readers);
        Ok(())
    }

    /// Checks the lock. A lock without its lock file stays held, because it still excludes natives.
    fn check(&mut self) -> Result<(), Failure> {
        let State::Held(guard, _) = &self.state else { return Ok(()) };
        if !guard.excludes_natives() {
            let error = guard.check().err();
            let loss = error.map_or_else(|| describe::path(guard.target()), |error| describe::without_hint(&error));
            return Err(Failure::new(exit::LOST, format!("{loss}: released")));
        }
        match guard.check() {
            Err(error) if error.is_lost() && !self.lock_file_lost => {
                self.lock_file_lost = true;
                stream::message(&format!("{}: it stays held", describe::without_hint(&error)));
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns until when this process should stay after the release.
    fn linger_until(&self) -> Option<Instant> {
        match &self.state {
            State::Held(_, readers) => readers.linger_until().or(self.linger_until),
            _ => self.linger_until,
        }
    }

    fn release(self) -> Result<u8, Failure> {
        // A suspended lock is given up.
        let State::Held(guard, _) = self.state else { return Ok(exit::OK) };
        let target = describe::path(guard.target());
        match guard.release() {
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
