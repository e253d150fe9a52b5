//! A PostgreSQL server, its standby, and a connection pool in front of it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Server, address, make_certificates, output};
use crate::{has, is_root, needs, until};

/// The user that owns the files, because the server refuses to run as root.
const OWNER: &str = "postgres";

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut all: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    all.sort();
    all.pop().filter(|bin| bin.join("postgres").is_file())
}

/// Returns whether PostgreSQL's programs are installed.
pub fn there() -> bool {
    needs("PostgreSQL (postgresql)", programs().is_some() && has("psql"))
}

/// Returns a command that runs as the owner of the files.
fn as_owner(program: impl AsRef<std::ffi::OsStr>) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", OWNER, "--regid", OWNER, "--clear-groups"]).arg(program);
    command.current_dir("/");
    command
}

fn own(path: &Path) {
    if is_root() {
        output(Command::new("chown").args(["-R", &format!("{OWNER}:{OWNER}")]).arg(path));
    }
}

/// Creates a folder with a new server's data.
fn made() -> TempDir {
    let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    own(folder.path());
    let mut initdb = as_owner(programs().unwrap().join("initdb"));
    initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"]);
    output(initdb.arg(folder.path().join("data")));
    folder
}

pub struct Postgres {
    address: String,
    folder: TempDir,
    server: Option<Server>,
    more: Vec<String>,
    /// A second address on which the server listens.
    also: Option<String>,
    /// Whether it requires TLS and a client certificate.
    tls: bool,
}

impl Postgres {
    pub fn start() -> Postgres {
        Postgres::start_with(&[])
    }

    /// Starts a server with more settings, such as `max_connections=5`.
    pub fn start_with(settings: &[&str]) -> Postgres {
        Postgres::start_as(settings, None)
    }

    /// Starts a server that also listens on another address of this machine.
    pub fn start_at(also: &str) -> Postgres {
        Postgres::start_as(&[], Some(also))
    }

    /// Starts a server that requires TLS and a client certificate: `ca.pem`, `client.pem` and `client.key` at
    /// [`path`](Postgres::path).
    pub fn start_with_tls() -> Postgres {
        let (folder, address) = (made(), address());
        make_certificates(folder.path(), &address);
        let file = |name: &str| folder.path().join(name).display().to_string();
        if is_root() {
            output(Command::new("chown").args([OWNER, &file("server.key")]));
        }
        std::fs::write(file("data/pg_hba.conf"), "hostssl all all 0.0.0.0/0 trust clientcert=verify-ca\n").unwrap();
        let more = [("cert", "server.pem"), ("key", "server.key"), ("ca", "ca.pem")];
        let more = more.map(|(what, name)| format!("ssl_{what}_file={}", file(name)));
        let more = more.into_iter().chain(["ssl=on".to_owned()]).collect();
        let mut postgres = Postgres { address, folder, server: None, more, also: None, tls: true };
        postgres.run();
        postgres
    }

    fn start_as(settings: &[&str], also: Option<&str>) -> Postgres {
        Postgres::of(made(), settings, also)
    }

    /// Returns the path of a file beside the server's data.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn of(folder: TempDir, settings: &[&str], also: Option<&str>) -> Postgres {
        let also = also.map(str::to_owned);
        let more = settings.iter().map(|word| (*word).to_owned()).collect();
        let mut postgres = Postgres { address: address(), folder, server: None, more, also, tls: false };
        postgres.run();
        postgres
    }

    /// Starts the server with its existing data, and waits until it answers.
    pub fn run(&mut self) {
        self.start_process();
        until("a server that answers", || {
            // After a kill, the next server refuses to start until the last child of the killed one has noticed.
            if self.server.as_ref().is_some_and(|server| crate::has_ended(server.pid())) {
                self.start_process();
            }
            let mut psql = self.psql();
            psql.args(["-c", "SELECT 1"]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        });
    }

    fn start_process(&mut self) {
        let mut command = as_owner(programs().unwrap().join("postgres"));
        command.arg("-D").arg(self.folder.path().join("data"));
        let addresses: Vec<&str> = std::iter::once(&*self.address).chain(self.also.as_deref()).collect();
        for setting in [format!("listen_addresses={}", addresses.join(",")), "unix_socket_directories=".to_owned()] {
            command.args(["-c", &setting]);
        }
        for setting in ["fsync=off", "port=5432", "restart_after_crash=on"] {
            command.args(["-c", setting]);
        }
        for setting in &self.more {
            command.args(["-c", setting]);
        }
        self.server = Some(Server::start(&mut command));
    }

    /// Returns `psql` as the superuser.
    pub fn psql(&self) -> Command {
        let mut psql = psql_at(&self.address, 5432);
        if self.tls {
            psql.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", self.path("ca.pem"));
            psql.env("PGSSLCERT", self.path("client.pem")).env("PGSSLKEY", self.path("client.key"));
        }
        psql
    }

    /// Runs a statement and returns its answer.
    pub fn ask(&self, sql: &str) -> String {
        output(self.psql().args(["-c", sql])).trim().to_owned()
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn target(&self, name: &str, ttl: u64) -> String {
        format!("postgres://postgres@{}/postgres?lock={name}&ttl={ttl}s", self.address)
    }

    /// Restarts the server with one more setting, and waits only until it listens.
    pub fn change(&mut self, setting: &str) {
        self.more.push(setting.to_owned());
        self.stop();
        self.start_process();
        let address = self.address.clone();
        until("a server that listens", || std::net::TcpStream::connect((&*address, 5432)).is_ok());
    }

    /// Shuts the server down (fast mode) and waits for its end.
    pub fn stop(&mut self) {
        let server = self.server.take().unwrap();
        server.signal(libc::SIGINT);
        server.end();
    }

    /// Kills the postmaster and with it all its children, as a power failure does.
    pub fn kill(&mut self) {
        let server = self.server.take().unwrap();
        // The children notice the postmaster's death by themselves, within moments.
        server.kill();
    }

    pub fn pid(&self) -> u32 {
        self.server.as_ref().unwrap().pid()
    }

    pub fn signal(&self, signal: i32) {
        self.server.as_ref().unwrap().signal(signal);
    }

    /// Stops the server with all its processes, so that it is silent.
    pub fn freeze(&self) {
        crate::stop(self.pid());
        self.signal_children(libc::SIGSTOP);
    }

    /// Continues what [`freeze`](Postgres::freeze) stopped.
    pub fn thaw(&self) {
        self.signal_children(libc::SIGCONT);
        self.signal(libc::SIGCONT);
    }

    /// Sends a signal to each process of a server that is stopped, and so reaps none that ends.
    fn signal_children(&self, number: i32) {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().for_each(|child| crate::signal(child.parse().unwrap(), number));
    }

    /// Inserts a line at the beginning of `pg_hba.conf`.
    pub fn admit(&self, line: &str) {
        let path = self.folder.path().join("data/pg_hba.conf");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{line}\n{before}")).unwrap();
        self.ask("SELECT pg_reload_conf()");
    }

    /// Accepts all users from that address.
    pub fn allow(&self, from: &str) {
        self.admit(&format!("host all all {from} trust"));
    }

    /// Requires a password of this user.
    pub fn require_password(&self, user: &str) {
        self.admit(&format!("host all {user} 0.0.0.0/0 scram-sha-256"));
        // A reload takes effect a moment later.
        let refuses = || {
            let mut psql = self.psql();
            psql.args(["-U", user, "-w", "-c", "SELECT 1"]).env_remove("PGPASSWORD").env("PGPASSFILE", "/dev/null");
            !psql.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        };
        until("a server that wants a password", refuses);
    }

    /// Starts a standby that confirms every commit before it counts.
    pub fn standby(&self) -> Postgres {
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        own(folder.path());
        let mut backup = as_owner(programs().unwrap().join("pg_basebackup"));
        backup.args(["-h", &self.address, "-U", "postgres", "-R", "--no-sync", "-c", "fast", "-D"]);
        output(backup.arg(folder.path().join("data")));
        Postgres::of(folder, &[], None)
    }

    pub fn promote(&self) {
        self.ask("SELECT pg_promote()");
    }

    /// Opens a `psql` session and waits until it holds the advisory lock of `name`.
    pub fn lock(&self, name: &str) -> Session {
        let mut session = self.session();
        session.ask(&format!("SELECT 'had' FROM pg_advisory_lock(hashtextextended('{name}', 0));"));
        session
    }

    pub fn session(&self) -> Session {
        Session::start(&mut self.psql())
    }
}

impl Session {
    fn start(psql: &mut Command) -> Session {
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        Session { child, output }
    }
}

fn psql_at(address: &str, port: u16) -> Command {
    let mut command = Command::new("psql");
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres"]);
    command.args(["-h", address, "-p", &port.to_string()]);
    command
}

/// A running `psql`.
pub struct Session {
    child: Child,
    output: std::io::BufReader<std::process::ChildStdout>,
}

impl Session {
    pub fn send(&mut self, sql: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{sql}").unwrap();
    }

    pub fn receive(&mut self) -> String {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut self.output, &mut line).unwrap();
        line.trim().to_owned()
    }

    /// Runs a statement and returns the one line of its answer.
    pub fn ask(&mut self, sql: &str) -> String {
        self.send(sql);
        self.receive()
    }

    /// Ends `psql` and its session.
    pub fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pgbouncer in front of a server.
pub struct Pool {
    address: String,
    _folder: TempDir,
    _server: Server,
}

impl Pool {
    /// Starts a pool with a mode: `statement`, `transaction` or `session`.
    pub fn start(postgres: &Postgres, mode: &str) -> Pool {
        let (address, folder) = (address(), TempDir::new().unwrap());
        let config = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={} port=5432\n[pgbouncer]\nlisten_addr = {address}\nlisten_port = 6432\n\
             auth_type = any\npool_mode = {mode}\ndefault_pool_size = 4\nunix_socket_dir =\n\
             [databases]\npostgres = host={} port=5432 user=postgres dbname=postgres\n",
            postgres.address, postgres.address
        );
        std::fs::write(&config, text).unwrap();
        own(folder.path());
        let server = Server::start(as_owner("pgbouncer").arg(config));
        let pool = Pool { address, _folder: folder, _server: server };
        until("a pool that answers", || {
            let mut psql = psql_at(&pool.address, 6432);
            psql.args(["-c", "SELECT 1"]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        });
        pool
    }

    /// Opens a `psql` session at the pool.
    pub fn session(&self) -> Session {
        Session::start(&mut psql_at(&self.address, 6432))
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn target(&self, name: &str) -> String {
        format!("postgres://postgres@{}:6432/postgres?lock={name}&ttl=15s", self.address)
    }
}
