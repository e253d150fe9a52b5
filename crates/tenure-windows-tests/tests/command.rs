//! The command `tenure` on Windows.

#![cfg(windows)]
#![allow(clippy::disallowed_methods, reason = "the tests do what other programs do")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tenure_windows_tests::programs;

fn tenure(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(programs().join("tenure.exe"));
    command.args(words).current_dir(dir).stdin(Stdio::null());
    command
}

fn run(dir: &Path, words: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = tenure(dir, words).output().expect("build it: cargo build -p tenure-cli");
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code(), text)
}

/// A `tenure hold` that holds, until its input ends.
fn hold(dir: &Path) -> Child {
    let mut child = tenure(dir, &["hold", "q"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\"state\": \"held\""), "{line}");
    child
}

/// Waits until there is a file with a text, for some minutes at most.
fn text_of(file: &Path) -> String {
    let end = Instant::now() + Duration::from_secs(180);
    loop {
        match fs::read_to_string(file) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert!(Instant::now() < end, "{} is not written", file.display()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn run_has_the_commands_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    for code in [0, 3, 200] {
        assert_eq!(run(dir.path(), &["run", "q", "--", "cmd", "/c", "exit", &code.to_string()]).0, Some(code));
    }
    assert_eq!(run(dir.path(), &["run", "q", "-c", "exit 5"]).0, Some(5));
    let (code, text) = run(dir.path(), &["run", "q", "-c", "echo \"%TENURE_TARGET%\""]);
    assert!(code == Some(0) && text.contains("\"q\""), "{text}");
    assert_eq!(run(dir.path(), &["run", "q", "--", "no-such-program"]).0, Some(127));
    assert!(!dir.path().join("q.lock").exists());
}

#[test]
fn a_busy_lock_is_75_and_a_free_one_is_acquired() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = hold(dir.path());
    let (code, text) = run(dir.path(), &["run", "-n", "q", "--", "cmd", "/c", "exit 0"]);
    assert!(code == Some(75) && text.contains(&format!("pid {}", holder.id())), "{text}");
    assert_eq!(run(dir.path(), &["wait", "--timeout", "100ms", "q"]).0, Some(75));
    let waiter = tenure(dir.path(), &["run", "q", "--", "cmd", "/c", "exit 9"]).spawn().unwrap();
    drop(holder.stdin.take());
    assert_eq!(holder.wait().unwrap().code(), Some(0));
    assert_eq!(waiter.wait_with_output().unwrap().status.code(), Some(9));
}

#[test]
fn status_ls_wait_and_clean_show_a_holder_and_its_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = hold(dir.path());
    let (code, text) = run(dir.path(), &["status", "--json", "q"]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(code == Some(0) && status["state"] == "held", "{text}");
    let (_, listed) = run(dir.path(), &["ls"]);
    assert!(listed.contains("held") && listed.contains(&holder.id().to_string()), "{listed}");
    let waiter = tenure(dir.path(), &["wait", "--timeout", "60s", "q"]).spawn().unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(waiter.wait_with_output().unwrap().status.code(), Some(0), "a killed holder does not hold");
    assert!(dir.path().join("q.lock").exists());
    let (code, text) = run(dir.path(), &["clean"]);
    assert!(code == Some(0) && !dir.path().join("q.lock").exists(), "{text}");
    let (code, text) = run(dir.path(), &["run", "q", "--", "cmd", "/c", "exit 0"]);
    assert!(code == Some(0) && text.contains("died"), "the crash is reported: {text}");
}

#[test]
fn a_break_ends_a_holders_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = hold(dir.path());
    let (code, text) = run(dir.path(), &["break", "--force", "q"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(run(dir.path(), &["run", "--timeout", "60s", "q", "--", "cmd", "/c", "exit 0"]).0, Some(0));
    drop(holder.stdin.take());
    assert_eq!(holder.wait().unwrap().code(), Some(76), "it learns of it");
}

#[test]
fn a_command_does_not_outlive_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    // The command starts another process, as a shell does, and both live until they are killed.
    let actor = programs().join("windows-actor.exe");
    let script = format!("\"{}\" grandchild pid >pid.txt", actor.display());
    let mut run = tenure(dir.path(), &["run", "q", "-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
    let pid: i64 = text_of(&dir.path().join("pid.txt")).parse().unwrap();
    assert!(tenure::process::is_alive(pid));
    run.kill().unwrap();
    run.wait().unwrap();
    let end = Instant::now() + Duration::from_secs(180);
    while tenure::process::is_alive(pid) {
        assert!(Instant::now() < end, "the command lives, and its lock is free");
        std::thread::sleep(Duration::from_millis(10));
    }
    let lock = tenure::Lock::open(dir.path().join("q")).unwrap();
    assert!(lock.acquire_timeout(Duration::from_secs(60)).unwrap().previous().is_crashed());
}

#[test]
fn an_overrun_ends_the_command_and_what_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let actor = programs().join("windows-actor.exe");
    let script = format!("\"{}\" grandchild pid >pid.txt", actor.display());
    // On a busy machine the command may be ended before it has written its pid.
    let pid = ["2s", "20s", "200s"].into_iter().find_map(|max_hold| {
        let words = ["run", "--max-hold", max_hold, "--on-overrun", "kill", "q", "-c", &script];
        assert_eq!(run(dir.path(), &words).0, Some(137));
        fs::read_to_string(dir.path().join("pid.txt")).ok()?.trim().parse::<i64>().ok()
    });
    let pid = pid.expect("the command writes its pid");
    assert!(!tenure::process::is_alive(pid), "it was ended before the release");
}

#[test]
fn doctor_finds_a_folder_fit() {
    let dir = tempfile::tempdir().unwrap();
    let (code, text) = run(dir.path(), &["doctor", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, Some(0), "{text}");
    let answer = |name: &str| {
        let checks = found["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).map(|check| check["answer"].clone())
    };
    for needed in
        ["kernel-lock", "second-process", "room", "exclusive-rename", "removal-by-handle", "lease", "inotify", "pidfd"]
    {
        assert_eq!(answer(needed).unwrap(), "yes", "{needed}: {text}");
    }
    assert_eq!((answer("exchange"), answer("hard-link")), (None, None), "Windows has its own rows");
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing is left");
}

#[test]
fn the_help_describes_windows() {
    // Words of Linux, and options that Windows has no port of.
    const FOREIGN: [&str; 22] = [
        "SIG",
        "flock(",
        "/bin/",
        "$SHELL",
        "cron",
        "/tmp",
        "/mnt",
        "/dev/",
        "Ctrl-D",
        "./",
        ".sh",
        "nice(1)",
        "daemon",
        "man -l",
        "--mode",
        "--close",
        "--pid",
        "--stress",
        "--seed",
        "128 +",
        "kernel kills",
        "coproc",
    ];
    let dir = tempfile::tempdir().unwrap();
    let subcommands =
        ["run", "hold", "status", "ls", "history", "clean", "wait", "break", "doctor", "metrics", "completions", "man"];
    let calls = subcommands.iter().flat_map(|name| [vec![*name, "--help"], vec![*name, "-h"]]);
    for words in [vec!["--help"], vec!["-h"], vec![]].into_iter().chain(calls) {
        let (code, text) = run(dir.path(), &words);
        assert_eq!(code, Some(0), "{words:?}: {text}");
        let found: Vec<_> = FOREIGN.iter().filter(|word| text.contains(**word)).collect();
        assert!(found.is_empty(), "{words:?} has {found:?}:\n{text}");
    }
    let (_, text) = run(dir.path(), &["run", "--help"]);
    for said in ["they all end\nwith it", "%COMSPEC%", "Ctrl-Break", "no other program can read or write it"] {
        assert!(text.contains(said), "{said}: {text}");
    }
}
