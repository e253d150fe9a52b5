//! Supervises a command: passes signals on to it, checks its locks, and releases them when the command ends.
//!
//! The command stays in this process's group, so that it may use the terminal. Signals from the terminal (Ctrl-C, Ctrl-Z,
//! a new window size) reach it directly and are not passed on again; signals that a process sent to this pid are.
//! When the command stops, this process stops too, for the shell's job control, and the shell continues both.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tenure::{Guard, escape};

use crate::locking::{self, Held, Readers};
use crate::output::{Failure, describe, exit, stream};
use crate::sys::{self, Arrival, Child, Note, ProcessTree, Signals};

/// The longest interval between two checks of the locks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval between two updates of the record's date, by which some programs detect stale locks.
const REFRESH_INTERVAL: Duration = Duration::from_secs(600);
/// The shortest such interval.
const SHORTEST_REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// The interval between two checks for the command's descendants, while they are being ended.
const DESCENDANTS_INTERVAL: Duration = Duration::from_millis(50);
/// The time that a command may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// The action when the command takes longer than `--max-hold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnOverrun {
    Report,
    Term,
    Kill,
}

/// The limits of a command, and what is reported.
pub(super) struct Limits {
    pub(super) max_hold: Option<Duration>,
    pub(super) on_overrun: OnOverrun,
    /// A command that exits with 0 is recorded as a success.
    pub(super) records_success: bool,
    pub(super) quiet: bool,
    pub(super) verbose: bool,
}

/// How a command ended.
pub(super) enum Ended {
    /// `tenure` should exit with this code.
    Code(u8),
    /// A key at the terminal sent a signal, which ended the command and should end `tenure`.
    Interrupted(i32),
}

/// Supervises the command until it ends, then releases the locks.
pub(super) fn supervise(
    limits: &Limits,
    held: Held,
    child: Child,
    tree: &ProcessTree,
    signals: &Signals,
    readers: &Readers,
) -> Result<Ended, Failure> {
    let refresh_interval = limits
        .max_hold
        .map_or(REFRESH_INTERVAL, |max_hold| REFRESH_INTERVAL.min(max_hold / 3))
        .max(SHORTEST_REFRESH_INTERVAL);
    let mut supervisor = Supervisor {
        limits,
        child: &child,
        tree,
        signals,
        guards: held.guards.iter().map(|guard| Watched { guard, lost: false }).collect(),
        overrun_at: limits.max_hold.and_then(|max_hold| held.since.checked_add(max_hold)),
        kill_at: None,
        give_up_at: None,
        denied: BTreeSet::new(),
        next_check: Instant::now() + locking::check_interval(CHECK_INTERVAL, &held.guards),
        refresh_interval,
        next_refresh: Instant::now() + refresh_interval,
        stop_requested: false,
        continued: false,
        interrupted: false,
        ending: false,
        killed: false,
    };
    let watched = supervisor.watch();
    let mut lost = supervisor.check_at_the_end();
    // A run that was cut short is no success, whatever its command makes of the signal.
    let (interrupted, cut_short) = (supervisor.interrupted, supervisor.ending);

    if let Err(failure) = watched {
        // A command that cannot be watched must not continue. The lock stays held until the command has ended.
        tree.signal(&child, sys::SIGKILL);
        let _ = child.wait();
        return Err(failure);
    }

    // The child is not reaped yet: until the release no other process has its pid, which the record shows.
    let exit_code = child.exit_code();
    if limits.records_success && !lost && !cut_short && exit_code == Some(0) {
        for guard in &held.guards {
            if let Err(error) = guard.mark_successful() {
                stream::message(&error.to_string());
            }
        }
    }
    let linger_until = readers.linger_until();
    for guard in held.guards.into_iter().rev() {
        if let Some(code) = exit_code {
            guard.set_exit_code(code);
        }
        let target = guard.target().to_owned();
        match guard.release() {
            Ok(()) if limits.verbose => stream::message(&format!("released {}", describe::path(&target))),
            Ok(()) => {}
            // The lock was lost since the last check, or a server reports only now that it was broken.
            Err(error) if error.is_lost() && !lost => {
                lost = true;
                report_loss(&error, "");
            }
            // The loss was reported above.
            Err(error) if error.is_lost() => {}
            Err(error) => stream::message(&error.to_string()),
        }
    }
    let status = child.wait().map_err(|error| Failure::io("waiting for the command", &error))?;
    locking::linger(linger_until);
    Ok(match (sys::ended_by(status), status.code()) {
        _ if lost => Ended::Code(exit::LOST),
        // A shell ends its own loop only where its child died of the key's signal.
        (Some(signal), _) if interrupted && signal == sys::SIGINT => Ended::Interrupted(signal),
        (Some(signal), _) => {
            if limits.verbose {
                stream::message(&format!("{} ended the command", sys::signal_name(signal)));
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
    limits: &'a Limits,
    child: &'a Child,
    tree: &'a ProcessTree,
    signals: &'a Signals,
    guards: Vec<Watched<'a>>,
    overrun_at: Option<Instant>,
    kill_at: Option<Instant>,
    /// Until when to wait for the processes that were killed.
    give_up_at: Option<Instant>,
    /// The processes that this user may not signal.
    denied: BTreeSet<i32>,
    next_check: Instant,
    refresh_interval: Duration,
    next_refresh: Instant,
    /// A TSTP arrived, and the command has not stopped since.
    stop_requested: bool,
    /// This process was stopped and continued, and the note of that CONT has not been read yet.
    continued: bool,
    /// The terminal sent INT.
    interrupted: bool,
    /// This process is ending the command and its descendants.
    ending: bool,
    killed: bool,
}

impl Supervisor<'_> {
    fn watch(&mut self) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            // SIGCHLD reports the end of children, but not of deeper descendants.
            let next_descendants = self.ending.then(|| now + DESCENDANTS_INTERVAL);
            let next = [self.overrun_at, self.kill_at, Some(self.next_refresh), next_descendants];
            let next = next.into_iter().flatten().fold(self.next_check, Instant::min);
            // The pidfd of a command that has ended would end every wait.
            let child = Some(self.child).filter(|child| !self.ending || !child.has_ended());
            self.signals
                .wait(child, Some(next.saturating_duration_since(now)))
                .map_err(|error| Failure::io("poll", &error))?;
            let child_changed = self.pass_on_signals();
            // If the command ends by itself, its descendants may continue. If this process ends it, they must end too.
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
                self.next_check = Instant::now() + locking::check_interval(CHECK_INTERVAL, guards);
            }
            if now >= self.next_refresh {
                self.next_refresh = now + self.refresh_interval;
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

    /// Passes on the signals that have arrived. Returns whether the command changed its state.
    fn pass_on_signals(&mut self) -> bool {
        let mut child_changed = false;
        while let Some(note) = self.signals.next() {
            let Note::Signal(arrival) = note else { continue };
            match arrival.signal {
                sys::SIGCHLD => {
                    self.tree.reap(self.child);
                    child_changed = true;
                    continue;
                }
                // This CONT continued this process. `stop_with_the_command` has passed it on already if needed.
                sys::SIGCONT if std::mem::take(&mut self.continued) => continue,
                sys::SIGTSTP => self.stop_requested = true,
                sys::SIGINT if arrival.from_terminal => self.interrupted = true,
                _ => {}
            }
            if let Some(grace) = arrival.grace {
                self.end_for_another(arrival.sender, grace);
                continue;
            }
            if self.is_new_to_the_command(arrival) {
                self.child.signal(arrival.signal);
            }
        }
        child_changed
    }

    /// Returns whether the command has not received this signal itself. It has received what the terminal sent, and what it
    /// sent to its own process group, as an editor does at Ctrl-Z.
    fn is_new_to_the_command(&self, arrival: Arrival) -> bool {
        arrival.before_the_command || !arrival.from_terminal && !sys::descends_from(arrival.sender, self.child.id())
    }

    /// Stops this process where the command has stopped, because the shell notices the stop of this process only. Does
    /// nothing where another process stopped the command alone, away from a terminal: that process would not know to
    /// continue this one.
    fn stop_with_the_command(&mut self) {
        if self.child.has_stopped() && (self.stop_requested || sys::in_foreground()) {
            self.stop_requested = false;
            sys::stop_self();
            self.continued = true;
            // A shell continues the whole group, but `kill -CONT` with this pid does not. The signal is sent only where it
            // is needed, because it would undo a stop that came since.
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
            report_loss(&error, if fatal { "; ending the command" } else { "; the command continues" });
        }
        // A lock whose lock file was removed first may have been broken later.
        end |= self.guards.iter().any(|watched| watched.lost && !watched.guard.excludes_natives());
        if end && !self.killed {
            self.terminate();
        }
    }

    fn refresh(&self) {
        for watched in self.guards.iter().filter(|watched| !watched.lost) {
            if let Err(error) = watched.guard.refresh()
                && !self.limits.quiet
            {
                stream::message(&describe::refresh_failure(watched.guard.target(), &error));
            }
        }
    }

    /// Checks the locks once more after the command has ended. Returns whether one was lost.
    fn check_at_the_end(&self) -> bool {
        let mut lost = false;
        for watched in &self.guards {
            if !watched.lost
                && let Err(error) = watched.guard.check()
                && error.is_lost()
            {
                lost = true;
                report_loss(&error, "");
            }
            lost |= watched.lost;
        }
        lost
    }

    fn overrun(&mut self) {
        let max_hold = self.limits.max_hold.unwrap_or_default();
        let then = match self.limits.on_overrun {
            OnOverrun::Report => "it continues",
            OnOverrun::Term => "ending it",
            OnOverrun::Kill => "killing it",
        };
        for watched in &self.guards {
            stream::message(&format!(
                "the command has held {} for longer than {}: {then}",
                describe::path(watched.guard.target()),
                escape::duration(max_hold)
            ));
        }
        match self.limits.on_overrun {
            OnOverrun::Report => {}
            OnOverrun::Term => self.terminate(),
            OnOverrun::Kill => self.kill(),
        }
    }

    /// Ends the command and its descendants, because process `pid` asked for the lock.
    fn end_for_another(&mut self, pid: i32, grace: Duration) {
        if !self.limits.quiet && !self.ending {
            let within = escape::duration(grace);
            stream::message(&format!("pid {pid} replaces this run: ending the command within {within}"));
        }
        self.terminate_within(grace);
    }

    fn terminate(&mut self) {
        self.terminate_within(self.grace());
    }

    fn terminate_within(&mut self, grace: Duration) {
        // A second call only shortens the time that the command may take.
        if self.kill_at.is_none() {
            self.signal_all(sys::SIGTERM);
            // A stopped process handles SIGTERM only once it is continued.
            self.signal_all(sys::SIGCONT);
        }
        self.ending = true;
        let kill_at = Instant::now() + grace;
        self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
    }

    /// Returns how long the command may take to end. After the loss of a server, the server grants the lock to another
    /// process when the lease is over. The command must have ended by then, so this is a little less: killing takes time.
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

    /// Signals the command and its descendants.
    fn signal_all(&mut self, signal: i32) {
        for pid in self.tree.signal(self.child, signal) {
            if self.denied.insert(pid) {
                stream::message(&format!("pid {pid}, which the command started, cannot be ended: permission denied"));
            }
        }
    }

    /// Returns whether the command's descendants have ended too, or cannot be ended. Kills those that were forked during the
    /// last kill.
    fn all_have_ended(&mut self) -> bool {
        let left: Vec<i32> =
            self.tree.descendants(self.child).into_iter().filter(|pid| !self.denied.contains(pid)).collect();
        if left.is_empty() {
            return true;
        }
        if self.killed {
            self.signal_all(sys::SIGKILL);
        }
        let give_up = self.give_up_at.is_some_and(|at| Instant::now() >= at);
        if give_up {
            let left: Vec<i64> = left.into_iter().map(Into::into).collect();
            stream::message(&format!("{}, which the command started, cannot be ended", describe::pids(&left)));
        }
        give_up
    }
}

fn report_loss(error: &tenure::Error, then: &str) {
    let what = describe::without_hint(error);
    stream::message(&format!(
        "{what}: since then the command is not protected, and another process may have changed the same data{then}"
    ));
}
