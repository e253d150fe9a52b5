//! Connections to the server, and what their errors mean for a lock.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::password::{self, Whereto};
use super::plans::Plans;
pub(super) use super::plans::Value;
use super::sql;
use crate::model::error::{Error, ErrorKind, Result};
use crate::server::io_thread::{self, run_blocking, within};
use crate::server::last_answer::LastAnswer;
use crate::server::lease::CALL;
use crate::server::tls::Identity;
use crate::server::url::{Host, Url};
use crate::server::{names, tls};
use crate::sys;

/// The faults of the tables.
const MISSING: &str = "the tables of the lock do not exist";
const FORBIDDEN: &str = "the tables of the lock cannot be created or used";
const OTHER: &str = "the tables of the lock are not those of this version";

/// `lock_timeout` ran out.
pub(super) const LOCK_TIMED_OUT: &str = "55P03";
/// A statement was cancelled: by `statement_timeout`, or by an operator.
pub(super) const CANCELLED: &str = "57014";
/// The server has ended an idle session.
const IDLE_SESSION_TIMEOUT: &str = "57P05";
/// The server accepts no further connection.
const TOO_MANY_CONNECTIONS: &str = "53300";
/// Not enough of the server's shared memory, where its locks are.
const OUT_OF_MEMORY: &str = "53200";

/// An error without a target: sessions are shared by many locks.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) detail: String,
    hint: Option<Cow<'static, str>>,
    /// The server's code for it.
    code: Option<String>,
    /// It lacks the place in the source code that every server names in its errors: a proxy wrote it.
    by_proxy: bool,
}

pub(super) type Answer<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(super) fn new(kind: ErrorKind, detail: impl Into<String>) -> Failure {
        Failure { kind, detail: detail.into(), hint: None, code: None, by_proxy: false }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the failure of a session that has ended.
    pub(super) fn lost(why: &str) -> Failure {
        Failure::new(ErrorKind::Lost, format!("the connection to the server is lost: {why}"))
    }

    /// Returns the failure of a server that does not answer.
    pub(super) fn silent(limit: Duration) -> Failure {
        Failure::new(ErrorKind::Unreachable, format!("the server did not answer within {} ms", limit.as_millis()))
    }

    /// Returns the error of an operation at `target`.
    pub(super) fn at(self, target: &Path) -> Error {
        let error = Error::new(self.kind, target, self.detail);
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// Returns the failure of a statement that waited for as long as it may for another program.
    pub(super) fn blocked() -> Failure {
        let detail = "another program keeps the row of the lock locked, or the table tenure.locks";
        let failure = Failure::new(ErrorKind::Unreachable, detail).with_hint(
            "`SELECT pg_blocking_pids(pid), query FROM pg_stat_activity WHERE wait_event_type = 'Lock'` names its backend",
        );
        Failure { code: Some(LOCK_TIMED_OUT.to_owned()), ..failure }
    }

    /// Returns whether another program has locked a row or a table. Nothing was written.
    pub(super) fn is_blocked(&self) -> bool {
        self.has_code(LOCK_TIMED_OUT)
    }

    pub(super) fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Returns whether the tables are missing.
    pub(super) fn is_missing(&self) -> bool {
        self.detail.starts_with(MISSING)
    }

    /// Returns whether the server accepts no further connection.
    pub(super) fn is_connection_limit(&self) -> bool {
        self.has_code(TOO_MANY_CONNECTIONS)
    }

    /// Returns whether a proxy has refused the connection, and not the server.
    pub(super) fn is_proxys_limit(&self) -> bool {
        self.is_connection_limit() && self.by_proxy
    }

    /// Returns whether the session has ended.
    pub(super) fn is_lost(&self) -> bool {
        self.kind == ErrorKind::Lost
    }

    /// Returns whether the server has not answered, or the session ended before it did.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.kind, ErrorKind::Lost | ErrorKind::Unreachable)
    }
}

/// The first version that ends an idle session by itself (`idle_session_timeout`).
const OLDEST: u32 = 140_000;

/// The `application_name` of every session.
pub(super) const NAME: &str = "tenure";

/// The maximum time to tell the server that a session ends.
const FAREWELL: Duration = Duration::from_millis(200);

/// The purpose of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Look,
    Lock,
}

/// The facts of a session: the row of [`sql::WHO`].
struct Who {
    backend: i32,
    version: u32,
    standby: bool,
    read_only: bool,
    started: String,
}

/// The servers to connect to, and the user.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) url: Arc<Url>,
    pub(super) user: String,
    pub(super) identity: Option<Identity>,
    tls: Option<MakeRustlsConnect>,
    /// The server's last answer, in any session.
    pub(super) answers: LastAnswer,
}

/// A session of the server. Dropping it ends the session.
pub(super) struct Connection {
    client: Mutex<Option<Arc<Client>>>,
    driver: Mutex<Option<JoinHandle<()>>>,
    tls: Option<MakeRustlsConnect>,
    answers: LastAnswer,
    pub(super) over: Arc<Over>,
    pub(super) backend: i32,
    /// When the server was started.
    started: String,
    /// What the server reports on its own: the payloads of notifications.
    news: Mutex<Option<UnboundedReceiver<String>>>,
    unanswered: Mutex<Unanswered>,
    pub(super) plans: Plans,
}

/// The statements that the server has not answered.
#[derive(Debug, Default)]
struct Unanswered {
    /// The number of those whose answers are waited for.
    awaited: usize,
    /// The time since when the server owes an answer, counted from its last one.
    since: Option<Instant>,
}

/// A statement whose answer is waited for.
struct Asked<'a>(&'a Connection);

impl<'a> Asked<'a> {
    fn begin(connection: &'a Connection) -> Asked<'a> {
        let mut unanswered = connection.unanswered();
        unanswered.awaited += 1;
        unanswered.since.get_or_insert_with(Instant::now);
        drop(unanswered);
        Asked(connection)
    }

    fn answered(self) {
        let mut unanswered = self.0.unanswered();
        // This one is still counted.
        unanswered.since = (unanswered.awaited > 1).then(Instant::now);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.unanswered().awaited -= 1;
    }
}

/// Reports that the connection has ended, and why.
#[derive(Default)]
pub(super) struct Over {
    why: Mutex<Option<String>>,
    told: Notify,
}

impl Over {
    fn tell(&self, why: String) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.told.notify_waiters();
    }

    pub(super) fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the connection ends.
    pub(super) async fn wait(&self) -> String {
        loop {
            let told = self.told.notified();
            if let Some(why) = self.why() {
                return why;
            }
            told.await;
        }
    }
}

/// Executes what the connection is asked for, until its end.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, over: Arc<Over>, news: UnboundedSender<String>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let why = loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            // Nothing reads them in a session that holds no lock.
            Some(Ok(AsyncMessage::Notification(notification))) => drop(news.send(notification.payload().to_owned())),
            Some(Ok(_)) => {}
            Some(Err(error)) => break words(&error),
            None => break "the server closed the connection".to_owned(),
        }
    };
    over.tell(why);
}

impl Address {
    pub(super) fn new(url: Url, identity: Option<Identity>) -> Result<Address> {
        let tls = identity.as_ref().map(|identity| tls::config(&url, identity)).transpose()?;
        let tls = tls.map(MakeRustlsConnect::new);
        let user = user_of(&url);
        Ok(Address { url: Arc::new(url), user, identity, tls, answers: LastAnswer::default() })
    }

    /// Returns whether the sessions for a target may be these.
    pub(super) fn is_for(&self, url: &Url, identity: Option<&Identity>) -> bool {
        let ours = &self.url;
        (&ours.hosts, &ours.socket, &ours.path, ours.ttl, ours.sessions)
            == (&url.hosts, &url.socket, &url.path, url.ttl, url.sessions)
            && self.user == user_of(url)
            && self.identity.as_ref() == identity
    }

    /// Returns the parameters of a connection, but for the host.
    fn config(&self, host: &str, port: u16) -> Config {
        let user = self.user.clone();
        let database = if self.url.path.is_empty() { user.clone() } else { self.url.path.clone() };
        let mut config = Config::new();
        let ttl = self.url.ttl;
        config.user(&user).dbname(&database).application_name(NAME).port(port);
        // Whole seconds: less would be none.
        config
            .keepalives_idle((ttl / 3).max(Duration::from_secs(1)))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3);
        config.tcp_user_timeout(ttl);
        config.ssl_mode(if self.tls.is_some() { SslMode::Require } else { SslMode::Disable });
        if let Some(password) = password::find(&Whereto { host, port, database: &database, user: &user }) {
            config.password(password);
        }
        config
    }

    /// As [`config`](Address::config), within `limit` and on another thread: the password file may be on a file system that
    /// hangs.
    async fn read_config(&self, host: &str, port: u16, limit: Duration) -> std::result::Result<Config, String> {
        let (address, name) = (self.clone(), host.to_owned());
        match within(limit, run_blocking(move || address.config(&name, port))).await {
            Some(Some(config)) => Ok(config),
            Some(None) => Err("no thread could read the password".to_owned()),
            None => Err(format!("no password was read within {} ms", limit.as_millis())),
        }
    }

    /// Connects to the first host that accepts the connection and is fit for the purpose, within `limit` altogether, and
    /// sends `first`, whose last rows are [`sql::WHO`]'s.
    pub(super) async fn connect(&self, first: &str, purpose: Purpose, limit: Duration) -> Answer<Connection> {
        let mut try_all = TryAll { address: self, first, purpose, failures: Vec::new(), refused: None, limited: None };
        let connected = match &self.url.socket {
            Some(socket) => {
                // Where there are no Unix sockets, `Postgres::open` has refused the target.
                let port = self.url.hosts.first().map_or(5432, |host| host.port);
                try_all.socket(socket, port, limit).await?
            }
            None => {
                let share = limit / u32::try_from(self.url.hosts.len().clamp(1, 3)).unwrap_or(1);
                let end = Instant::now() + limit;
                let mut connected = None;
                for host in &self.url.hosts {
                    let left = end.saturating_duration_since(Instant::now());
                    connected = try_all.host(host, share.min(left)).await?;
                    if connected.is_some() {
                        break;
                    }
                }
                connected
            }
        };
        if let Some(connection) = connected {
            return Ok(connection);
        }
        let TryAll { failures, refused, limited, .. } = try_all;
        // The only server has answered: asking again would not help.
        if failures.len() == 1
            && let Some(refused) = refused
        {
            return Err(refused);
        }
        let detail = format!("no server answered: {}", failures.join("; "));
        let hint = tls::hint(&detail).or_else(|| {
            let is_silent = refused.is_none() && limited.is_none();
            is_silent.then_some("is it running, and can it be reached from here?")
        });
        let mut failure = Failure::new(ErrorKind::Unreachable, detail);
        failure.hint = hint.map(Cow::Borrowed);
        failure.code = limited.map(|_| TOO_MANY_CONNECTIONS.to_owned());
        failure.by_proxy = limited == Some(Limit::Proxy);
        Err(failure)
    }

    async fn start(&self, config: &Config) -> std::result::Result<Started, tokio_postgres::Error> {
        let over = Arc::new(Over::default());
        let (teller, news) = unbounded_channel();
        let (client, driver) = match &self.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, tokio::spawn(drive(connection, Arc::clone(&over), teller)))
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                (client, tokio::spawn(drive(connection, Arc::clone(&over), teller)))
            }
        };
        Ok(Started { client, driver, over, news })
    }

    /// Fails behind a proxy that shares a server's session between clients, because session locks do not survive that. Two
    /// open connections of this process then have the same backend, or ours gets the backend that the other's transaction
    /// has just given back. `other` serves nothing else meanwhile.
    pub(super) async fn refuse_proxy(&self, ours: &Connection, other: &Connection, limit: Duration) -> Answer<()> {
        let begin = format!("BEGIN; {}", sql::WHO);
        let began = other.run(limit, |client| async move { client.simple_query(&begin).await }).await;
        match began {
            Ok(rows) if who(&rows).is_some_and(|who| who.backend == ours.backend) => {
                return Err(proxy("transaction pooling"));
            }
            Ok(_rows) => {
                for _ in 0..2 {
                    ours.check_backend(limit).await?;
                }
            }
            Err(failure) if failure.kind == ErrorKind::Unreachable => return Err(failure),
            // Every server lets its user begin a transaction. A peer that refuses that is no server.
            Err(failure) => return Err(proxy(&format!("it refuses a transaction: {}", failure.detail))),
        }
        other.batch(limit, "ROLLBACK").await?;
        for _ in 0..2 {
            ours.check_backend(limit).await?;
        }
        Ok(())
    }
}

struct Started {
    client: Client,
    driver: JoinHandle<()>,
    over: Arc<Over>,
    news: UnboundedReceiver<String>,
}

fn user_of(url: &Url) -> String {
    let of = |name| std::env::var(name).ok().filter(|user: &String| !user.is_empty());
    let user = url.user.clone().or_else(|| of("PGUSER")).or_else(|| of(sys::USER_VARIABLE));
    user.unwrap_or_else(|| "postgres".to_owned())
}

fn proxy(how: &str) -> Failure {
    let detail = format!("a proxy between us and the server lends its sessions to others ({how})");
    Failure::new(ErrorKind::Unsupported, detail)
        .with_hint("a session lock does not survive that: name the server itself, or a pool in session mode")
}

/// Returns what an error of the server or of the connection means for a lock.
fn failure(error: &tokio_postgres::Error, is_tls: bool) -> Failure {
    let by_proxy = error.as_db_error().is_some_and(|error| error.routine().is_none());
    Failure { code: error.code().map(|code| code.code().to_owned()), by_proxy, ..meaning(error, is_tls) }
}

fn meaning(error: &tokio_postgres::Error, is_tls: bool) -> Failure {
    let new = Failure::new;
    let text = words(error);
    let Some(code) = error.code() else {
        if error.is_closed() {
            return new(ErrorKind::Lost, format!("the connection to the server is lost: {text}"));
        }
        // The crate has no error kind for it.
        if text.contains("password missing") {
            return new(ErrorKind::PermissionDenied, "the server wants a password and there is none".to_owned())
                .with_hint("put it into PGPASSWORD or ~/.pgpass, which only its owner may read");
        }
        return new(ErrorKind::Unreachable, text);
    };
    if *code == SqlState::INVALID_PASSWORD || code.code().starts_with("28") {
        let hint = match !is_tls && (text.contains("no encryption") || text.contains("SSL off")) {
            true => "the server may let in only those that use TLS: name its authority by `ca=FILE` in the target",
            false => "the user is named in the target, the password in PGPASSWORD or ~/.pgpass",
        };
        return new(ErrorKind::PermissionDenied, text).with_hint(hint);
    }
    match code.code() {
            "42501" | "42P01" | "3F000" => {
                let what = if code.code() == "42501" { FORBIDDEN } else { MISSING };
                new(ErrorKind::PermissionDenied, format!("{what}: {text}")).with_hint(format!(
                    "have a user with the right run this, and grant this user USAGE on schema tenure and sequence \
                     tenure.fence, and SELECT, INSERT, UPDATE on tenure.locks:\n{}",
                    sql::TABLES
                ))
            }
            "42703" => new(ErrorKind::Unsupported, format!("{OTHER}: {text}"))
                .with_hint("they are of another version: while no lock is held, `DROP SCHEMA tenure CASCADE`"),
            CANCELLED => new(ErrorKind::Unreachable, format!("the server did not answer in time: {text}")),
            "3D000" => new(ErrorKind::CannotCreate, text),
            TOO_MANY_CONNECTIONS => new(ErrorKind::Unreachable, format!("the server is at its connection limit: {text}")),
            OUT_OF_MEMORY => new(ErrorKind::Unreachable, format!("the server has no room for another lock: {text}"))
                .with_hint("all its sessions together may have max_locks_per_transaction * max_connections locks: increase the first, and restart it"),
            "25006" => new(ErrorKind::ReadOnly, format!("the server takes no writes: {text}")),
            "57P01" | "57P02" | IDLE_SESSION_TIMEOUT => {
                new(ErrorKind::Lost, format!("the connection to the server is lost: {text}"))
            }
            "57P03" => new(ErrorKind::Unreachable, text),
            _ => new(ErrorKind::Io, text),
        }
}

/// The search for a server among several.
struct TryAll<'a> {
    address: &'a Address,
    first: &'a str,
    purpose: Purpose,
    failures: Vec<String>,
    /// The error of a server that answered and is not fit for the purpose.
    refused: Option<Failure>,
    /// A server, or a proxy before it, accepts no further connection.
    limited: Option<Limit>,
}

/// What has refused a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Server,
    Proxy,
}

impl TryAll<'_> {
    /// Returns the settings of a connection to the server that errors call `who`. `None` is a failure of that server.
    async fn config(&mut self, who: &str, host: &str, port: u16, limit: Duration) -> Option<Config> {
        let read = self.address.read_config(host, port, limit).await;
        read.map_err(|error| self.failures.push(format!("{who}: {error}"))).ok()
    }

    /// Tries a Unix socket.
    async fn socket(&mut self, socket: &Path, port: u16, limit: Duration) -> Answer<Option<Connection>> {
        let (end, name) = (Instant::now() + limit, socket.display().to_string());
        #[cfg_attr(not(unix), allow(unused_mut, reason = "only a Unix sets the socket"))]
        let Some(mut config) = self.config(&name, "localhost", port, limit).await else { return Ok(None) };
        #[cfg(unix)]
        config.host_path(socket);
        self.once(&name, &config, end.saturating_duration_since(Instant::now())).await
    }

    /// Tries every address of one name, each with its own share of the time: an address that never answers does not use up
    /// the time of the others.
    async fn host(&mut self, host: &Host, limit: Duration) -> Answer<Option<Connection>> {
        let end = Instant::now() + limit;
        let addresses = match names::resolve(&host.name, limit).await {
            Ok(addresses) => addresses,
            Err(error) => {
                self.failures.push(format!("{}: {error}", host.authority()));
                return Ok(None);
            }
        };
        let left = end.saturating_duration_since(Instant::now());
        let Some(config) = self.config(&host.authority(), &host.name, host.port, left).await else { return Ok(None) };
        for (at, address) in addresses.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
            let mut config = config.clone();
            config.host(&host.name).hostaddr(*address);
            let name = match addresses.len() {
                1 => host.authority(),
                _ => format!("{} ({address})", host.authority()),
            };
            if let Some(connected) = self.once(&name, &config, share).await? {
                return Ok(Some(connected));
            }
        }
        Ok(None)
    }

    /// Tries one address. Returns an error that the other addresses would have as well.
    async fn once(&mut self, name: &str, config: &Config, limit: Duration) -> Answer<Option<Connection>> {
        let start = async || {
            let started = self.address.start(config).await?;
            let rows = started.client.simple_query(self.first).await?;
            Ok::<_, tokio_postgres::Error>((started, rows))
        };
        let started = async {
            loop {
                match start().await {
                    // The role's own timeout was so short that our first statement came too late to change it.
                    Err(error) if error.code().is_some_and(|code| code.code() == IDLE_SESSION_TIMEOUT) => {}
                    other => return other,
                }
            }
        };
        let (started, rows) = match within(limit, started).await {
            None => {
                self.failures.push(format!("{name}: no answer within {} ms", limit.as_millis()));
                return Ok(None);
            }
            Some(Err(error)) => {
                let failure = failure(&error, self.address.tls.is_some());
                // Another host has the same users and databases.
                if !matches!(failure.kind, ErrorKind::Unreachable | ErrorKind::ReadOnly | ErrorKind::Lost) {
                    return Err(failure);
                }
                if failure.is_connection_limit() {
                    if !failure.by_proxy {
                        self.address.answers.record();
                    }
                    self.limited = Some(if failure.by_proxy { Limit::Proxy } else { Limit::Server });
                }
                self.failures.push(format!("{name}: {}", failure.detail));
                return Ok(None);
            }
            Some(Ok(connected)) => connected,
        };
        let Some(who) = who(&rows).filter(|who| who.version >= OLDEST) else {
            let detail = "the server is older than PostgreSQL 14 and cannot end an idle session by itself";
            return Err(Failure::new(ErrorKind::Unsupported, detail));
        };
        // A standby grants advisory locks too, and they exclude nothing at the primary.
        let refused = if who.standby {
            Some(("it is a standby, which takes no writes", "name the primary, or all of its cluster's servers"))
        } else if who.read_only && self.purpose == Purpose::Lock {
            Some((
                "it takes no writes from this user: default_transaction_read_only is on",
                "`ALTER ROLE` or `ALTER DATABASE .. SET default_transaction_read_only` may have turned it on",
            ))
        } else {
            None
        };
        let Some((why, hint)) = refused else {
            let Started { client, driver, over, news } = started;
            self.address.answers.record();
            return Ok(Some(Connection {
                client: Mutex::new(Some(Arc::new(client))),
                driver: Mutex::new(Some(driver)),
                tls: self.address.tls.clone(),
                answers: self.address.answers.clone(),
                over,
                backend: who.backend,
                started: who.started,
                news: Mutex::new(Some(news)),
                unanswered: Mutex::default(),
                plans: Plans::default(),
            }));
        };
        self.failures.push(format!("{name}: {why}"));
        let detail = format!("{name} grants no lock: {why}");
        self.refused = Some(Failure::new(ErrorKind::ReadOnly, detail).with_hint(hint));
        Ok(None)
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Connection {
    /// Takes what the server reports on its own: the payloads of notifications.
    pub(super) fn take_news(&self) -> Option<UnboundedReceiver<String>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn client(&self) -> Answer<Arc<Client>> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        client.ok_or_else(|| Failure::lost(&self.over.why().unwrap_or_default()))
    }

    /// Fails if it is at another server than `other`. After a failover both may accept writes.
    pub(super) fn must_be_beside(&self, other: &Connection) -> Answer<()> {
        if self.started == other.started {
            return Ok(());
        }
        let detail = "the session that writes the row is at another server than the one that has the lock";
        Err(Failure::new(ErrorKind::Unreachable, detail).with_hint(
            "of the target's servers only one may accept writes: look at `SELECT pg_is_in_recovery()` in each",
        ))
    }

    fn unanswered(&self) -> MutexGuard<'_, Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the server has answered nothing in this session for so long that new statements go to another: the
    /// network may have dropped the connection, which a long lease would notice late.
    pub(super) fn is_silent(&self) -> bool {
        self.unanswered().since.is_some_and(|since| since.elapsed() >= CALL)
    }

    /// Runs `work` to its end, which the connection's end is too.
    pub(super) async fn run_long<T, W>(&self, work: impl FnOnce(Arc<Client>) -> W) -> Answer<T>
    where
        W: Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    {
        let asked = Asked::begin(self);
        let done = work(self.client()?).await;
        asked.answered();
        let answer = done.map_err(|error| match self.over.why() {
            Some(why) => Failure::lost(&why),
            None => failure(&error, self.tls.is_some()),
        });
        // A server that ends, or that has ended the session, has no word on a lock.
        if !answer.as_ref().is_err_and(Failure::is_unanswered) {
            self.answers.record();
        }
        answer
    }

    /// Runs `work` within `limit`. After that the server counts as one that does not answer.
    pub(super) async fn run<T, W>(&self, limit: Duration, work: impl FnOnce(Arc<Client>) -> W) -> Answer<T>
    where
        W: Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    {
        within(limit, self.run_long(work)).await.unwrap_or_else(|| Err(Failure::silent(limit)))
    }

    /// Runs one statement, and returns its rows.
    pub(super) async fn rows(&self, limit: Duration, sql: &'static str, values: &[Value<'_>]) -> Answer<Vec<Row>> {
        self.run(limit, |client| async move { self.plans.query(&client, sql, values).await }).await
    }

    /// As [`rows`](Connection::rows), without a limit.
    pub(super) async fn rows_long(&self, sql: &'static str, values: &[Value<'_>]) -> Answer<Vec<Row>> {
        self.run_long(|client| async move { self.plans.query(&client, sql, values).await }).await
    }

    /// Runs statements without values and without rows.
    pub(super) async fn batch(&self, limit: Duration, sql: &str) -> Answer<()> {
        self.run(limit, |client| async move { client.batch_execute(sql).await }).await
    }

    /// Checks that it is the same session of the server as before. The query also renews the lease.
    pub(super) async fn check_backend(&self, limit: Duration) -> Answer<()> {
        let rows = self.rows(limit, sql::RENEW, &[]).await?;
        match rows.first().map(|row| row.get::<_, i32>(0)) {
            Some(backend) if backend == self.backend => Ok(()),
            _ => Err(proxy("transaction pooling")),
        }
    }

    /// Ends another session, and waits for its end. `false` if there was none.
    pub(super) async fn end(&self, backend: i32, limit: Duration) -> Answer<bool> {
        let patience = i64::try_from((limit / 2).as_millis()).unwrap_or(i64::MAX);
        let ended = self.rows(limit, sql::END_BACKEND, &[(&backend, Type::INT4), (&patience, Type::INT8)]).await;
        match ended {
            Err(failure) if failure.has_code("42501") => Err(forbidden(backend, &failure.detail)),
            Err(failure) => Err(failure),
            Ok(rows) if rows.first().is_some_and(|row| row.get(0)) => Ok(true),
            // It may have ended by itself, or still be there.
            Ok(_) => match self.rows(limit, sql::RUNS, &[(&backend, Type::INT4)]).await?.is_empty() {
                true => Ok(false),
                false => {
                    let detail = format!("the holder's session (backend {backend}) was told to end and has not yet");
                    Err(Failure::new(ErrorKind::Unreachable, detail)
                        .with_hint("the lock stays its own until it does: look at it in pg_stat_activity"))
                }
            },
        }
    }

    /// Cancels the statement that the server executes for this session: a wait in its queue.
    pub(super) async fn cancel(&self, limit: Duration) {
        let Ok(client) = self.client() else { return };
        let token = client.cancel_token();
        let cancel = async {
            match &self.tls {
                Some(tls) => token.cancel_query(tls.clone()).await,
                None => token.cancel_query(NoTls).await,
            }
        };
        within(limit, cancel).await;
    }

    /// Ends the session. A server that does not answer does not delay this.
    pub(super) fn close(&self, why: &str) {
        self.over.tell(why.to_owned());
        drop(self.client.lock().unwrap_or_else(PoisonError::into_inner).take());
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut driver) = driver {
            // Also from a thread of the program. Without the I/O thread there is nothing to end.
            let _ = io_thread::spawn(async move {
                // It informs the server at once.
                if within(FAREWELL, &mut driver).await.is_none() {
                    driver.abort();
                }
            });
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close("it is not needed");
    }
}

/// Returns the error of a session that this user may not end.
pub(super) fn forbidden(backend: i32, why: &str) -> Failure {
    let why = why.strip_prefix(FORBIDDEN).map_or(why, |why| why.trim_start_matches(": "));
    let detail = format!("the holder's session (backend {backend}) cannot be ended: {why}");
    Failure::new(ErrorKind::PermissionDenied, detail).with_hint(
        "nothing was changed: the user must be a member of the role that holds, or of pg_signal_backend, or a \
         superuser where a superuser holds",
    )
}

/// Returns an error's text with its causes. The crate's own text names only the place of the failure.
fn words(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_owned();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

fn who(rows: &[SimpleQueryMessage]) -> Option<Who> {
    let row = rows.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })?;
    Some(Who {
        backend: row.get(0)?.parse().ok()?,
        version: row.get(1)?.parse().ok()?,
        standby: row.get(2)? == "t",
        read_only: row.get(3)? == "on",
        started: row.get(4)?.to_owned(),
    })
}
