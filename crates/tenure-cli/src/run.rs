//! `tenure run`: a command that runs while its targets are locked.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

use crate::acquire::{self, Held, LockArgs, Stop};
use crate::exit::{self, Failure};
use crate::readers::Readers;
use crate::report;
use crate::supervise::{self, Ended};
use crate::sys::{self, Signals, Tree};

/// Run a command while holding a lock
///
/// The lock is held until the command ends, and no longer: daemons that it leaves do not keep it. Killing `tenure`
/// does not free it while the command still works. The record names both processes. The command finds TENURE_TARGET,
/// TENURE_LOCK_FILE and TENURE_FENCE (of the first target) in its environment.
#[derive(clap::Args)]
#[command(override_usage = "tenure run [OPTIONS] TARGET... -- COMMAND [ARG...]
       tenure run [OPTIONS] TARGET... -c 'SHELL WORDS'")]
#[command(after_long_help = "\
Examples:
  tenure run sessions/main.jsonl -- ./append.sh
  tenure run --timeout 10s sessions/main.jsonl -- ./append.sh
  tenure run -n backup -c 'tar cf backup.tar data && mv backup.tar /mnt'
  tenure run --label 'run 8f2c' a.jsonl b.jsonl -- ./merge.sh      both, or neither
  tenure run --flock /run/lock/backup -- ./backup.sh                excludes flock(1) too
  tenure run --shared --flock data -- ./read.sh                     beside other readers
  tenure run --max-hold 5m --on-overrun term queue -- ./worker.sh   five minutes at most
  tenure run --steal-after 30m queue -- ./worker.sh                 robs a holder that is older
  tenure run -E 0 -n tick -- ./cron-job.sh                          busy is no failure
  tenure run --mode 666 /tmp/shared -- ./job.sh                     with other users
  tenure run --quiet queue -- ./worker.sh                           no word of waiting
  tenure run --verbose queue -- ./worker.sh                         when it is had and let go
  TENURE_TIMEOUT=10s ./all.sh                                       for each `tenure` in a script

Exit codes:
  the command's own; 128 + N where signal N ended it
  64        the call's words are off
  69        this system cannot do what is needed, or no server answers
  73        the lock's files cannot be made, or something that is no lock is in the way
  74        input or output failed
  75        busy: held by another within the time given (--busy-exit-code changes it)
  76        lost: the lock was broken or revoked, or its file removed, while the command ran
  77        permission denied
  126, 127  the command cannot be run; was not found

With --flock a target that is missing is made, empty: name a file that may be empty, such as one that
serves as a lock only. An empty index breaks a fresh repository of git.

When the lock is lost, and when --on-overrun ends the command, all that the command started is ended
with it, at any depth: by SIGTERM, and by SIGKILL after 5 s, or sooner where a lease ends sooner.
What it cannot find, such as what a service manager started, goes on. What the command leaves when it
ends by itself goes on as well.

kill -9 of `tenure` alone: other users of Tenure are kept out until the command ends. Programs that
know only the lock file find a dead holder, and take over while the command works on. On a server's
target the kernel kills the command, but not what the command started.

The command inherits the signals as this process got them: what is ignored stays so, as under nice(1).

Signals: INT, TERM, HUP, QUIT, USR1, USR2, CONT, TSTP and WINCH are passed on to the command. While
the lock is still waited for, they do what they do to any program.")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) lock: LockArgs,

    /// What happens when the command takes longer than --max-hold: say so, end it with SIGTERM (and SIGKILL after 5 s),
    /// or kill it
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnOverrun::Report, requires = "max_hold")]
    on_overrun: OnOverrun,

    /// Run these words by $SHELL (without one: /bin/sh), in place of a command after `--`
    #[arg(short = 'c', long = "command", value_name = "SHELL WORDS", conflicts_with = "command")]
    shell: Option<OsString>,

    /// Keep the lock from the command: killing `tenure` then frees it while the command still works
    #[arg(short = 'o', long)]
    close: bool,

    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", value_hint = clap::ValueHint::CommandName)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOverrun {
    Report,
    Term,
    Kill,
}

pub(crate) fn run(mut args: Args) -> Result<u8, Failure> {
    let words = words(&args)?;
    args.lock.refreshed_by_caller = true;
    let mut signals = Signals::catch_ending().map_err(|error| Failure::io("signals", &error))?;
    let held = match acquire::acquire(&args.lock, &signals) {
        Ok(held) => held,
        Err(Stop::Failed(failure)) => return Err(failure),
        Err(Stop::Signalled(signal)) => return Ok(die_by(signal)),
    };
    match run_held(&args, &words, held, &mut signals)? {
        Ended::Code(code) => Ok(code),
        Ended::Interrupted(signal) => Ok(die_by(signal)),
    }
}

/// The command's words.
fn words(args: &Args) -> Result<Vec<OsString>, Failure> {
    if let Some(words) = &args.shell {
        let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
        return Ok(vec![shell.unwrap_or_else(|| "/bin/sh".into()), "-c".into(), words.clone()]);
    }
    if args.command.is_empty() {
        let hint = match args.lock.targets.as_slice() {
            [number] if number.to_str().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit())) => {
                "; for a lock over several commands, as by a descriptor, see `tenure hold --help`".to_owned()
            }
            [_, command, ..] => format!(" (is `{}` the command?)", report::path(command)),
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
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.env("TENURE_TARGET", first.target());
        match first.lease() {
            None => command.env("TENURE_LOCK_FILE", first.lock_file()),
            Some(_) => command.env_remove("TENURE_LOCK_FILE"),
        };
        match first.fence() {
            // Not that of a tenure around this one.
            None => command.env_remove("TENURE_FENCE"),
            Some(fence) => command.env("TENURE_FENCE", fence.to_string()),
        };
        // Its lease ends with this process, and the command must not outlive it.
        if held.guards.iter().any(|guard| guard.lease().is_some()) {
            sys::kill_with_us(&mut command);
        }
        command
    };
    let readers = Readers::watch(&held.guards);
    // This process starts nothing else meanwhile.
    let files = held.guards.iter().filter(|guard| guard.lease().is_none() && !args.close);
    let kept = files.map(tenure::command::keep_for_children).collect::<tenure::Result<Vec<_>>>()?;
    signals.catch_for_the_command().map_err(|error| Failure::io("signals", &error))?;
    // From before the command runs: it may call `tenure` on the same target at once, which is told by this. Until the command
    // has a pid, that of this process stands for it, from which it descends.
    let line = command_line(words);
    for guard in &held.guards {
        // A loss is the supervisor's to notice.
        let _ = guard.set_command(std::process::id(), Some(&line));
    }
    let tree = Tree::plant();
    let child = match sys::spawn(command(words), signals) {
        // A script that does not say by what it is run is run by the shell, as a shell itself would.
        Err(error) if sys::is_no_program(&error) => {
            let script = sys::find_program(&words[0]).unwrap_or_else(|| words[0].clone().into());
            let words: Vec<_> =
                ["/bin/sh".into(), script.into()].into_iter().chain(words[1..].iter().cloned()).collect();
            sys::spawn(command(&words), signals)
        }
        other => other,
    };
    let child = child.map_err(|error| not_started(&words[0], &error))?;
    drop(kept);
    for guard in &held.guards {
        // A command that has ended by now needs no record.
        let _ = guard.set_command(child.id(), None);
    }
    supervise::supervise(args, held, child, &tree, signals, &readers)
}

/// Why a command did not start, and what may help.
fn not_started(name: &OsStr, error: &std::io::Error) -> Failure {
    let is_there = sys::find_program(name).is_some();
    let is_path = Path::new(name).components().count() > 1;
    let (code, what, hint) = match error.kind() {
        // The kernel says the same of a script whose `#!` names what is not there.
        ErrorKind::NotFound if is_there => {
            (exit::NOT_FOUND, "what runs it was not found", "; look at its first line (#!), or at its linker")
        }
        ErrorKind::NotFound if is_path => (exit::NOT_FOUND, "the command was not found", ""),
        ErrorKind::NotFound => (exit::NOT_FOUND, "the command was not found", "; it is in no folder of PATH"),
        ErrorKind::PermissionDenied if is_there => (exit::CANNOT_RUN, "the command cannot be run", "; `chmod +x`?"),
        _ => (exit::CANNOT_RUN, "the command cannot be run", ""),
    };
    Failure::new(code, format!("{}: {what}: {error}{hint}", report::path(name.as_ref())))
}

impl Args {
    pub(crate) fn on_overrun(&self) -> OnOverrun {
        self.on_overrun
    }
}

/// The words as others see them, cut to what fits a line.
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

/// Ends this process by `signal`, and leaves no lock file of an acquire that was under way in another thread.
pub(crate) fn die_by(signal: i32) -> u8 {
    sys::die_by(signal, || {
        let _ = tenure::cleanup::install(tenure::cleanup::Handlers::Keep);
    });
    exit::of_signal(signal)
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
