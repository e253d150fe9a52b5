//! `tenure hold`.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use common::{Done, Running, Scratch, ends, kill};
use rustix::process::Signal;
use serde_json::Value;

/// Starts `tenure hold OPTIONS`. Returns it with its record once it holds the lock.
fn hold<'a>(scratch: &Scratch, options: impl IntoIterator<Item = &'a str>) -> (Running, Value) {
    let holder = Running::start(scratch.tenure(["hold"].into_iter().chain(options)));
    let record = serde_json::from_str(&holder.stdout.next()).unwrap();
    (holder, record)
}

/// Returns the script in `tenure hold --help` that begins with this line.
fn example_from(scratch: &Scratch, first: &str) -> String {
    let help = scratch.done(["hold", "--help"]).stdout;
    let from = help.find(first).expect("the example");
    help[from..].lines().take_while(|line| !line.is_empty()).map(|line| line.to_owned() + "\n").collect()
}

fn example(scratch: &Scratch) -> String {
    example_from(scratch, "    coproc LOCK")
}

fn bash(scratch: &Scratch, script: &str) -> Command {
    let mut bash = Command::new("bash");
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_tenure")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    bash.env("PATH", format!("{}:{path}", program.display())).env_remove("TENURE_TIMEOUT");
    bash.arg("-c").arg(script).current_dir(scratch.path()).stdin(Stdio::null());
    bash
}

/// Sends a line, and returns its answer.
fn ask(holder: &mut Running, line: &str) -> Value {
    holder.say(line);
    serde_json::from_str(&holder.stdout.next()).unwrap()
}

fn is_free(scratch: &Scratch, target: &str) -> bool {
    scratch.done(["run", "-n", target, "--", "true"]).code == Some(0)
}

#[test]
fn the_script_in_the_help_holds_over_its_commands() {
    let scratch = Scratch::new();
    for name in ["append.sh", "compact.sh"] {
        let path = scratch.join(name);
        fs::write(&path, "#!/bin/sh\ntenure status --check sessions/main.jsonl; echo \"$0 $?\"\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = example(&scratch) + "echo \"end $?\"; tenure status --check sessions/main.jsonl; echo \"free $?\"";
    let done = Done::from(bash(&scratch, &script).output().unwrap());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{script}\n{done:?}");
    assert_eq!(done.stdout, "./append.sh 75\n./compact.sh 75\nend 0\nfree 0\n");
}

#[test]
fn the_script_in_the_help_ends_with_the_exit_code_where_the_lock_is_busy() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["sessions/main.jsonl"]);
    let script = example(&scratch);
    assert!(script.contains("--timeout 10s"), "{script}");
    for options in ["-n", "--timeout 50ms", "-E 7 -n"] {
        let script = script.replace("--timeout 10s", options);
        let done = Done::from(bash(&scratch, &script).output().unwrap());
        let code = if options.starts_with("-E") { 7 } else { 75 };
        assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{done:?}");
        assert!(done.stderr.contains(&holder.command.to_string()), "{done:?}");
    }
    holder.finish();
}

#[test]
fn a_script_that_is_killed_frees_the_lock() {
    let scratch = Scratch::new();
    let script =
        "coproc LOCK { exec tenure hold a; }; read -r record <&\"${LOCK[0]}\"; echo $!; echo held; read -r never";
    let mut script = Running::start(bash(&scratch, script));
    let holder: i32 = script.stdout.next().parse().unwrap();
    assert_eq!(script.stdout.next(), "held");
    assert!(!is_free(&scratch, "a"));
    script.signal(Signal::KILL);
    script.wait();
    assert!(ends(holder));
    assert!(is_free(&scratch, "a"));
}

#[test]
fn the_record_is_one_line_and_the_end_of_input_releases() {
    let scratch = Scratch::new();
    let (mut holder, record) = hold(&scratch, ["--label", "two\nlines", "--max-hold", "1h", "dir/a"]);
    assert_eq!(record["pid"], holder.pid());
    assert_eq!(record["tenure"]["label"], "two\nlines");
    assert_eq!(record["maxHoldMs"], 3_600_000);
    let found = scratch.json(["status", "--json", "dir/a"]);
    assert_eq!(found["holder"]["fence"], record["tenure"]["fence"]);
    // Input is not the end of input.
    holder.say("");
    let refused = ask(&mut holder, "still here")["error"].to_string();
    assert!(refused.contains("neither `suspend` nor `resume`: still here"), "{refused}");
    assert!(!is_free(&scratch, "dir/a"));
    assert_eq!(holder.finish().code(), Some(0));
    assert_eq!((holder.stdout.rest(), holder.stderr.rest()), (vec![], vec![]));
    assert!(!scratch.join("dir/a.lock").exists());
    assert!(is_free(&scratch, "dir/a"));
}

#[test]
fn a_signal_releases_and_ends_it_by_that_signal() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let scratch = Scratch::new();
        let (mut holder, _) = hold(&scratch, ["a"]);
        holder.signal(signal);
        assert_eq!(holder.wait().signal(), Some(signal.as_raw()));
        assert!(!scratch.join("a.lock").exists(), "{signal:?}");
        // The next holder gets no crash report.
        let done = scratch.done(["run", "-n", "a", "--", "true"]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{signal:?}");
    }
}

#[test]
fn a_signal_while_it_waits_ends_it_by_that_signal() {
    let scratch = Scratch::new();
    let (mut holder, _) = hold(&scratch, ["a"]);
    let mut waiter = Running::start(scratch.tenure(["hold", "a"]));
    waiter.stderr.until("waiting for a");
    waiter.signal(Signal::TERM);
    assert_eq!(waiter.wait().signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(waiter.stdout.rest(), [""; 0]);
    assert_eq!(holder.finish().code(), Some(0));
}

#[test]
fn a_lock_that_was_broken_ends_it_with_76() {
    let scratch = Scratch::new();
    let (mut holder, _) = hold(&scratch, ["a"]);
    assert_eq!(scratch.done(["break", "--force", "a"]).code, Some(0));
    assert_eq!(holder.wait().code(), Some(76));
    let said = holder.stderr.rest();
    assert!(said.len() == 1 && said[0].starts_with("tenure: a: the lock"), "{said:?}");
    assert!(is_free(&scratch, "a"));
}

#[test]
fn a_lock_that_was_broken_just_before_the_end_is_76_too() {
    let scratch = Scratch::new();
    for signal in [None, Some(Signal::TERM)] {
        let (mut holder, _) = hold(&scratch, ["a"]);
        assert_eq!(scratch.done(["break", "--force", "a"]).code, Some(0));
        match signal {
            Some(signal) => holder.signal(signal),
            None => drop(holder.finish()),
        }
        assert_eq!(holder.wait().code(), Some(76), "{signal:?}");
        assert_eq!(holder.stderr.rest().len(), 1);
    }
}

#[test]
fn a_removed_lock_file_still_excludes_natives_and_is_76_at_the_end() {
    let scratch = Scratch::new();
    let (mut holder, _) = hold(&scratch, ["a"]);
    fs::remove_file(scratch.join("a.lock")).unwrap();
    assert!(holder.stderr.next().ends_with("those that know only the lock file are not: it stays held"));
    assert_eq!(scratch.done(["run", "-n", "a", "--", "true"]).code, Some(75));
    assert_eq!(holder.finish().code(), Some(76));
    assert_eq!(holder.stderr.rest(), [""; 0]);
    assert!(is_free(&scratch, "a"));
}

#[test]
fn without_input_it_is_released_at_once() {
    let scratch = Scratch::new();
    let done = scratch.done(["hold", "--verbose", "a"]);
    assert_eq!((done.code, done.stdout.lines().count()), (Some(0), 1), "{done:?}");
    assert!(done.stderr.ends_with("tenure: released a\n"), "{done:?}");
    assert!(is_free(&scratch, "a"));
}

#[test]
fn a_closed_output_does_not_matter_and_a_full_disk_does() {
    let scratch = Scratch::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = scratch.tenure(["hold", "a"]);
    let mut child = command.stdin(Stdio::piped()).stdout(writer).spawn().unwrap();
    while scratch.done(["status", "--check", "a"]).code != Some(75) {
        assert!(child.try_wait().unwrap().is_none(), "it must hold the lock");
    }
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let full = File::options().write(true).open("/dev/full").unwrap();
    let done = Done::from(scratch.tenure(["hold", "a"]).stdout(full).stderr(Stdio::piped()).output().unwrap());
    assert_eq!(done.code, Some(74), "{done:?}");
    assert!(is_free(&scratch, "a"));
}

#[test]
fn shares_print_an_empty_record_and_share() {
    let scratch = Scratch::new();
    let (mut one, record) = hold(&scratch, ["--shared", "--flock", "a"]);
    assert_eq!(record, serde_json::json!({}));
    let (mut other, _) = hold(&scratch, ["--shared", "--flock", "a"]);
    assert!(!is_free(&scratch, "a"));
    assert_eq!((one.finish().code(), other.finish().code()), (Some(0), Some(0)));
    assert!(is_free(&scratch, "a"));
}

#[test]
fn an_overrun_is_reported_and_the_lock_stays_held() {
    let scratch = Scratch::new();
    let (mut holder, _) = hold(&scratch, ["--max-hold", "50ms", "a"]);
    assert_eq!(holder.stderr.next(), "tenure: a has been held for longer than 50 ms: it stays held");
    assert!(!is_free(&scratch, "a"));
    assert_eq!(holder.finish().code(), Some(0));
}

#[test]
fn sigkill_frees_the_lock_and_the_next_holder_gets_a_crash_report() {
    let scratch = Scratch::new();
    let (mut holder, _) = hold(&scratch, ["a"]);
    kill(holder.pid(), Signal::KILL);
    holder.wait();
    let done = scratch.done(["run", "a", "--", "true"]);
    assert_eq!(done.code, Some(0));
    assert!(done.stderr.contains("took over a from pid"), "{done:?}");
}

#[test]
fn a_script_lets_others_in_and_learns_whether_they_held() {
    let scratch = Scratch::new();
    let (mut holder, record) = hold(&scratch, ["a"]);
    let suspended = ask(&mut holder, "suspend");
    assert_eq!(
        suspended,
        serde_json::json!({
            "suspended": true, "fence": record["tenure"]["fence"], "goesFirst": true
        })
    );
    let found = scratch.json(["status", "--json", "a"]);
    assert_eq!((&found["state"], &found["suspended"][0]["pid"]), (&"free".into(), &holder.pid().into()), "{found}");
    let shown = scratch.done(["status", "a"]).stdout;
    assert!(shown.contains(&format!("suspended by pid {}", holder.pid())), "{shown}");
    let resumed = ask(&mut holder, "resume");
    assert_eq!((&resumed["resumed"], &resumed["changed"]), (&true.into(), &false.into()), "{resumed}");
    assert_eq!((&resumed["meanwhile"], &resumed["crashed"]), (&"nobody".into(), &Value::Null));
    assert!(resumed["record"]["tenure"]["fence"].as_u64() > record["tenure"]["fence"].as_u64());
    assert!(!is_free(&scratch, "a"));

    ask(&mut holder, "suspend");
    assert!(is_free(&scratch, "a"));
    let resumed = ask(&mut holder, "resume");
    assert_eq!((&resumed["changed"], &resumed["meanwhile"]), (&true.into(), &"others".into()), "{resumed}");

    ask(&mut holder, "suspend");
    let (mut other, _) = hold(&scratch, ["a"]);
    kill(other.pid(), Signal::KILL);
    other.wait();
    let resumed = ask(&mut holder, "resume");
    assert_eq!(resumed["crashed"]["pid"], other.pid(), "{resumed}");
    assert_eq!(holder.finish().code(), Some(0));
    assert!(is_free(&scratch, "a"));
}

#[test]
fn the_script_in_the_help_reads_again_only_what_may_have_changed() {
    if !common::needs("jq") {
        return;
    }
    let scratch = Scratch::new();
    for (name, body) in [("ask-the-model.sh", "eval \"$ASKED\""), ("read-again.sh", "echo read again")] {
        let path = scratch.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let begin: String = example(&scratch).lines().take(3).map(|line| line.to_owned() + "\n").collect();
    let script = begin + &example_from(&scratch, "    echo suspend >&") + "echo \"held $?\"";
    for (asked, expected) in [("true", "held 0\n"), ("tenure run sessions/main.jsonl -- true", "read again\nheld 0\n")]
    {
        let done = Done::from(bash(&scratch, &script).env("ASKED", asked).output().unwrap());
        assert_eq!((done.code, done.stderr.as_str(), done.stdout.as_str()), (Some(0), "", expected), "{script}");
    }
}

#[test]
fn a_line_that_cannot_be_obeyed_changes_nothing() {
    let scratch = Scratch::new();
    let (mut holder, _) = hold(&scratch, ["a"]);
    assert!(ask(&mut holder, "resume")["error"].to_string().contains("`suspend` comes first"));
    assert!(!is_free(&scratch, "a"));
    ask(&mut holder, "suspend");
    assert!(ask(&mut holder, "suspend")["error"].to_string().contains("suspended already"));
    assert_eq!(ask(&mut holder, " resume ")["resumed"], true);
    let long = "x".repeat(5000);
    assert!(ask(&mut holder, &long)["error"].to_string().contains("neither"));
    assert!(holder.stdout.next().contains("neither"), "its rest is a line as well");
    assert_eq!(holder.finish().code(), Some(0));

    for options in [&["--shared", "--flock"][..], &["--no-record"], &["--slots", "2"]] {
        let (mut holder, _) = hold(&scratch, options.iter().copied().chain(["b"]));
        let refused = ask(&mut holder, "suspend")["error"].to_string();
        assert!(refused.contains("cannot be suspended"), "{options:?}: {refused}");
        assert_eq!(holder.finish().code(), Some(0), "{options:?}");
    }
}

#[test]
fn a_resume_that_finds_the_lock_busy_ends_with_75() {
    let scratch = Scratch::new();
    for (options, code) in [(&["--timeout", "50ms"][..], 75), (&["-n"], 75), (&["-E", "7", "-n"], 7)] {
        let (mut holder, _) = hold(&scratch, options.iter().copied().chain(["a"]));
        ask(&mut holder, "suspend");
        let (mut other, _) = hold(&scratch, ["a"]);
        holder.say("resume");
        assert_eq!(holder.wait().code(), Some(code), "{options:?}");
        assert!(holder.stderr.rest()[0].contains(&other.pid().to_string()));
        assert_eq!(holder.stdout.rest(), [""; 0]);
        assert_eq!(other.finish().code(), Some(0));
    }
}

#[test]
fn what_comes_after_resume_is_obeyed_once_the_lock_is_held() {
    let scratch = Scratch::new();
    let (mut holder, _) = hold(&scratch, ["a"]);
    ask(&mut holder, "suspend");
    let (mut other, _) = hold(&scratch, ["a"]);
    holder.say("resume");
    holder.stderr.until("waiting for a");
    holder.say("suspend");
    assert_eq!(other.finish().code(), Some(0));
    assert!(holder.stdout.next().starts_with("{\"resumed\":true"));
    assert!(holder.stdout.next().starts_with("{\"suspended\":true"));
    assert!(is_free(&scratch, "a"));
    // The end of input gives a suspended lock up.
    assert_eq!(holder.finish().code(), Some(0));
    assert_eq!(scratch.json(["status", "--json", "a"])["suspended"], Value::Null);
}

#[test]
fn the_end_of_input_or_a_signal_ends_a_resume() {
    for signal in [None, Some(Signal::TERM)] {
        let scratch = Scratch::new();
        let (mut holder, _) = hold(&scratch, ["a"]);
        ask(&mut holder, "suspend");
        let (mut other, _) = hold(&scratch, ["a"]);
        holder.say("resume");
        holder.stderr.until("waiting for a");
        match signal {
            None => assert_eq!(holder.finish().code(), Some(0)),
            Some(signal) => {
                holder.signal(signal);
                assert_eq!(holder.wait().signal(), Some(signal.as_raw()));
            }
        }
        assert_eq!(holder.stdout.rest(), [""; 0]);
        assert_eq!(scratch.json(["status", "--json", "a"])["holder"]["pid"], other.pid());
        assert_eq!(other.finish().code(), Some(0));
        assert!(is_free(&scratch, "a"));
    }
}
