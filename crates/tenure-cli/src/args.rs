//! Parses the command line. The options of each subcommand are defined beside its code, in `commands`.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    break_lock, clean, completions, doctor, events, history, hold, ls, man, metrics, run, status, top, wait,
};
use crate::options::TimeoutOption;
use crate::output::exit;
use crate::sys;

/// A lock between programs: never held by two at once, free as soon as its holder is dead, and it always knows its holder
#[derive(Parser)]
#[command(name = "tenure", version, long_version = env!("TENURE_LONG_VERSION"), max_term_width = 100)]
#[command(after_help = "For the details of a command: `tenure help run`.", after_long_help = LONG)]
struct Cli {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
pub(crate) enum Action {
    Run(run::Args),
    Hold(hold::Args),
    Status(status::Args),
    Ls(ls::Args),
    History(history::Args),
    Clean(clean::Args),
    Wait(wait::Args),
    Events(events::Args),
    Top(top::Args),
    Metrics(metrics::Args),
    Break(break_lock::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
    /// The hidden subcommand by which `doctor` starts itself. Help, completions and manual pages do not show it.
    #[command(skip)]
    DoctorWorker(doctor::WorkerArgs),
}

/// The command line of the hidden subcommand alone.
#[derive(Parser)]
struct Worker {
    #[command(flatten)]
    args: doctor::WorkerArgs,
}

/// The command line of `run` alone. It is called in loops and from crontabs, and defining all other subcommands takes a
/// large part of its start (`bench/whole-command`).
#[derive(Parser)]
struct RunAlone {
    #[command(flatten)]
    args: run::Args,
}

const LONG: &str = "\
Examples:
  tenure run sessions/main.jsonl -- ./append.sh    run a command while holding the lock
  tenure run -n backup -- ./backup.sh              only if the lock is free (else exit code 75)
  tenure status sessions/main.jsonl                show the holder, its state, and the waiters
  tenure ls --recursive                            list the locks in this folder and below
  tenure history backup                            show who held the lock when (run --history)
  tenure clean --dry-run                           list the stale locks in this folder
  tenure wait sessions/main.jsonl                  wait until the lock is free
  tenure top --recursive                           show the locks in this folder as a live table
  tenure events --recursive                        print what happens to the locks in this folder
  tenure break sessions/main.jsonl                 remove a dead holder's lock; see --force
  tenure doctor /mnt/share --stress 10s            test whether locks work in a folder

  tenure run 'etcd://etcd-1:2379/sessions/main' -- ./append.sh
                                                   lock across machines; also postgres://..

A target is the path of a file or folder, which need not exist. The lock file is beside it: the
target `main.jsonl` has the lock file `main.jsonl.lock`. With --flock the target itself is locked.
The folder `.tenure` beside it has the lock's anchor, a permanent file that the kernel locks and
that keeps the record. A tenure is the time for which a holder holds.

Exit codes:
  0         success; `run`: the exit code of the command
  1         `doctor`: not fit for use
  64        usage error
  69        the system lacks something that the call needs, or no server answers
  73        a lock file cannot be created, or its path is taken by a file that is no lock
  74        input or output failed
  75        busy: the lock was not free within the timeout (--busy-exit-code changes the code)
  76        lost: the lock was broken or revoked, or its file removed, while the command ran
  77        permission denied
  79        not needed: another run waits already, or the last successful one is recent
  126, 127  the command cannot be run; it was not found
  128 + N   signal N ended the command";

/// Returns the definition of the whole command line, with the help of this system.
pub(crate) fn command() -> clap::Command {
    sys::adapt_help(definition())
}

/// Returns the definition of the whole command line, with the help of Linux.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

fn try_parse(words: impl Iterator<Item = impl Into<OsString> + Clone>) -> clap::error::Result<Cli> {
    let mut matches = command().try_get_matches_from(words)?;
    Cli::from_arg_matches_mut(&mut matches)
}

/// The result of parsing.
pub(crate) enum Parsed {
    /// The subcommand to run.
    Action(Box<Action>),
    /// Help or an error was printed. The process should end with this exit code.
    Done(u8),
}

/// Parses the command line of this process.
pub(crate) fn parse() -> Parsed {
    // The parsers below take the subcommand for the name of the program.
    let words = || std::env::args_os().skip(1);
    let first = words().next();
    if first.as_ref().is_some_and(|first| first == doctor::WORKER) {
        let Worker { args } = Worker::parse_from(words());
        return Parsed::Action(Box::new(Action::DoctorWorker(args)));
    }
    if let Some(args) = parse_plain_run(words()) {
        return Parsed::Action(Box::new(Action::Run(args)));
    }
    // Help and errors come from the whole definition below.
    if first.is_some_and(|first| first == "run")
        && let Ok(RunAlone { args }) = RunAlone::try_parse_from(words())
    {
        return Parsed::Action(Box::new(Action::Run(args)));
    }
    match try_parse(std::env::args_os()) {
        Ok(Cli { action: Some(action) }) => Parsed::Action(Box::new(action)),
        Ok(Cli { action: None }) => Parsed::Done(printed(command().print_help())),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Parsed::Done(printed(error.print()))
        }
        Err(error) => {
            let mut error = escape_words(error);
            let note = escape_environment(&mut error)
                .then_some("\nThe value is from the environment variable TENURE_TIMEOUT.\n");
            // Every error message of this command begins with its name.
            let mut text = error.render().ansi().to_string().replacen("error:", "tenure:", 1);
            text += note.unwrap_or_default();
            let _ = write!(anstream::stderr().lock(), "{text}");
            Parsed::Done(exit::USAGE)
        }
    }
}

/// Parses a call of `run` that has none but the commonest options, none of which takes a value. The definition below would
/// give the same, but even the options of `run` alone take a tenth of the whole call (`bench/whole-command`). Returns
/// `None` for every other call, also for a wrong one.
fn parse_plain_run(mut words: impl Iterator<Item = OsString>) -> Option<run::Args> {
    if words.next()? != "run" || std::env::var_os(TimeoutOption::VARIABLE).is_some() {
        return None;
    }
    let mut args = run::Args::plain();
    loop {
        let word = words.next()?;
        let flag = match word.as_encoded_bytes() {
            b"--" => break,
            b"-n" | b"--no-wait" => &mut args.lock.no_wait,
            b"-q" | b"--quiet" => &mut args.lock.quiet,
            b"--flock" => &mut args.lock.flock,
            [] | [b'-', ..] => return None,
            _ => {
                args.lock.targets.push(word.into());
                continue;
            }
        };
        if std::mem::replace(flag, true) {
            return None;
        }
    }
    args.command.extend(words);
    (!args.lock.targets.is_empty() && !args.command.is_empty()).then_some(args)
}

/// Returns the same error with the words of the call escaped, because a shell may have taken them from file names. The
/// escaped words are parsed once more.
fn escape_words(error: clap::Error) -> clap::Error {
    let escaped = std::env::args_os().map(|word| tenure::escape::text(&word.to_string_lossy()));
    try_parse(escaped).err().unwrap_or(error)
}

/// Escapes the value of the environment in an error about it. Returns whether the error is about that value.
fn escape_environment(error: &mut clap::Error) -> bool {
    let Some(value) = std::env::var_os(TimeoutOption::VARIABLE) else { return false };
    let value = value.to_string_lossy();
    let of = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let is_about_it = error.kind() == ErrorKind::ValueValidation
        && of(ContextKind::InvalidArg).starts_with("--timeout")
        && of(ContextKind::InvalidValue) == value;
    if is_about_it {
        error.insert(ContextKind::InvalidValue, ContextValue::String(tenure::escape::text(&value)));
    }
    is_about_it
}

/// Returns the exit code for printed help. A pipe that closed (`| head -1`) is no error.
fn printed(result: io::Result<()>) -> u8 {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => exit::IO,
        _ => exit::OK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_defined() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_plain_run_is_parsed_as_by_the_definition() {
        let plain = |words: &[&str]| parse_plain_run(words.iter().map(OsString::from));
        let by_definition = |words: &[&str]| RunAlone::try_parse_from(words).ok().map(|run| run.args);
        let parsed = [
            "run a -- true",
            "run a b c -- make -n -- x",
            "run -n a -- true",
            "run a --no-wait -- true",
            "run --flock -q a -- sh -c true",
            "run --quiet a -n b --flock -- -x",
            "run ab/é -- é",
        ];
        for call in parsed {
            let words: Vec<_> = call.split(' ').collect();
            assert!(plain(&words).is_some(), "{call}");
            assert_eq!(plain(&words), by_definition(&words), "{call}");
        }
        let left = [
            "",
            "hold a -- true",
            "run",
            "run a",
            "run -- true",
            "run a --",
            "run -n -n a -- true",
            "run -n --no-wait a -- true",
            "run -nq a -- true",
            "run -c true a",
            "run --timeout 1 a -- true",
            "run - -- true",
            "run  -- true",
            "run --help",
            "run -v a -- true",
        ];
        for call in left {
            assert_eq!(plain(&call.split(' ').collect::<Vec<_>>()), None, "{call}");
        }
    }

    #[test]
    fn words_after_the_dashes_belong_to_the_command() {
        let words = ["tenure", "run", "-n", "a", "b", "--", "make", "-n", "--", "x"];
        let Ok(Cli { action: Some(Action::Run(args)) }) = Cli::try_parse_from(words) else { panic!() };
        assert_eq!(args.lock.targets, ["a", "b"].map(std::path::PathBuf::from));
        assert_eq!(args.command, ["make", "-n", "--", "x"]);
        assert_eq!(args.lock.wait(), tenure::Wait::Never);
    }
}
