//! A command under its lock: signals go to it, the lock is watched, and at its end the lock is released.
//!
//! The command stays in this process's group, so that it may use the terminal. What the terminal sends (Ctrl-C, Ctrl-Z,
//! a new window size) has then reached it already and is not passed on again; what a process sent to this pid is.
//! When the command stops this process stops too, for the shell's job control; the shell continues them both.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tenure::{Guard, escape};

use crate::acquire::{self, Held};
use crate::exit::{self, Failure};
use crate::readers::{self, Readers};
use crate::report;
use crate::run::{Args, OnOverrun};
use crate::sys::{self, Arrival, Child, Note, Signals, Tree};

/// How often the locks are checked.
const TICK: Duration = Duration::from_secs(1);
/// How often the record's date is made new at least, before programs that judge by it find it too old.
const REFRESH: Duration = Duration::from_secs(600);
/// How often at most.
const SOONEST: Duration = Duration::from_millis(100);
/// How often is looked whether all that the command started has ended, once it is being ended.
const LOOK: Duration = Duration::from_millis(50);
/// How long a command may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// How it ended.
pub(crate) enum Ended {
    /// With this exit code.
    Code(u8),
    /// By a key at the terminal, which struck this process too.
    Interrupted(i32),
}

pub(crate) fn supervise(
    args: &Args,
    held: Held,
    child: Child,
    tree: &Tree,
    signals: &Signals,
    readers: &Readers,
) -> Result<Ended, Failure> {
    let refresh_every = args.lock.max_hold.map_or(REFRESH, |max_hold| REFRESH.min(max_hold / 3)).max(SOONEST);
    let mut supervisor = Supervisor {
        args,
        child: &child,
        tree,
        signals,
        guards: held.guards.iter().map(|guard| Watched { guard, lost: false }).collect(),
        overrun_at: args.lock.max_hold.and_then(|max_hold| held.since.checked_add(max_hold)),
        kill_at: None,
        give_up_at: None,
        denied: BTreeSet::new(),
        next_check: Instant::now() + acquire::look_within(TICK, &held.guards),
        refresh_every,
        next_refresh: Instant::now() + refresh_every,
        stop_asked: false,
        woken: false,
        interrupted: false,
        ending: false,
        killed: false,
    };
    let watched = supervisor.watch();
    let mut lost = supervisor.lost_at_the_end();
    let interrupted = supervisor.interrupted;

    if let Err(failure) = watched {
        // A command that cannot be watched must not go on, and has the lock until it is gone.
        tree.signal(&child, sys::SIGKILL);
        let _ = child.wait();
        return Err(failure);
    }

    let stay_until = readers.stay_until();
    // Before the command is reaped: until then its pid, which the record shows, is nobody else's.
    for guard in held.guards.into_iter().rev() {
        let target = guard.target().to_owned();
        match guard.release() {
            Ok(()) if args.lock.verbose => report::say(&format!("released {}", report::path(&target))),
            Ok(()) => {}
            // It was lost since the last look; or a server says only now that it was broken.
            Err(error) if error.is_lost() && !lost => {
                lost = true;
                say_lost(&error, "");
            }
            // It was said above.
            Err(error) if error.is_lost() => {}
            Err(error) => report::say(&error.to_string()),
        }
    }
    let status = child.wait().map_err(|error| Failure::io("waiting for the command", &error))?;
    readers::stay(stay_until);
    Ok(match (sys::ended_by(status), status.code()) {
        _ if lost => Ended::Code(exit::LOST),
        // A shell ends its own loop only where it sees that its child died of the key.
        (Some(signal), _) if interrupted && signal == sys::SIGINT => Ended::Interrupted(signal),
        (Some(signal), _) => {
            if args.lock.verbose {
                report::say(&format!("{} ended the command", sys::signal_name(signal)));
            }
            Ended::Code(exit::of_signal(signal))
        }
        (None, code) => Ended::Code(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)),
    })
}

struct Watched<'a> {
    guard: &'a Guard,
    lost: bool,
}

struct Supervisor<'a> {
    args: &'a Args,
    child: &'a Child,
    tree: &'a Tree,
    signals: &'a Signals,
    guards: Vec<Watched<'a>>,
    overrun_at: Option<Instant>,
    kill_at: Option<Instant>,
    /// Until when those that were killed are waited for.
    give_up_at: Option<Instant>,
    /// Those that this user may not signal.
    denied: BTreeSet<i32>,
    next_check: Instant,
    refresh_every: Duration,
    next_refresh: Instant,
    /// A TSTP came and the command has not stopped since.
    stop_asked: bool,
    /// This process was stopped and continued; the note of that CONT is still to come.
    woken: bool,
    /// The terminal sent INT.
    interrupted: bool,
    /// This process ends the command, and all that it started.
    ending: bool,
    killed: bool,
}

impl Supervisor<'_> {
    fn watch(&mut self) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            // SIGCHLD tells of the children only.
            let look = self.ending.then(|| now + LOOK);
            let next = [self.overrun_at, self.kill_at, Some(self.next_refresh), look];
            let next = next.into_iter().flatten().fold(self.next_check, Instant::min);
            // Once it has ended, its pidfd would end every wait.
            let child = Some(self.child).filter(|child| !self.ending || !child.has_ended());
            self.signals
                .wait(child, Some(next.saturating_duration_since(now)))
                .map_err(|error| Failure::io("poll", &error))?;
            let child_changed = self.pass_on_all();
            // What it leaves at an end of its own goes on; what is ended for the lock's sake ends as a whole.
            if self.child.has_ended() && (!self.ending || self.all_have_ended()) {
                return Ok(());
            }
            if child_changed {
                self.stop_with_the_command();
            }
            let now = Instant::now();
            if now >= self.next_check {
                self.check();
                let guards = self.guards.iter().filter(|watched| !watched.lost).map(|watched| watched.guard);
                self.next_check = Instant::now() + acquire::look_within(TICK, guards);
            }
            if now >= self.next_refresh {
                self.next_refresh = now + self.refresh_every;
                self.refresh();
            }
            if self.overrun_at.is_some_and(|at| now >= at) {
                self.overrun_at = None;
                self.overrun();
            }
            if self.kill_at.is_some_and(|at| now >= at) {
                self.kill_at = None;
                self.kill();
            }
        }
    }

    /// Passes on what has arrived. Did the command change its state?
    fn pass_on_all(&mut self) -> bool {
        let mut child_changed = false;
        while let Some(note) = self.signals.next() {
            let Note::Signal(arrival) = note else { continue };
            match arrival.signal {
                sys::SIGCHLD => {
                    self.tree.reap(self.child);
                    child_changed = true;
                    continue;
                }
                // It woke this process; whether the command needs it as well was looked at then.
                sys::SIGCONT if std::mem::take(&mut self.woken) => continue,
                sys::SIGTSTP => self.stop_asked = true,
                sys::SIGINT if arrival.from_terminal => self.interrupted = true,
                _ => {}
            }
            if self.is_news(arrival) {
                self.child.signal(arrival.signal);
            }
        }
        child_changed
    }

    /// Has the command not got this one itself? It has what the terminal sent, and what it sent to its own process
    /// group, as an editor does at Ctrl-Z.
    fn is_news(&self, arrival: Arrival) -> bool {
        arrival.before_the_command || !arrival.from_terminal && !sys::descends_from(arrival.sender, self.child.id())
    }

    /// Where the command has stopped, the shell sees that only if this process stops too. Not for a command that
    /// somebody stopped alone, away from a terminal: whoever continues it would not think of this process.
    fn stop_with_the_command(&mut self) {
        if self.child.has_stopped() && (self.stop_asked || sys::in_foreground()) {
            self.stop_asked = false;
            sys::stop_self();
            self.woken = true;
            // A shell continues the whole group; `kill -CONT` with this pid does not. Not sent without need: it would
            // undo a stop that came since.
            if self.child.is_still_stopped() {
                self.child.signal(sys::SIGCONT);
            }
        }
    }

    fn check(&mut self) {
        let mut end = false;
        for watched in self.guards.iter_mut().filter(|watched| !watched.lost) {
            let Err(error) = watched.guard.check() else { continue };
            if !error.is_lost() {
                continue;
            }
            watched.lost = true;
            let fatal = !watched.guard.excludes_natives();
            end |= fatal;
            say_lost(&error, if fatal { "; ending the command" } else { "; the command goes on" });
        }
        // One whose lock file was removed first and that was broken later.
        end |= self.guards.iter().any(|watched| watched.lost && !watched.guard.excludes_natives());
        if end && !self.killed {
            self.terminate();
        }
    }

    fn refresh(&self) {
        for watched in self.guards.iter().filter(|watched| !watched.lost) {
            if let Err(error) = watched.guard.refresh()
                && !self.args.lock.quiet
            {
                report::say(&report::not_refreshed(watched.guard.target(), &error));
            }
        }
    }

    /// Was a lock lost, now that the command has ended?
    fn lost_at_the_end(&self) -> bool {
        let mut lost = false;
        for watched in &self.guards {
            if !watched.lost
                && let Err(error) = watched.guard.check()
                && error.is_lost()
            {
                lost = true;
                say_lost(&error, "");
            }
            lost |= watched.lost;
        }
        lost
    }

    fn overrun(&mut self) {
        let allowed = self.args.lock.max_hold.unwrap_or_default();
        let then = match self.args.on_overrun() {
            OnOverrun::Report => "it goes on",
            OnOverrun::Term => "ending it",
            OnOverrun::Kill => "killing it",
        };
        for watched in &self.guards {
            report::say(&format!(
                "the command has held {} for longer than {}: {then}",
                report::path(watched.guard.target()),
                escape::duration(allowed)
            ));
        }
        match self.args.on_overrun() {
            OnOverrun::Report => {}
            OnOverrun::Term => self.terminate(),
            OnOverrun::Kill => self.kill(),
        }
    }

    fn terminate(&mut self) {
        // Asked once already: it only may have less time by now.
        if self.kill_at.is_none() {
            self.signal_all(sys::SIGTERM);
            // A stopped process does not hear SIGTERM.
            self.signal_all(sys::SIGCONT);
        }
        self.ending = true;
        let kill_at = Instant::now() + self.grace();
        self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
    }

    /// How long the command may take to end. A server that we lost gives the lock to another when the lease is over, and
    /// the command must be gone by then: a little earlier, for the kill takes its time.
    fn grace(&self) -> Duration {
        let lost = self.guards.iter().filter(|watched| watched.lost);
        let leases = lost.filter_map(|watched| watched.guard.lease());
        leases.map(|lease| lease.free_in * 2 / 3).fold(GRACE, Duration::min)
    }

    fn kill(&mut self) {
        self.ending = true;
        self.killed = true;
        self.give_up_at.get_or_insert_with(|| Instant::now() + GRACE);
        self.signal_all(sys::SIGKILL);
    }

    /// The command and all that it started.
    fn signal_all(&mut self, signal: i32) {
        for pid in self.tree.signal(self.child, signal) {
            if self.denied.insert(pid) {
                report::say(&format!("pid {pid}, which the command started, cannot be ended: permission denied"));
            }
        }
    }

    /// The command has ended. Has all that it started? Where it was killed, it is killed again: a child may have been born
    /// just then.
    fn all_have_ended(&mut self) -> bool {
        let left: Vec<i32> = self.tree.left(self.child).into_iter().filter(|pid| !self.denied.contains(pid)).collect();
        if left.is_empty() {
            return true;
        }
        if self.killed {
            self.signal_all(sys::SIGKILL);
        }
        let give_up = self.give_up_at.is_some_and(|at| Instant::now() >= at);
        if give_up {
            let left: Vec<i64> = left.into_iter().map(Into::into).collect();
            report::say(&format!("{}, which the command started, cannot be ended", report::pids(&left)));
        }
        give_up
    }
}

fn say_lost(error: &tenure::Error, then: &str) {
    let what = report::lost(error);
    report::say(&format!(
        "{what}: since then what the command does is not protected, and may be mixed with another's{then}"
    ));
}
