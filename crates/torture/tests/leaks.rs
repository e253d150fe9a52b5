//! No descriptor, memory or thread leaks: by a count, and by Valgrind.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::path::Path;
use std::process::{Command, Stdio};

use tenure_tests::{folder, has, needs, tenure_program};

#[test]
fn many_acquires_leave_nothing() {
    let dir = folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_torture"));
    command.arg("--dir").arg(dir.path()).args(["leaks", "--times", "20000"]);
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}

/// Runs a program under memcheck. The program must succeed without lost memory, and without open descriptors but those
/// that `kept` opened, a function that keeps a descriptor until the process's end on purpose.
fn check(program: &Path, words: &[&str], kept: &str) {
    let dir = folder();
    let log = dir.path().join("log");
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect", "--track-fds=yes"]);
    command.arg("--show-leak-kinds=definite,indirect").arg("--error-exitcode=99");
    command.arg(format!("--log-file={}", log.display())).arg(program).args(words);
    let ran = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    let what = format!("{words:?}: {}\n{said}{}", ran.status, String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{what}");
    assert!(!said.contains("definitely lost") && !said.contains("indirectly lost"), "{what}");
    assert!(said.contains("FILE DESCRIPTORS:"), "no report on descriptors: {what}");
    // Descriptors that the parent left open do not belong to the program.
    let open = said.split("Open file descriptor").skip(1).filter(|text| !text.contains("inherited from parent"));
    assert_eq!(open.filter(|text| !text.contains(kept)).count(), 0, "left open: {what}");
}

#[test]
fn valgrind_finds_no_leak_in_the_library() {
    if !needs("valgrind", has("valgrind")) {
        return;
    }
    let dir = folder();
    let words = ["--dir", dir.path().to_str().unwrap(), "leaks", "--times", "100", "--slack", "100000"];
    // Memory that Valgrind itself uses is no leak.
    check(Path::new(env!("CARGO_BIN_EXE_torture")), &words, "nothing is kept");
}

#[test]
fn valgrind_finds_no_leak_in_the_command() {
    if !needs("valgrind", has("valgrind")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (target, folder) = (target.to_str().unwrap(), dir.path().to_str().unwrap());
    let program = tenure_program();
    // Not `run`: Valgrind 3.19, in Debian 12, lacks pidfd_open(2), which `run` reports as an error.
    for words in [["hold", target], ["status", target], ["clean", folder]] {
        // The descriptor to which a signal handler writes stays open.
        check(&program, &words, "catch_ending");
    }
    check(&program, &["hold", "--flock", target], "catch_ending");
}
