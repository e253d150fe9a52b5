//! `tenure run`: runs a command while its targets are locked.

mod supervisor;

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use self::supervisor::{Ended, Limits, OnOverrun};
use crate::locking::{self, Held, Readers, Refresh, Stop};
use crate::options::{LockOptions, duration};
use crate::output::{Failure, describe, exit};
use crate::sys::{self, ProcessTree, Signals};

/// Run a command while holding a lock
///
/// The lock is released when the command ends, even if the command leaves daemons. If `tenure` is killed, the lock stays
/// held while the command works. The record names both processes. The environment of the command describes the first
/// target's lock: TENURE_TARGET; for a lock on a file TENURE_LOCK_FILE; for an exclusive lock with a record TENURE_FENCE;
/// with --slots TENURE_SLOT. By TENURE_HELD a command that is itself a `tenure run` finds a deadlock through this lock.
#[derive(clap::Args)]
#[cfg_attr(test, derive(Debug, PartialEq))]
#[command(override_usage = "tenure run [OPTIONS] TARGET... -- COMMAND [ARG...]
       tenure run [OPTIONS] TARGET... -c SCRIPT")]
#[command(after_long_help = "\
Examples:
  wait for the lock, then run a command:
    tenure run sessions/main.jsonl -- ./append.sh
  wait for 10 seconds at most:
    tenure run --timeout 10s sessions/main.jsonl -- ./append.sh
  do not wait, and run several commands by a shell:
    tenure run -n backup -c 'tar cf backup.tar data && mv backup.tar /mnt'
  a job for cron, which succeeds without running where the lock is busy:
    tenure run -n -E 0 tick -- ./cron-job.sh
  lock two files, both or neither:
    tenure run --label 'run 8f2c' a.jsonl b.jsonl -- ./merge.sh
  exclude programs that use flock(1) too:
    tenure run --flock /run/lock/backup -- ./backup.sh
  read beside other readers:
    tenure run --shared --flock data -- ./read.sh
  end the command after five minutes:
    tenure run --max-hold 5m --on-overrun term queue -- ./worker.sh
  rebuild after each change, where one queued run covers all changes since it was queued:
    tenure run --if-busy queue-one build -- make
  run four at once, each on a device of its own:
    tenure run --slots 4 gpu -- sh -c 'CUDA_VISIBLE_DEVICES=$TENURE_SLOT ./train'
  run the newest version only, as a CI service does that cancels the run in progress:
    tenure run --if-busy replace --grace 30s deploy -- ./deploy.sh
  run at most every ten minutes, however often this is called; a failed run does not count:
    tenure run --if-busy skip --not-more-often-than 10m sync -- ./sync.sh
  steal the lock from a holder that has held it for half an hour:
    tenure run --steal-after 30m queue -- ./worker.sh
  share a lock between users:
    tenure run --mode 666 /tmp/shared -- ./job.sh
  set the timeout of every `tenure` in a script:
    TENURE_TIMEOUT=10s ./all.sh

Exit codes:
  the exit code of the command; 128 + N if signal N ended it
  64        usage error
  69        the system lacks something that the call needs, or no server answers
  73        a lock file cannot be created, or its path is taken by a file that is no lock
  74        input or output failed
  75        busy: the lock was not free within the timeout (--busy-exit-code changes the code)
  76        lost: the lock was broken or revoked, or its file removed, while the command ran
  77        permission denied
  79        not needed: another run waits already (--if-busy queue-one), or the last successful run
            is recent (--not-more-often-than); --busy-exit-code changes this code too
  126, 127  the command cannot be run; it was not found

With --flock a missing target is created, empty. So name a file that may be empty, such as one that
serves as a lock only. An empty index breaks a new repository of git.

With --if-busy queue-one the waiter holds a lock of its own, `TARGET.next`, which `tenure status`
shows. It is released before the command starts. So a call that leaves with 79 came before the start
of a run that is queued. If that run gives up (--timeout), or is ended, none takes its place.

With --slots N each holder has a slot, which is a lock of its own: `TARGET.slot-0`, `TARGET.slot-1`
and so on, with a record and a fence. `tenure status TARGET` shows all that are held. The command
gets the slot's number in TENURE_SLOT: the lowest that is free, from 0. At most as many hold at any
time as the smallest N says that any of the holders was called with. So a call with a smaller N
waits until fewer hold, and no later call with a larger N exceeds the smaller one. A call without
--slots takes another lock: for one at a time beside slots, use `--slots 1`.

With --if-busy replace the holder's record must prove its process: pid, start time, boot and pid
namespace. Otherwise, and where this user may not signal it, the call fails and ends nothing. A
`tenure run` that is replaced ends its command and all processes that the command started within
--grace. Holders of a shared lock have no record, and are waited for.

When the lock is lost, and when --on-overrun ends the command, all processes that the command
started, at any depth, are ended too: by SIGTERM, and after 5 s, or sooner where a lease ends
sooner, by SIGKILL. Processes that another program started for the command, such as a service
manager, are not found and continue. Processes that the command leaves when it ends by itself
continue as well.

If `tenure` alone is killed by SIGKILL, other users of Tenure are excluded until the command ends.
Programs that know only the lock file find a dead holder, and take over while the command continues.
With a target on a server, the kernel kills the command, but not what the command started.

The command inherits signals as under nice(1): a signal that `tenure` inherited as ignored stays
ignored.

INT, TERM, HUP, QUIT, USR1, USR2, CONT, TSTP and WINCH are passed on to the command. While `tenure`
waits for the lock, these signals have their usual effect.")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) lock: LockOptions,

    /// Action when the command takes longer than --max-hold: report it, end the command by SIGTERM (by SIGKILL after
    /// 5 s), or kill it
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnOverrun::Report, requires = "max_hold")]
    on_overrun: OnOverrun,

    /// Skip the run if the last successful one began less than this ago. Runs with this option count that exited with 0
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive, allow_hyphen_values = true)]
    not_more_often_than: Option<Duration>,

    /// Run this script with $SHELL (default: /bin/sh) instead of a command after `--`
    #[arg(short = 'c', long = "command", value_name = "SCRIPT", conflicts_with = "command")]
    shell: Option<OsString>,

    /// Do not pass the lock on to the command: if `tenure` is killed, the lock is free while the command works
    #[arg(short = 'o', long)]
    close: bool,

    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", value_hint = clap::ValueHint::CommandName)]
    pub(crate) command: Vec<OsString>,
}

impl Args {
    /// Returns the arguments of a call without options, and with neither a target nor a command yet.
    pub(crate) fn plain() -> Args {
        let lock = LockOptions::plain();
        Args {
            lock,
            on_overrun: OnOverrun::Report,
            not_more_often_than: None,
            shell: None,
            close: false,
            command: Vec::new(),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let words = command_words(args)?;
    if !sys::RUNS_COMMANDS {
        let message = "`tenure run` has no port to this platform yet; `tenure hold` holds a lock on a server here";
        return Err(Failure::new(exit::UNAVAILABLE, message));
    }
    if !sys::ENDS_COMMANDS_WITH_US
        && args.lock.targets.iter().any(|target| matches!(tenure::server::scheme(target), Ok(Some(_))))
    {
        let message = "a command could outlive the lease of a lock on a server here, because this system does not end it with \
                       `tenure`; `tenure hold` holds such a lock";
        return Err(Failure::new(exit::UNAVAILABLE, message));
    }
    let mut signals = Signals::catch_ending().map_err(|error| Failure::io("signals", &error))?;
    let mut options = args.lock.library_options()?;
    if let Some(interval) = args.not_more_often_than {
        options = options.not_more_often_than(interval);
    }
    tenure::command::declare_that_waits_block_the_end();
    let held = match locking::acquire(&args.lock, options, Refresh::ByCaller, &signals) {
        Ok(held) => held,
        Err(Stop::Failed(failure)) => return Err(failure),
        Err(Stop::Signalled(signal)) => return Ok(locking::die_by(signal)),
    };
    match run_held(args, &words, held, &mut signals)? {
        Ended::Code(code) => Ok(code),
        Ended::Interrupted(signal) => Ok(locking::die_by(signal)),
    }
}

/// Returns the program to run, and its arguments.
fn command_words(args: &Args) -> Result<Vec<OsString>, Failure> {
    if let Some(script) = &args.shell {
        return Ok(sys::script(script));
    }
    if args.command.is_empty() {
        let hint = match args.lock.targets.as_slice() {
            [number] if number.to_str().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit())) => {
                "; for a lock over several commands, as by a descriptor, see `tenure hold --help`".to_owned()
            }
            [_, command, ..] => format!(" (is `{}` the command?)", describe::path(command)),
            _ => String::new(),
        };
        let message = format!("no command: write `tenure run TARGET -- COMMAND`{hint}");
        return Err(Failure::new(exit::USAGE, message));
    }
    Ok(args.command.clone())
}

fn run_held(args: &Args, words: &[OsString], held: Held, signals: &mut Signals) -> Result<Ended, Failure> {
    let first = &held.guards[held.first];
    let command = |words: &[OsString]| {
        let mut command = sys::command(words);
        command.env("TENURE_TARGET", first.target());
        match first.lease() {
            None => command.env("TENURE_LOCK_FILE", first.lock_file()),
            Some(_) => command.env_remove("TENURE_LOCK_FILE"),
        };
        match first.fence() {
            // Removed, because it would be the fence of an outer tenure.
            None => command.env_remove("TENURE_FENCE"),
            Some(fence) => command.env("TENURE_FENCE", fence.to_string()),
        };
        match first.slot() {
            None => command.env_remove("TENURE_SLOT"),
            Some(slot) => command.env("TENURE_SLOT", slot.to_string()),
        };
        command.env(tenure::command::HELD, tenure::command::held_for_command(&held.guards));
        // A lease ends with this process, and the command must not outlive the lease.
        if held.guards.iter().any(|guard| guard.lease().is_some()) {
            sys::kill_with_us(&mut command);
        }
        command
    };
    let readers = Readers::watch(&held.guards);
    // This process starts no other child while the descriptors are inheritable.
    let keeps = sys::CHILDREN_KEEP_LOCKS && !args.close;
    let files = held.guards.iter().filter(|guard| guard.lease().is_none() && keeps);
    let kept = files.map(tenure::command::keep_for_children).collect::<tenure::Result<Vec<_>>>()?;
    signals.catch_for_the_command().map_err(|error| Failure::io("signals", &error))?;
    // The command is recorded before it runs. It may call `tenure` on the same target at once, which detects the nested
    // call by the record. Until the command has a pid, the record has the pid of this process, from which it descends.
    let line = command_line(words);
    for guard in &held.guards {
        // The supervisor notices a loss.
        let _ = guard.set_command(std::process::id(), Some(&line));
    }
    let tree = ProcessTree::adopt_orphans();
    let child = match sys::spawn(command(words), signals) {
        // A script without `#!` is run by the shell, as a shell itself does.
        Err(error) if sys::is_not_executable_format(&error) => {
            let script = sys::find_program(&words[0]).unwrap_or_else(|| words[0].clone().into());
            let words: Vec<_> =
                ["/bin/sh".into(), script.into()].into_iter().chain(words[1..].iter().cloned()).collect();
            sys::spawn(command(&words), signals)
        }
        other => other,
    };
    let child = child.map_err(|error| {
        let failure = not_started(&words[0], &error);
        held.guards.iter().for_each(|guard| guard.set_exit_code(failure.code.into()));
        failure
    })?;
    drop(kept);
    tree.reap(&child);
    for guard in &held.guards {
        // A failure does not matter: the command may have ended by now.
        let _ = guard.set_command(child.id(), None);
    }
    let limits = Limits {
        max_hold: args.lock.max_hold,
        on_overrun: args.on_overrun,
        records_success: args.not_more_often_than.is_some(),
        quiet: args.lock.quiet,
        verbose: args.lock.verbose,
    };
    supervisor::supervise(&limits, held, child, &tree, signals, &readers)
}

/// Returns the failure for a command that did not start.
fn not_started(name: &OsStr, error: &std::io::Error) -> Failure {
    let is_there = sys::find_program(name).is_some();
    let is_path = Path::new(name).components().count() > 1;
    let (code, what, hint) = match error.kind() {
        // The kernel returns the same error for a script whose `#!` names a missing program.
        ErrorKind::NotFound if is_there => {
            (exit::NOT_FOUND, "its interpreter was not found", "; check its first line (#!), or its dynamic linker")
        }
        ErrorKind::NotFound if is_path => (exit::NOT_FOUND, "the command was not found", ""),
        ErrorKind::NotFound => (exit::NOT_FOUND, "the command was not found", "; no folder in PATH contains it"),
        ErrorKind::PermissionDenied if is_there => {
            (exit::CANNOT_RUN, "the command cannot be run", sys::HOW_TO_MAKE_RUNNABLE)
        }
        _ => (exit::CANNOT_RUN, "the command cannot be run", ""),
    };
    Failure::new(code, format!("{}: {what}: {error}{hint}", describe::path(name.as_ref())))
}

/// Returns the command line for the record, cut to a length that fits a line.
fn command_line(words: &[OsString]) -> String {
    const MOST: usize = 1000;
    let mut line = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if line.len() > MOST {
        let end = (0..=MOST).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_cut_between_characters() {
        assert_eq!(command_line(&["node".into(), "gateway.js".into()]), "node gateway.js");
        let long = command_line(&["é".repeat(600).into(), "x".into()]);
        assert!(long.len() <= 1003 && long.ends_with("é…"), "{}", long.len());
    }
}
