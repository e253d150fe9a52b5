//! Runs the library's own code on a simulated kernel: `tenure-sim --help`.

use std::process::ExitCode;
use std::time::Duration;

use tenure_sim::sim::{Arena, Face, Limits, Report, SCRIPTS, Schedule, Script, by_name, exhaustive, random, replay};

#[global_allocator]
static MEMORY: Arena = Arena;

const HELP: &str = "\
Runs the library's own code on a simulated kernel, in every order of system calls, with deaths and failures.

usage: tenure-sim [OPTIONS] [SCRIPT...]      run these scripts, or all
       tenure-sim --list                     list the scripts
       tenure-sim --replay SCRIPT:SCHEDULE   repeat one run, call by call

  --face NAME           on this system: linux (unless told), windows, freebsd or macos
  --random [--seed N]   random orders with this seed, instead of every order
  --seconds N           maximum time for each script
  --schedules N         maximum number of runs of each script
  --deaths N            maximum number of processes that die, instead of the script's
  --failures N          maximum number of calls that fail, instead of the script's
  --every-error         fail with every error that the call's manual page lists
  --preemptions N       maximum number of switches from a thread that could continue
  --no-preemptions      no such maximum

Exit code 1: a violation was found; the schedule that leads to it is printed.
";

struct Args {
    face: Face,
    scripts: Vec<String>,
    limits: Limits,
    random: bool,
    seed: u64,
    deaths: Option<u8>,
    failures: Option<u8>,
    every_error: bool,
    preemptions: Option<Option<u32>>,
    replay: Option<String>,
    list: bool,
}

fn number<T: std::str::FromStr>(name: &str, text: Option<String>) -> Result<T, String> {
    let text = text.ok_or_else(|| format!("{name} takes a number"))?;
    text.parse().map_err(|_| format!("{name} takes a number, not {text:?}"))
}

fn parse() -> Result<Option<Args>, String> {
    let mut parsed = Args {
        face: Face::Linux,
        scripts: Vec::new(),
        limits: Limits::default(),
        random: false,
        seed: 1,
        deaths: None,
        failures: None,
        every_error: false,
        preemptions: None,
        replay: None,
        list: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-h" | "--help" => return Ok(None),
            "--face" => {
                let wanted = args.next().unwrap_or_default();
                let known = Face::ALL.iter().find(|(name, _)| *name == wanted);
                parsed.face = known.ok_or("--face takes linux, windows, freebsd or macos")?.1;
            }
            "--list" => parsed.list = true,
            "--random" => parsed.random = true,
            "--every-error" => parsed.every_error = true,
            "--no-preemptions" => parsed.preemptions = Some(None),
            "--seed" => parsed.seed = number(&arg, args.next())?,
            "--seconds" => parsed.limits.time = Some(Duration::from_secs(number(&arg, args.next())?)),
            "--schedules" => parsed.limits.schedules = Some(number(&arg, args.next())?),
            "--deaths" => parsed.deaths = Some(number(&arg, args.next())?),
            "--failures" => parsed.failures = Some(number(&arg, args.next())?),
            "--preemptions" => parsed.preemptions = Some(Some(number(&arg, args.next())?)),
            "--replay" => parsed.replay = Some(args.next().ok_or("--replay takes SCRIPT:SCHEDULE")?),
            other if other.starts_with('-') => return Err(format!("unknown option {other}: see tenure-sim --help")),
            _ => parsed.scripts.push(arg),
        }
    }
    Ok(Some(parsed))
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return wrong(&error),
    };
    if args.list {
        for script in SCRIPTS {
            println!("{:24} {}", script.name, script.about);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(text) = &args.replay {
        return again(text, &args);
    }
    let names: Vec<&str> = match args.scripts.as_slice() {
        [] => SCRIPTS.iter().map(|script| script.name).collect(),
        named => named.iter().map(String::as_str).collect(),
    };
    let (mut schedules, mut time, mut failed) = (0, Duration::ZERO, false);
    println!("{HEAD}");
    for name in names {
        let Some(script) = by_name(name) else { return wrong(&format!("unknown script {name:?}")) };
        let Some(script) = with(script, &args) else {
            println!("{name:24} has no meaning on this system");
            continue;
        };
        let report = match args.random {
            true => random(&script, args.seed, args.limits),
            false => exhaustive(&script, args.limits),
        };
        println!("{}", line(&report));
        schedules += report.schedules;
        time += report.time;
        if let Some(failure) = &report.failure {
            failed = true;
            println!("{failure}");
        }
    }
    let minutes = time.as_secs_f64() / 60.0;
    println!(
        "{schedules} schedules in {:.1} s: {:.2} million a minute",
        time.as_secs_f64(),
        schedules as f64 / minutes / 1e6
    );
    ExitCode::from(u8::from(failed))
}

const HEAD: &str = "script                     schedules      whole     states  deepest   seconds  million/min";

fn line(report: &Report) -> String {
    format!(
        "{:24} {:>11} {:>10} {:>10} {:>8} {:>9.1} {:>12.2}{}",
        report.script,
        report.schedules,
        report.whole,
        report.states,
        report.deepest,
        report.time.as_secs_f64(),
        report.per_minute() / 1e6,
        if report.complete { "  all" } else { "" },
    )
}

fn with(script: &Script, args: &Args) -> Option<Script> {
    let script = script.on(args.face)?;
    Some(Script {
        deaths: args.deaths.unwrap_or(script.deaths),
        failures: args.failures.unwrap_or(script.failures),
        every_error: args.every_error || script.every_error,
        preemptions: args.preemptions.unwrap_or(script.preemptions),
        ..script
    })
}

fn again(text: &str, args: &Args) -> ExitCode {
    let Some((name, schedule)) = text.split_once(':') else { return wrong("--replay takes SCRIPT:SCHEDULE") };
    let Some(script) = by_name(name) else { return wrong(&format!("unknown script {name:?}")) };
    let schedule: Schedule = match schedule.parse() {
        Ok(schedule) => schedule,
        Err(error) => return wrong(&error),
    };
    let Some(script) = with(script, args) else { return wrong("the script has no meaning on this system") };
    let (story, code) = match replay(&script, &schedule) {
        Ok((None, story)) => (story, 0),
        Ok((Some(failure), mut story)) => {
            story.push(failure.to_string());
            (story, 1)
        }
        Err(mut story) => {
            story.push("the schedule does not fit this script: its next choice is impossible here".to_owned());
            (story, 2)
        }
    };
    for line in story {
        println!("{line}");
    }
    ExitCode::from(code)
}

fn wrong(what: &str) -> ExitCode {
    eprintln!("tenure-sim: {what}");
    ExitCode::from(64)
}
