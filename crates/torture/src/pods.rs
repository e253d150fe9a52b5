//! Pid namespaces: each with an init of its own, its own `/proc`, and the same folders.
//!
//! Members are started into them by a thread that has joined the namespace for its children, so that they are the
//! driver's own children: it kills, stops and reaps them by the pids that they have out here. In there they have others,
//! which are the same in all of them, and which are given out anew on purpose.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::team::{Programs, end_with_us};

pub struct Pod {
    /// `unshare`, whose one child is the init.
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
        assert_eq!(hear(&mut output), "ready", "a pid namespace could not be made");
        let pid = unshare.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let init: i32 = children.trim().parse().unwrap();
        let pids = File::open(format!("/proc/{init}/ns/pid")).unwrap();
        let mounts = Arc::new(File::open(format!("/proc/{init}/ns/mnt")).unwrap());
        let (starts, to_start) = channel::<Command>();
        let (tell, started) = channel();
        std::thread::spawn(move || {
            // SAFETY: no precondition; it changes where this thread's children go, and nothing else.
            let joined = unsafe { libc::setns(pids.as_raw_fd(), libc::CLONE_NEWPID) };
            assert_eq!(joined, 0, "{}", std::io::Error::last_os_error());
            // Ends with the pod: those that it started end with it.
            for mut command in to_start {
                if tell.send(command.spawn()).is_err() {
                    break;
                }
            }
        });
        Pod { unshare, init, input, output, mounts, starts, started }
    }

    /// Starts a process in there. `pid`: the one that it should get, if nobody else is faster.
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
            assert_eq!(hear(&mut self.output), "set");
        }
        self.starts.send(command).unwrap();
        self.started.recv().unwrap()
    }

    /// Ends the init, and with it everyone in there. The members are reaped by who started them; then [`Pod::end`].
    pub fn kill(&self) {
        // SAFETY: a child of our child, which is not reaped before `unshare` is.
        unsafe { libc::kill(self.init, libc::SIGKILL) };
    }

    pub fn end(mut self) {
        self.kill();
        let _ = self.unshare.wait();
    }
}

fn hear(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// The init of a namespace: sets the last pid to each number that it is told, and ends with its input.
pub fn init() {
    // What is left of others is reaped by the kernel.
    // SAFETY: no precondition.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    println!("ready");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        std::fs::write("/proc/sys/kernel/ns_last_pid", line).unwrap();
        println!("set");
    }
}
