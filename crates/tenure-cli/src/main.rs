//! `tenure`: runs a command while holding a lock, and shows the holder of a lock.

mod args;
mod commands;
mod locking;
mod options;
mod output;
mod sys;

use std::process::ExitCode;

use args::{Action, Parsed};
use commands::{break_lock, clean, completions, doctor, hold, ls, man, run, status, wait};
use output::stream;

fn main() -> ExitCode {
    // `anstream` assumes colours where CI is set, even for this terminal.
    if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        anstream::ColorChoice::Never.write_global();
    }
    let action = match args::parse() {
        Parsed::Action(action) => action,
        Parsed::Done(code) => return ExitCode::from(code),
    };
    let outcome = match &*action {
        Action::Run(args) => run::run(args),
        Action::Hold(args) => hold::run(args),
        Action::Status(args) => status::run(args),
        Action::Ls(args) => ls::run(args),
        Action::Clean(args) => clean::run(args),
        Action::Wait(args) => wait::run(args),
        Action::Break(args) => break_lock::run(args),
        Action::Completions(args) => completions::run(args, args::command()),
        Action::Man(args) => man::run(args, args::command()),
        Action::Doctor(args) => doctor::run(args),
        Action::DoctorWorker(args) => doctor::run_worker(args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.message.is_empty() {
                stream::message(&failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}
