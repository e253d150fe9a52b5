//! The options of `run` and `hold` that say what is locked, and how.
//!
//! An option that the library has too is added here: a field with its help, and a line in
//! [`LockOptions::library_options`]. Help, completions and manual pages follow from the field.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Arg, ValueEnum, ValueHint};
use tenure::{IfBusy, Lock, Options, StalePolicy, Style, Wait, server};

use super::TimeoutOption;
use super::duration;
use crate::output::{Failure, exit};

/// The action when the lock is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BusyAction {
    Wait,
    Skip,
    QueueOne,
    Replace,
}

impl From<BusyAction> for IfBusy {
    fn from(action: BusyAction) -> IfBusy {
        match action {
            BusyAction::Wait => IfBusy::Wait,
            BusyAction::Skip => IfBusy::Skip,
            BusyAction::QueueOne => IfBusy::QueueOne,
            BusyAction::Replace => IfBusy::Replace,
        }
    }
}

#[derive(clap::Args)]
#[cfg_attr(test, derive(Debug, PartialEq))]
#[command(mut_arg("timeout", add_names_of_flock))]
pub(crate) struct LockOptions {
    /// Paths to lock. Several are acquired all or none, in a fixed order
    #[arg(required = true, value_name = "TARGET", value_hint = ValueHint::AnyPath)]
    pub(crate) targets: Vec<PathBuf>,

    #[command(flatten)]
    timeout: TimeoutOption,

    /// Do not wait at all
    #[arg(short, long, visible_aliases = ["nonblock", "nb"])]
    pub(crate) no_wait: bool,

    /// Action when the lock is busy. wait: wait. skip: do not wait. queue-one: wait, but leave if another `tenure` with this
    /// option waits already. replace: end the holder by SIGTERM, and after --grace by SIGKILL, then run
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = BusyAction::Wait)]
    pub(crate) if_busy: BusyAction,

    /// The time that `--if-busy replace` leaves the holder to end. Default: 5s
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    grace: Option<Duration>,

    /// Let up to N hold the lock at once, each with a slot of its own. At most as many hold as the smallest N of all holders
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) slots: Option<u32>,

    /// Share the lock with other processes that share it; for a file it needs --flock
    #[arg(short, long, overrides_with = "exclusive")]
    pub(crate) shared: bool,

    /// Hold the lock alone; this is the default
    #[arg(short = 'x', visible_short_alias = 'e', long, overrides_with = "shared")]
    exclusive: bool,

    /// Lock the target itself with flock(2) instead of creating a lock file, to exclude programs that use flock(2)
    #[arg(long)]
    pub(crate) flock: bool,

    /// Keep no record, for a read-only folder: other processes see at most the holder's pid and command. Implies --flock
    #[arg(long)]
    no_record: bool,

    /// A text that describes this holder in `tenure status` and in other processes' errors
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,

    /// The longest time for which the lock should be held; the record shows it
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive, allow_hyphen_values = true)]
    pub(crate) max_hold: Option<Duration>,

    /// Steal the lock from a live holder that has held it for this long, or for longer than its --max-hold
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive, allow_hyphen_values = true)]
    steal_after: Option<Duration>,

    /// Keep the last N tenures of this lock, and as many failed waits, for `tenure history`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000), conflicts_with = "no_record")]
    pub(crate) history: Option<u16>,

    /// The exit code when the lock is busy, or the run is not needed. Default: 75, or 79
    #[arg(short = 'E', long, visible_alias = "conflict-exit-code", value_name = "N")]
    pub(crate) busy_exit_code: Option<u8>,

    /// The permission bits of the lock's files, in octal: 666 shares a lock between users in /tmp
    #[arg(long, value_name = "OCTAL", value_parser = parse_mode)]
    mode: Option<u32>,

    /// Print errors only, and none when the lock is busy: the exit code reports that
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Report when the lock is acquired and released
    #[arg(short, long)]
    pub(crate) verbose: bool,

    #[arg(short = 'F', long, hide = true)]
    no_fork: bool,

    #[arg(short, long, hide = true)]
    unlock: bool,

    #[arg(long, hide = true)]
    fcntl: bool,
}

/// Adds the names that flock(1) has for the timeout.
fn add_names_of_flock(timeout: Arg) -> Arg {
    timeout.short('w').visible_alias("wait")
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o777 => Ok(mode),
        _ => Err("write three octal digits, such as 644 or 666".to_owned()),
    }
}

impl LockOptions {
    /// Returns the options of a call that has none, and no target yet.
    pub(crate) fn plain() -> LockOptions {
        LockOptions {
            targets: Vec::new(),
            timeout: TimeoutOption { timeout: None },
            no_wait: false,
            if_busy: BusyAction::Wait,
            grace: None,
            slots: None,
            shared: false,
            exclusive: false,
            flock: false,
            no_record: false,
            label: None,
            max_hold: None,
            steal_after: None,
            history: None,
            busy_exit_code: None,
            mode: None,
            quiet: false,
            verbose: false,
            no_fork: false,
            unlock: false,
            fcntl: false,
        }
    }

    /// Returns the library's options for this call.
    pub(crate) fn library_options(&self) -> Result<Options, Failure> {
        self.refuse_options_of_flock()?;
        let flock = self.flock || self.no_record;
        let is_file = |target: &PathBuf| matches!(server::scheme(target), Ok(None));
        if self.shared && !flock && self.targets.iter().any(is_file) {
            let message = "--shared needs --flock: a lock file has one holder, a flock(2) may be shared";
            return Err(Failure::new(exit::USAGE, message));
        }
        let mut options = Lock::options();
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
        if self.if_busy != BusyAction::Wait {
            options = options.if_busy(self.if_busy.into());
        }
        if let Some(slots) = self.slots {
            options = options.slots(slots);
        }
        if let Some(grace) = self.grace {
            if self.if_busy != BusyAction::Replace {
                return Err(Failure::new(exit::USAGE, "--grace needs --if-busy replace"));
            }
            options = options.grace(grace);
        }
        if let Some(mode) = self.mode {
            options = options.mode(mode);
        }
        if let Some(tenures) = self.history {
            options = options.history(tenures.into());
        }
        Ok(options)
    }

    /// Returns how long to wait. The timeout starts now, and covers all targets together.
    pub(crate) fn wait(&self) -> Wait {
        match self.timeout.timeout {
            _ if self.no_wait || self.if_busy == BusyAction::Skip => Wait::Never,
            Some(Duration::ZERO) => Wait::Never,
            Some(timeout) => Instant::now().checked_add(timeout).map_or(Wait::Forever, Wait::Until),
            None => Wait::Forever,
        }
    }

    /// Refuses the options of flock(1) that have no counterpart, and names what to use instead.
    fn refuse_options_of_flock(&self) -> Result<(), Failure> {
        let refused = [
            (
                self.no_fork,
                "-F (--no-fork): `tenure` always stays, to watch the lock and to remove the lock file; omit the option",
            ),
            (
                self.unlock,
                "-u (--unlock): a lock ends with its holder: `tenure run` with the command, `tenure hold` with its input",
            ),
            (
                self.fcntl,
                "--fcntl: a lock of another kind, which neither flock(2) nor Tenure takes into account; omit the option",
            ),
        ];
        match refused.into_iter().find(|(given, _)| *given) {
            Some((_, message)) => Err(Failure::new(exit::USAGE, message)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("666"), Ok(0o666));
        assert_eq!(parse_mode("0644"), Ok(0o644));
        for wrong in ["", "888", "+66", "1000", "rw-", "0o666", "-1"] {
            assert!(parse_mode(wrong).is_err(), "{wrong}");
        }
    }
}
