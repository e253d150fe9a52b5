//! An etcd cluster.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{Server, address, make_certificates};
use crate::{has, needs, until};

/// A cluster whose members elect a leader within a few seconds. A shorter time would end the term of a leader that only waits for a
/// processor.
pub struct Cluster {
    members: Vec<Member>,
    pub folder: TempDir,
    more: Vec<String>,
    /// A second address on which the first member listens.
    also: Option<String>,
    tls: bool,
}

struct Member {
    address: String,
    server: Option<Server>,
}

/// Returns whether etcd's programs are installed.
pub fn there() -> bool {
    needs("etcd (etcd-server)", has("etcd")) && needs("etcdctl (etcd-client)", has("etcdctl"))
}

impl Cluster {
    /// Starts `count` members and waits for a leader.
    pub fn start(count: usize) -> Cluster {
        Cluster::start_with(count, &[])
    }

    pub fn start_with(count: usize, more: &[&str]) -> Cluster {
        let cluster = Cluster::new(count, more, None, false);
        cluster.await_healthy();
        cluster
    }

    /// Starts one member that also listens on another address of this machine.
    pub fn start_at(also: &str) -> Cluster {
        let cluster = Cluster::new(1, &[], Some(also), false);
        cluster.await_healthy();
        cluster
    }

    /// Starts one member with TLS that requires client certificates: `ca.pem`, `client.pem` and `client.key` in the
    /// folder.
    pub fn start_with_tls() -> Cluster {
        let cluster = Cluster::new(1, &[], None, true);
        cluster.await_healthy();
        cluster
    }

    fn new(count: usize, more: &[&str], also: Option<&str>, tls: bool) -> Cluster {
        // In memory if possible: a slow fsync looks like a dead leader.
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let members = (0..count).map(|_| Member { address: address(), server: None }).collect();
        let more = more.iter().map(|word| (*word).to_owned()).collect();
        let mut cluster = Cluster { members, folder, more, also: also.map(str::to_owned), tls };
        if tls {
            make_certificates(cluster.folder.path(), &cluster.members[0].address);
        }
        for at in 0..count {
            cluster.run(at);
        }
        cluster
    }

    fn client_url(&self, at: usize) -> String {
        format!("http{}://{}:2379", if self.tls { "s" } else { "" }, self.members[at].address)
    }

    fn run(&mut self, at: usize) {
        let peer = |member: &Member| format!("http://{}:2380", member.address);
        let all: Vec<String> =
            self.members.iter().enumerate().map(|(at, member)| format!("m{at}={}", peer(member))).collect();
        let client = self.client_url(at);
        let member = &self.members[at];
        let dir = self.folder.path();
        let mut command = Command::new("etcd");
        command.args(["--name", &format!("m{at}"), "--data-dir"]).arg(dir.join(format!("m{at}")));
        let also = self.also.as_ref().map_or(String::new(), |also| format!(",http://{also}:2379"));
        command.args(["--listen-client-urls", &format!("{client}{also}"), "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer(member), "--initial-advertise-peer-urls", &peer(member)]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-token", "test"]);
        command.args(["--heartbeat-interval", "100", "--election-timeout", "1500", "--log-level", "error"]);
        if self.tls {
            command.args(["--client-cert-auth", "--trusted-ca-file"]).arg(dir.join("ca.pem"));
            command.arg("--cert-file").arg(dir.join("server.pem")).arg("--key-file").arg(dir.join("server.key"));
        }
        command.args(&self.more);
        self.members[at].server = Some(Server::start(&mut command));
    }

    /// Returns `etcdctl` with the endpoints of all members.
    pub fn etcdctl(&self) -> Command {
        let endpoints: Vec<String> = (0..self.members.len()).map(|at| self.client_url(at)).collect();
        let mut command = Command::new("etcdctl");
        // By itself it gives a busy machine five seconds for a command, and two for a connection.
        command.args(["--command-timeout", "60s", "--dial-timeout", "20s"]);
        command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoints.join(",")]);
        if self.tls {
            let dir = self.folder.path();
            command.arg("--cacert").arg(dir.join("ca.pem"));
            command.arg("--cert").arg(dir.join("client.pem")).arg("--key").arg(dir.join("client.key"));
        }
        command
    }

    /// Starts `etcdctl lock NAME`, which prints a key once it holds the lock.
    pub fn etcdctl_lock(&self, name: &str) -> Locker {
        let mut command = self.etcdctl();
        let mut child = command
            .args(["lock", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, said) = (child.stdin.take(), child.stdout.take().unwrap());
        Locker { child, _input: input, said }
    }

    /// Waits until every running member answers for the majority.
    pub fn await_healthy(&self) {
        let endpoints: Vec<String> = (0..self.members.len())
            .filter(|at| self.members[*at].server.is_some())
            .map(|at| self.client_url(at))
            .collect();
        until("a healthy cluster", || {
            let mut command = self.etcdctl();
            command.args(["--command-timeout", "5s", "--endpoints", &endpoints.join(","), "endpoint", "health"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        });
    }

    /// Returns the target for a name, with the addresses of all members.
    pub fn target(&self, name: &str, ttl: u64) -> String {
        let hosts: Vec<String> = self.members.iter().map(|member| format!("{}:2379", member.address)).collect();
        format!("etcd://{}/{name}?ttl={ttl}s", hosts.join(","))
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn address(&self, at: usize) -> &str {
        &self.members[at].address
    }

    /// Returns the index of the leader.
    pub fn leader(&self) -> usize {
        let mut leader = None;
        until("a leader", || {
            let output =
                self.etcdctl().args(["--command-timeout", "5s", "endpoint", "status", "-w", "json"]).output().unwrap();
            let Ok(status) = serde_json::from_slice::<Value>(&output.stdout) else { return false };
            let found = status
                .as_array()
                .unwrap()
                .iter()
                .find(|member| member["Status"]["leader"] == member["Status"]["header"]["member_id"]);
            leader = found.and_then(|found| {
                let endpoint = found["Endpoint"].as_str().unwrap();
                (0..self.len()).find(|at| self.client_url(*at) == endpoint)
            });
            leader.is_some()
        });
        leader.unwrap()
    }

    pub fn pid(&self, at: usize) -> u32 {
        self.members[at].server.as_ref().unwrap().pid()
    }

    pub fn signal(&self, at: usize, signal: i32) {
        self.members[at].server.as_ref().unwrap().signal(signal);
    }

    pub fn kill(&mut self, at: usize) {
        self.members[at].server.take().unwrap().kill();
    }

    /// Ends a member as an operator does, by SIGTERM. A leader hands over to another member first.
    pub fn stop(&mut self, at: usize) {
        let server = self.members[at].server.take().unwrap();
        server.signal(libc::SIGTERM);
        server.end();
    }

    /// Starts a member again, with its data.
    pub fn restart(&mut self, at: usize) {
        self.run(at);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the number of messages that a member has received from clients.
    pub fn requests(&self, at: usize) -> u64 {
        let text = self.metrics(at);
        let counts = text.lines().filter(|line| line.starts_with("grpc_server_msg_received_total{"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }

    /// Returns a member's metrics.
    pub fn metrics(&self, at: usize) -> String {
        let mut stream = TcpStream::connect((self.address(at), 2379)).unwrap();
        let mut text = String::new();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").and_then(|()| stream.read_to_string(&mut text)).unwrap();
        text
    }
}

/// A process of `etcdctl lock`.
pub struct Locker {
    child: Child,
    _input: Option<ChildStdin>,
    said: ChildStdout,
}

impl Locker {
    /// Waits until it holds the lock, and returns its key.
    pub fn await_held(&mut self) -> String {
        let mut key = Vec::new();
        let mut byte = [0];
        while std::io::Read::read(&mut self.said, &mut byte).unwrap() == 1 && byte[0] != b'\n' {
            key.push(byte[0]);
        }
        assert!(!key.is_empty(), "etcdctl ended without the lock");
        String::from_utf8(key).unwrap()
    }

    /// Sends SIGINT, after which it releases and ends.
    pub fn interrupt(&self) {
        crate::signal(self.child.id(), libc::SIGINT);
    }

    /// Interrupts it and waits for its end.
    pub fn release(mut self) {
        self.interrupt();
        self.child.wait().unwrap();
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
