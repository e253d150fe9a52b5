//! Explores the protocol in one configuration, or in all of the table. Prints a row of a Markdown table for each, and the steps
//! that lead to a violation. Exits with 1 after a violation.

use std::process::ExitCode;

use clap::Parser;
use tenure_model::config::{Clock, Config, Guard, System, Way};
use tenure_model::explore::explore;
use tenure_model::table;

/// Explores Tenure's protocol in a model checker, with these numbers of processes and faults.
#[derive(Debug, Parser)]
struct Arguments {
    /// Explore every configuration of the table, instead of one.
    #[arg(long)]
    all: bool,
    /// Natives that wait for the lock.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=6))]
    natives: u8,
    /// Natives in flock style beside them.
    #[arg(long, default_value_t = 0)]
    flock: u8,
    /// Start after the first native has died in a takeover, with the first foreign program's live file at the swap.
    #[arg(long, requires = "foreign")]
    cut_off: bool,
    /// Number of acquires of each native.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// A tenure may be passed on within its process.
    #[arg(long)]
    pass: bool,
    /// Runs of `clean` that acquire free and dead locks.
    #[arg(long, default_value_t = 0)]
    cleaners: u8,
    /// Foreign programs.
    #[arg(long, default_value_t = 0)]
    foreign: u8,
    /// Number of processes that may die.
    #[arg(long, default_value_t = 0)]
    crashes: u8,
    /// Runs of `clean` that prune the anchor.
    #[arg(long, default_value_t = 0)]
    pruners: u8,
    /// Number of times that a person removes the lock file.
    #[arg(long, default_value_t = 0)]
    user_rm: u8,
    /// Runs of `break --force`.
    #[arg(long, default_value_t = 0)]
    breaks: u8,
    /// Number of times that the watchdog revokes.
    #[arg(long, default_value_t = 0)]
    revokes: u8,
    /// Number of times that `.tenure` is removed.
    #[arg(long, default_value_t = 0)]
    wipes: u8,
    /// Number of times that a native suspends its tenure.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=2))]
    suspends: u8,
    /// Number of times that a waiter has given way to a resumed tenure for its whole time.
    #[arg(long, default_value_t = 0, requires = "suspends")]
    overtakes: u8,
    /// Each native belongs to another user, whose anchor the others may only read.
    #[arg(long, conflicts_with = "no_exchange")]
    users: bool,
    /// Lock files are copies.
    #[arg(long)]
    copies: bool,
    /// Lock files are copies, and two names cannot be exchanged.
    #[arg(long)]
    no_exchange: bool,
    /// The system whose means are used.
    #[arg(long, default_value = "linux")]
    system: System,
    /// The clock advances, instead of having been set back.
    #[arg(long)]
    clock_advances: bool,
    /// A guard to leave out.
    #[arg(long)]
    without: Vec<Guard>,
}

impl Arguments {
    fn config(&self) -> Config {
        Config {
            natives: self.natives.into(),
            flock: self.flock.into(),
            cut_off: self.cut_off,
            rounds: self.rounds,
            pass: self.pass,
            cleaners: self.cleaners.into(),
            foreign: self.foreign.into(),
            crashes: self.crashes,
            pruners: self.pruners,
            user_rm: self.user_rm,
            breaks: self.breaks,
            revokes: self.revokes,
            wipes: self.wipes,
            suspends: self.suspends,
            overtakes: self.overtakes,
            users: self.users,
            way: match (self.no_exchange, self.copies) {
                (true, _) => Way::CopyInPlace,
                (_, true) => Way::Copy,
                _ => Way::Link,
            },
            system: self.system,
            clock: if self.clock_advances { Clock::Advances } else { Clock::SetBack },
            symmetry: true,
            without: self.without.clone(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let configs = if arguments.all { table::all() } else { vec![arguments.config()] };
    println!("| configuration | steps | states | depth | seconds | verdict |");
    println!("| --- | ---: | ---: | ---: | ---: | --- |");
    let mut all_hold = true;
    for config in configs {
        let outcome = explore(&config);
        let (verdict, seconds) = (outcome.verdict(), outcome.took.as_secs_f64());
        println!(
            "| `{config}` | {} | {} | {} | {seconds:.1} | {verdict} |",
            outcome.states, outcome.unique, outcome.depth
        );
        all_hold &= outcome.faults.is_empty();
        if outcome.faults.is_empty() {
            continue;
        }
        // Explore again, with numbers that stay the same from step to step.
        for (property, steps) in &explore(&Config { symmetry: false, ..config }).faults {
            println!("\nViolated: {property}");
            for step in steps {
                println!("    {step}");
            }
        }
        println!();
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
