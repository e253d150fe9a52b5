//! `tenure status`, `ls` and `clean`.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use common::{DEAD, Running, Scratch, ends, kill};
use rustix::process::Signal;
use serde_json::{Value, json};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn status_of_a_free_lock_creates_nothing() {
    let scratch = Scratch::new();
    let found = scratch.json(["status", "--json", "a"]);
    assert_eq!((&found["state"], &found["holder"], &found["reasons"]), (&json!("free"), &Value::Null, &json!([])));
    assert!(found["target"].as_str().unwrap().ends_with('a'));
    assert!(found["lockFile"].as_str().unwrap().ends_with("a.lock"));
    assert_eq!(scratch.done(["status", "a"]).stdout.lines().next(), Some("a: free"));
    assert_eq!(scratch.done(["status", "none/b"]).code, Some(0));
    assert_eq!(scratch.json(["ls", "--json"]), json!({"locks": []}));
    assert_eq!(scratch.json(["ls", "--json", "none"]), json!({"locks": []}));
    assert_eq!(scratch.json(["clean", "--json"]), json!({"locks": [], "pruned": 0}));
    assert!(scratch.names().is_empty());
}

#[test]
fn status_has_exactly_the_documented_fields() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let found = scratch.json(["status", "--json", "a"]);
    let lock = ["target", "lockFile", "style", "state", "reasons", "holder", "waiters", "openBy"];
    let who = [
        "pid",
        "commandPid",
        "liveness",
        "why",
        "kind",
        "label",
        "command",
        "host",
        "createdAt",
        "acquiredAt",
        "ageMs",
        "starttime",
        "fence",
        "maxHoldMs",
    ];
    let sorted = |mut names: Vec<&'static str>| {
        names.sort_unstable();
        names
    };
    assert_eq!(keys(&found), sorted(lock.to_vec()));
    assert_eq!(keys(&found["holder"]), sorted(who.to_vec()));
    assert_eq!(found["holder"]["label"], Value::Null);
    assert_eq!(found["holder"]["maxHoldMs"], Value::Null);
    assert!(found["holder"]["ageMs"].as_u64().unwrap() < 600_000);
    for date in ["createdAt", "acquiredAt"] {
        let date = found["holder"][date].as_str().unwrap();
        assert!(date.len() == 24 && date.ends_with('Z'), "{date}");
    }
    let listed = scratch.json(["ls", "--json"]);
    assert_eq!(keys(&listed["locks"][0]), sorted(lock.to_vec()));
    let cleaned = scratch.json(["clean", "--json"]);
    assert_eq!(keys(&cleaned["locks"][0]), sorted([&lock[..], &["removed", "onlyAged", "error"]].concat()));
    assert_eq!((&cleaned["locks"][0]["removed"], &cleaned["locks"][0]["state"]), (&json!(false), &json!("held")));
    holder.finish();
}

#[test]
fn check_answers_by_the_exit_code_alone() {
    let scratch = Scratch::new();
    let check = |target| {
        let done = scratch.done(["status", "--check", target]);
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
        done.code
    };
    assert_eq!(check("a"), Some(0));
    let mut holder = scratch.hold(["a"]);
    assert_eq!(check("a"), Some(75));
    let done = scratch.done(["status", "--check", "--json", "a"]);
    assert_eq!(done.code, Some(75));
    assert_eq!(serde_json::from_str::<Value>(&done.stdout).unwrap()["state"], "held");
    assert_eq!(scratch.done(["status", "a"]).code, Some(0), "without --check the exit code is 0");
    holder.finish();
    assert_eq!(check("a"), Some(0));
    fs::write(scratch.join("b.lock"), DEAD).unwrap();
    assert_eq!(check("b"), Some(0), "stale");
}

#[test]
fn status_names_the_holder_and_escapes_text_from_other_programs() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--label", "\x1b]0;title\x07\nsecond line", "a"]);
    for words in [&["status", "a"][..], &["ls"], &["run", "-n", "a", "--", "true"]] {
        let done = scratch.done(words);
        let text = done.stdout + &done.stderr;
        assert!(!text.contains('\x1b') && !text.contains('\x07'), "{text:?}");
        assert!(text.contains("\\u{1b}]0;title"), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("second")), "{text:?}");
    }
    assert!(scratch.done(["status", "a"]).stdout.starts_with("a: held\n"));
    holder.finish();
}

#[test]
fn waiters_are_counted() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let waiters: Vec<Running> = (0..2)
        .map(|_| {
            let waiter = Running::start(scratch.tenure(["run", "a", "--", "true"]));
            waiter.stderr.until("waiting for a");
            waiter
        })
        .collect();
    assert_eq!(scratch.json(["status", "--json", "a"])["waiters"], 2);
    assert!(scratch.done(["status", "a"]).stdout.contains("waiting   2\n"));
    let third = Running::start(scratch.tenure(["run", "a", "--", "true"]));
    let line = third.stderr.next();
    assert!(line.ends_with("; 2 wait before you"), "{line}");
    holder.finish();
    for mut waiter in waiters.into_iter().chain([third]) {
        assert_eq!(waiter.wait().code(), Some(0));
    }
}

#[test]
fn ls_is_a_table_of_every_lock_below_with_recursive() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("sub")).unwrap();
    fs::write(scratch.join("sub/dead.jsonl.lock"), DEAD).unwrap();
    fs::write(scratch.join("Cargo.lock"), "version = 4\n").unwrap();
    let mut holder = scratch.hold(["--label", "mine", "a"]);
    let table = scratch.done(["ls"]).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("TARGET") && lines[0].ends_with("LABEL"), "{table}");
    assert!(lines[1].contains(" held ") && lines[1].ends_with("  mine"), "{table}");
    let listed = scratch.json(["ls", "-r", "--json"]);
    let states: Vec<&Value> = listed["locks"].as_array().unwrap().iter().map(|lock| &lock["state"]).collect();
    assert_eq!(states, ["held", "stale"]);
    holder.finish();
    let done = scratch.done(["ls"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), ""));
    assert!(done.stderr.contains("no locks in ."));
}

#[test]
fn clean_removes_stale_locks_and_nothing_else() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("sub")).unwrap();
    for dead in ["x.jsonl.lock", "sub/y.jsonl.lock"] {
        fs::write(scratch.join(dead), DEAD).unwrap();
    }
    fs::write(scratch.join("Cargo.lock"), "version = 4\n").unwrap();
    let mut holder = scratch.hold(["a"]);
    let there = |name: &str| scratch.join(name).exists();

    let dry = scratch.json(["clean", "--dry-run", "--json"]);
    let removed: Vec<&Value> = dry["locks"].as_array().unwrap().iter().map(|lock| &lock["removed"]).collect();
    assert_eq!(removed, [false, false]);
    assert!(scratch.done(["clean", "--dry-run"]).stdout.contains("would remove 1 lock"));
    assert!(there("x.jsonl.lock"));

    let done = scratch.done(["clean"]);
    assert!(done.stdout.contains("removed 1 lock, "), "{done:?}");
    assert!(!there("x.jsonl.lock") && there("sub/y.jsonl.lock") && there("a.lock") && there("Cargo.lock"));
    let cleaned = scratch.json(["clean", "--recursive", "--json"]);
    assert_eq!(cleaned["locks"].as_array().unwrap().len(), 2, "{cleaned}");
    assert!(!there("sub/y.jsonl.lock") && there("a.lock") && there("Cargo.lock"));
    holder.finish();
}

#[test]
fn a_killed_holders_lock_is_stale_and_cleaned() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    holder.signal(Signal::KILL);
    holder.wait();
    kill(holder.command, Signal::KILL);
    assert!(ends(holder.command));
    // The kernel has closed the descriptor by the end of the process, so the lock is free from then on.
    let found = scratch.json(["status", "--json", "a"]);
    assert_eq!((&found["state"], &found["holder"]["liveness"]), (&json!("stale"), &json!("dead")), "{found}");
    assert!(scratch.done(["status", "a"]).stdout.contains("tenure clean"));
    assert_eq!(scratch.json(["clean", "--json"])["locks"][0]["removed"], true);
    assert_eq!(scratch.json(["status", "--json", "a"])["state"], "free");
}

#[test]
fn a_lock_that_is_stale_by_its_age_alone_names_the_option_that_removes_it() {
    let scratch = Scratch::new();
    let file = File::create(scratch.join("a.lock")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    drop(file);
    let shown = scratch.done(["status", "a"]).stdout;
    assert!(shown.contains("stale") && shown.contains("`tenure clean --aged` removes it"), "{shown}");
    assert_eq!(scratch.json(["clean", "--json"])["locks"][0]["removed"], false);
    assert_eq!(scratch.json(["clean", "--aged", "--json"])["locks"][0]["removed"], true);
}

#[test]
fn a_file_that_is_no_lock_is_73() {
    let scratch = Scratch::new();
    fs::write(scratch.join("Cargo.lock"), "version = 4\n").unwrap();
    let done = scratch.done(["status", "Cargo"]);
    assert_eq!(done.code, Some(73), "{done:?}");
    assert!(done.stderr.starts_with("tenure: "), "{done:?}");
}

#[test]
fn a_full_disk_is_74_and_a_closed_pipe_is_no_error() {
    let scratch = Scratch::new();
    fs::write(scratch.join("x.jsonl.lock"), DEAD).unwrap();
    for words in [&["status", "--json", "a"][..], &["status", "a"], &["ls", "--json"], &["ls"], &["clean", "--dry-run"]]
    {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = scratch.tenure(words).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(74), "{words:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("tenure: standard output: "), "{words:?}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = scratch.tenure(words).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{words:?}");
    }
}

#[test]
fn a_name_that_is_not_utf8_is_shown_as_text() {
    let scratch = Scratch::new();
    let name = OsStr::from_bytes(b"n\xff\xfe");
    let words = [OsStr::new("status"), OsStr::new("--json"), name];
    assert!(scratch.json(words)["target"].as_str().unwrap().ends_with("n\u{fffd}\u{fffd}"));
    let words = [OsStr::new("run"), name, OsStr::new("-c"), OsStr::new("test -e \"$TENURE_LOCK_FILE\"")];
    let done = scratch.done(words);
    assert_eq!(done.code, Some(0), "{done:?}");
}
