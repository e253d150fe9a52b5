//! Getting the locks: which, how, for how long, and what is said while it takes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::ValueHint;
use tenure::{Event, Guard, Lock, Options, Previous, StalePolicy, State, Status, Style, Wait, escape, server};

use crate::exit::{self, Failure};
use crate::sys::{self, Note, Signals};
use crate::terminal::LiveLine;
use crate::{duration, report};

/// Waits shorter than this are nobody's business.
const QUIET_FOR: Duration = Duration::from_secs(1);
/// How often is looked whether the holder has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The same while somebody watches a line that tells for how long it has been held.
const DRAW_AGAIN: Duration = Duration::from_secs(1);

/// How long a signal waits for a server to take a place in its queue back.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// What is locked, and how.
#[derive(clap::Args)]
pub(crate) struct LockArgs {
    /// What to lock; several are locked all or none, in one order, whatever the words' order
    #[arg(required = true, value_name = "TARGET", value_hint = ValueHint::AnyPath)]
    pub(crate) targets: Vec<PathBuf>,

    /// Give up after this long (10 or 10s, 300ms, 5m, 1h30m; 0: at once). Without it: wait as long as it takes
    #[arg(short = 'w', long, visible_alias = "wait", value_name = "DURATION", value_parser = duration::parse, env = "TENURE_TIMEOUT")]
    #[arg(hide_env_values = true, allow_hyphen_values = true)]
    timeout: Option<Duration>,

    /// Do not wait at all
    #[arg(short, long, visible_aliases = ["nonblock", "nb"])]
    pub(crate) no_wait: bool,

    /// Share the lock with others that share it; needs --flock
    #[arg(short, long, overrides_with = "exclusive")]
    shared: bool,

    /// Hold alone, which is what happens without --shared
    #[arg(short = 'x', visible_short_alias = 'e', long, overrides_with = "shared")]
    exclusive: bool,

    /// Lock the target itself with flock(2), to exclude programs that do the same, in place of showing a lock file
    #[arg(long)]
    flock: bool,

    /// Keep no record: for a folder that may only be read. Implies --flock; nobody sees who holds
    #[arg(long)]
    no_record: bool,

    /// What others see of this holder, in `tenure status` and in their errors
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,

    /// How long this is meant to hold; others see it
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive, allow_hyphen_values = true)]
    pub(crate) max_hold: Option<Duration>,

    /// Rob a holder that lives, once it has held for this long, or longer than it said
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive, allow_hyphen_values = true)]
    steal_after: Option<Duration>,

    /// The exit code when the lock is busy
    #[arg(short = 'E', long, visible_alias = "conflict-exit-code", value_name = "N", default_value_t = exit::BUSY)]
    busy_exit_code: u8,

    /// The permission bits of the lock's files, in octal: 666 shares a lock between users in /tmp
    #[arg(long, value_name = "OCTAL", value_parser = mode)]
    mode: Option<u32>,

    /// Say nothing but errors, and not that the lock is busy: the exit code says it
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say when the lock is had and let go
    #[arg(short, long)]
    pub(crate) verbose: bool,

    #[arg(short = 'F', long, hide = true)]
    no_fork: bool,

    #[arg(short, long, hide = true)]
    unlock: bool,

    #[arg(long, hide = true)]
    fcntl: bool,

    /// The caller refreshes the record's date by itself ([`Guard::refresh`]): no thread of the library has to.
    #[arg(skip)]
    pub(crate) refreshed_by_caller: bool,
}

fn mode(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o777 => Ok(mode),
        _ => Err("write three octal digits, such as 644 or 666".to_owned()),
    }
}

impl LockArgs {
    /// Those words of flock(1) that have no counterpart, and what does it here.
    fn must_be_ours(&self) -> Result<(), Failure> {
        let refused = [
            (
                self.no_fork,
                "-F (--no-fork): `tenure` stays, to watch the lock and to remove the lock file; leave the word out",
            ),
            (
                self.unlock,
                "-u (--unlock): a lock ends with its holder: `tenure run` with the command, `tenure hold` with its input",
            ),
            (self.fcntl, "--fcntl: a lock of another kind, which neither flock(2) nor Tenure sees; leave the word out"),
        ];
        match refused.into_iter().find(|(given, _)| *given) {
            Some((_, message)) => Err(Failure::new(exit::USAGE, message)),
            None => Ok(()),
        }
    }

    fn options(&self) -> Result<Options, Failure> {
        let flock = self.flock || self.no_record;
        if self.shared && !flock {
            let message = "--shared needs --flock: a lock file has one holder, a flock(2) may be shared";
            return Err(Failure::new(exit::USAGE, message));
        }
        let quiet = self.quiet;
        let mut options = Lock::options();
        if self.refreshed_by_caller {
            options = options.refresh_interval(Duration::MAX);
        } else {
            options = options.on_event(move |event| match event {
                Event::RefreshFailed { target, error } if !quiet => report::say(&report::not_refreshed(target, error)),
                _ => {}
            });
        }
        if flock {
            options = options.style(Style::Flock);
        }
        if self.no_record {
            options = options.record(false);
        }
        if let Some(label) = &self.label {
            options = options.label(label);
        }
        if let Some(max_hold) = self.max_hold {
            options = options.max_hold(max_hold);
        }
        if let Some(age) = self.steal_after {
            options = options.stale_policy(StalePolicy::StealAfter(age));
        }
        if let Some(mode) = self.mode {
            options = options.mode(mode);
        }
        Ok(options)
    }

    /// The time given counts for all targets together.
    fn wait(&self) -> Wait {
        match self.timeout {
            _ if self.no_wait => Wait::Never,
            Some(Duration::ZERO) => Wait::Never,
            Some(timeout) => Instant::now().checked_add(timeout).map_or(Wait::Forever, Wait::Until),
            None => Wait::Forever,
        }
    }

    fn failure(&self, target: &Path, error: tenure::Error) -> Failure {
        let busy = error.is_busy();
        let named = error.hint().is_some_and(|hint| hint.contains("tenure "));
        let mut failure = Failure::from(error);
        if busy {
            failure.code = self.busy_exit_code;
            if self.quiet {
                failure.message.clear();
            } else if !named {
                failure.message += &format!("; `tenure status {}` says more", escape::word(target));
            }
        }
        failure
    }
}

/// Why there are no guards.
pub(crate) enum Stop {
    Failed(Failure),
    /// A signal that would end this process came first.
    Signalled(i32),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// The guards of a call's targets.
pub(crate) struct Held {
    /// In the order in which they were locked.
    pub(crate) guards: Vec<Guard>,
    /// Which of them is the target that was named first.
    pub(crate) first: usize,
    /// When the last one was had.
    pub(crate) since: Instant,
}

/// Acquires every target, or none.
pub(crate) fn acquire(args: &LockArgs, signals: &Signals) -> Result<Held, Stop> {
    args.must_be_ours()?;
    let options = args.options()?;
    let wait = args.wait();
    let began = Instant::now();
    let mut opened = Vec::new();
    for (index, target) in args.targets.iter().enumerate() {
        let lock = options.open(target).map_err(Failure::from)?;
        // The order matters only among several: device and inode of the folder, then the name; servers' come first.
        let engine = server::scheme(target).map_err(Failure::from)?.is_some();
        let place = if args.targets.len() == 1 || engine { (0, 0) } else { place_of(target)? };
        let name = if engine { Some(target.as_os_str()) } else { target.file_name() };
        opened.push((place, name.map(ToOwned::to_owned), index, lock));
    }
    opened.sort_by(|a, b| (a.0, &a.1, a.2).cmp(&(b.0, &b.1, b.2)));
    opened.dedup_by(|a, b| (a.0, &a.1) == (b.0, &b.1));
    let first = opened.iter().position(|(_, _, index, _)| *index == 0).unwrap_or(0);

    // A failure drops what was had so far, which releases it.
    let mut guards = Vec::with_capacity(opened.len());
    for (_, _, index, lock) in opened {
        let target = &args.targets[index];
        let guard = acquire_one(args, target, lock, wait, signals)?;
        if !args.quiet
            && let Previous::Crashed(holder) = guard.previous()
        {
            report::say(&report::taken_over(target, holder));
        }
        if args.verbose {
            let fence = match guard.fence() {
                None => String::new(),
                Some(fence) => format!(" with fence {fence}"),
            };
            let took = escape::duration(began.elapsed());
            report::say(&format!("holding {}{fence} after {took}", report::path(target)));
        }
        guards.push(guard);
    }
    if let Some(signal) = ending_signal(signals) {
        drop(guards);
        return Err(Stop::Signalled(signal));
    }
    Ok(Held { guards, first, since: Instant::now() })
}

fn place_of(target: &Path) -> Result<(u64, u64), Failure> {
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    sys::place_of(folder).map_err(|error| Failure::io(&report::path(folder), &error))
}

/// A signal that came and would have ended this process. The other notes of that time mean nothing.
pub(crate) fn ending_signal(signals: &Signals) -> Option<i32> {
    while let Some(note) = signals.next() {
        if let Note::Signal(arrival) = note
            && sys::ENDING.contains(&arrival.signal)
        {
            return Some(arrival.signal);
        }
    }
    None
}

fn acquire_one(args: &LockArgs, target: &Path, lock: Lock, wait: Wait, signals: &Signals) -> Result<Guard, Stop> {
    let take = |lock: &Lock, wait, shared| if shared { lock.acquire_shared(wait) } else { lock.acquire_with(wait) };
    let shared = args.shared;
    // Most locks are free: that way costs no thread. A server may be silent: then signals must be heard meanwhile.
    let on_server = server::scheme(target).map_err(Failure::from)?.is_some();
    if !on_server {
        match take(&lock, Wait::Never, shared) {
            Ok(guard) => return Ok(guard),
            Err(error) if error.is_busy() && wait != Wait::Never => {}
            Err(error) => return Err(args.failure(target, error).into()),
        }
    }

    // The wait itself must not be cut into slices, which would lose the place in the queue. So another thread waits,
    // and this one speaks and hears signals.
    let outcome = Arc::new(Mutex::new(None));
    let (waker, there) = (signals.waker(), Arc::clone(&outcome));
    let worker = thread::Builder::new().name("tenure-acquire".to_owned()).spawn(move || {
        let result = take(&lock, wait, shared);
        *there.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        waker.wake();
    });
    let worker = worker.map_err(|error| Failure::io("a thread to wait in", &error))?;

    let mut announcer = Announcer::new(target, on_server, args.quiet, signals);
    loop {
        signals.wait(None, announcer.next_look()).map_err(|error| Failure::io("poll", &error))?;
        let signal = ending_signal(signals);
        let arrived = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (signal, arrived) {
            // A guard that came with the signal is released here, and a place in a server's queue given back.
            (Some(signal), arrived) => {
                drop(arrived);
                if on_server {
                    server::give_up_waits(GIVE_BACK);
                    let _ = worker.join();
                }
                return Err(Stop::Signalled(signal));
            }
            (None, Some(Ok(guard))) => return Ok(guard),
            (None, Some(Err(error))) => return Err(args.failure(target, error).into()),
            (None, None) => announcer.look(),
        }
    }
}

/// Says who is waited for: in one line that is kept up to date and goes away, at a terminal in whose foreground we are;
/// elsewhere once, and again when the holder changes.
struct Announcer<'a> {
    live: Option<LiveLine>,
    target: &'a Path,
    on_server: bool,
    quiet: bool,
    signals: &'a Signals,
    next: Instant,
    said: Option<Said>,
    /// What a server says, once it does.
    asked: Option<Asked>,
}

type Asked = Arc<Mutex<Option<tenure::Result<Status>>>>;

/// What was said: the lock file as it was then, and who held.
struct Said {
    stamp: Option<(u64, i64, i64)>,
    who: Who,
}

/// What tells one tenure from the next. A native's pid and `createdAt` may change while it holds; its fence does not.
#[derive(Clone, PartialEq)]
pub(crate) enum Who {
    Native(u64),
    Foreign(Option<i64>, Option<SystemTime>),
    Sharers(Vec<i64>),
}

impl<'a> Announcer<'a> {
    fn new(target: &'a Path, on_server: bool, quiet: bool, signals: &'a Signals) -> Announcer<'a> {
        let live = if quiet { None } else { LiveLine::new() };
        Announcer { live, target, on_server, quiet, signals, next: Instant::now() + QUIET_FOR, said: None, asked: None }
    }

    /// How the lock stands. A server is asked by a thread of its own, which wakes us: it may be silent, and that must not
    /// keep us from the outcome.
    fn found(&mut self) -> Option<Status> {
        if !self.on_server {
            return tenure::status(self.target).ok();
        }
        if let Some(asked) = &self.asked {
            let answer = asked.lock().unwrap_or_else(PoisonError::into_inner).take()?;
            self.asked = None;
            let found = answer.ok()?;
            // The first in its queue may be this process, which is about to be granted the lock.
            let own = found.holder.as_ref().is_some_and(|holder| holder.pid() == Some(i64::from(std::process::id())));
            return (!own).then_some(found);
        }
        let (target, asked, waker) = (self.target.to_owned(), Asked::default(), self.signals.waker());
        self.asked = Some(Arc::clone(&asked));
        let ask = move || {
            let found = tenure::status(&target);
            *asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            waker.wake();
        };
        if thread::Builder::new().name("tenure-look".to_owned()).spawn(ask).is_err() {
            self.asked = None;
        }
        None
    }

    fn has_answer(&self) -> bool {
        let is_there = |asked: &Asked| asked.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.asked.as_ref().is_some_and(is_there)
    }

    /// How long until there may be something to say; `None` when there never will be.
    fn next_look(&self) -> Option<Duration> {
        (!self.quiet).then(|| self.next.saturating_duration_since(Instant::now()))
    }

    fn look(&mut self) {
        let now = Instant::now();
        if self.quiet || now < self.next && !self.has_answer() {
            return;
        }
        if self.live.is_some() && sys::in_foreground() {
            self.next = now + DRAW_AGAIN;
            // Where it is free it changes hands just now.
            if let Some(found) = self.found()
                && found.state != State::Free
                && let Some(line) = &mut self.live
            {
                line.draw(&format!("tenure: {}", report::waiting(self.target, &found)));
            }
            return;
        }
        self.next = now + LOOK_AGAIN;
        let mut lock_file = self.target.as_os_str().to_owned();
        lock_file.push(".lock");
        // Before the inspection: a change in between is seen the next time.
        let stamp = sys::stamp(Path::new(&lock_file));
        if let Some(said) = &self.said
            && stamp.is_some()
            && said.stamp == stamp
        {
            return;
        }
        let Some(found) = self.found() else { return };
        if found.state == State::Free {
            return;
        }
        let who = who(&found);
        if self.said.as_ref().is_none_or(|said| said.who != who) {
            report::say(&report::waiting(self.target, &found));
        }
        self.said = Some(Said { stamp, who });
    }
}

/// How soon a tenure must be looked at again, where it is looked at once in `tick`: a lease may be short.
pub(crate) fn look_within<'a>(tick: Duration, guards: impl IntoIterator<Item = &'a Guard>) -> Duration {
    let leases = guards.into_iter().filter_map(Guard::lease);
    // No sooner than a loss can come, but for one that is there.
    leases.map(|lease| lease.lost_in.max(Duration::from_millis(10))).fold(tick, Duration::min)
}

pub(crate) fn who(found: &Status) -> Who {
    match &found.holder {
        Some(holder) => match holder.fence {
            Some(fence) => Who::Native(fence),
            None => Who::Foreign(holder.pid(), holder.created_at),
        },
        None => Who::Sharers(found.open_by.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode("666"), Ok(0o666));
        assert_eq!(mode("0644"), Ok(0o644));
        for wrong in ["", "888", "+66", "1000", "rw-", "0o666", "-1"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
