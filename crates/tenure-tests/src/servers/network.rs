//! A network namespace with one cable to this one, which can be cut.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::output;
use crate::{has, is_root, needs};

/// Programs in here reach this machine by one address only.
pub struct Room {
    name: String,
    cable: String,
    /// This machine's address, as seen from in there.
    pub outside: String,
    prefix: String,
}

/// Can one be had?
pub fn there() -> bool {
    needs("root, for network namespaces", is_root()) && needs("ip (iproute2)", has("ip"))
}

fn ip(words: &str) -> String {
    output(Command::new("ip").args(words.split_whitespace()))
}

impl Room {
    pub fn new() -> Room {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let [_, _, middle, low] = ((pid << 2) + count).to_be_bytes();
        // 198.18/15 is for tests of networks (RFC 2544).
        let prefix = format!("198.{}.{}", 18 + (middle & 1), low);
        let name = format!("tenure-{pid}-{count}");
        let cable = format!("tn{pid:x}{count:x}");
        let room = Room { outside: format!("{prefix}.1"), name, cable, prefix };
        let (name, cable, prefix) = (&room.name, &room.cable, &room.prefix);
        ip(&format!("netns add {name}"));
        ip(&format!("link add {cable} type veth peer name inside netns {name}"));
        ip(&format!("addr add {prefix}.1/24 dev {cable}"));
        ip(&format!("link set {cable} up"));
        ip(&format!("-n {name} addr add {prefix}.2/24 dev inside"));
        ip(&format!("-n {name} link set inside up"));
        ip(&format!("-n {name} link set lo up"));
        room
    }

    /// The address in there.
    pub fn inside(&self) -> String {
        format!("{}.2", self.prefix)
    }

    /// `program` in there.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// From now on nothing passes, and nobody is told: what is sent is lost.
    pub fn cut(&self) {
        ip(&format!("addr del {}.1/24 dev {}", self.prefix, self.cable));
    }

    pub fn mend(&self) {
        ip(&format!("addr add {}.1/24 dev {}", self.prefix, self.cable));
    }

    /// A route that swallows everything: who sends is told at once.
    pub fn blackhole(&self) {
        ip(&format!("-n {} route add blackhole {}.1/32", self.name, self.prefix));
    }
}

impl Default for Room {
    fn default() -> Room {
        Room::new()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        let _ = Command::new("ip").args(["link", "del", &self.cable]).stderr(std::process::Stdio::null()).status();
    }
}
