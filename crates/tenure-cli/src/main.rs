//! `tenure`: runs a command while holding a lock, and shows the holder of a lock.

// The C library calls `start` below, in place of Rust's own start of a program, which costs more (`sys::start`). A
// harness of tests has a start of its own.
#![cfg_attr(all(target_os = "linux", target_env = "gnu", not(test)), no_main)]

mod args;
mod commands;
mod locking;
mod options;
mod output;
mod sys;
mod watching;

use std::time::Duration;

use args::{Action, Parsed};
use commands::{
    break_lock, clean, completions, doctor, events, history, hold, ls, man, metrics, run, status, top, wait,
};
use output::stream;

/// The maximum time for the server to take back a lease that holds nothing any more.
const END_LEASE: Duration = Duration::from_millis(500);

#[cfg(any(test, not(all(target_os = "linux", target_env = "gnu"))))]
fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(run())
}

/// Starts the program.
#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
// SAFETY: the C library calls the function of this name, with the number of words, which a C `int` holds, and their
// array. The program has no other function of this name, because it has no start by Rust.
#[allow(unsafe_code, reason = "the name by which the C library calls it")]
#[unsafe(export_name = "main")]
extern "C" fn start(_words: std::ffi::c_int, _array: *const *const std::ffi::c_char) -> std::ffi::c_int {
    sys::start(run)
}

/// Runs the command line of this process. Returns the exit code.
fn run() -> u8 {
    // `anstream` assumes colours where CI is set, even for this terminal.
    if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        anstream::ColorChoice::Never.write_global();
    }
    let action = match args::parse() {
        Parsed::Action(action) => action,
        Parsed::Done(code) => return code,
    };
    let outcome = match &*action {
        Action::Run(args) => run::run(args),
        Action::Hold(args) => hold::run(args),
        Action::Status(args) => status::run(args),
        Action::Ls(args) => ls::run(args),
        Action::History(args) => history::run(args),
        Action::Clean(args) => clean::run(args),
        Action::Wait(args) => wait::run(args),
        Action::Events(args) => events::run(args),
        Action::Top(args) => top::run(args),
        Action::Metrics(args) => metrics::run(args),
        Action::Break(args) => break_lock::run(args),
        Action::Completions(args) => completions::run(args, args::command()),
        Action::Man(args) => man::run(args, args::command()),
        Action::Doctor(args) => doctor::run(args),
        Action::DoctorWorker(args) => doctor::run_worker(args),
    };
    tenure::server::give_up_waits(END_LEASE);
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            if !failure.message.is_empty() {
                stream::message(&failure.message);
            }
            failure.code
        }
    }
}
