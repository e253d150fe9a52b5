//! `tenure run`: its exit codes, the command's environment, and mutual exclusion.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scratch, ends, kill, needs};
use rustix::process::Signal;

#[test]
fn the_commands_own_exit_code() {
    let scratch = Scratch::new();
    for code in [0, 1, 7, 75, 255] {
        let done = scratch.done(["run", "a", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(code), ""));
    }
    let done = scratch.done(["run", "a", "-c", "echo \"$0 $#\"; exit 5"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(5), "/bin/sh 0\n"));
    assert!(!scratch.names().contains(&"a.lock".to_owned()), "released");
}

#[test]
fn a_signal_that_ended_the_command_is_128_and_its_number() {
    let scratch = Scratch::new();
    for (name, number) in [("TERM", 15), ("KILL", 9), ("INT", 2)] {
        let done = scratch.done(["run", "a", "-c", &format!("kill -{name} $$")]);
        assert_eq!(done.code, Some(128 + number), "{done:?}");
    }
}

#[test]
fn a_closed_standard_stream_is_never_a_file_of_the_lock() {
    let scratch = Scratch::new();
    let tenure = env!("CARGO_BIN_EXE_tenure");
    for (closed, stream) in [("<&-", 0), (">&-", 1), ("2>&-", 2), ("<&- >&- 2>&-", 1)] {
        // `tenure` writes a message, and the command writes to what it inherits.
        let script = format!("found=$(readlink /proc/$$/fd/{stream}); echo $found > found; echo text; echo text >&2");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("'{tenure}' run -v a -- sh -c '{script}' {closed}")]).current_dir(scratch.path());
        let status = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{closed}");
        let found = fs::read_to_string(scratch.join("found")).unwrap();
        assert_eq!(found, "/dev/null\n", "{closed}");
        let anchor = fs::read_to_string(scratch.join(".tenure/a.lock")).unwrap();
        // The record has the command's words too, but no other text is in the file.
        assert!(serde_json::from_str::<serde_json::Value>(&anchor).is_ok(), "{closed}: {anchor}");
    }
}

#[test]
fn not_found_is_127_and_cannot_be_run_is_126_and_the_lock_is_free_again() {
    let scratch = Scratch::new();
    fs::write(scratch.join("text"), "no program").unwrap();
    fs::write(scratch.join("script"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(scratch.join("script"), Permissions::from_mode(0o755)).unwrap();
    let cases = [
        ("./none", 127, "the command was not found: No such file"),
        ("no-such-command-anywhere", 127, "; no folder in PATH contains it"),
        ("./script", 127, "its interpreter was not found"),
        ("./text", 126, "the command cannot be run: Permission denied (os error 13); `chmod +x`?"),
        (".", 126, "the command cannot be run: "),
    ];
    for (command, code, says) in cases {
        let done = scratch.done(["run", "a", "--", command]);
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.stderr.starts_with(&format!("tenure: {command}: ")) && done.stderr.contains(says), "{done:?}");
        assert!(!scratch.names().contains(&"a.lock".to_owned()), "released");
        assert_eq!(scratch.done(["run", "-n", "a", "--", "true"]).code, Some(0));
    }
}

#[test]
fn busy_is_75_or_the_requested_code_and_names_the_holder() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--label", "run 8f2c", "a"]);
    for options in [&["-n"][..], &["--timeout", "0"], &["--timeout", "20ms"], &["--timeout", "1h", "-n"]] {
        let words = [&["run"], options, &["a", "--", "echo", "ran"]].concat();
        let done = scratch.done(&words);
        assert_eq!(done.code, Some(75), "{done:?}");
        assert_eq!(done.stdout, "");
        for part in ["run 8f2c", &holder.command.to_string(), "tenure status"] {
            assert!(done.stderr.contains(part), "{part}: {done:?}");
        }
    }
    assert_eq!(scratch.done(["run", "-n", "-E", "3", "a", "--", "true"]).code, Some(3));
    assert_eq!(scratch.done(["run", "-n", "-E", "0", "a", "--", "false"]).code, Some(0));
    let output = scratch.tenure(["run", "a", "--", "true"]).env("TENURE_TIMEOUT", "30ms").output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    assert_eq!(holder.finish().code(), Some(1));
    assert_eq!(scratch.done(["run", "-n", "a", "--", "true"]).code, Some(0));
}

#[test]
fn a_timeout_beyond_any_clock_waits() {
    let scratch = Scratch::new();
    let forever = "99999999999999999999999999d";
    assert_eq!(scratch.done(["run", "--timeout", forever, "a", "--", "true"]).code, Some(0));
    let mut holder = scratch.hold(["a"]);
    let waiter = Running::start(scratch.tenure(["run", "--timeout", forever, "a", "--", "echo", "ran"]));
    waiter.stderr.until("waiting for a");
    holder.finish();
    assert_eq!(waiter.stdout.next(), "ran");
    let done = scratch.done(["run", "--max-hold", forever, "--on-overrun", "kill", "a", "--", "true"]);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn a_file_that_is_no_lock_is_73_and_is_kept() {
    let scratch = Scratch::new();
    let text = "# This file is automatically @generated by Cargo.\nversion = 4\n";
    fs::write(scratch.join("a.lock"), text).unwrap();
    let done = scratch.done(["run", "-n", "a", "--", "true"]);
    assert_eq!(done.code, Some(73), "{done:?}");
    assert_eq!(fs::read_to_string(scratch.join("a.lock")).unwrap(), text);
}

#[test]
fn a_path_that_cannot_be_a_target_is_64() {
    let scratch = Scratch::new();
    for target in ["", "x/..", &"n".repeat(300)] {
        let done = scratch.done(["run", "-n", target, "--", "true"]);
        assert_eq!(done.code, Some(64), "{target:?}: {done:?}");
    }
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn the_commands_environment_describes_the_lock() {
    let scratch = Scratch::new();
    let print = "echo \"$TENURE_TARGET|$TENURE_LOCK_FILE|${TENURE_FENCE-unset}\"; cat \"$TENURE_LOCK_FILE\"";
    let done = scratch.done(["run", "dir/b", "a", "-c", print]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let (first, record) = done.stdout.split_once('\n').unwrap();
    let parts: Vec<&str> = first.split('|').collect();
    assert!(parts[0].ends_with("dir/b") && parts[1].ends_with("dir/b.lock"), "{first}");
    let fence: u64 = parts[2].parse().unwrap();
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    assert_eq!(record["tenure"]["fence"], fence);
    // The fence of an outer tenure is not passed on.
    let inner = format!("{} run --flock --no-record c -c 'echo ${{TENURE_FENCE-unset}}'", env!("CARGO_BIN_EXE_tenure"));
    let done = scratch.done(["run", "a", "-c", &inner]);
    assert_eq!(done.stdout, "unset\n", "{done:?}");
}

#[test]
fn the_record_names_tenure_from_the_start_and_the_command_beside_it() {
    let scratch = Scratch::new();
    // The lock file is checked as a program reads it that knows only its fields, before the command has done anything.
    let done = scratch.done(["run", "a", "-c", "echo $PPID; cat a.lock"]);
    let (pid, record) = done.stdout.split_once('\n').unwrap();
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    assert_eq!(record["pid"], pid.parse::<u64>().unwrap(), "{done:?}");

    let mut holder = scratch.hold(["--label", "the label", "--max-hold", "5m", "a"]);
    let found = scratch.json(["status", "--json", "a"]);
    assert_eq!(found["state"], "held");
    assert_eq!(found["style"], "lock-file");
    assert_eq!(found["holder"]["pid"], holder.pid());
    assert_eq!(found["holder"]["commandPid"], holder.command);
    let status = scratch.done(["status", "a"]).stdout;
    let both = format!("pid {}, command pid {} \"sh -c echo", holder.pid(), holder.command);
    assert!(status.contains(&both), "{status}");
    let record: serde_json::Value = serde_json::from_slice(&fs::read(scratch.join("a.lock")).unwrap()).unwrap();
    assert_eq!(record["starttime"], start_time(holder.pid()), "{record}");
    assert_eq!(record["tenure"]["commandPid"], holder.command, "{record}");
    assert_eq!(record["tenure"]["commandStartTime"], start_time(holder.command), "{record}");
    assert_eq!(found["holder"]["liveness"], "alive");
    assert_eq!(found["holder"]["kind"], "native");
    assert_eq!(found["holder"]["label"], "the label");
    assert_eq!(found["holder"]["command"], "sh -c echo $$; read x");
    assert_eq!(found["holder"]["maxHoldMs"], 300_000);
    assert!(found["holder"]["fence"].as_u64().unwrap() > 0);
    holder.finish();
}

/// A program that has read the lock file may judge it later, and its pid must belong to a live process until then.
#[test]
fn tenure_lingers_where_its_lock_file_was_read() {
    if !needs("strace") {
        return;
    }
    let scratch = Scratch::new();
    // Whether `tenure`, and not its command, has slept; and its time.
    let sleeps = |command: &[&str]| {
        let tenure = env!("CARGO_BIN_EXE_tenure");
        let mut strace = Command::new("strace");
        strace
            .args(["-qq", "-o", "log", "-e", "trace=clock_nanosleep,nanosleep", tenure, "run", "a", "--"])
            .args(command);
        let began = Instant::now();
        assert!(strace.current_dir(scratch.path()).output().unwrap().status.success(), "{command:?}");
        (fs::read_to_string(scratch.join("log")).unwrap().contains("nanosleep("), began.elapsed())
    };
    // Unless the release alone took as long.
    let lingers = || {
        let (slept, took) = sleeps(&["cat", "a.lock"]);
        assert!(took >= Duration::from_millis(100), "{took:?}");
        slept
    };
    assert!((0..20).any(|_| lingers()));
    // Without a reader there is no wait, nor after a read by Tenure itself.
    assert!(!sleeps(&["true"]).0);
    assert!(!sleeps(&[env!("CARGO_BIN_EXE_tenure"), "status", "a"]).0);
}

fn start_time(pid: i32) -> u64 {
    tenure::process::start_time(pid).unwrap()
}

/// Each command reads a number, adds one and writes it. Two at once would lose a count.
#[test]
fn no_two_commands_run_at_once() {
    for style in [&["a"][..], &["--flock", "a"]] {
        let scratch = Scratch::new();
        fs::write(scratch.join("count"), "0\n").unwrap();
        let step = "read n < count; echo $((n + 1)) > count";
        // Quiet, because on a loaded machine a command may wait for more than the second after which that is announced.
        let words = [&["run", "--quiet", "--timeout", "180s"], style, &["-c", step]].concat();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..15 {
                        let done = scratch.done(&words);
                        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(scratch.join("count")).unwrap(), "120\n");
    }
}

#[test]
fn killing_tenure_keeps_the_lock_while_the_command_works() {
    for style in [&["a"][..], &["--flock", "a"]] {
        let scratch = Scratch::new();
        let mut holder = scratch.hold(style.iter().copied());
        let try_it = |wait: &[&str]| scratch.done([&["run"], wait, style, &["--", "true"]].concat());
        holder.signal(Signal::KILL);
        assert_eq!(holder.wait().signal(), Some(9));
        assert_eq!(try_it(&["-n"]).code, Some(75));
        // The command's descriptor keeps the lock, whatever the record names.
        assert_eq!(scratch.json(["status", "--json", "a"])["state"], "held");
        kill(holder.command, Signal::KILL);
        let done = try_it(&["--timeout", "60s"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stderr.contains("took over a from pid"), "{done:?}");
        assert!(done.stderr.contains("half-written"), "{done:?}");
        let done = try_it(&["-n"]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "reported once");
    }
}

#[test]
fn killing_the_command_frees_the_lock() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    kill(holder.command, Signal::KILL);
    assert_eq!(holder.wait().code(), Some(137));
    assert_eq!(holder.stderr.rest(), [""; 0]);
    assert_eq!(scratch.done(["run", "-n", "a", "--", "true"]).stderr, "");
}

#[test]
fn a_daemon_that_the_command_leaves_does_not_keep_the_lock() {
    for style in [&["a"][..], &["--flock", "a"]] {
        let scratch = Scratch::new();
        let leave = "sleep 1000 > /dev/null 2>&1 < /dev/null & echo $!";
        let done = scratch.done([&["run"], style, &["-c", leave]].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
        let daemon: i32 = done.stdout.trim().parse().unwrap();
        let next = scratch.done([&["run", "-n"], style, &["--", "true"]].concat());
        kill(daemon, Signal::KILL);
        assert_eq!((next.code, next.stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn calls_with_the_targets_in_another_order_do_not_deadlock() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("z")).unwrap();
    thread::scope(|scope| {
        for targets in [["a", "z/b"], ["z/b", "a"], ["./z/../a", "z/b"]] {
            let scratch = &scratch;
            scope.spawn(move || {
                for _ in 0..15 {
                    // Quiet, because on a loaded machine a wait of more than a second is announced.
                    let done = scratch.done(["run", "-q", "--timeout", "180s", targets[0], targets[1], "--", "true"]);
                    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
                }
            });
        }
    });
}

#[test]
fn the_same_target_twice_is_one_and_several_are_all_or_none() {
    let scratch = Scratch::new();
    let done = scratch.done(["run", "-n", "a", "./a", "a", "--", "true"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let mut holder = scratch.hold(["b"]);
    for targets in [["a", "b", "c"], ["c", "b", "a"]] {
        let words = [&["run", "-n"], &targets[..], &["--", "true"]].concat();
        assert_eq!(scratch.done(words).code, Some(75));
    }
    for free in ["a", "c"] {
        let done = scratch.done(["run", "-n", free, "--", "true"]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{free}: {done:?}");
    }
    holder.finish();
}

#[test]
fn shared_locks_share_and_exclude_others() {
    let scratch = Scratch::new();
    let mut one = scratch.hold(["--flock", "--shared", "a"]);
    let mut two = scratch.hold(["--flock", "-s", "-n", "a"]);
    assert_eq!(scratch.done(["run", "-n", "--flock", "a", "--", "true"]).code, Some(75));
    assert_eq!(scratch.done(["run", "-n", "a", "--", "true"]).code, Some(75));
    one.finish();
    two.finish();
    assert_eq!(scratch.done(["run", "-n", "--flock", "a", "--", "true"]).code, Some(0));
}

#[test]
fn a_wait_is_announced_after_a_second_with_the_holder() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--label", "run 8f2c", "a"]);
    let mut waiter = Running::start(scratch.tenure(["run", "a", "--", "echo", "ran"]));
    let line = waiter.stderr.next();
    let start = "tenure: waiting for a: held ";
    let rest =
        format!(" by pid {}, command pid {} \"sh -c echo $$; read x\" (run 8f2c), alive", holder.pid(), holder.command);
    assert!(line.starts_with(start) && line.contains(&rest), "{line}");
    let mut quiet = Running::start(scratch.tenure(["run", "-q", "--timeout", "1500ms", "a", "--", "true"]));
    assert_eq!(quiet.wait().code(), Some(75));
    assert_eq!(quiet.stderr.rest(), [""; 0], "the exit code reports it");
    holder.finish();
    assert_eq!(waiter.wait().code(), Some(0));
    assert_eq!(waiter.stdout.rest(), ["ran"]);
    assert_eq!(waiter.stderr.rest(), [""; 0], "reported once");
}

#[test]
fn a_process_is_not_told_to_wait_for_itself() {
    if !needs("strace") {
        return;
    }
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    // Its record names it as the holder for three seconds before it knows that it holds.
    let mut waiter = Command::new("strace");
    waiter.args(["-f", "-qq", "-o", "log", "-e", "trace=linkat", "-e", "inject=linkat:delay_exit=3000000"]);
    waiter.args([env!("CARGO_BIN_EXE_tenure"), "run", "a", "--", "true"]).current_dir(scratch.path());
    let mut waiter = Running::start(waiter);
    let began = Instant::now();
    while scratch.json(["status", "--json", "a"])["waiters"] != 1 {
        assert!(began.elapsed() < PATIENCE, "it never waited");
    }
    let pid = format!("by pid {}, ", holder.pid());
    holder.finish();
    assert_eq!(waiter.wait().code(), Some(0));
    // The holder is announced where it took a second to come here.
    let said = waiter.stderr.rest();
    assert!(said.iter().all(|line| line.contains(&pid)), "{said:?}");
}

#[test]
fn a_wait_is_announced_again_only_when_the_holder_changes() {
    // In flock style there is no lock file whose date shows the change.
    thread::scope(|scope| {
        for style in [&["a"][..], &["--flock", "a"]] {
            scope.spawn(move || {
                let scratch = Scratch::new();
                let waits = |label: &str, script: &str| {
                    let words = [&["run", "--label", label], style, &["-c", script]].concat();
                    let waiter = Running::start(scratch.tenure(words));
                    assert!(waiter.stderr.next().contains("(first), alive"));
                    waiter
                };
                let mut first = scratch.hold([&["--label", "first"], style].concat());
                let mut second = waits("second", "echo mine; read x");
                let mut third = waits("third", "true");
                // The waiter checks every five seconds.
                thread::sleep(Duration::from_secs(6));
                first.finish();
                assert_eq!(second.stdout.next(), "mine");
                let line = third.stderr.next();
                assert!(line.contains("waiting for a: held") && line.contains("(second), alive"), "{line}");
                assert_eq!(second.finish().code(), Some(1));
                assert_eq!(third.wait().code(), Some(0));
                assert_eq!((second.stderr.rest(), third.stderr.rest()), (vec![], vec![]));
            });
        }
    });
}

#[test]
fn a_removed_lock_file_is_76_when_the_command_has_ended() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    fs::remove_file(scratch.join("a.lock")).unwrap();
    let line = holder.stderr.next();
    assert!(line.contains("not protected") && line.contains("continues"), "{line}");
    // The lock still excludes natives.
    assert_eq!(scratch.done(["run", "-n", "a", "--", "true"]).code, Some(75));
    assert_eq!(holder.finish().code(), Some(76));
    assert_eq!(holder.stderr.rest(), [""; 0]);
}

#[test]
fn a_lock_that_was_taken_away_ends_the_command_with_76() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    fs::remove_dir_all(scratch.join(".tenure")).unwrap();
    let line = holder.stderr.next();
    assert!(line.contains("not protected") && line.contains("ending the command"), "{line}");
    assert_eq!(holder.wait().code(), Some(76));
    assert!(ends(holder.command));
}

#[test]
fn an_overrun_is_reported_or_ends_the_command() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--max-hold", "50ms", "a"]);
    assert!(holder.stderr.next().contains("longer than 50 ms: it continues"));
    assert_eq!(holder.finish().code(), Some(1));
    let overrunning = |how: &str, script: &str| {
        scratch.overrunning(&["run", "--max-hold", "200ms", "--on-overrun", how, "a", "-c", script]).0
    };
    let mut holder = overrunning("term", "echo up; read x");
    assert!(holder.stderr.next().contains("ending it"));
    assert_eq!(holder.wait().code(), Some(143));
    let mut holder = overrunning("kill", "echo up; read x");
    assert!(holder.stderr.next().contains("killing it"));
    assert_eq!(holder.wait().code(), Some(137));
    let mut stubborn = overrunning("term", "trap '' TERM; echo up; while read x; do :; done");
    assert_eq!(stubborn.wait().code(), Some(137));
}

#[test]
fn permission_denied_is_77() {
    if rustix::process::geteuid().is_root() {
        // Root is never denied, so the call is made by the user nobody.
        let scratch = Scratch::new();
        let done = scratch.done_by_nobody(["run", "-n", "a", "--", "true"]);
        assert_eq!(done.code, Some(77), "{done:?}");
        assert!(!scratch.names().contains(&"a.lock".to_owned()));
    } else {
        assert_eq!(Scratch::new().done(["run", "-n", "/a", "--", "true"]).code, Some(77));
    }
}

#[test]
fn a_mode_shares_the_lock_with_others() {
    let scratch = Scratch::new();
    let done = scratch.done(["run", "--mode", "666", "a", "-c", "stat -c %a a.lock"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "666\n"), "{done:?}");
}

#[test]
fn verbose_reports_acquire_and_release() {
    let scratch = Scratch::new();
    let done = scratch.done(["run", "-v", "a", "--", "true"]);
    assert_eq!(done.code, Some(0));
    assert!(done.stderr.contains("tenure: holding a with fence "), "{done:?}");
    assert!(done.stderr.ends_with("tenure: released a\n"), "{done:?}");
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_the_shell() {
    let scratch = Scratch::new();
    fs::write(scratch.join("script"), "echo \"$0 ran with $1\"\nexit 3\n").unwrap();
    fs::set_permissions(scratch.join("script"), Permissions::from_mode(0o755)).unwrap();
    let done = scratch.done(["run", "a", "--", "./script", "b c"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(3), "./script ran with b c\n"), "{done:?}");
    let path = format!("/nowhere:{}:/usr/bin:/bin", scratch.path().display());
    let found = scratch.tenure(["run", "a", "--", "script", "d"]).env("PATH", path).output().unwrap();
    assert_eq!(found.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&found.stdout).ends_with("/script ran with d\n"), "{found:?}");
}

#[test]
fn run_updates_the_date_itself_without_a_thread() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    assert_eq!(fs::read_dir(format!("/proc/{}/task", holder.pid())).unwrap().count(), 1, "threads");
    holder.finish();
    let mut holder = scratch.hold(["--max-hold", "1h", "a"]);
    let date = |scratch: &Scratch| scratch.json(["status", "--json", "a"])["holder"]["createdAt"].clone();
    let first = date(&scratch);
    holder.finish();
    // The date is updated after a third of that, 300 ms.
    let mut holder = scratch.hold(["--max-hold", "900ms", "a"]);
    let second = date(&scratch);
    assert_ne!(first, second);
    let began = Instant::now();
    while date(&scratch) == second {
        assert!(began.elapsed() < PATIENCE, "the date does not change");
    }
    holder.finish();
}
