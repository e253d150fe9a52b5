//! Acquires the locks of a call: all of them, or none.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tenure::{Event, Guard, Lock, Options, Previous, Wait, command, escape, server};

use super::announcer::Announcer;
use super::signals::{Stop, next_ending_signal};
use crate::options::LockOptions;
use crate::output::{Failure, describe, stream};
use crate::sys::Signals;

/// How long a signal waits for a server to remove this process from its queue.
const LEAVE_QUEUE: Duration = Duration::from_secs(1);

/// The pause before that is done again, for a thread that has yet to begin its wait.
const AGAIN: Duration = Duration::from_millis(10);

/// Which thread updates the date in the record, by which other programs judge a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// A thread of the library.
    ByLibrary,
    /// The caller, by [`Guard::refresh`].
    ByCaller,
}

/// The guards of a call's targets.
pub(crate) struct Held {
    /// The guards, in the order in which they were acquired.
    pub(crate) guards: Vec<Guard>,
    /// The index of the guard whose target was named first.
    pub(crate) first: usize,
    /// When the last lock was acquired.
    pub(crate) since: Instant,
}

/// Acquires every target, or none.
pub(crate) fn acquire(
    args: &LockOptions,
    mut options: Options,
    refresh: Refresh,
    signals: &Signals,
) -> Result<Held, Stop> {
    if refresh == Refresh::ByCaller {
        options = options.refresh_interval(Duration::MAX);
    }
    if args.history.is_some()
        && let Some(command) = command_of_call()
    {
        options = options.work(command);
    }
    // A callback takes a thread of the library.
    if refresh == Refresh::ByLibrary || args.history.is_some() {
        let quiet = args.quiet;
        options = options.on_event(move |event| match event {
            Event::RefreshFailed { target, error } if !quiet => {
                stream::message(&describe::refresh_failure(target, error));
            }
            Event::HistoryFailed { error, .. } if !quiet => stream::message(&error.to_string()),
            _ => {}
        });
    }
    let wait = args.wait();
    let began = Instant::now();
    let opened = args.targets.iter().map(|target| options.open(target).map_err(Failure::from));
    let opened = opened.collect::<Result<Vec<Lock>, Failure>>()?;
    let order = match &*opened {
        [_] => vec![0],
        several => command::order_of(&several.iter().collect::<Vec<_>>(), wait).map_err(Failure::from)?,
    };
    // The first target is never a repetition of another: of the same lock, the one that was named first stays.
    let first = order.iter().position(|index| *index == 0).unwrap_or(0);

    // A failure drops the guards that were acquired so far, which releases them.
    let mut guards = Vec::with_capacity(order.len());
    for index in order {
        let target = &args.targets[index];
        let guard = acquire_one(args, target, opened[index].clone(), wait, signals)?;
        if !args.quiet
            && let Previous::Crashed(holder) = guard.previous()
        {
            stream::message(&describe::takeover(target, holder));
        }
        if args.verbose {
            let fence = match guard.fence() {
                None => String::new(),
                Some(fence) => format!(" with fence {fence}"),
            };
            let took = escape::duration(began.elapsed());
            stream::message(&format!("holding {}{fence} after {took}", describe::path(target)));
        }
        guards.push(guard);
    }
    if let Some(signal) = next_ending_signal(signals) {
        drop(guards);
        return Err(Stop::Signalled(signal));
    }
    command::check_leases(&guards).map_err(Failure::from)?;
    Ok(Held { guards, first, since: Instant::now() })
}

/// Returns the command that this call would run. A line of the history about a failed wait shows it, as the line of a tenure
/// does.
fn command_of_call() -> Option<String> {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let command = words.iter().position(|word| word == "--").map(|dashes| &words[dashes + 1..])?;
    Some(command.join(" ")).filter(|line| !line.is_empty())
}

fn acquire_one(args: &LockOptions, target: &Path, lock: Lock, wait: Wait, signals: &Signals) -> Result<Guard, Stop> {
    let shared = args.shared;
    let take = move |lock: &Lock, wait| if shared { lock.acquire_shared(wait) } else { lock.acquire_with(wait) };
    // Most locks are free, so the first try takes no thread. A server may not answer, and signals must be handled
    // meanwhile.
    let server = server::scheme(target).map_err(Failure::from)?;
    // A try that fails is an entry of the history only where no wait follows it.
    let try_once = |lock: &Lock| match wait == Wait::Never || shared {
        true => take(lock, Wait::Never).map(Some),
        false => lock.try_acquire(),
    };
    // A try would take a slot before those that wait, of which the first may need more room.
    let may_try = args.slots.is_none() && (!shared || args.history.is_none());
    if server.is_none() && (wait == Wait::Never || may_try) {
        match try_once(&lock) {
            Ok(Some(guard)) => return Ok(guard),
            Ok(None) => {}
            Err(error) if error.is_busy() && wait != Wait::Never => {}
            Err(error) => return Err(failure(args, target, error).into()),
        }
    }

    // The wait must not be split, because that would lose the place in the queue. So another thread waits, and this one
    // announces the holder and handles signals.
    let outcome = Arc::new(Mutex::new(None));
    let (waker, shared_outcome) = (signals.waker(), Arc::clone(&outcome));
    let holder = tenure::command::this_thread();
    let worker = thread::Builder::new().name("tenure-acquire".to_owned()).spawn(move || {
        let result = tenure::command::on_behalf_of(holder, || take(&lock, wait));
        *shared_outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        waker.wake();
    });
    let worker = worker.map_err(|error| Failure::io("a thread that waits for the lock", &error))?;

    let slots = args.slots;
    let mut announcer = (!args.quiet).then(|| Announcer::new(target, server, slots, signals));
    loop {
        signals
            .wait(None, announcer.as_ref().map(Announcer::next_update))
            .map_err(|error| Failure::io("poll", &error))?;
        let signal = next_ending_signal(signals);
        let arrived = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (signal, arrived) {
            // A guard that arrived with the signal is released here, and this process leaves a server's queue.
            (Some(signal), arrived) => {
                drop(arrived);
                if server.is_some() {
                    // A single call misses an acquire that has yet to begin.
                    while !worker.is_finished() {
                        // A further signal would wake this thread again and again.
                        let _ = next_ending_signal(signals);
                        server::give_up_waits(LEAVE_QUEUE);
                        let _ = signals.wait(None, Some(AGAIN));
                    }
                    let _ = worker.join();
                }
                return Err(Stop::Signalled(signal));
            }
            (None, Some(Ok(guard))) => return Ok(guard),
            (None, Some(Err(error))) => return Err(failure(args, target, error).into()),
            (None, None) => {
                if let Some(announcer) = &mut announcer {
                    announcer.update();
                }
            }
        }
    }
}

/// Returns the failure for an error of an acquire, with the exit code and the hints of this call.
pub(crate) fn failure(args: &LockOptions, target: &Path, error: tenure::Error) -> Failure {
    let (busy, skipped) = (error.is_busy(), error.is_skipped());
    let names_a_command = error.hint().is_some_and(|hint| hint.contains("tenure "));
    let mut failure = Failure::from(error);
    if busy || skipped {
        failure.code = args.busy_exit_code.unwrap_or(failure.code);
        if args.quiet {
            failure.message.clear();
        } else if busy && !names_a_command {
            failure.message += &format!("; for details: `tenure status {}`", escape::word(target));
        }
    }
    failure
}

/// Returns the interval at which tenures are checked: `longest`, or less where a lease is short.
pub(crate) fn check_interval<'a>(longest: Duration, guards: impl IntoIterator<Item = &'a Guard>) -> Duration {
    let leases = guards.into_iter().filter_map(Guard::lease);
    // A lease that is over already must not make the caller spin.
    leases.map(|lease| lease.lost_in.max(Duration::from_millis(10))).fold(longest, Duration::min)
}
