//! Every system call that `docs/platforms.md` lists as optional, missing and forbidden, one at a time.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tenure_tests::denied::{Call, OPTIONAL, deny};
use tenure_tests::{Actor, Foreign, actor_program, folder, has, needs, signal, tenure_program, until};

/// Runs `scene` with each call denied, with the errno of an old container profile and with that of a kernel without the
/// call.
fn each(scene: impl Fn(Denied)) {
    for call in OPTIONAL {
        for errno in [libc::EPERM, libc::ENOSYS] {
            eprintln!("without {}: {}", call.name, std::io::Error::from_raw_os_error(errno));
            scene(Denied { call, errno });
        }
    }
}

#[derive(Clone, Copy)]
struct Denied {
    call: Call,
    errno: i32,
}

impl Denied {
    fn actor(self) -> Actor {
        let mut command = Command::new(actor_program());
        deny(&mut command, self.call, self.errno);
        Actor::from(&mut command)
    }

    fn tenure(self, dir: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(tenure_program());
        command.args(words).current_dir(dir).env_remove("TENURE_TIMEOUT").stdin(Stdio::null());
        deny(&mut command, self.call, self.errno);
        command
    }

    /// Returns the exit code, standard output and standard error.
    fn done(self, dir: &Path, words: &[&str]) -> (Option<i32>, String, String) {
        let output = self.tenure(dir, words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn status(self, dir: &Path) -> Value {
        let (code, out, said) = self.done(dir, &["status", "--json", "a"]);
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str(&out).unwrap()
    }

    /// Starts `tenure run WORDS a -- sh -c SCRIPT`, and returns its first line: a pid.
    fn run(self, dir: &Path, words: &[&str], script: &str) -> (Child, BufReader<std::process::ChildStdout>, u32) {
        let words = [&["run"], words, &["a", "-c", script]].concat();
        let mut command = self.tenure(dir, &words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let pid = line.trim().parse().unwrap();
        (child, out, pid)
    }
}

#[test]
fn natives_exclude_each_other_and_get_crash_reports() {
    each(|denied| {
        for keys in ["", "style=flock"] {
            let dir = folder();
            let target = dir.path().join("a");
            let (mut one, mut other) = (denied.actor(), denied.actor());
            for actor in [&mut one, &mut other] {
                actor.must(&format!("open l {} {keys}", target.display()));
            }
            one.must("acquire l g never");
            other.must_fail("acquire l g never", "busy");
            assert_eq!(denied.status(dir.path())["state"], "held");
            other.must("begin l g forever");
            one.must("check g");
            one.must("release g");
            assert_eq!(other.receive()["event"], "granted");
            one.must("begin l g forever");
            other.kill();
            let granted = one.receive();
            assert!(granted["event"] == "granted" && !granted["crashed"].is_null(), "{granted}");
            one.must("release g");
            assert_eq!(denied.status(dir.path())["state"], "free");
        }
    });
}

#[test]
fn a_foreign_holder_is_waited_for() {
    if !needs("python3", has("python3")) {
        return;
    }
    each(|denied| {
        let dir = folder();
        let target = dir.path().join("a");
        let mut holder = Foreign::hold("python", &target);
        let mut actor = denied.actor();
        actor.must(&format!("open l {}", target.display()));
        actor.must_fail("acquire l g never", "busy");
        assert_eq!(denied.status(dir.path())["state"], "held");
        actor.must("begin l g forever");
        holder.send("release");
        assert_eq!(holder.receive()["event"], "released");
        let granted = actor.receive();
        assert!(granted["event"] == "granted" && granted["crashed"].is_null(), "{granted}");
        actor.must("release g");
    });
}

#[test]
fn a_command_runs_to_its_own_end() {
    each(|denied| {
        let dir = folder();
        let (code, out, said) = denied.done(dir.path(), &["run", "a", "-c", "sleep 0.1; echo ran; exit 7"]);
        assert_eq!((code, out.as_str(), said.as_str()), (Some(7), "ran\n", ""));
        assert_eq!(denied.done(dir.path(), &["run", "a", "--", "./none"]).0, Some(127));

        let (mut tenure, _out, command) = denied.run(dir.path(), &[], "echo $$; read x; exit 3");
        until("the record names the command", || denied.status(dir.path())["holder"]["commandPid"] == command);
        let (code, _, said) = denied.done(dir.path(), &["run", "-n", "a", "--", "true"]);
        assert!(code == Some(75) && said.contains(&format!("command pid {command}")), "{said}");
        drop(tenure.stdin.take());
        assert_eq!(tenure.wait().unwrap().code(), Some(3));

        // A signal is forwarded.
        let (mut tenure, _out, _) =
            denied.run(dir.path(), &[], "trap 'exit 9' TERM; echo $$; while :; do sleep 0.01; done");
        signal(tenure.id(), libc::SIGTERM);
        assert_eq!(tenure.wait().unwrap().code(), Some(9));
    });
}

#[test]
fn a_command_whose_lock_is_lost_is_ended() {
    each(|denied| {
        let dir = folder();
        let (mut tenure, mut out, worker) = denied.run(dir.path(), &["-q"], "sh -c 'echo $$; exec sleep 1000' && true");
        std::fs::remove_dir_all(dir.path().join(".tenure")).unwrap();
        assert_eq!(tenure.wait().unwrap().code(), Some(76));
        // The worker has the pipe open as well, so this ends only after the worker's end.
        out.read_to_end(&mut Vec::new()).unwrap();
        until("the worker has ended", || !tenure::process::is_alive(worker));
    });
}
