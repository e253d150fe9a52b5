//! Containers and file systems: namespaces of every kind that share a folder, and mounts other than the root's.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

mod file_systems;
mod namespaces;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tenure_tests::strace::Strace;
use tenure_tests::{
    Actor, actor_program, folder, foreign, has, is_root, landlock, needs, skip, tenure_program, write_apart,
};

/// A foreign holder.
struct Foreign {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Foreign {
    /// Starts `openclaw.py hold TARGET` through `wrap`, and waits until it holds.
    fn hold(target: &Path, wrap: impl FnOnce(&str) -> Command) -> Foreign {
        let program = foreign("python", &["hold", target.to_str().unwrap()]);
        let words: Vec<_> = program.get_args().map(|word| word.to_str().unwrap()).collect();
        let words = format!("{} {}", program.get_program().to_str().unwrap(), words.join(" "));
        let mut child = wrap(&words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut holder = Foreign { child, input, output };
        holder.expect("held");
        holder
    }

    fn expect(&mut self, event: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert_eq!(said["event"], event);
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status(actor: &mut Actor, target: &Path) -> Value {
    actor.must(&format!("inspect {}", target.display()))["found"].clone()
}

/// Asserts that two actors that reach one lock by two paths exclude each other and wait for each other.
fn exclude_each_other(one: &mut Actor, one_path: &Path, other: &mut Actor, other_path: &Path) {
    let sides = [(one_path, other_path), (other_path, one_path)];
    let mut actors = [one, other];
    let mut fence = 0;
    for (holds, waits) in sides {
        let [holder, waiter] = &mut actors;
        let mut grew = |granted: &Value| {
            let now = granted["fence"].as_u64().unwrap();
            assert!(now > fence, "the fence {now} follows {fence}");
            fence = now;
        };
        grew(&holder.hold(holds));
        waiter.must(&format!("open l {}", waits.display()));
        waiter.must_fail("acquire l g never", "busy");
        let found = status(waiter, waits);
        assert_eq!((&found["state"], &found["liveness"]), (&json!("held"), &json!("alive")), "{found}");
        waiter.must("begin l g forever");
        holder.must("release g");
        let granted = waiter.receive();
        assert_eq!((&granted["event"], &granted["crashed"]), (&json!("granted"), &Value::Null));
        grew(&granted);
        holder.must_fail("acquire l g never", "busy");
        waiter.must("release g");
        actors.swap(0, 1);
    }
}

/// A mount that is removed on drop.
struct Mount {
    at: PathBuf,
    _folder: tempfile::TempDir,
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

fn run(words: &[&str]) -> bool {
    Command::new(words[0])
        .args(&words[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Mounts a file system; the words may name the folder `{}`, whose `mnt` is the mount point.
fn mount(prepare: impl FnOnce(&Path), words: &str) -> Option<Mount> {
    let folder = folder();
    let at = folder.path().join("mnt");
    std::fs::create_dir(&at).unwrap();
    prepare(folder.path());
    let words = words.replace("{}", folder.path().to_str().unwrap());
    let words: Vec<_> = words.split(' ').collect();
    run(&words).then_some(Mount { at, _folder: folder })
}
