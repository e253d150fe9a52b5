//! `tenure doctor`: its answers about a fit folder and about unfit ones. It leaves no file and no process.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{Done, PATIENCE, Running, Scratch, ends, needs};
use rustix::process::Signal;
use serde_json::Value;

/// Every check, in the documented order of `--json`.
const CHECKS: [&str; 13] = [
    "kernel-lock",
    "second-process",
    "room",
    "hard-link",
    "exclusive-rename",
    "exchange",
    "lease",
    "inotify",
    "pidfd",
    "pidfd-inode",
    "boot-id",
    "first-pid-namespace",
    "clock",
];

fn parsed(done: &Done) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

fn answer<'a>(found: &'a Value, name: &str) -> &'a str {
    let checks = found["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap()["answer"].as_str().unwrap()
}

/// Runs `tenure doctor WORDS` in `scratch` with failing system calls. Each fault is an argument of strace's `inject=`.
fn with_faults(scratch: &Scratch, faults: &[&str], words: &[&str]) -> Done {
    let calls: Vec<&str> = faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
    let mut command = Command::new("strace");
    // With this option other calls run untraced, at full speed.
    command.args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", &format!("trace={}", calls.join(","))]);
    for fault in faults {
        command.args(["-e", &format!("inject={fault}")]);
    }
    command.arg(env!("CARGO_BIN_EXE_tenure")).arg("doctor").args(words).current_dir(scratch.path());
    Done::from(command.output().unwrap())
}

#[test]
fn a_local_folder_is_fit_and_unchanged() {
    let scratch = Scratch::new();
    fs::write(scratch.join("mine"), "stays").unwrap();
    let done = scratch.done(["doctor"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    for line in ["  kernel lock          yes ", "  second process       yes ", "fit for use"] {
        assert!(done.stdout.contains(line), "{line}: {}", done.stdout);
    }
    assert!(!done.stdout.contains('\x1b'), "no colour in a pipe");
    assert_eq!(scratch.names(), ["mine"]);
}

#[test]
fn the_json_has_exactly_the_documented_fields() {
    let scratch = Scratch::new();
    let done = scratch.done(["doctor", "--json", "."]);
    let found = parsed(&done);
    assert!(done.stdout.starts_with(r#"{"folder":".","fileSystem":{"type":"#), "{done:?}");
    assert!(done.stdout.trim_end().ends_with(r#","stress":null}"#), "{done:?}");
    assert_eq!(found.as_object().unwrap().len(), 4);
    assert!(found["fileSystem"]["shared"].is_boolean());
    let checks = found["checks"].as_array().unwrap();
    assert_eq!(checks.iter().map(|check| check["name"].as_str().unwrap()).collect::<Vec<_>>(), CHECKS);
    for check in checks {
        assert_eq!(check.as_object().unwrap().len(), 3, "{check}");
        assert!(["yes", "no", "unknown"].contains(&check["answer"].as_str().unwrap()), "{check}");
        assert!(check["means"].as_str().unwrap().len() > 20, "{check}");
    }
    for essential in ["kernel-lock", "second-process", "room", "hard-link", "exclusive-rename"] {
        assert_eq!(answer(&found, essential), "yes");
    }
    assert!(scratch.names().is_empty());
}

#[test]
fn missing_features_are_reported_and_only_essential_ones_are_1() {
    if !needs("strace") {
        return;
    }
    let cases: [(&[&str], &[&str], i32); 10] = [
        (&["flock:error=EOPNOTSUPP"], &["kernel-lock", "second-process"], 1),
        (&["flock:retval=0"], &["kernel-lock"], 1),
        (&["linkat:error=EPERM"], &["hard-link"], 0),
        (&["renameat2:error=EINVAL"], &["exclusive-rename", "exchange"], 0),
        (
            &["linkat:error=EPERM", "renameat2:error=EINVAL"],
            &["hard-link", "exclusive-rename", "exchange", "second-process"],
            1,
        ),
        // Landlock returns this error for calls with two folders.
        (
            &["linkat:error=EXDEV", "renameat2:error=EXDEV"],
            &["hard-link", "exclusive-rename", "exchange", "second-process"],
            1,
        ),
        (&["fsync:error=ENOSPC"], &["room"], 1),
        (&["inotify_add_watch:error=ENOSYS"], &["inotify"], 0),
        (&["pidfd_open:error=ENOSYS"], &["pidfd", "pidfd-inode"], 0),
        (&["adjtimex:error=ENOSYS"], &[], 0),
    ];
    for (faults, missing, code) in cases {
        let scratch = Scratch::new();
        let done = with_faults(&scratch, faults, &["--json"]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(code), ""), "{faults:?}: {done:?}");
        let found = parsed(&done);
        // These depend on the kernel and the machine, not on the faults.
        let elsewhere = ["pidfd-inode", "first-pid-namespace", "clock", "lease"];
        for name in CHECKS {
            let want = if missing.contains(&name) { "no" } else { "yes" };
            if missing.contains(&name) || !elsewhere.contains(&name) {
                // A check that failed is no answer.
                let want = if name == "second-process" && want == "no" { "unknown" } else { want };
                let got = answer(&found, name);
                let tolerated = name == "second-process" && faults == ["flock:retval=0"];
                assert!(got == want || tolerated, "{faults:?}: {name} is {got}: {done:?}");
            }
        }
        assert!(scratch.names().is_empty(), "{faults:?}: {:?}", scratch.names());
    }
}

#[test]
fn an_unfit_folder_is_described_and_not_stressed() {
    if !needs("strace") {
        return;
    }
    let scratch = Scratch::new();
    let done = with_faults(&scratch, &["flock:error=EOPNOTSUPP"], &["--stress", "1h"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let last = done.stdout.lines().last().unwrap();
    assert_eq!(last, "not fit for use: missing: the kernel lock (flock); there was no stress run");
    assert!(done.stdout.contains("Operation not supported"), "{done:?}");
    assert!(scratch.names().is_empty());
}

#[test]
fn a_folder_that_cannot_be_written_is_77_and_a_missing_one_73() {
    let scratch = Scratch::new();
    let done = scratch.done(["doctor", "none"]);
    assert_eq!(done.code, Some(73), "{done:?}");
    assert!(done.stderr.contains("none: a temporary folder cannot be created in it: No such file"), "{done:?}");

    // The call is made by another user, who must have access to the program and the folder.
    if !needs("setpriv") {
        return;
    }
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let program = scratch.join("tenure");
    fs::copy(env!("CARGO_BIN_EXE_tenure"), &program).unwrap();
    fs::create_dir(scratch.join("closed")).unwrap();
    open(scratch.path());
    open(&program);
    open(&scratch.join("closed"));
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command
    } else {
        fs::set_permissions(scratch.join("closed"), fs::Permissions::from_mode(0o555)).unwrap();
        Command::new(&program)
    };
    let done = Done::from(command.args(["doctor", "closed", "--json"]).current_dir(scratch.path()).output().unwrap());
    assert_eq!((done.code, done.stdout.as_str()), (Some(77), ""), "{done:?}");
    for part in
        ["tenure: closed: a temporary folder cannot be created in it: Permission denied", "run this as a user who"]
    {
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
}

#[test]
fn a_clock_that_was_set_back_is_reported() {
    let scratch = Scratch::new();
    assert_eq!(scratch.done(["run", "a", "--", "true"]).code, Some(0));
    let anchor = scratch.join(".tenure/a.lock");
    let record = fs::read_to_string(&anchor).unwrap();
    let at = record.find("\"fence\": ").unwrap() + "\"fence\": ".len();
    let digits = record[at..].bytes().take_while(u8::is_ascii_digit).count();
    let fence: u64 = record[at..at + digits].parse().unwrap();
    let later = fence + 7200 * 1_000_000;
    fs::write(&anchor, format!("{}{later}{}", &record[..at], &record[at + digits..])).unwrap();
    let done = scratch.done(["doctor", "--json"]);
    let found = parsed(&done);
    assert_eq!((done.code, answer(&found, "clock")), (Some(0), "no"), "{done:?}");
    assert!(done.stdout.contains("ahead of the clock"), "{done:?}");
    assert_eq!(scratch.names(), [".tenure"]);
}

#[test]
fn a_stress_run_finds_no_fault_and_leaves_nothing() {
    let scratch = Scratch::new();
    // On a busy machine, hardly anything may happen in two seconds.
    let enough = |done: &Done| {
        let stress = parsed(done)["stress"].clone();
        let happened = |count: &Value| count.as_u64().unwrap() > 0;
        happened(&stress["grants"]) && happened(&stress["kills"]) && happened(&stress["handOff"]["count"])
    };
    let run = |seconds: u64| {
        let began = Instant::now();
        let done = scratch.done(["doctor", "--json", "--stress", &format!("{seconds}s"), "--seed", "7"]);
        assert!(began.elapsed() >= Duration::from_secs(seconds));
        done
    };
    let done = [2, 4, 8].into_iter().map(run).find(enough).unwrap_or_else(|| run(8));
    let found = parsed(&done);
    let stress = &found["stress"];
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!((&stress["doubleHolds"], &stress["faults"]), (&0.into(), &Value::Array(vec![])), "{stress}");
    assert_eq!(
        (&stress["processes"], &stress["seed"], &stress["fairness"]["processes"]),
        (&8.into(), &7.into(), &4.into())
    );
    for busy in ["grants", "kills"] {
        assert!(stress[busy].as_u64().unwrap() > 0, "{busy}: {stress}");
    }
    assert!(stress["handOff"]["count"].as_u64().unwrap() > 0, "{stress}");
    let time = |name: &str| stress["handOff"][name].as_f64().unwrap();
    assert!(time("p50Us") <= time("p99Us") && time("p99Us") <= time("maxUs"), "{stress}");
    assert_eq!(stress.as_object().unwrap().len(), 10);
    assert!(scratch.names().is_empty());
}

#[test]
fn the_witness_detects_a_lock_that_stops_excluding() {
    if !needs("strace") {
        return;
    }
    let scratch = Scratch::new();
    // Each thread's 12th call, and every 7th after that, reports success without an effect. The checks before the run make
    // fewer calls.
    let faults = ["flock:retval=0:when=12+7"];
    // The run ends long before that, with enough faults.
    let done = with_faults(&scratch, &faults, &["--stress", "60s", "--processes", "4"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stdout.contains("not fit for use: the stress run found"), "{done:?}");
    assert!(done.stdout.contains("two processes held the lock at once"), "{done:?}");
    assert!(scratch.names().is_empty());
}

#[test]
fn the_page_for_people_has_the_numbers_and_the_histogram() {
    let scratch = Scratch::new();
    // On a busy machine, the lock may not be passed on in half a second, of which there would be no histogram.
    let run = |(time, said): (&str, &str)| {
        let mut command = scratch.tenure(["doctor", "--stress", time, "--processes", "2", "--seed", "3"]);
        let done = Done::from(command.env("LC_ALL", "C.UTF-8").output().unwrap());
        assert_eq!(done.stderr, format!("tenure: 2 processes for {said}, seed 3 ..\n"), "{done:?}");
        done
    };
    let times = [("500ms", "500 ms"), ("3s", "3 s"), ("8s", "8 s")];
    let done = times.into_iter().map(run).find(|done| done.stdout.contains('█')).expect("a run with a histogram");
    assert_eq!(done.code, Some(0), "{done:?}");
    for part in ["  double holds    0\n", "grants each, of the 1 processes never killed", "█", "\nfit for use\n"] {
        assert!(done.stdout.contains(part), "{part}: {}", done.stdout);
    }
}

/// Waits until a process has `count` children, and returns them.
fn children(pid: i32, count: usize) -> Vec<i32> {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let pids: Vec<i32> = text.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect();
        if pids.len() >= count {
            return pids;
        }
        assert!(Instant::now() < until, "{pids:?}");
        thread::yield_now();
    }
}

#[test]
fn a_signal_ends_the_run_and_leaves_nothing() {
    let scratch = Scratch::new();
    let mut doctor = Running::start(scratch.tenure(["doctor", "--stress", "1h", "--processes", "4"]));
    doctor.stderr.until("4 processes for 1 h");
    let workers = children(doctor.pid(), 4);
    doctor.signal(Signal::TERM);
    let status = doctor.wait();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::TERM.as_raw()));
    assert!(workers.into_iter().all(ends));
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn the_processes_of_a_run_end_with_a_doctor_that_is_killed() {
    let scratch = Scratch::new();
    let mut doctor = Running::start(scratch.tenure(["doctor", "--stress", "1h", "--processes", "4"]));
    doctor.stderr.until("4 processes for 1 h");
    let workers = children(doctor.pid(), 4);
    doctor.signal(Signal::KILL);
    doctor.wait();
    assert!(workers.into_iter().all(ends));
}

#[test]
fn usage_errors() {
    let scratch = Scratch::new();
    for (words, says) in [
        (&["doctor", "--stress", "0"][..], "longer than zero"),
        (&["doctor", "--stress", "5 parsecs"], "300ms"),
        (&["doctor", "--stress", "1s", "--processes", "1"], "2..=256"),
        (&["doctor", "--processes", "4"], "--stress"),
        (&["doctor", "a", "b"], "'b'"),
    ] {
        let done = scratch.done(words);
        assert_eq!(done.code, Some(64), "{words:?}: {done:?}");
        assert!(done.stderr.contains(says), "{words:?}: {done:?}");
    }
    assert!(!scratch.done(["--help"]).stdout.contains("doctor-worker"), "the worker is hidden");
}
