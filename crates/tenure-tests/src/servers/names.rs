//! Programs that run with their own `/etc/hosts` and `/etc/resolv.conf`.

use std::net::UdpSocket;
use std::process::Command;

use tempfile::TempDir;

use crate::{has, is_root, needs};

/// The files that resolve machine names for a program.
pub struct Names {
    folder: TempDir,
    /// A name service that reads nothing and never answers.
    _silent: UdpSocket,
}

/// Returns whether this machine can mount such files.
pub fn there() -> bool {
    needs("root, for mount namespaces", is_root()) && needs("unshare (util-linux)", has("unshare"))
}

impl Names {
    /// Creates `/etc/hosts` with these lines, each `ADDRESS NAME`. The name service never answers if `silent`;
    /// otherwise there is none, and a look-up fails at once.
    pub fn new(lines: &[String], silent: bool) -> Names {
        let folder = TempDir::new().unwrap();
        let socket = UdpSocket::bind((&*super::address(), 53)).unwrap();
        let resolver = if silent {
            // The timeout is far longer than any test waits.
            format!("nameserver {}\noptions timeout:30 attempts:5\n", socket.local_addr().unwrap().ip())
        } else {
            "nameserver 127.255.255.254\noptions timeout:1 attempts:1\n".to_owned()
        };
        std::fs::write(folder.path().join("resolv.conf"), resolver).unwrap();
        let names = Names { folder, _silent: socket };
        names.set(lines);
        names
    }

    /// Replaces the lines of `/etc/hosts`.
    pub fn set(&self, lines: &[String]) {
        // Written in place, because this file itself is mounted.
        std::fs::write(self.folder.path().join("hosts"), lines.join("\n") + "\n").unwrap();
    }

    /// Returns a command that runs `program` with these names.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let script = "mount --bind \"$0/hosts\" /etc/hosts && mount --bind \"$0/resolv.conf\" /etc/resolv.conf && \
                      exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(self.folder.path()).arg(program);
        command
    }
}
