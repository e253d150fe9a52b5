//! How a lock is opened and waited for.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::error::Error;
use crate::model::holder::Holder;
use crate::record::Text;

/// How long an acquire may wait. The time in this process's own queue counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: busy is an error at once.
    Never,
    /// That long, on the monotonic clock.
    For(Duration),
    /// Until then.
    Until(Instant),
    /// As long as it takes, as `flock(1)` does.
    Forever,
}

impl Wait {
    /// The moment it ends; `None` for one beyond the clock's reach, which is as good as for ever.
    pub(crate) fn deadline(self, now: Instant) -> Option<Instant> {
        match self {
            Wait::Never => Some(now),
            Wait::For(duration) => now.checked_add(duration),
            Wait::Until(instant) => Some(instant),
            Wait::Forever => None,
        }
    }
}

/// What others see of the lock, and whom it excludes besides natives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A visible `<target>.lock` while held: programs that know only lock files are excluded and exclude us.
    #[default]
    LockFile,
    /// The target itself is locked with `flock(2)`: `flock(1)`, cargo, Python's filelock and the like are excluded
    /// and exclude us. The target is made if it is missing and its bytes are never touched; a folder may be one.
    Flock,
}

/// What may be done to a holder that lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StalePolicy {
    /// Nothing: age alone never robs a live holder.
    #[default]
    Proof,
    /// It may be robbed once it has held for that long, or for longer than it said (`maxHoldMs`): the seed's
    /// behaviour. What protects the data then is a resource that checks the fence.
    StealAfter(Duration),
}

impl StalePolicy {
    /// Is a live holder's age enough to steal its lock?
    pub(crate) fn steals(self, holder: &Holder) -> bool {
        let StalePolicy::StealAfter(limit) = self else { return false };
        let age = holder.age();
        age.is_some_and(|age| age > limit || holder.max_hold.is_some_and(|max_hold| age > max_hold))
    }
}

/// What the watchdog does when a tenure lasts longer than [`Options::max_hold`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overrun {
    /// It tells, by the callback and a tracing event. The lock stays held.
    #[default]
    Report,
    /// It releases the lock: the guard's `check()` fails from then on. The next holder hears of it as of a crash
    /// ([`Guard::previous`](crate::Guard::previous)), because the one before may still be writing.
    Revoke,
}

/// What the watchdog tells [`Options::on_event`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A tenure has lasted longer than its `max_hold`.
    Overrun {
        /// The lock's target.
        target: &'a Path,
        /// The tenure's fence: which of those that this process has had.
        fence: u64,
        /// How long it has been held.
        held_for: Duration,
        /// What was allowed.
        max_hold: Duration,
        /// Was it released ([`Overrun::Revoke`])?
        revoked: bool,
    },
    /// A tenure was found to be lost: broken by an operator, or its files removed.
    Lost {
        /// The lock's target.
        target: &'a Path,
        /// What happened.
        error: &'a Error,
    },
    /// The date that foreign programs judge by could not be refreshed.
    RefreshFailed {
        /// The lock's target.
        target: &'a Path,
        /// What happened.
        error: &'a Error,
    },
    /// A tenure began after a holder that died.
    TakenOver {
        /// The lock's target.
        target: &'a Path,
        /// Who died.
        holder: &'a Holder,
    },
}

pub(crate) type EventCallback = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// How a lock is opened: [`Lock::options`](crate::Lock::options).
#[derive(Clone)]
pub struct Options {
    pub(crate) label: Option<Text>,
    pub(crate) style: Style,
    pub(crate) reentrant: bool,
    pub(crate) deadlock_check: bool,
    pub(crate) max_hold: Option<Duration>,
    pub(crate) overrun: Overrun,
    pub(crate) stale_after: Duration,
    pub(crate) malformed_grace: Duration,
    pub(crate) stale_policy: StalePolicy,
    pub(crate) refresh_interval: Duration,
    pub(crate) create_parents: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) record: bool,
    pub(crate) on_event: Option<EventCallback>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            label: None,
            style: Style::LockFile,
            reentrant: false,
            deadlock_check: true,
            max_hold: None,
            overrun: Overrun::Report,
            stale_after: Duration::from_secs(30 * 60),
            malformed_grace: Duration::from_secs(5),
            stale_policy: StalePolicy::Proof,
            refresh_interval: Duration::from_secs(10 * 60),
            create_parents: true,
            mode: None,
            record: true,
            on_event: None,
        }
    }
}

impl Options {
    /// Do they ask for the same?
    pub(crate) fn is_like(&self, other: &Options) -> bool {
        let callbacks = match (&self.on_event, &other.on_event) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        // Every field by name: one that is added must be thought of here.
        let Options {
            label,
            style,
            reentrant,
            deadlock_check,
            max_hold,
            overrun,
            stale_after,
            malformed_grace,
            stale_policy,
            refresh_interval,
            create_parents,
            mode,
            record,
            on_event: _,
        } = other;
        callbacks
            && self.label == *label
            && self.style == *style
            && self.reentrant == *reentrant
            && self.deadlock_check == *deadlock_check
            && self.max_hold == *max_hold
            && self.overrun == *overrun
            && self.stale_after == *stale_after
            && self.malformed_grace == *malformed_grace
            && self.stale_policy == *stale_policy
            && self.refresh_interval == *refresh_interval
            && self.create_parents == *create_parents
            && self.mode == *mode
            && self.record == *record
    }

    /// What this holder calls itself; others see it in the record, in errors and in `tenure status`. At most 1 KiB of
    /// it is kept.
    pub fn label(mut self, label: impl Into<String>) -> Options {
        self.label = Some(label.into().into());
        self
    }

    /// Whom the lock excludes besides natives; [`Style::LockFile`] by default.
    pub fn style(mut self, style: Style) -> Options {
        self.style = style;
        self
    }

    /// May this process acquire the lock again while it holds it? The tenure then ends with the last guard. It is
    /// counted per process, as the seed has it: two threads do *not* exclude each other. Off by default.
    pub fn reentrant(mut self, reentrant: bool) -> Options {
        self.reentrant = reentrant;
        self
    }

    /// Should an acquire that would wait for its own end fail at once, as a deadlock? A second one by the thread that
    /// acquired first does, and one by the command that the holder runs under the lock
    /// ([`Guard::set_command`](crate::Guard::set_command)), or by what that started. On by default; turn it off where guards
    /// are handed to other threads that release them.
    pub fn deadlock_check(mut self, check: bool) -> Options {
        self.deadlock_check = check;
        self
    }

    /// How long a tenure is meant to last. What happens then is [`overrun`](Options::overrun)'s to say.
    pub fn max_hold(mut self, max_hold: Duration) -> Options {
        self.max_hold = Some(max_hold);
        self
    }

    /// What the watchdog does after `max_hold`; [`Overrun::Report`] by default.
    pub fn overrun(mut self, overrun: Overrun) -> Options {
        self.overrun = overrun;
        self
    }

    /// From which age on a record counts as `too-old` in reports; 30 minutes by default.
    pub fn stale_after(mut self, age: Duration) -> Options {
        self.stale_after = age;
        self
    }

    /// How old a lock file without a valid pid must be before it may be taken over; 5 seconds by default.
    pub fn malformed_grace(mut self, grace: Duration) -> Options {
        self.malformed_grace = grace;
        self
    }

    /// May a live holder be robbed for its age? [`StalePolicy::Proof`] (never) by default.
    pub fn stale_policy(mut self, policy: StalePolicy) -> Options {
        self.stale_policy = policy;
        self
    }

    /// How often `createdAt` is refreshed while held, so that foreign programs do not find it too old; 10 minutes by
    /// default, and never more than a third of `max_hold`. With [`Duration::MAX`] it never is, unless by
    /// [`Guard::refresh`](crate::Guard::refresh): that saves the watchdog's thread where it has nothing else to do.
    pub fn refresh_interval(mut self, interval: Duration) -> Options {
        self.refresh_interval = interval;
        self
    }

    /// Make the target's parent folders if they are missing; on by default.
    pub fn create_parents(mut self, create: bool) -> Options {
        self.create_parents = create;
        self
    }

    /// The permission bits of the lock's files, whatever the umask: `0o666` shares a lock between users in `/tmp`. So is
    /// a target made that flock style misses. By default the lock's files are made with `0o644` and the umask, the
    /// target with `0o666` and the umask, as any program makes a file.
    pub fn mode(mut self, mode: u32) -> Options {
        self.mode = Some(mode & 0o777);
        self
    }

    /// Keep a record? On by default. Without one the lock is the bare kernel lock on the target ([`Style::Flock`]
    /// follows): no fence, no word of who holds, nothing written; it works in a folder that may only be read. It
    /// excludes `flock(1)` and natives in flock style, but no native in lock-file style.
    pub fn record(mut self, record: bool) -> Options {
        self.record = record;
        self
    }

    /// Called by the watchdog's thread, and by the acquiring one on a takeover. It must not block, and a panic in it is
    /// caught.
    pub fn on_event(mut self, callback: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Options {
        self.on_event = Some(Arc::new(callback));
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("label", &self.label)
            .field("style", &self.style)
            .field("reentrant", &self.reentrant)
            .field("max_hold", &self.max_hold)
            .field("overrun", &self.overrun)
            .field("stale_policy", &self.stale_policy)
            .field("mode", &self.mode)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::process::Liveness;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_live_holder_is_stolen_from_for_its_age_or_its_own_word() {
        let second = Duration::from_secs(1);
        let hour = Duration::from_secs(3600);
        // It has held for ten seconds.
        for (policy, max_hold, stolen) in [
            (StalePolicy::Proof, Some(second), false),
            (StalePolicy::StealAfter(hour), None, false),
            (StalePolicy::StealAfter(second), None, true),
            (StalePolicy::StealAfter(hour), Some(hour), false),
            (StalePolicy::StealAfter(hour), Some(second), true),
            (StalePolicy::StealAfter(second), Some(hour), true),
        ] {
            let mut holder = Holder::from_record(None, Liveness::alive("it has the kernel lock"));
            holder.max_hold = max_hold;
            assert!(!policy.steals(&holder), "{policy:?}: nobody knows since when it holds");
            holder.acquired_at = Some(SystemTime::now() - 10 * second);
            assert_eq!(policy.steals(&holder), stolen, "{policy:?}, {max_hold:?}");
        }
    }
}
