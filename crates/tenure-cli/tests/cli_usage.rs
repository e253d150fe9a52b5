//! The command line: which calls are refused, and with which error. No lock is touched here.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::process::{Command, Stdio};

use common::Scratch;

#[test]
fn usage_errors_are_64_and_name_the_right_usage() {
    let scratch = Scratch::new();
    let cases: [(&[&str], &str); 20] = [
        (&["run"], "TARGET"),
        (&["run", "a"], "tenure run TARGET -- COMMAND"),
        (&["run", "a", "make"], "is `make` the command?"),
        (&["run", "--", "true"], "TARGET"),
        (&["run", "a", "--timeout", "5 parsecs", "--", "true"], "write 10 or 10s, 300ms, 5m, 1h30m or 2d"),
        (&["run", "a", "--timeout", "-5s", "--", "true"], "never negative"),
        (&["run", "a", "--timeout", "10 s", "--", "true"], "write 10 or 10s"),
        (&["run", "a", "--timeout", "", "--", "true"], "--timeout"),
        (&["run", "a", "--timeout", "--", "true"], "'--timeout <DURATION>': write 10"),
        (&["run", "a", "--max-hold", "0", "--", "true"], "longer than zero"),
        (&["run", "a", "--steal-after", "0s", "--", "true"], "longer than zero"),
        (&["run", "a", "--on-overrun", "term", "--", "true"], "--max-hold"),
        (&["run", "a", "--mode", "9", "--", "true"], "octal"),
        (&["run", "a", "-E", "256", "--", "true"], "256"),
        (&["run", "a", "--shared", "--", "true"], "--shared needs --flock"),
        (&["run", "a", "-q", "-v", "--", "true"], "--quiet"),
        (&["run", "a", "-c", "true", "--", "true"], "-c"),
        (&["status"], "TARGET"),
        (&["sattus"], "'status'"),
        (&["ls", "--nope"], "--nope"),
    ];
    for (words, says) in cases {
        let done = scratch.done(words);
        assert_eq!(done.code, Some(64), "{words:?}: {done:?}");
        assert!(done.stderr.starts_with("tenure: ") && done.stderr.contains(says), "{words:?}: {done:?}");
        assert_eq!(done.stdout, "", "{words:?}");
    }
    assert!(scratch.names().is_empty(), "nothing was created");
}

#[test]
fn a_wrong_timeout_in_the_environment_is_refused_too() {
    let scratch = Scratch::new();
    let output = scratch.tenure(["run", "a", "--", "true"]).env("TENURE_TIMEOUT", "soon").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("300ms") && said.contains("The value is from the environment variable TENURE_TIMEOUT."),
        "{said}"
    );
    // The note is missing where the command line has the value.
    let mut call = scratch.tenure(["run", "--timeout", "soon", "a", "--", "true"]);
    let output = call.env("TENURE_TIMEOUT", "10s").output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("environment"), "{output:?}");
}

#[test]
fn help_is_no_error_and_names_the_exit_codes() {
    let scratch = Scratch::new();
    for words in [&[][..], &["-h"], &["help"], &["run", "-h"], &["--version"]] {
        let done = scratch.done(words);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{words:?}");
        assert!(done.stdout.contains("tenure"), "{words:?}: {}", done.stdout);
    }
    for subcommand in ["run", "status", "ls", "clean", "doctor"] {
        let done = scratch.done(["help", subcommand]);
        assert_eq!(done.code, Some(0));
        for part in ["Examples:", "Exit codes:"] {
            assert!(done.stdout.contains(part), "{subcommand} has no {part}");
        }
    }
}

/// `-V` is for scripts, and `--version` for bug reports.
#[test]
fn the_version_is_short_or_has_the_commit_and_the_features() {
    let scratch = Scratch::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(scratch.done(["-V"]).stdout, format!("tenure {version}\n"));
    let sign = |is_on| if is_on { '+' } else { '-' };
    let features = format!("{}etcd {}postgres", sign(cfg!(feature = "etcd")), sign(cfg!(feature = "postgres")));
    // Without git, and in an unpacked archive, there is no commit to print.
    let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let commit = match head {
        Ok(head) if head.status.success() => format!(" ({})", String::from_utf8_lossy(&head.stdout[..9])),
        _ => String::new(),
    };
    let done = scratch.done(["--version"]);
    assert_eq!((done.code, done.stdout), (Some(0), format!("tenure {version}{commit} {features}\n")));
}

/// Every subcommand that takes a server says what the binary lacks, and touches no file with the target's name.
#[test]
#[cfg(not(any(feature = "etcd", feature = "postgres")))]
fn a_server_without_its_feature_is_named_in_the_error() {
    let scratch = Scratch::new();
    for (feature, target) in [
        ("etcd", "etcd://127.0.0.1:1/a"),
        ("postgres", "postgres://u@127.0.0.1:1/d?lock=a"),
        ("postgres", "postgresql://u@127.0.0.1:1/d?lock=a"),
    ] {
        for words in [
            &["run", target, "--", "true"][..],
            &["hold", target],
            &["status", target],
            &["ls", target],
            &["wait", target],
            &["break", target],
            &["doctor", target],
        ] {
            let done = scratch.done(words);
            assert_eq!((done.code, done.stdout.as_str()), (Some(69), ""), "{words:?}: {done:?}");
            let says = format!(
                ": this program was built without the feature `{feature}`; build the crate `tenure-cli` with that feature, \
                 which is on by default\n"
            );
            assert!(done.stderr.starts_with("tenure: ") && done.stderr.ends_with(&says), "{words:?}: {done:?}");
        }
    }
    assert!(scratch.names().is_empty(), "nothing was created");
}

#[test]
fn help_into_a_closed_pipe_is_no_error() {
    let scratch = Scratch::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = scratch.tenure(["run", "--help"]).stdout(Stdio::from(writer)).status().unwrap();
    assert_eq!(status.code(), Some(0));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status = scratch.tenure(["run", "--help"]).stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(74));
}
