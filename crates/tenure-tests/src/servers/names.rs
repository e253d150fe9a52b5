//! Programs that see a `/etc/hosts` and a `/etc/resolv.conf` of their own.

use std::net::UdpSocket;
use std::process::Command;

use tempfile::TempDir;

use crate::{has, is_root, needs};

/// What a program takes for the names of machines.
pub struct Names {
    folder: TempDir,
    /// A name service that hears and says nothing.
    _silent: UdpSocket,
}

/// Can they be had?
pub fn there() -> bool {
    needs("root, for mount namespaces", is_root()) && needs("unshare (util-linux)", has("unshare"))
}

impl Names {
    /// With these lines in `/etc/hosts`, each `ADDRESS NAME`. Beside them a name service that says nothing, or, where it
    /// is not `silent`, none at all: a look-up then fails at once.
    pub fn new(lines: &[String], silent: bool) -> Names {
        let folder = TempDir::new().unwrap();
        let socket = UdpSocket::bind((&*super::address(), 53)).unwrap();
        let resolver = if silent {
            // Far longer than any test waits.
            format!("nameserver {}\noptions timeout:30 attempts:5\n", socket.local_addr().unwrap().ip())
        } else {
            "nameserver 127.255.255.254\noptions timeout:1 attempts:1\n".to_owned()
        };
        std::fs::write(folder.path().join("resolv.conf"), resolver).unwrap();
        let names = Names { folder, _silent: socket };
        names.set(lines);
        names
    }

    /// From now on these.
    pub fn set(&self, lines: &[String]) {
        // In place: it is this very file that is mounted.
        std::fs::write(self.folder.path().join("hosts"), lines.join("\n") + "\n").unwrap();
    }

    /// `program` with these names.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let script = "mount --bind \"$0/hosts\" /etc/hosts && mount --bind \"$0/resolv.conf\" /etc/resolv.conf && \
                      exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(self.folder.path()).arg(program);
        command
    }
}
