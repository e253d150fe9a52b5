//! Scripts rely on `--json`: snapshots fix what it prints, and `docs/json.md` must explain every name. Values that differ
//! from run to run are replaced by their kind.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::{DEAD, Running, Scratch, ends, kill};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Replaces each value that differs from run to run by its kind.
fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let kind = match name.as_str() {
                    "pid" | "commandPid" | "blockedByPid" => "[pid]",
                    "at" | "createdAt" | "acquiredAt" | "from" | "until" | "lastSign" => "[date]",
                    "ageMs" | "lastedMs" | "waitedMs" => "[milliseconds]",
                    "starttime" => "[ticks]",
                    "fence" => "[fence]",
                    "host" => "[host]",
                    "openBy" => {
                        for pid in value.as_array_mut().unwrap() {
                            assert!(pid.is_i64());
                            *pid = json!("[pid]");
                        }
                        continue;
                    }
                    _ => {
                        redact(value);
                        continue;
                    }
                };
                if !value.is_null() {
                    *value = json!(kind);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact),
        // A process's locks have absolute paths.
        Value::String(path) if path.starts_with('/') => {
            let name = Path::new(path.as_str()).file_name().unwrap().to_string_lossy();
            *path = format!("[folder]/{name}");
        }
        _ => {}
    }
}

fn documented(value: &Value, page: &str) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let there = page
                    .lines()
                    .any(|line| line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`"))));
                assert!(there, "docs/json.md does not explain `{name}`");
                documented(value, page);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| documented(value, page)),
        _ => {}
    }
}

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md")).unwrap()
}

fn check(scratch: &Scratch, name: &str, mut value: Value) {
    documented(&value, &page());
    redact(&mut value);
    let text = serde_json::to_string_pretty(&value).unwrap();
    // `status --pid` prints absolute paths.
    let folder = fs::canonicalize(scratch.path()).unwrap();
    let text = text.replace(folder.to_str().unwrap(), "[folder]");
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, text);
    });
}

/// Makes this process a foreign holder, which keeps its lock file open for writing.
fn foreign(scratch: &Scratch, name: &str) -> File {
    let mut file = File::create_new(scratch.join(format!("{name}.lock"))).unwrap();
    let pid = std::process::id();
    write!(file, "{{\n  \"pid\": {pid},\n  \"createdAt\": \"2026-03-02T10:00:00.000Z\"\n}}").unwrap();
    file
}

#[test]
fn status_of_each_state() {
    let scratch = Scratch::new();
    let status = |target: &str| scratch.json(["status", "--json", target]);

    check(&scratch, "status-free", status("a"));

    let mut holder = scratch.hold(["--label", "run 8f2c", "--max-hold", "5m", "a"]);
    let waiter = Running::start(scratch.tenure(["run", "a", "--", "true"]));
    waiter.stderr.until("waiting for a");
    check(&scratch, "status-held", status("a"));
    holder.finish();
    drop(waiter);

    let held = foreign(&scratch, "b");
    check(&scratch, "status-held-foreign", status("b"));
    drop(held);

    fs::write(scratch.join("c.lock"), DEAD).unwrap();
    check(&scratch, "status-stale-foreign", status("c"));

    let mut holder = scratch.hold(["d"]);
    holder.signal(Signal::KILL);
    holder.wait();
    kill(holder.command, Signal::KILL);
    assert!(ends(holder.command));
    check(&scratch, "status-stale", status("d"));

    // A process may be about to write to it. The date keeps the file new, however slow this machine is.
    let file = File::create_new(scratch.join("e.lock")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    drop(file);
    check(&scratch, "status-unknown", status("e"));

    let mut sharers: Vec<Running> = (0..2).map(|_| scratch.hold(["--shared", "--flock", "f"])).collect();
    check(&scratch, "status-shared", status("f"));
    for sharer in &mut sharers {
        sharer.finish();
    }
}

#[test]
fn a_program_that_knows_only_flock() {
    let scratch = Scratch::new();
    let mut flock = std::process::Command::new("flock");
    flock.args(["a", "sh", "-c", "echo up; read x"]).current_dir(scratch.path());
    let mut holder = Running::start(flock);
    assert_eq!(holder.stdout.next(), "up");
    check(&scratch, "status-flock", scratch.json(["status", "--json", "a"]));
    holder.finish();
}

#[test]
fn break_and_status_of_a_process() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    // The command inherits the lock, so it holds the lock too.
    check(&scratch, "status-pid", scratch.json(["status", "--json", "--pid", &holder.command.to_string()]));
    check(&scratch, "status-pid-gone", scratch.json(["status", "--json", "--pid", "4194303"]));
    check(&scratch, "break", scratch.json(["break", "--json", "--force", "a"]));
    assert_eq!(holder.wait().code(), Some(76));
    check(&scratch, "break-free", scratch.json(["break", "--json", "a"]));
}

/// The answers depend on the machine. The tests of `doctor` check the fields.
#[test]
fn the_doctors_fields_are_explained() {
    let scratch = Scratch::new();
    let done = scratch.done(["doctor", "--json", "--stress", "100ms"]);
    documented(&serde_json::from_str(&done.stdout).unwrap(), &page());
}

#[test]
fn every_example_on_the_page_is_json_and_explained() {
    let page = page();
    let examples: Vec<&str> = page.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 8);
    for example in examples {
        documented(&serde_json::from_str(example).unwrap(), &page);
    }
}

#[test]
fn ls_and_clean() {
    let scratch = Scratch::new();
    check(&scratch, "ls-empty", scratch.json(["ls", "--json"]));
    let mut holder = scratch.hold(["a"]);
    fs::create_dir(scratch.join("sub")).unwrap();
    fs::write(scratch.join("sub/b.lock"), DEAD).unwrap();
    check(&scratch, "ls", scratch.json(["ls", "--recursive", "--json"]));
    check(&scratch, "clean", scratch.json(["clean", "--recursive", "--json"]));
    holder.finish();
}

#[test]
fn a_history() {
    let scratch = Scratch::new();
    let history = || scratch.json(["history", "--json", "a"]);
    check(&scratch, "history-none", history());
    let mut holder = scratch.hold(["--history", "9", "--label", "run 8f2c", "a"]);
    let busy = scratch.done(["run", "--history", "9", "-n", "a", "--", "echo", "job"]);
    assert_eq!(busy.code, Some(75));
    holder.signal(Signal::KILL);
    holder.wait();
    kill(holder.command, Signal::KILL);
    assert!(ends(holder.command));
    assert_eq!(scratch.done(["run", "--history", "9", "a", "--", "sh", "-c", "exit 3"]).code, Some(3));
    check(&scratch, "history", history());
}

#[test]
fn events() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let mut events = Running::start(scratch.tenure(["events", "--json"]));
    let mut seen = Vec::new();
    let mut next = || seen.push(serde_json::from_str::<Value>(&events.stdout.next()).unwrap());
    (0..2).for_each(|_| next());
    let mut waiter = Running::start(scratch.tenure(["run", "a", "--", "sh", "-c", "echo; read x"]));
    next();
    holder.finish();
    (0..3).for_each(|_| next());
    waiter.finish();
    next();
    let page = page();
    for event in &seen {
        let kind = event["event"].as_str().unwrap();
        assert!(page.contains(&format!("\n| `{kind}` |")), "docs/json.md does not explain `{kind}`");
    }
    for event in &mut seen {
        // The new holder's command may run before its pid is recorded.
        if event["lock"]["holder"].is_object() {
            event["lock"]["holder"]["command"] = json!("[command]");
            event["lock"]["holder"]["commandPid"] = json!("[pid]");
        }
        // The waiter may already hold.
        if event["event"] == "released" {
            event["lock"]["state"] = json!("[state]");
            event["lock"]["waiters"] = json!("[number]");
        }
    }
    check(&scratch, "events", Value::Array(seen));
    events.signal(Signal::TERM);
    events.wait();
}
