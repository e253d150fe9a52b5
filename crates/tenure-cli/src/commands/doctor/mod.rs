//! `tenure doctor`: tests what a folder or a server can do for a lock, and proves it by a stress run.

mod checks;
mod command;
mod json;
mod meanings;
mod page;
mod random;
mod report;
mod scratch;
mod second_process;
mod server;
mod stress;
mod tally;
mod worker;

pub(crate) use command::{Args, run};
pub(crate) use worker::{Args as WorkerArgs, SUBCOMMAND as WORKER, run as run_worker};
