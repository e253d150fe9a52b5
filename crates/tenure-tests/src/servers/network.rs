//! A network namespace whose only cable can be cut, and proxies that disturb what they pass on.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::output;
use crate::{has, is_root, needs};

/// A network namespace whose programs reach this machine by one address only.
pub struct Room {
    name: String,
    cable: String,
    /// This machine's address, as seen from the namespace.
    pub outside: String,
    prefix: String,
}

/// Returns whether this machine can create network namespaces.
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
        // 198.18/15 is reserved for tests of networks (RFC 2544).
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

    /// Returns the address inside the namespace.
    pub fn inside(&self) -> String {
        format!("{}.2", self.prefix)
    }

    /// Returns a command that runs `program` in the namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Drops all packets from now on, without an error for the sender.
    pub fn cut(&self) {
        ip(&format!("addr del {}.1/24 dev {}", self.prefix, self.cable));
    }

    pub fn mend(&self) {
        ip(&format!("addr add {}.1/24 dev {}", self.prefix, self.cable));
    }

    /// Routes all packets into a black hole, so that senders get an error at once.
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

/// A proxy to a server that drops one answer: that to a request that contains these words. The server has executed the
/// request. Nothing more is answered on that connection.
pub struct Lossy {
    address: String,
    lost: Arc<AtomicBool>,
}

impl Lossy {
    /// Drops the answer to the first such request.
    pub fn before(server: &str, port: u16, words: &str) -> Lossy {
        Lossy::after(0, server, port, words)
    }

    /// Drops the answer to the next such request after `passed` of them.
    pub fn after(passed: u32, server: &str, port: u16, words: &str) -> Lossy {
        let address = super::address();
        let listener = TcpListener::bind((&*address, port)).unwrap();
        let (server, words, lost) = (server.to_owned(), words.as_bytes().to_vec(), Arc::new(AtomicBool::new(false)));
        let (done, passed) = (Arc::clone(&lost), Arc::new(AtomicU32::new(passed)));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect((&*server, port)).unwrap());
                let silent = Arc::new(AtomicBool::new(false));
                let (words, done, mute) = (words.clone(), Arc::clone(&done), Arc::clone(&silent));
                let passed = Arc::clone(&passed);
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    carry(from, to, |bytes| {
                        let found = bytes.windows(words.len()).any(|window| window == words);
                        let passes = |left: u32| left.checked_sub(1);
                        if found
                            && passed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, passes).is_err()
                            && !done.swap(true, Ordering::SeqCst)
                        {
                            mute.store(true, Ordering::SeqCst);
                        }
                        true
                    });
                });
                std::thread::spawn(move || carry(server, client, |_| !silent.load(Ordering::SeqCst)));
            }
        });
        Lossy { address, lost }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns whether an answer was dropped.
    pub fn has_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }
}

/// A proxy to a server that holds a request back: the first with four bytes in a row that `is_it` recognizes.
pub struct Late {
    address: String,
    holds: Arc<AtomicBool>,
    go: std::sync::mpsc::Sender<()>,
}

impl Late {
    /// Nothing else passes on that connection any more.
    pub fn at(server: &str, port: u16, is_it: fn(&[u8]) -> bool) -> Late {
        Late::holding(server, port, is_it, false)
    }

    /// What follows on that connection passes after it.
    pub fn going_on_at(server: &str, port: u16, is_it: fn(&[u8]) -> bool) -> Late {
        Late::holding(server, port, is_it, true)
    }

    fn holding(server: &str, port: u16, is_it: fn(&[u8]) -> bool, goes_on: bool) -> Late {
        let address = super::address();
        let listener = TcpListener::bind((&*address, port)).unwrap();
        let server = server.to_owned();
        let (go, gone) = std::sync::mpsc::channel();
        let holds = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&holds);
        let gone = Arc::new(std::sync::Mutex::new(Some(gone)));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect((&*server, port)).unwrap());
                let (gone, seen) = (Arc::clone(&gone), Arc::clone(&seen));
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let mut held = false;
                    carry(from, to, |bytes| {
                        if held {
                            return false;
                        }
                        let found = bytes.windows(4).any(is_it);
                        if found && let Some(gone) = gone.lock().unwrap().take() {
                            held = !goes_on;
                            seen.store(true, Ordering::SeqCst);
                            gone.recv().unwrap();
                        }
                        true
                    });
                });
                std::thread::spawn(move || carry(server, client, |_| true));
            }
        });
        Late { address, holds, go }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits until it holds the request back.
    pub fn await_request(&self) {
        crate::until("the request", || self.holds.load(Ordering::SeqCst));
    }

    /// Passes the request on.
    pub fn let_through(&self) {
        self.go.send(()).unwrap();
    }
}

/// A proxy to a server whose connections can be cut: they stay open, and nothing passes on them any more.
pub struct Cables {
    address: String,
    /// The number of cuts so far.
    cuts: Arc<AtomicU32>,
}

impl Cables {
    pub fn to(server: &str, port: u16) -> Cables {
        let address = super::address();
        let listener = TcpListener::bind((&*address, port)).unwrap();
        let (server, cuts) = (server.to_owned(), Arc::new(AtomicU32::new(0)));
        let cut = Arc::clone(&cuts);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect((&*server, port)).unwrap());
                let (from, to, laid) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap(), cut.load(Ordering::SeqCst));
                for (from, to) in [(from, to), (server, client)] {
                    let cut = Arc::clone(&cut);
                    std::thread::spawn(move || carry(from, to, |_| cut.load(Ordering::SeqCst) == laid));
                }
            }
        });
        Cables { address, cuts }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts the present connections. Later ones pass.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }
}

/// A proxy that has room for one connection, and refuses others as pgbouncer does: by PostgreSQL's code, and without the
/// place in the source code that PostgreSQL itself names.
pub struct Narrow {
    address: String,
}

impl Narrow {
    pub fn before(server: &str, port: u16) -> Narrow {
        let address = super::address();
        let listener = TcpListener::bind((&*address, port)).unwrap();
        let (server, used) = (server.to_owned(), Arc::new(AtomicBool::new(false)));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, used) = (client.unwrap(), Arc::clone(&used));
                if used.swap(true, Ordering::SeqCst) {
                    refuse(&mut client, "53300", "no more connections allowed (max_client_conn)");
                    continue;
                }
                let server = TcpStream::connect((&*server, port)).unwrap();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    carry(from, to, |_| true);
                    used.store(false, Ordering::SeqCst);
                });
                std::thread::spawn(move || carry(server, client, |_| true));
            }
        });
        Narrow { address }
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Refuses a connection in PostgreSQL's words.
fn refuse(client: &mut TcpStream, code: &str, message: &str) {
    let mut start = [0; 4096];
    let _ = client.read(&mut start);
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    let _ = client.write_all(&[b"E", &length[..], fields.as_bytes()].concat());
}

/// A PostgreSQL server that is starting, and refuses every connection until then.
pub struct Starting {
    address: (String, u16),
    refused: Arc<AtomicU32>,
    is_over: Arc<AtomicBool>,
    server: Option<std::thread::JoinHandle<()>>,
}

impl Starting {
    pub fn at(address: &str, port: u16) -> Starting {
        let listener = TcpListener::bind((address, port)).unwrap();
        let (refused, is_over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ends) = (Arc::clone(&refused), Arc::clone(&is_over));
        let server = std::thread::spawn(move || {
            for client in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                refuse(&mut client.unwrap(), "57P03", "the database system is starting up");
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Starting { address: (address.to_owned(), port), refused, is_over, server: Some(server) }
    }

    /// Returns the number of connections that it has refused.
    pub fn refused(&self) -> u32 {
        self.refused.load(Ordering::SeqCst)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // The thread that listens sees it at the next connection.
        let _ = TcpStream::connect((&*self.address.0, self.address.1));
        let _ = self.server.take().map(std::thread::JoinHandle::join);
    }
}

/// A proxy to a server that is far away: everything arrives `delay` later, in both directions.
pub struct Far {
    address: String,
}

impl Far {
    pub fn from(server: &str, port: u16, delay: Duration) -> Far {
        let address = super::address();
        let listener = TcpListener::bind((&*address, port)).unwrap();
        let server = server.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect((&*server, port)).unwrap());
                carry_late(client.try_clone().unwrap(), server.try_clone().unwrap(), delay);
                carry_late(server, client, delay);
            }
        });
        Far { address }
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Forwards all data after a delay, on two threads.
fn carry_late(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    to.set_nodelay(true).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 65536];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if sender.send((Instant::now() + delay, bytes[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (at, bytes) in receiver {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

/// Forwards the data that `passes` accepts, until one side ends.
fn carry(mut from: TcpStream, mut to: TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut bytes = vec![0; 65536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if passes(&bytes[..count]) && to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
