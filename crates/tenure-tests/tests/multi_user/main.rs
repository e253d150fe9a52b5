//! Several real users on one lock: in group-writable, sticky and read-only folders.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

mod closed;
mod shared;
mod sticky;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tenure_tests::strace::{Strace, changing_calls, kill_at};
use tenure_tests::{Actor, actor_program, folder, has, is_root, lock_file, needs, signal, until_waiting};

const ANN: u32 = 65_531;
const BOB: u32 = 65_532;
const CAT: u32 = 65_533;
const GROUP: u32 = 65_530;

/// A folder that every user can enter, with the actor's program in it; the target folder may be closed to them.
struct Users {
    dir: tempfile::TempDir,
}

impl Users {
    /// Returns `None` if the test cannot run.
    fn new() -> Option<Users> {
        if !needs("root and setpriv", is_root() && has("setpriv")) {
            return None;
        }
        let dir = folder();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // A child process copies: a file that a fork of this process has open for writing could not be executed.
        assert!(Command::new("cp").arg(actor_program()).arg(dir.path().join("actor")).status().unwrap().success());
        Some(Users { dir })
    }

    fn folder(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        chown(&path, None, Some(GROUP)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn actor(&self, user: u32) -> Actor {
        self.actor_with(user, "022")
    }

    fn actor_with(&self, user: u32, umask: &str) -> Actor {
        let script = format!(
            "umask {umask}; exec setpriv --reuid={user} --regid={GROUP} --clear-groups --bounding-set=-all \
             --inh-caps=-all \"$0\""
        );
        Actor::from(Command::new("sh").args(["-c", &script]).arg(self.dir.path().join("actor")))
    }

    fn actor_of(&self, user: u32, group: u32) -> Actor {
        let ids = [format!("--reuid={user}"), format!("--regid={group}")];
        let script = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all"];
        Actor::from(Command::new("setpriv").args(ids).args(script).arg(self.dir.path().join("actor")))
    }

    /// Runs a command there as that user, and returns whether it succeeded.
    fn shell(&self, user: u32, group: u32, dir: &Path, command: &str) -> bool {
        let ids = [format!("--reuid={user}"), format!("--regid={group}")];
        let mut shell = Command::new("setpriv");
        shell.args(ids).args([
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "sh",
            "-c",
            "cd \"$0\" && eval \"$1\"",
        ]);
        shell.arg(dir).arg(command).stderr(std::process::Stdio::null()).status().unwrap().success()
    }

    fn opened(&self, user: u32, target: &Path, keys: &str) -> Actor {
        let mut actor = self.actor(user);
        actor.must(&format!("open l {} {keys}", target.display()));
        actor
    }
}

fn anchor(target: &Path) -> PathBuf {
    target.with_file_name(".tenure").join(lock_file(target).file_name().unwrap())
}

fn acquire(actor: &mut Actor, last: &mut u64) {
    let answer = actor.must("acquire l g never");
    let fence = answer["fence"].as_u64().unwrap();
    assert!(fence > *last, "the fence did not grow over {last}: {answer}");
    *last = fence;
}

/// Acquires by waiting for a holder that `end` ends.
fn succeed(actor: &mut Actor, last: &mut u64, end: impl FnOnce()) {
    actor.must("begin l g forever");
    end();
    let answer = actor.receive();
    assert_eq!(answer["event"], "granted", "{answer}");
    let fence = answer["fence"].as_u64().unwrap();
    assert!(fence > *last, "the fence did not grow over {last}: {answer}");
    *last = fence;
}
