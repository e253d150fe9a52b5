//! A command under its lock: signals go to it, the lock is watched, and at its end the lock is released.
//!
//! The command stays in this process's group, so that it may use the terminal. What the terminal sends (Ctrl-C, Ctrl-Z,
//! a new window size) has then reached it already and is not passed on again; what a process sent to this pid is.
//! When the command stops this process stops too, for the shell's job control; the shell continues them both.

use std::time::{Duration, Instant};

use tenure::{Guard, escape};

use crate::acquire::{self, Held};
use crate::exit::{self, Failure};
use crate::report;
use crate::run::{Args, OnOverrun};
use crate::sys::{self, Arrival, Child, Note, Signals};

/// How often the locks are checked.
const TICK: Duration = Duration::from_secs(1);
/// How often the record's date is made new at least, before programs that judge by it find it too old.
const REFRESH: Duration = Duration::from_secs(600);
/// How often at most.
const SOONEST: Duration = Duration::from_millis(100);
/// How long a command may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// How it ended.
pub(crate) enum Ended {
    /// With this exit code.
    Code(u8),
    /// By a key at the terminal, which struck this process too.
    Interrupted(i32),
}

pub(crate) fn supervise(args: &Args, held: Held, child: Child, signals: &Signals) -> Result<Ended, Failure> {
    let refresh_every = args.lock.max_hold.map_or(REFRESH, |max_hold| REFRESH.min(max_hold / 3)).max(SOONEST);
    let mut supervisor = Supervisor {
        args,
        child: &child,
        signals,
        guards: held.guards.iter().map(|guard| Watched { guard, lost: false }).collect(),
        overrun_at: args.lock.max_hold.and_then(|max_hold| held.since.checked_add(max_hold)),
        kill_at: None,
        next_check: Instant::now() + acquire::look_within(TICK, &held.guards),
        refresh_every,
        next_refresh: Instant::now() + refresh_every,
        stop_asked: false,
        woken: false,
        interrupted: false,
        killed: false,
    };
    let watched = supervisor.watch();
    let lost = supervisor.lost_at_the_end();
    let interrupted = supervisor.interrupted;

    if let Err(failure) = watched {
        // A command that cannot be watched must not go on, and has the lock until it is gone.
        child.signal(sys::SIGKILL);
        let _ = child.wait();
        return Err(failure);
    }

    // Before the command is reaped: until then its pid, which the record names, is nobody else's.
    for guard in held.guards.into_iter().rev() {
        let target = guard.target().to_owned();
        match guard.release() {
            Ok(()) if args.lock.verbose => report::say(&format!("released {}", report::path(&target))),
            Ok(()) => {}
            // A foreign program rightly found the command dead, or it was said above.
            Err(error) if error.is_lost() => {}
            Err(error) => report::say(&error.to_string()),
        }
    }
    let status = child.wait().map_err(|error| Failure::io("waiting for the command", &error))?;
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
    signals: &'a Signals,
    guards: Vec<Watched<'a>>,
    overrun_at: Option<Instant>,
    kill_at: Option<Instant>,
    next_check: Instant,
    refresh_every: Duration,
    next_refresh: Instant,
    /// A TSTP came and the command has not stopped since.
    stop_asked: bool,
    /// This process was stopped and continued; the note of that CONT is still to come.
    woken: bool,
    /// The terminal sent INT.
    interrupted: bool,
    killed: bool,
}

impl Supervisor<'_> {
    fn watch(&mut self) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            let next = [self.overrun_at, self.kill_at, Some(self.next_refresh)];
            let next = next.into_iter().flatten().fold(self.next_check, Instant::min);
            self.signals
                .wait(Some(self.child), Some(next.saturating_duration_since(now)))
                .map_err(|error| Failure::io("poll", &error))?;
            let child_changed = self.pass_on_all();
            if self.child.has_ended() {
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

    /// Was a lock lost, now that the command has ended? Its lock file alone may by now rightly be another's: a foreign
    /// program finds the command dead.
    fn lost_at_the_end(&self) -> bool {
        let mut lost = false;
        for watched in &self.guards {
            if !watched.lost && !watched.guard.excludes_natives() {
                lost = true;
                if let Err(error) = watched.guard.check() {
                    say_lost(&error, "");
                }
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
            self.child.signal(sys::SIGTERM);
            // A stopped process does not hear SIGTERM.
            self.child.signal(sys::SIGCONT);
        }
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
        self.child.signal(sys::SIGKILL);
        self.killed = true;
    }
}

fn say_lost(error: &tenure::Error, then: &str) {
    let what = report::lost(error);
    report::say(&format!(
        "{what}: since then what the command does is not protected, and may be mixed with another's{then}"
    ));
}
