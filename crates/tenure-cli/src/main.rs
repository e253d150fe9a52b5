//! `tenure`: run a command while holding a lock, and see who holds.

mod acquire;
mod args;
mod break_lock;
mod clean;
mod completions;
mod doctor;
mod duration;
mod exit;
mod hold;
mod json;
mod ls;
mod man;
mod process;
mod readers;
mod report;
mod run;
mod status;
mod supervise;
mod sys;
mod table;
mod terminal;
mod wait;

use std::process::ExitCode;

use args::{Action, Parsed};

fn main() -> ExitCode {
    // Where CI is set, colours would be taken for welcome whatever the terminal says of itself.
    if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        anstream::ColorChoice::Never.write_global();
    }
    let action = match args::parse() {
        Parsed::Action(action) => action,
        Parsed::Done(code) => return ExitCode::from(code),
    };
    let outcome = match *action {
        Action::Run(args) => run::run(args),
        Action::Hold(args) => hold::run(args),
        Action::Status(args) => status::run(&args),
        Action::Ls(args) => ls::run(&args),
        Action::Clean(args) => clean::run(&args),
        Action::Wait(args) => wait::run(&args),
        Action::Break(args) => break_lock::run(&args),
        Action::Completions(args) => completions::run(&args, args::words()),
        Action::Man(args) => man::run(&args, args::words()),
        Action::Doctor(args) => doctor::run(&args),
        Action::DoctorWorker(args) => doctor::worker::run(&args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.message.is_empty() {
                report::say(&failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}
