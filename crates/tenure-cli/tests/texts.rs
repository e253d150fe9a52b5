//! Snapshots of every help text and every error. `INSTA_UPDATE=always cargo test -p tenure-cli --test texts` updates them;
//! read the difference before you commit it.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use common::{Done, Running, SUBCOMMANDS, Scratch, ends, kill};
use rustix::process::Signal;

/// Patterns of text that differs from run to run, with their replacements.
const CHANGING: [(&str, &str); 9] = [
    (r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z", "[DATE]"),
    (r"\b\d{16}\b", "[FENCE]"),
    (r"(^|[^-])pid \d+", "${1}pid [PID]"),
    (r"\b\d+ (ms|s|min)\b", "[TIME]"),
    (r"--timeout \[TIME\]", "--timeout 30ms"),
    // On a slow machine the timeout is over before the wait begins.
    (r" \(waited \[TIME\]\)", ""),
    (r"host      \S+", "host      [HOST]"),
    (r"/tmp/\.tmp\w+|/\S*/\.tmp\w+", "[DIR]"),
    (r"echo \$\$; read x", "[SCRIPT]"),
];

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (pattern, shown) in CHANGING {
        settings.add_filter(pattern, shown);
    }
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Runs a call without the width of a terminal.
fn plain(scratch: &Scratch, words: &[&str]) -> Done {
    Done::from(scratch.tenure(words).env_remove("COLUMNS").env_remove("LINES").output().unwrap())
}

/// Calls and their output, as in a terminal.
struct Session<'a> {
    scratch: &'a Scratch,
    text: String,
}

impl Session<'_> {
    fn call(&mut self, words: &[&str]) -> &mut Self {
        let done = plain(self.scratch, words);
        self.add(words, &done)
    }

    fn add(&mut self, words: &[&str], done: &Done) -> &mut Self {
        let words: Vec<String> = words
            .iter()
            .map(|word| match word.contains(' ') || word.is_empty() {
                true => format!("'{word}'"),
                false => (*word).to_owned(),
            })
            .collect();
        self.text += &format!("$ tenure {}\n{}{}", words.join(" "), done.stdout, done.stderr);
        self.text += &format!("exit code {}\n\n", done.code.unwrap());
        self
    }
}

fn session(scratch: &Scratch) -> Session<'_> {
    Session { scratch, text: String::new() }
}

#[test]
fn every_help() {
    let scratch = Scratch::new();
    let short = |words: &[&str]| {
        let done = plain(&scratch, words);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{words:?}");
        done.stdout
    };
    let mut text = String::new();
    let mut add = |words: &[&str]| {
        let help = short(words);
        text += &format!("$ tenure {}\n{help}\n", words.join(" "));
        help
    };
    add(&["--help"]);
    assert_eq!(short(&[]), add(&["-h"]), "without arguments the short help is printed");
    for name in SUBCOMMANDS {
        let long = add(&[name, "--help"]);
        add(&[name, "-h"]);
        assert_eq!(short(&["help", name]), long);
        assert!(long.contains("\nExamples:\n"), "{name}");
    }
    snapshot("help", &text);
    let all = short(&["-h"]);
    let listed = all.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let listed: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed, [&SUBCOMMANDS[..], &["help"]].concat(), "a new subcommand needs its snapshots");
}

#[test]
fn usage_errors() {
    let scratch = Scratch::new();
    let mut text = session(&scratch);
    for words in [
        &["run"][..],
        &["run", "a"],
        &["run", "a", "make", "test"],
        &["run", "--", "true"],
        &["run", "a", "--timeout", "5 parsecs", "--", "true"],
        &["run", "a", "--timeout", "-5s", "--", "true"],
        &["run", "a", "--timeout", "10 s", "--", "true"],
        &["run", "-F", "a", "--", "true"],
        &["run", "-u", "a", "--", "true"],
        &["run", "--fcntl", "a", "--", "true"],
        &["run", "-n", "9"],
        &["run", "a", "--max-hold", "0", "--", "true"],
        &["run", "--shared", "a", "--", "true"],
        &["run", "--mode", "rw", "a", "--", "true"],
        &["run", "", "--", "true"],
        &["run", "dir/", "--", "true"],
        &["run", ".", "--", "true"],
        &["run", "--tiemout", "5s", "a", "--", "true"],
        &["hold"],
        &["hold", "a", "b"],
        &["hold", "a", "--max-hold", "0s"],
        &["hold", "a", "--history", "0"],
        &["run", "--history", "10001", "a", "--", "true"],
        &["run", "--history", "1", "--no-record", "a", "--", "true"],
        &["history"],
        &["history", "--svg", "--json", "a"],
        &["history", "dir/"],
        &["wait"],
        &["wait", "a", "--timeout", "5 parsecs"],
        &["wait", "a", "--timeout", "-1"],
        &["wait", "a", "--until", "freed"],
        &["break"],
        &["status"],
        &["status", "--pid", "0"],
        &["status", "--pid", "1", "a"],
        &["completions"],
        &["completions", "tcsh"],
        &["man", "none"],
        &["doctor", "--stress", "0"],
        &["doctor", "--stress", "5 parsecs"],
        &["doctor", "--stress", "1s", "--processes", "1"],
        &["doctor", "--processes", "4"],
        &["doctor", "none"],
        &["ls", "--cross-file-systems"],
        &["clean", "--dry"],
        &["sattus"],
        &["lock", "a"],
        &["help", "sattus"],
    ] {
        text.call(words);
    }
    let words = ["run", "a", "--", "true"];
    let output = scratch.tenure(words).env("TENURE_TIMEOUT", "soon").env_remove("COLUMNS").output().unwrap();
    text.add(&words, &Done::from(output));
    assert!(scratch.names().is_empty(), "nothing was created: {:?}", scratch.names());
    snapshot("usage-errors", &text.text);
}

#[test]
fn a_lock_that_is_held() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--label", "run 8f2c", "--max-hold", "1h", "sessions/main.jsonl"]);
    let target = "sessions/main.jsonl";
    let mut text = session(&scratch);
    text.call(&["run", "-n", target, "--", "true"])
        .call(&["run", "--timeout", "30ms", target, "--", "true"])
        .call(&["hold", "-n", target])
        .call(&["wait", "--timeout", "30ms", target])
        .call(&["wait", "--until", "changed", "--timeout", "30ms", target])
        .call(&["wait", "--until", "held", "--timeout", "30ms", "other"])
        .call(&["status", target])
        .call(&["break", target])
        .call(&["break", "--force", target]);
    assert_eq!(holder.wait().code(), Some(76));
    text.text += &format!("and its holder\n{}\nexit code 76\n", holder.stderr.rest().join("\n"));
    snapshot("held", &text.text);
}

#[test]
fn a_lock_whose_holder_died() {
    let scratch = Scratch::new();
    let die = || {
        let mut holder = scratch.hold(["a"]);
        holder.signal(Signal::KILL);
        holder.wait();
        kill(holder.command, Signal::KILL);
        assert!(ends(holder.command));
    };
    let mut text = session(&scratch);
    die();
    text.call(&["status", "a"]).call(&["wait", "a"]).call(&["run", "a", "--", "true"]);
    die();
    text.call(&["break", "a"]).call(&["break", "a"]);
    snapshot("died", &text.text);
}

/// The messages of `run` and `hold` while they hold a lock.
#[test]
fn a_lock_that_is_lost_or_held_for_too_long() {
    let scratch = Scratch::new();
    let mut text = String::new();
    let mut case = |what: &str, holder: &mut Running, code: i32| {
        let said = holder.stderr.rest().join("\n");
        assert_eq!(holder.wait().code(), Some(code), "{what}: {said}");
        text += &format!("{what}\n{said}\nexit code {code}\n\n");
    };
    for (how, code) in [("term", 143), ("kill", 137)] {
        let words = ["run", "--max-hold", "50ms", "--on-overrun", how, "a", "-c", "echo up; read x"];
        let (mut holder, _) = scratch.overrunning(&words);
        case(&format!("run --max-hold, --on-overrun {how}"), &mut holder, code);
    }
    // The holders that continue are ended once they have printed their message.
    let mut rest = String::new();
    let mut continues = |what: &str, mut holder: Running, code: i32| {
        let line = holder.stderr.next();
        holder.finish();
        assert_eq!((holder.wait().code(), holder.stderr.rest()), (Some(code), vec![]), "{what}: {line}");
        rest += &format!("{what}\n{line}\nexit code {code}\n\n");
    };
    continues("run --max-hold", scratch.hold(["--max-hold", "50ms", "a"]), 1);
    let holder = scratch.hold(["a"]);
    fs::remove_file(scratch.join("a.lock")).unwrap();
    continues("run, its lock file removed", holder, 76);
    let held = |options: &[&str]| {
        let holder = Running::start(scratch.tenure([&["hold"], options, &["a"]].concat()));
        holder.stdout.next();
        holder
    };
    continues("hold --max-hold", held(&["--max-hold", "50ms"]), 0);
    let holder = held(&[]);
    fs::remove_file(scratch.join("a.lock")).unwrap();
    continues("hold, its lock file removed", holder, 76);
    let mut holder = held(&[]);
    assert_eq!(scratch.done(["break", "--force", "--quiet", "a"]).code, Some(0));
    case("hold, broken", &mut holder, 76);
    snapshot("while-it-is-held", &(text + &rest));
}

#[test]
fn files_that_are_no_locks() {
    let scratch = Scratch::new();
    fs::write(scratch.join("Cargo.lock"), "version = 4\n").unwrap();
    fs::write(scratch.join("new.lock"), "").unwrap();
    let late = SystemTime::now() + Duration::from_secs(3600);
    File::options().write(true).open(scratch.join("new.lock")).unwrap().set_modified(late).unwrap();
    fs::create_dir(scratch.join("folder.lock")).unwrap();
    fs::write(scratch.join("text"), "no program").unwrap();
    fs::write(scratch.join("script"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(scratch.join("script"), Permissions::from_mode(0o755)).unwrap();
    let mut text = session(&scratch);
    text.call(&["run", "Cargo", "--", "true"])
        .call(&["status", "Cargo"])
        .call(&["break", "--force", "Cargo"])
        .call(&["run", "folder", "--", "true"])
        .call(&["run", "text/a", "--", "true"])
        .call(&["status", "new"])
        .call(&["break", "new"])
        .call(&["break", "--force", "new"])
        .call(&["ls", "text"])
        .call(&["clean", "text"])
        .call(&["doctor", "text"])
        .call(&["run", "a", "--", "./text"])
        .call(&["run", "a", "--", "./script"])
        .call(&["run", "a", "--", "./none"])
        .call(&["run", "a", "--", "no-such-command-anywhere"]);
    for words in [
        &["status", "--json", "a"][..],
        &["ls", "--json"],
        &["clean", "--json"],
        &["hold", "a"],
        &["break", "a"],
        &["doctor"],
        &["doctor", "--json"],
        &["man"],
        &["completions", "bash"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = scratch.tenure(words).stdout(full).stderr(Stdio::piped()).output().unwrap();
        text.add(&[words, &["> /dev/full"]].concat(), &Done::from(output));
    }
    assert!(!scratch.names().iter().any(|name| name.contains("doctor")), "{:?}", scratch.names());
    snapshot("not-a-lock", &text.text);
}

#[test]
fn other_programs_and_other_users() {
    let scratch = Scratch::new();
    let mut flock = Command::new("flock");
    flock.args(["a", "sh", "-c", "echo held; read x"]).current_dir(scratch.path());
    let mut holder = Running::start(flock);
    assert_eq!(holder.stdout.next(), "held");
    let mut text = session(&scratch);
    let pid = holder.pid().to_string();
    text.call(&["run", "-n", "--flock", "a", "--", "true"]).call(&["status", "a"]).call(&["status", "--pid", &pid]);
    text.call(&["break", "--force", "a"]);
    holder.finish();
    text.text = text.text.replace(&pid, "[PID]");
    if rustix::process::geteuid().is_root() {
        for words in [&["run", "b", "--", "true"][..], &["man", "."], &["status", "--pid", "1"]] {
            text.add(words, &scratch.done_by_nobody(words.iter().copied()));
        }
        snapshot("others", &text.text);
    }
}

#[test]
fn a_closed_output_is_no_error() {
    let scratch = Scratch::new();
    let calls = [
        &["break", "a"][..],
        &["break", "--json", "a"],
        &["history", "--json", "a"],
        &["man"],
        &["completions", "zsh"],
        &["hold", "a"],
    ];
    for words in calls.into_iter().chain([&["status", "--pid", "1"][..], &["hold", "--help"], &[]]) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = scratch.tenure(words).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{words:?}");
    }
}

#[test]
fn a_folder_is_a_target_like_any_other() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("sessions")).unwrap();
    let look = "ls; ls -A sessions; tenure=$0; \"$tenure\" status --check sessions; echo $?";
    let program = env!("CARGO_BIN_EXE_tenure");
    // The lock file of a folder is beside it, not in it.
    let done = scratch.done(["run", "sessions", "--", "sh", "-c", look, program]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "sessions\nsessions.lock\n75\n"), "{done:?}");
    // With --flock the folder itself is locked, as flock(1) does.
    let look = "ls; flock -n sessions true; echo $?";
    let done = scratch.done(["run", "--flock", "sessions", "--", "sh", "-c", look]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "sessions\n1\n"), "{done:?}");
    // A slash at the end, which completion adds, is refused with a hint at the right form.
    let done = scratch.done(["run", "sessions/", "--", "true"]);
    assert_eq!(done.code, Some(64));
    assert!(done.stderr.contains("without a slash at its end"), "{done:?}");
}
