//! Pid namespaces: each has its own init and its own `/proc`, and all see the same folders.
//!
//! A thread that has joined the namespace for its children starts the members, so that they are the driver's own
//! children: it kills, stops and reaps them by their pids outside. Inside they have other pids, which are equal in all
//! namespaces and reused on purpose.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::team::{Programs, end_with_us};

pub struct Pod {
    /// `unshare`, whose only child is the init.
    unshare: Child,
    init: i32,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    mounts: Arc<File>,
    starts: Sender<Command>,
    started: Receiver<std::io::Result<Child>>,
}

impl Pod {
    pub fn new(programs: &Programs) -> Pod {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(programs.worker().get_program())
            .arg("init");
        // Some versions complain when their child is killed.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        end_with_us(&mut command);
        let mut unshare = command.spawn().unwrap();
        let input = unshare.stdin.take().unwrap();
        let mut output = BufReader::new(unshare.stdout.take().unwrap());
        assert_eq!(receive(&mut output), "ready", "a pid namespace could not be created");
        let pid = unshare.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let init: i32 = children.trim().parse().unwrap();
        let pids = File::open(format!("/proc/{init}/ns/pid")).unwrap();
        let mounts = Arc::new(File::open(format!("/proc/{init}/ns/mnt")).unwrap());
        let (starts, to_start) = channel::<Command>();
        let (reply, started) = channel();
        std::thread::spawn(move || {
            // SAFETY: no precondition; it changes where this thread's children go, and nothing else.
            let joined = unsafe { libc::setns(pids.as_raw_fd(), libc::CLONE_NEWPID) };
            assert_eq!(joined, 0, "{}", std::io::Error::last_os_error());
            // Ends with the pod; the processes that it started end with it.
            for mut command in to_start {
                if reply.send(command.spawn()).is_err() {
                    break;
                }
            }
        });
        Pod { unshare, init, input, output, mounts, starts, started }
    }

    /// Starts a process inside. `pid`: the pid that it should get, unless another process is faster.
    pub fn start(&mut self, mut command: Command, pid: Option<u32>) -> std::io::Result<Child> {
        let mounts = Arc::clone(&self.mounts);
        // SAFETY: setns(2) may be called between fork and exec.
        unsafe {
            command.pre_exec(move || match libc::setns(mounts.as_raw_fd(), libc::CLONE_NEWNS) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        if let Some(pid) = pid {
            writeln!(self.input, "{}", pid - 1).unwrap();
            assert_eq!(receive(&mut self.output), "set");
        }
        self.starts.send(command).unwrap();
        self.started.recv().unwrap()
    }

    /// Kills the init, and with it all processes inside. Their starters reap them; then comes [`Pod::end`].
    pub fn kill(&self) {
        // SAFETY: a child of our child, which is not reaped before `unshare` is.
        unsafe { libc::kill(self.init, libc::SIGKILL) };
    }

    pub fn end(mut self) {
        self.kill();
        let _ = self.unshare.wait();
    }
}

fn receive(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Runs the init of a namespace: sets the last pid to each number that it reads, and ends with its input.
pub fn init() {
    // The kernel reaps orphans.
    // SAFETY: no precondition.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    println!("ready");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        std::fs::write("/proc/sys/kernel/ns_last_pid", line).unwrap();
        println!("set");
    }
}
