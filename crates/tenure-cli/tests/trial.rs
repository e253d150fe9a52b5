//! The trial of a folder before the first lock in it, as on a system whose port was not run by its authors
//! (`TENURE_TRIAL=always`).

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, unsafe_code)]

mod common;

use std::fs;
use std::process::{Command, Output};

use common::{Scratch, needs};
use serde_json::{Value, json};

const UNSUPPORTED: Option<i32> = Some(69);

/// Runs `true` under the lock `target`, with a trial where there was none, by the program before it.
fn run_by(before: &[&str], scratch: &Scratch, target: &str) -> Output {
    let tenure = scratch.tenure(["run", "-n", target, "--", "true"]);
    let mut command = match before.split_first() {
        None => tenure,
        Some((program, words)) => {
            let mut command = Command::new(program);
            command.args(words).arg(tenure.get_program()).args(tenure.get_args()).current_dir(scratch.path());
            command
        }
    };
    command.env("TENURE_TRIAL", "always").output().unwrap()
}

fn run(scratch: &Scratch) -> Output {
    run_by(&[], scratch, "target")
}

fn answer(scratch: &Scratch) -> Value {
    serde_json::from_slice(&fs::read(scratch.join(".tenure/.trial")).unwrap()).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Changes the remembered answer.
fn change(scratch: &Scratch, change: impl FnOnce(&mut Value)) {
    let mut remembered = answer(scratch);
    change(&mut remembered);
    fs::write(scratch.join(".tenure/.trial"), remembered.to_string()).unwrap();
}

#[test]
fn a_folder_that_passes_is_tried_once() {
    let scratch = Scratch::new();
    let output = run(&scratch);
    assert!(output.status.success(), "{}", said(&output));
    let remembered = answer(&scratch);
    assert_eq!(remembered["passed"], json!(true));
    assert_eq!(remembered["version"], json!(env!("CARGO_PKG_VERSION")));
    assert_eq!(scratch.names(), [".tenure"], "the trial's own files are gone");
    // The answer serves every lock of the folder.
    change(&scratch, |remembered| remembered["passed"] = json!(false));
    for target in ["target", "other"] {
        assert_eq!(run_by(&[], &scratch, target).status.code(), UNSUPPORTED, "{target}");
    }
}

#[test]
fn a_remembered_failure_is_an_error_with_its_reason() {
    let scratch = Scratch::new();
    assert!(run(&scratch).status.success());
    change(&scratch, |remembered| {
        remembered["passed"] = json!(false);
        remembered["seen"] = json!("two processes had the lock");
    });
    let output = run(&scratch);
    assert_eq!(output.status.code(), UNSUPPORTED);
    for words in ["two processes had the lock", "tenure doctor --report", ".tenure/.trial"] {
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
    // Nothing is removed either.
    fs::write(scratch.join("target.lock"), "{\"pid\":4194303,\"createdAt\":\"2020-01-01T00:00:00.000Z\"}").unwrap();
    let clean = scratch.tenure(["clean"]).env("TENURE_TRIAL", "always").output().unwrap();
    assert!(said(&clean).contains("two processes had the lock"), "{}", said(&clean));
    let by_force = scratch.tenure(["break", "--force", "target"]).env("TENURE_TRIAL", "always").output().unwrap();
    assert_eq!(by_force.status.code(), UNSUPPORTED);
    assert!(scratch.join("target.lock").exists());
    // Where no trial is wanted, the answer has no effect.
    assert!(scratch.tenure(["run", "-n", "target", "--", "true"]).status().unwrap().success());
}

#[test]
fn an_answer_of_other_circumstances_is_outdated() {
    let scratch = Scratch::new();
    assert!(run(&scratch).status.success());
    let fresh = answer(&scratch);
    for (key, other) in [
        ("version", json!("0.0.0")),
        ("bootId", json!("another boot")),
        ("bootId", Value::Null),
        ("host", json!("another host")),
        ("system", json!("another system")),
        ("folder", json!([1, 1])),
        ("fileSystem", json!("another file system")),
    ] {
        change(&scratch, |remembered| {
            remembered["passed"] = json!(false);
            remembered[key] = other.clone();
        });
        let output = run(&scratch);
        assert!(output.status.success(), "{key} {other}: {}", said(&output));
        assert_eq!(answer(&scratch), fresh, "{key} {other}");
    }
    for text in ["", "{", "[]", "{\"passed\":true}", "\0\0\0"] {
        fs::write(scratch.join(".tenure/.trial"), text).unwrap();
        assert!(run(&scratch).status.success(), "{text:?}");
        assert_eq!(answer(&scratch), fresh, "{text:?}");
    }
}

/// `strace` makes `flock(2)` succeed without effect, as it does on some network file systems.
#[test]
fn a_folder_where_flock_does_nothing_is_refused() {
    if !needs("strace") {
        return;
    }
    let scratch = Scratch::new();
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:retval=0"];
    let output = run_by(&strace, &scratch, "target");
    assert_eq!(output.status.code(), UNSUPPORTED, "{}", said(&output));
    assert!(said(&output).contains("did not pass"), "{}", said(&output));
    assert_eq!(answer(&scratch)["passed"], json!(false));
    assert_eq!(scratch.names(), [".tenure"], "the trial's own files are gone, and no lock file came");
    // It is remembered, although flock works now.
    assert_eq!(run(&scratch).status.code(), UNSUPPORTED);
    fs::remove_file(scratch.join(".tenure/.trial")).unwrap();
    assert!(run(&scratch).status.success(), "tried again");
}

/// `strace` disturbs the first trial only: without `-f` it counts the calls of the command's first thread.
#[test]
fn a_trial_that_was_disturbed_is_repeated() {
    if !needs("strace") {
        return;
    }
    for inject in ["flock:retval=0:when=1", "mkdirat:error=EEXIST:when=1"] {
        let scratch = Scratch::new();
        let (call, _) = inject.split_once(':').unwrap();
        let (trace, inject) = (format!("trace={call}"), format!("inject={inject}"));
        let log = scratch.join("log");
        let strace = ["strace", "-qq", "-o", log.to_str().unwrap(), "-e", &trace, "-e", &inject];
        let output = run_by(&strace, &scratch, "target");
        assert!(output.status.success(), "{inject}: {}", said(&output));
        assert!(fs::read_to_string(&log).unwrap().contains("(INJECTED)"), "{inject}");
        assert_eq!(answer(&scratch)["passed"], json!(true), "{inject}");
        assert_eq!(scratch.names(), [".tenure", "log"], "{inject}");
    }
}

/// Another user could otherwise refuse a shared folder to all, or vouch for it.
#[test]
fn the_answer_of_another_user_is_not_believed() {
    let scratch = Scratch::new();
    assert!(run(&scratch).status.success());
    let path = scratch.join(".tenure/.trial");
    // Only root may give a file away.
    if std::os::unix::fs::chown(&path, Some(4_000_001), None).is_err() {
        return;
    }
    change(&scratch, |remembered| remembered["passed"] = json!(false));
    assert!(run(&scratch).status.success());
    assert_eq!(answer(&scratch)["passed"], json!(true));
    // The folder's owner is believed.
    std::os::unix::fs::chown(&path, Some(4_000_001), None).unwrap();
    std::os::unix::fs::chown(scratch.path(), Some(4_000_001), None).unwrap();
    change(&scratch, |remembered| remembered["passed"] = json!(false));
    assert_eq!(run(&scratch).status.code(), UNSUPPORTED);
}

#[test]
fn what_a_killed_trial_left_is_in_nobodys_way() {
    let scratch = Scratch::new();
    assert!(run(&scratch).status.success());
    // A walk leaves a trial's own locks alone.
    let trial = scratch.join(".tenure-probe-4194303-trial-1-0");
    fs::create_dir(&trial).unwrap();
    let dead = "{\"pid\":4194303,\"createdAt\":\"2020-01-01T00:00:00.000Z\"}";
    fs::write(trial.join("foreign.lock"), dead).unwrap();
    assert_eq!(scratch.json(["clean", "-r", "--json"])["locks"], json!([]));
    assert!(trial.join("foreign.lock").exists());
    fs::remove_dir_all(&trial).unwrap();
    // An answer that was never finished does not keep `.tenure`.
    fs::write(scratch.join(".tenure/.trial.4194303"), "{").unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(7 * 24 * 3600);
    fs::File::options().append(true).open(scratch.join(".tenure/target.lock")).unwrap().set_modified(old).unwrap();
    assert_eq!(scratch.json(["clean", "--json"])["pruned"], json!(1));
    assert_eq!(scratch.names(), Vec::<String>::new());
}

/// What is missing is not used, or is an error where it is needed. No promise is broken.
#[test]
fn a_folder_without_hard_links_or_without_exchanges_passes() {
    if !needs("strace") {
        return;
    }
    for (call, error) in [("linkat", "EPERM"), ("renameat2", "EINVAL")] {
        let scratch = Scratch::new();
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}"));
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let output = run_by(&strace, &scratch, "target");
        assert!(output.status.success(), "{call}: {}", said(&output));
        // No rename at all works in the second case, so the answer cannot be remembered.
        let names: Vec<_> =
            fs::read_dir(scratch.join(".tenure")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let trials: Vec<_> = names.iter().filter(|name| name.to_string_lossy().starts_with(".trial")).collect();
        assert_eq!(trials.len(), usize::from(call == "linkat"), "{call}: {names:?}");
    }
}

#[test]
fn a_trial_that_cannot_be_made_is_an_error_and_not_remembered() {
    let scratch = Scratch::new();
    if !needs("strace") {
        return;
    }
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=mkdirat", "-e", "inject=mkdirat:error=EACCES"];
    let output = run_by(&strace, &scratch, "target");
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
    assert!(said(&output).contains("tried before the first lock"), "{}", said(&output));
    assert_eq!(scratch.names(), Vec::<String>::new());
    assert!(run(&scratch).status.success());
}

#[test]
fn a_report_names_no_folder_and_says_what_was_seen() {
    let scratch = Scratch::new();
    let done = scratch.done(["doctor", "--report"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for words in [
        "tenure  ",
        "system               linux ",
        "tries folders        no",
        "trial                passed",
        "kernel-lock          yes",
    ] {
        assert!(done.stdout.contains(words), "{words}: {done:?}");
    }
    for secret in [scratch.path().to_str().unwrap(), ".tenure-"] {
        assert!(!done.stdout.contains(secret), "{secret}: {done:?}");
    }
    assert_eq!(scratch.names(), Vec::<String>::new());
    assert_eq!(scratch.done(["doctor", "--report", "--json"]).code, Some(64));
    assert_eq!(scratch.done(["doctor", "--report", "etcd://localhost/x"]).code, Some(64));
}

#[test]
fn the_doctor_shows_the_trial_where_folders_are_tried() {
    let scratch = Scratch::new();
    let doctor = || {
        let mut command = scratch.tenure(["doctor", "--json"]);
        command.env("TENURE_TRIAL", "always");
        command
    };
    let found: Value = serde_json::from_slice(&doctor().output().unwrap().stdout).unwrap();
    let checks = found["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["name"] == "trial" && check["answer"] == "yes"), "{found}");
    if !needs("strace") {
        return;
    }
    let command = doctor();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:retval=0"]);
    strace.arg(command.get_program()).args(["doctor", "--report"]).current_dir(scratch.path());
    let output = strace.env("TENURE_TRIAL", "always").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("trial                did not pass: ") && text.contains("tries folders        yes"),
        "{text}"
    );
}
