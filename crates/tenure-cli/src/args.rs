//! The words of a call. Each subcommand's own stand beside its code.

use std::io::{self, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use crate::{break_lock, clean, completions, doctor, exit, hold, ls, man, run, status, wait};

/// A lock between programs: never held by two, never left behind by the dead, and it knows who holds it.
#[derive(Parser)]
#[command(name = "tenure", version, after_help = "`tenure help run` says more.", after_long_help = LONG, max_term_width = 100)]
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
    Clean(clean::Args),
    Wait(wait::Args),
    Break(break_lock::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
    /// Not a word of the command line: what `doctor` starts itself as.
    #[command(skip)]
    DoctorWorker(doctor::worker::Args),
}

/// The words of what nobody calls by hand: apart, so that no page and no completion shows them.
#[derive(Parser)]
struct Worker {
    #[command(flatten)]
    args: doctor::worker::Args,
}

/// The words of `run` alone. It is called in loops and from crontabs, and building the words of every other subcommand
/// is a large part of its start (`bench/whole-command`).
#[derive(Parser)]
struct RunAlone {
    #[command(flatten)]
    args: run::Args,
}

/// The first word of a doctor's worker.
pub(crate) const DOCTOR_WORKER: &str = "doctor-worker";

const LONG: &str = "\
Examples:
  tenure run sessions/main.jsonl -- ./append.sh    run a command while holding the lock
  tenure run -n backup -- ./backup.sh              not at all if another holds it (exit code 75)
  tenure status sessions/main.jsonl                who holds, since when, does it live, who waits
  tenure ls --recursive                            every lock below this folder
  tenure clean --dry-run                           what dead holders left here
  tenure wait sessions/main.jsonl                  until it is free, without taking it
  tenure break sessions/main.jsonl                 frees it; from a live holder only with --force
  tenure doctor /mnt/share --stress 10s            can this folder be trusted with a lock

  tenure run 'etcd://etcd-1:2379/sessions/main' -- ./append.sh
                                                   a lock beyond one machine; also postgres://..

A target may be anything that has a name; it need not exist. The lock of the folder `sessions` is
`sessions.lock`, beside it. With --flock the folder itself is locked.

Exit codes:
  0         done; `run`: the command's own
  1         `doctor`: not fit for use
  64        the call's words are off
  69        this system cannot do what is needed, or no server answers
  73        the lock's files cannot be made, or something that is no lock is in the way
  74        input or output failed
  75        busy: held by another within the time given (`--busy-exit-code` changes it)
  76        lost: the lock was broken or revoked, or its file removed, while the command ran
  77        permission denied
  126, 127  the command cannot be run; was not found
  128 + N   signal N ended the command";

/// All the words that there are.
pub(crate) fn words() -> clap::Command {
    Cli::command()
}

/// What became of the words.
pub(crate) enum Parsed {
    /// Do this.
    Action(Box<Action>),
    /// Help or an error was printed: end with this code.
    Done(u8),
}

/// Reads the words of this process's call.
pub(crate) fn parse() -> Parsed {
    // The first word stands where a parser expects the program's name.
    let words = || std::env::args_os().skip(1);
    let first = words().next();
    if first.as_ref().is_some_and(|first| first == DOCTOR_WORKER) {
        let Worker { args } = Worker::parse_from(words());
        return Parsed::Action(Box::new(Action::DoctorWorker(args)));
    }
    // Help and errors are for all the words together to give.
    if first.is_some_and(|first| first == "run")
        && let Ok(RunAlone { args }) = RunAlone::try_parse_from(words())
    {
        return Parsed::Action(Box::new(Action::Run(args)));
    }
    match Cli::try_parse() {
        Ok(Cli { action: Some(action) }) => Parsed::Action(Box::new(action)),
        Ok(Cli { action: None }) => Parsed::Done(printed(Cli::command().print_help())),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Parsed::Done(printed(error.print()))
        }
        Err(error) => {
            let mut error = tame(error);
            let note = tame_environment(&mut error).then_some("\nIt comes from the environment: TENURE_TIMEOUT.\n");
            // Every error of this command begins the same way.
            let mut text = error.render().ansi().to_string().replacen("error:", "tenure:", 1);
            text += note.unwrap_or_default();
            let _ = write!(anstream::stderr().lock(), "{text}");
            Parsed::Done(exit::USAGE)
        }
    }
}

/// The same error with what was typed (by a shell, from file names) escaped: the words are read once more that way.
fn tame(error: clap::Error) -> clap::Error {
    let escaped = std::env::args_os().map(|word| tenure::escape::text(&word.to_string_lossy()));
    Cli::try_parse_from(escaped).err().unwrap_or(error)
}

/// Is it about the environment's value, which the caller may not know of? That is escaped as well.
fn tame_environment(error: &mut clap::Error) -> bool {
    let Some(value) = std::env::var_os("TENURE_TIMEOUT") else { return false };
    let value = value.to_string_lossy();
    let of = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let is = error.kind() == ErrorKind::ValueValidation
        && of(ContextKind::InvalidArg).starts_with("--timeout")
        && of(ContextKind::InvalidValue) == value;
    if is {
        error.insert(ContextKind::InvalidValue, ContextValue::String(tenure::escape::text(&value)));
    }
    is
}

/// A pipe that closes (`| head -1`) is no error.
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
    fn the_words_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_stands_after_the_dashes_is_the_commands() {
        let words = ["tenure", "run", "-n", "a", "b", "--", "make", "-n", "--", "x"];
        let Ok(Cli { action: Some(Action::Run(args)) }) = Cli::try_parse_from(words) else { panic!() };
        assert_eq!(args.lock.targets, ["a", "b"].map(std::path::PathBuf::from));
        assert_eq!(args.command, ["make", "-n", "--", "x"]);
        assert!(args.lock.no_wait);
    }
}
