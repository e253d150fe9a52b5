//! Explores the protocol: one configuration, or every one of the table. Prints a line for each as Markdown's tables have
//! it, and for whatever must never be the steps that lead there. Exits with 1 where there was any.

use std::process::ExitCode;

use clap::Parser;
use tenure_model::config::{Clock, Config, Guard, Way};
use tenure_model::explore::explore;
use tenure_model::table;

/// The protocol in a model checker: what may go wrong how often, among how many.
#[derive(Debug, Parser)]
struct Arguments {
    /// Every configuration of the table, in place of one.
    #[arg(long)]
    all: bool,
    /// Natives that wait for the lock.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=6))]
    natives: u8,
    /// Natives in flock style beside them.
    #[arg(long, default_value_t = 0)]
    flock: u8,
    /// Begins where the first native has died in a takeover, with the first foreign program's file in its hands.
    #[arg(long, requires = "foreign")]
    cut_off: bool,
    /// How often each of them acquires.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// A tenure may pass on within its process.
    #[arg(long)]
    pass: bool,
    /// Runs of `clean` that take what is free or dead.
    #[arg(long, default_value_t = 0)]
    cleaners: u8,
    /// Foreign programs.
    #[arg(long, default_value_t = 0)]
    foreign: u8,
    /// How many processes may die.
    #[arg(long, default_value_t = 0)]
    crashes: u8,
    /// Runs of `clean` that prune the anchor.
    #[arg(long, default_value_t = 0)]
    pruners: u8,
    /// How often a person removes the lock file.
    #[arg(long, default_value_t = 0)]
    user_rm: u8,
    /// Runs of `break --force`.
    #[arg(long, default_value_t = 0)]
    breaks: u8,
    /// How often the watchdog revokes.
    #[arg(long, default_value_t = 0)]
    revokes: u8,
    /// How often `.tenure` is removed.
    #[arg(long, default_value_t = 0)]
    wipes: u8,
    /// Each native is another user's, whose anchor the others may only read.
    #[arg(long, conflicts_with = "no_exchange")]
    users: bool,
    /// Lock files are copies.
    #[arg(long)]
    copies: bool,
    /// They are, and two names cannot be exchanged.
    #[arg(long)]
    no_exchange: bool,
    /// The clock goes on, in place of having been set back.
    #[arg(long)]
    clock_advances: bool,
    /// A guard that is left out.
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
            users: self.users,
            way: match (self.no_exchange, self.copies) {
                (true, _) => Way::CopyInPlace,
                (_, true) => Way::Copy,
                _ => Way::Link,
            },
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
        // Once more, with numbers that stay the same from step to step.
        for (property, steps) in &explore(&Config { symmetry: false, ..config }).faults {
            println!("\nNot so: {property}");
            for step in steps {
                println!("    {step}");
            }
        }
        println!();
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
