//! Platforms without a port. Functions that need files or child processes fail as unsupported; locks on servers work.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::types::{Change, FileId, Note, OpenFile};

pub(crate) const SIGINT: i32 = 2;
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGCHLD: i32 = -1;
pub(crate) const SIGCONT: i32 = -2;
pub(crate) const SIGTSTP: i32 = -3;
pub(crate) const ENDING: [i32; 2] = [SIGINT, SIGTERM];

fn unsupported<T>(what: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("`tenure {what}` has no port to this platform yet")))
}

#[derive(Clone)]
pub(crate) struct Waker(Sender<()>);

impl Waker {
    pub(crate) fn wake(&self) {
        // No thread waits once the receiver is gone.
        let _ = self.0.send(());
    }
}

/// Wakes the thread that waits. No signal is caught: each ends this process, and a server notices that by its lease.
pub(crate) struct Signals {
    waker: Waker,
    woken: Receiver<()>,
}

impl Signals {
    pub(crate) fn catch_ending() -> io::Result<Signals> {
        let (sender, woken) = mpsc::channel();
        Ok(Signals { waker: Waker(sender), woken })
    }

    pub(crate) fn catch_for_the_command(&mut self) -> io::Result<()> {
        unsupported("run")
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Sleeps until a thread wakes this one, or for `timeout`. It may return early.
    pub(crate) fn wait(&self, _child: Option<&Child>, timeout: Option<Duration>) -> io::Result<()> {
        // The sender is in `self`, so only a timeout is an error.
        let _ = match timeout {
            Some(timeout) => self.woken.recv_timeout(timeout).is_ok(),
            None => self.woken.recv().is_ok(),
        };
        Ok(())
    }

    pub(crate) fn next(&self) -> Option<Note> {
        None
    }
}

/// Whether `run` works. Here a command could outlive its lock.
pub(crate) const RUNS_COMMANDS: bool = false;

pub(crate) const CHILDREN_KEEP_LOCKS: bool = false;

/// Returns the script: no command runs here.
pub(crate) fn script(script: &OsStr) -> Vec<OsString> {
    vec![script.to_owned()]
}

pub(crate) fn command(words: &[OsString]) -> Command {
    Command::new(&words[0])
}

/// Cannot be constructed here.
pub(crate) enum Child {}

pub(crate) fn spawn(_command: Command, _signals: &Signals) -> io::Result<Child> {
    unsupported("run")
}

pub(crate) fn kill_with_us(_command: &mut Command) {}

/// Nothing is started here.
pub(crate) struct ProcessTree;

impl ProcessTree {
    pub(crate) fn adopt_orphans() -> ProcessTree {
        ProcessTree
    }

    pub(crate) fn reap(&self, _command: &Child) {}

    pub(crate) fn descendants(&self, _command: &Child) -> Vec<i32> {
        Vec::new()
    }

    pub(crate) fn signal(&self, _command: &Child, _signal: i32) -> Vec<i32> {
        Vec::new()
    }
}

pub(crate) fn is_not_executable_format(_error: &io::Error) -> bool {
    false
}

pub(crate) fn find_program(_name: &OsStr) -> Option<PathBuf> {
    None
}

impl Child {
    pub(crate) fn id(&self) -> u32 {
        match *self {}
    }

    pub(crate) fn signal(&self, _signal: i32) {
        match *self {}
    }

    pub(crate) fn has_ended(&self) -> bool {
        match *self {}
    }

    pub(crate) fn exit_code(&self) -> Option<i32> {
        match *self {}
    }

    pub(crate) fn has_stopped(&self) -> bool {
        match *self {}
    }

    pub(crate) fn is_still_stopped(&self) -> bool {
        match *self {}
    }

    pub(crate) fn wait(self) -> io::Result<ExitStatus> {
        match self {}
    }
}

pub(crate) fn ended_by(_status: ExitStatus) -> Option<i32> {
    None
}

pub(crate) fn signal_name(signal: i32) -> String {
    format!("signal {signal}")
}

pub(crate) fn die_by(_signal: i32, before: impl FnOnce()) {
    before();
}

pub(crate) fn stop_self() {}

pub(crate) fn columns<T>(_terminal: &T) -> Option<usize> {
    None
}

pub(crate) fn in_foreground() -> bool {
    false
}

pub(crate) fn descends_from(_pid: i32, _ancestor: u32) -> bool {
    false
}

pub(crate) fn device(_folder: &Path) -> io::Result<u64> {
    unsupported("metrics")
}

pub(crate) type Stamp = ();

pub(crate) fn stamp(_lock_file: &Path) -> Option<Stamp> {
    None
}

pub(crate) type AccessTime = ();

pub(crate) fn age_access_time(_file: &Path) -> Option<(AccessTime, bool)> {
    None
}

pub(crate) fn access_time(_file: &Path) -> Option<AccessTime> {
    None
}

/// Notices nothing: the caller relies on its slow checks.
pub(crate) struct Watch;

impl Watch {
    pub(crate) fn new(_target: &Path) -> Watch {
        Watch
    }

    pub(crate) fn watch_folders(&mut self) {}

    pub(crate) fn watch_holder(&mut self, _pid: Option<i64>) {}

    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<Change> {
        std::thread::sleep(timeout);
        Ok(Change::Nothing)
    }
}

pub(crate) fn open_wait_notes() -> io::Result<Vec<PathBuf>> {
    unsupported("status --deadlocks")
}

pub(crate) fn open_files(_pid: u32) -> io::Result<Vec<OpenFile>> {
    unsupported("status --pid")
}

pub(crate) fn is_process(_pid: u32) -> bool {
    true
}

pub(crate) fn flock_waits(_pid: u32) -> io::Result<Vec<FileId>> {
    unsupported("status --pid")
}

pub(crate) fn command_line(_pid: u32) -> Option<String> {
    None
}

pub(crate) fn make_folder(_path: &Path) -> io::Result<()> {
    unsupported("doctor")
}

pub(crate) fn remove_folder(_path: &Path) -> io::Result<()> {
    unsupported("doctor")
}

/// Cannot be constructed here.
pub(crate) enum SharedWords {}

impl SharedWords {
    pub(crate) fn create(_count: usize) -> io::Result<SharedWords> {
        unsupported("doctor")
    }

    pub(crate) fn of_stdin(_count: usize) -> io::Result<SharedWords> {
        unsupported("doctor")
    }

    pub(crate) fn descriptor(&self) -> io::Result<Stdio> {
        match *self {}
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        match *self {}
    }
}

pub(crate) fn die_with(_parent: u32) -> io::Result<()> {
    unsupported("doctor")
}

pub(crate) fn monotonic() -> u64 {
    0
}
