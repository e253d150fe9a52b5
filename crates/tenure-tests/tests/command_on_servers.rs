//! The command with targets that servers keep.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use tenure::Lock;
use tenure_tests::servers::Silent;
use tenure_tests::servers::etcd::{self, Cluster};
use tenure_tests::servers::network::Late;
use tenure_tests::servers::postgres::{self, Postgres};
use tenure_tests::{has_ended, signal, tenure_program, until};

fn tenure(words: &[&str]) -> Command {
    let mut command = Command::new(tenure_program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TENURE_") {
            command.env_remove(name);
        }
    }
    command.args(words).stdin(Stdio::null());
    command
}

/// Returns the exit code, standard output and standard error.
fn done(words: &[&str]) -> (Option<i32>, String, String) {
    let output = tenure(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(words: &[&str]) -> Value {
    let (code, out, said) = done(words);
    assert_eq!(code, Some(0), "{words:?}: {said}");
    serde_json::from_str(&out).unwrap()
}

/// A running `tenure run TARGET -- sh -c SCRIPT`, whose first line is the command's pid.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    out: BufReader<ChildStdout>,
    command: u32,
}

impl Running {
    fn start(target: &str, script: &str) -> Running {
        Running::from(&["run", target, "--", "sh", "-c", &format!("echo $$; {script}")])
    }

    fn from(words: &[&str]) -> Running {
        let mut command = tenure(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        Running { stdin: child.stdin.take(), child, out, command: line.trim().parse().unwrap() }
    }

    /// Waits for the end; returns the exit code and all output.
    fn end(&mut self) -> (Option<i32>, String, String) {
        let code = self.child.wait().unwrap().code();
        let (mut out, mut said) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, out, said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs every subcommand on a server's target. `above` is the URL that lists it; `freeze` makes the server silent.
fn all_words(target: &str, above: &str, server: &str, name: &str) {
    assert_eq!(json(&["status", "--json", target])["state"], "free");
    let (code, out, _) =
        done(&["run", target, "--", "sh", "-c", "echo $TENURE_TARGET $TENURE_FENCE $TENURE_LOCK_FILE"]);
    assert_eq!(code, Some(0));
    let (shown, fence) = out.trim().split_once(' ').unwrap();
    assert!(shown == target && fence.parse::<u64>().unwrap() > 0, "{out}");
    assert_eq!(done(&["run", target, "--", "sh", "-c", "exit 7"]).0, Some(7));

    let mut held = Running::start(target, "read line");
    until("the record names the command", || {
        json(&["status", "--json", target])["holder"]["commandPid"] == held.command
    });
    let found = json(&["status", "--json", target]);
    assert_eq!(
        (&found["style"], &found["state"], &found["holder"]["kind"]),
        (&server.into(), &"held".into(), &"native".into())
    );
    assert!(found["holder"]["fence"].as_u64().unwrap() > fence.parse().unwrap(), "{found}");
    let (code, out, _) = done(&["status", target]);
    assert!(code == Some(0) && out.contains(&format!("held ({server})")) && out.contains(name), "{out}");
    assert_eq!(done(&["status", "--check", target]).0, Some(75));
    let (code, _, said) = done(&["run", "-n", target, "--", "true"]);
    assert!(code == Some(75) && said.contains(&format!("pid {}", held.command)), "{said}");
    assert_eq!(done(&["wait", "--timeout", "3s", target]).0, Some(75));
    assert_eq!(json(&["ls", "--json", above])["locks"][0]["holder"]["commandPid"], held.command);
    assert_eq!(done(&["break", target]).0, Some(75));
    drop(held.stdin.take());
    assert_eq!(held.end().0, Some(1), "the exit code of `read` at the end of its input");
    assert_eq!(done(&["wait", target]).0, Some(0));

    // An operator breaks the lock: the command is ended.
    let mut held = Running::start(target, "exec sleep 1000");
    assert_eq!(done(&["break", "--force", target]).0, Some(0));
    let (code, _, said) = held.end();
    assert!(code == Some(76) && said.contains("ending the command"), "{said}");
    assert!(has_ended(held.command));

    // `tenure` is killed: the command is ended too, because nothing could report a loss to it any more.
    let mut held = Running::start(target, "exec sleep 1000");
    signal(held.child.id(), libc::SIGKILL);
    held.child.wait().unwrap();
    until("the command has ended", || has_ended(held.command));
    let (code, _, said) = done(&["run", target, "--", "true"]);
    assert!(code == Some(0) && said.contains("took over"), "{said}");

    let mut hold = tenure(&["hold", target]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut record = String::new();
    BufReader::new(hold.stdout.take().unwrap()).read_line(&mut record).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&record).unwrap()["tenure"]["style"], "server");
    drop(hold.stdin.take());
    assert!(hold.wait().unwrap().success());

    let script = format!("echo $TENURE_SLOT; exec '{}' status --json '{target}'", tenure_program().display());
    let (code, out, said) = done(&["run", "--slots", "2", target, "--", "sh", "-c", &script]);
    assert_eq!(code, Some(0), "{said}");
    let (slot, found) = out.split_once('\n').unwrap();
    let found: Value = serde_json::from_str(found).unwrap();
    assert_eq!((slot, &found["state"], &found["slots"][0]["state"]), ("0", &"free".into(), &"held".into()), "{found}");
    assert_eq!(json(&["status", "--json", target])["slots"], Value::Null);

    for words in [&["run", "--flock"][..], &["run", "--no-record"], &["run", "--mode", "666"], &["clean"]] {
        let (command, options) = words.split_first().unwrap();
        let mut all = vec![*command];
        all.extend(options);
        all.push(target);
        if *command == "run" {
            all.extend(["--", "true"]);
        }
        let (code, _, said) = done(&all);
        assert_eq!(code, Some(69), "{all:?}: {said}");
    }
    let doctor = json(&["doctor", "--json", "--stress", "8s", "--processes", "3", above]);
    assert_eq!((&doctor["stress"]["doubleHolds"], &doctor["fileSystem"]["type"]), (&0.into(), &server.into()));
}

#[test]
fn on_etcd() {
    if !etcd::there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("sessions/main", 12);
    all_words(&target, &cluster.target("sessions", 12), "etcd", "sessions/main/");

    // The server falls silent: the command gets TERM, which it ignores, and then KILL.
    let mut held = Running::start(&target, "trap 'echo asked' TERM; while :; do sleep 0.05; done");
    cluster.signal(0, libc::SIGSTOP);
    let (code, out, said) = held.end();
    assert!(code == Some(76) && out.contains("asked") && said.contains("could not be renewed"), "{out}{said}");
    assert!(has_ended(held.command));
    let (code, _, said) = done(&["run", &target, "--", "true"]);
    assert!(code == Some(69) && said.contains(cluster.address(0)), "{said}");
    cluster.signal(0, libc::SIGCONT);
}

#[test]
fn commands_share_a_lock_on_etcd() {
    if !etcd::there() {
        return;
    }
    let cluster = Cluster::start(1);
    share_a_lock("etcd", &cluster.target("sessions/main", 10), &cluster.target("sessions", 10));
}

#[test]
fn commands_share_a_lock_on_postgres() {
    if !postgres::there() {
        return;
    }
    let postgres = Postgres::start();
    share_a_lock("postgres", &postgres.target("sessions/main", 10), &postgres.target("sessions", 10));
}

fn share_a_lock(server: &str, target: &str, above: &str) {
    let shared =
        |script: &str| Running::from(&["run", "--shared", target, "--", "sh", "-c", &format!("echo $$; {script}")]);
    let (mut one, mut two) = (shared("echo \"fence:$TENURE_FENCE\"; read line"), shared("exec sleep 1000"));
    let found = json(&["status", "--json", target]);
    assert_eq!((&found["state"], &found["holder"]), (&"held".into(), &Value::Null), "{found}");
    assert_eq!(found["openBy"], serde_json::json!([one.child.id(), two.child.id()]));
    let (code, out, _) = done(&["status", target]);
    assert!(code == Some(0) && out.contains(&format!("held ({server})")) && out.contains("open by"), "{out}");
    let (code, out, _) = done(&["ls", above]);
    assert!(code == Some(0) && out.contains(&two.child.id().to_string()), "{out}");
    assert_eq!(done(&["run", "-n", target, "--", "true"]).0, Some(75));
    assert_eq!(done(&["run", "-n", "--shared", target, "--", "true"]).0, Some(0));
    drop(one.stdin.take());
    let (code, out, _) = one.end();
    assert!(code == Some(1) && out.contains("fence:\n"), "a share has no fence: {out}");
    assert_eq!(done(&["run", "-n", target, "--", "true"]).0, Some(75));
    let (code, out, said) = done(&["break", "--force", target]);
    assert!(code == Some(0) && out.contains("its holders notice"), "{out}{said}");
    assert_eq!(two.end().0, Some(76));
    assert_eq!(done(&["run", "-n", target, "--", "true"]).0, Some(0));
    // A file among the targets cannot be shared in this way.
    let (code, _, said) = done(&["run", "--shared", target, "./a-file", "--", "true"]);
    assert!(code == Some(64) && said.contains("--shared needs --flock"), "{said}");
    let (code, _, said) = done(&["run", "--shared", "--flock", target, "--", "true"]);
    assert!(code == Some(69) && said.contains("flock style is for files"), "{said}");
}

#[test]
fn on_postgres() {
    if !postgres::there() {
        return;
    }
    let mut postgres = Postgres::start();
    let target = postgres.target("sessions/main", 12);
    let above = format!("postgres://postgres@{}/postgres?lock=sessions&ttl=12s", postgres.address());
    all_words(&target, &above, "postgres", "pg_advisory_lock(hashtextextended('sessions/main', 0))");

    let mut held = Running::start(&target, "trap 'echo asked' TERM; while :; do sleep 0.05; done");
    postgres.stop();
    let (code, out, said) = held.end();
    assert!(
        code == Some(76) && out.contains("asked") && said.contains("the connection to the server is lost"),
        "{said}"
    );
    let (code, _, said) = done(&["run", &target, "--", "true"]);
    assert!(code == Some(69) && said.contains(postgres.address()), "{said}");
}

#[test]
fn a_silent_server_blocks_no_command() {
    // The lease is so long that a wait for a fraction of it does not end during a test.
    let (etcd, postgres) = (Silent::at(2379), Silent::at(5432));
    let etcd = format!("etcd://{}/a?ttl=1440m", etcd.address());
    let postgres = format!("postgres://postgres@{}/postgres?lock=a&ttl=1440m", postgres.address());
    for target in [etcd, postgres] {
        let words = [
            &["run", "-n", &target, "--", "true"][..],
            &["run", "--timeout", "1500ms", &target, "--", "true"],
            &["wait", "--timeout", "100ms", &target],
            &["status", &target],
            &["doctor", &target],
        ];
        for words in words {
            let (code, _, said) = done(words);
            assert_eq!(code, Some(69), "{words:?}: {said}");
        }
    }
}

#[test]
fn a_server_that_falls_silent_does_not_block_a_command_that_has_ended() {
    if !etcd::there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = format!("etcd://{}/a?ttl=1440m", cluster.address(0));
    let mut held = Running::start(&target, "read line");
    let mut waiting = tenure(&["run", "--timeout", "15s", &target, "--", "true"]).spawn().unwrap();
    until("a waiter", || json(&["status", "--json", &target])["waiters"] == 1);
    cluster.signal(0, libc::SIGSTOP);
    let code = waiting.wait().unwrap().code();
    assert!([Some(69), Some(75)].contains(&code), "{code:?}");
    drop(held.stdin.take());
    let (code, _, said) = held.end();
    // The command's own exit code, and a message about the release.
    assert!(code == Some(1) && said.contains("lease is over"), "{code:?} {said}");
    cluster.signal(0, libc::SIGCONT);
}

#[test]
fn a_password_in_a_target_is_refused_and_never_printed() {
    for target in ["etcd://app:hunter2@127.0.0.1/a", "postgres://app:hunter2@127.0.0.1/db?lock=a"] {
        for words in [&["run", target, "--", "true"][..], &["status", target], &["ls", target], &["doctor", target]] {
            let (code, out, said) = done(words);
            assert_eq!(code, Some(64), "{words:?}: {said}");
            assert!(!format!("{out}{said}").contains("hunter2"), "{out}{said}");
        }
    }
    let (code, _, said) = done(&["run", "redis://127.0.0.1/0", "--", "true"]);
    assert!(code == Some(69) && said.contains("no kind of server"), "{said}");
}

#[test]
fn the_locks_of_a_server_are_listed_as_a_tree() {
    if !etcd::there() {
        return;
    }
    let cluster = Cluster::start(1);
    let hold = |name: &str| {
        let options = Lock::options().label(format!("label of {name}"));
        options.open(cluster.target(name, 30)).unwrap().acquire().unwrap()
    };
    let names = ["jobs/nightly/backup", "jobs/nightly/report", "sessions", "jobs/weekly"];
    let guards: Vec<_> = names.iter().map(|name| hold(name)).collect();
    let root = format!("etcd://{}:2379", cluster.address(0));
    let shows = |target: &str, tree: &[&str]| {
        let (code, out, said) = done(&["ls", target]);
        assert_eq!((code, said.as_str()), (Some(0), ""));
        let rows: Vec<&str> = out.lines().skip(1).collect();
        assert!(rows[0] == target && rows.len() == 1 + tree.len(), "{out}");
        for (row, branch) in rows[1..].iter().zip(tree) {
            let is_lock = row.contains("held") && row.contains("label of ");
            let name = branch.trim_start_matches(['│', ' ', '├', '└', '─']);
            assert!(row.starts_with(branch) && is_lock != ["jobs", "nightly"].contains(&name), "{row:?}\n{out}");
        }
    };
    let all = ["├─ jobs", "│  ├─ nightly", "│  │  ├─ backup", "│  │  └─ report", "│  └─ weekly", "└─ sessions"];
    shows(&root, &all);
    shows(&format!("{root}/jobs"), &["├─ nightly", "│  ├─ backup", "│  └─ report", "└─ weekly"]);
    let found = json(&["ls", "--json", &root]);
    let mut targets: Vec<&str> =
        found["locks"].as_array().unwrap().iter().map(|lock| lock["target"].as_str().unwrap()).collect();
    targets.sort_unstable();
    let mut all: Vec<String> = names.iter().map(|name| format!("{root}/{name}")).collect();
    all.sort_unstable();
    assert_eq!(targets, all);
    drop(guards);
}

#[test]
fn a_file_may_be_named_like_a_server() {
    let folder = tenure_tests::folder();
    let mut command = tenure(&["run", "./etcd://a", "--", "sh", "-c", "test -e etcd:/a.lock"]);
    assert!(command.current_dir(folder.path()).status().unwrap().success());
}

/// An acquire of a slot waits for one answer after the other. A signal ends it whichever that is, and leaves nothing.
#[test]
fn a_signal_ends_the_wait_for_a_slot_also_between_two_locks() {
    if !etcd::there() {
        return;
    }
    let cluster = Cluster::start(1);
    let target = cluster.target("s", 30);
    let _held = Running::from(&["run", "--slots", "1", &target, "--", "sh", "-c", "echo $$; read line"]);
    // The end of the range in which the slots are.
    let late = Late::going_on_at(cluster.address(0), 2379, |bytes| bytes == b"lot.");
    let slow = format!("etcd://{}:2379/s?ttl=30s", late.address());
    let mut counts = tenure(&["run", "--quiet", "--slots", "1", &slow, "--", "true"]).spawn().unwrap();
    late.await_request();
    signal(counts.id(), libc::SIGTERM);
    late.let_through();
    let mut ended = None;
    until("the command has ended", || {
        ended = counts.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().signal(), Some(libc::SIGTERM));
    for part in ["s.slots", "s.next"] {
        assert_eq!(json(&["status", "--json", &cluster.target(part, 30)])["state"], "free", "{part}");
    }
}
