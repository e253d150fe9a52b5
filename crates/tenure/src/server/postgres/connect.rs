//! Connections to the server, and what their errors mean for a lock.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::password::{self, Whereto};
use super::sql;
use crate::model::error::{Error, ErrorKind, Result};
use crate::server::url::{Host, Url};
use crate::server::{names, tls};
use crate::sys::{self, ForkLocal};

/// The faults of the tables.
const MISSING: &str = "the tables of the lock do not exist";
const FORBIDDEN: &str = "the tables of the lock cannot be made or used";
const OTHER: &str = "the tables of the lock are not those of this version";

/// Returns whether the tables are missing.
pub(super) fn is_missing(error: &Error) -> bool {
    error.detail().starts_with(MISSING)
}

/// The first version that ends an idle session by itself (`idle_session_timeout`).
const OLDEST: u32 = 140_000;

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
}

/// The servers to connect to, and the user.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) url: Arc<Url>,
    tls: Option<MakeRustlsConnect>,
    /// Records of grants whose answer was too late.
    unsure: Arc<Mutex<Vec<String>>>,
}

/// The maximum number of these records.
const MOST_UNSURE: usize = 64;

/// A session of the server. Dropping it ends the session.
pub(super) struct Connection {
    // Dropped before the runtime, because its end informs the server.
    client: Option<Arc<Client>>,
    pub(super) runtime: Runtime,
    driver: Option<tokio::task::JoinHandle<()>>,
    pub(super) over: Arc<Over>,
    pub(super) backend: i32,
    pub(super) address: Address,
}

/// Reports that the connection has ended, and why.
#[derive(Default)]
pub(super) struct Over {
    why: Mutex<Option<String>>,
    told: Notify,
}

impl Over {
    fn tell(&self, why: String) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
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

impl Address {
    pub(super) fn new(url: Url) -> Result<Address> {
        let tls = match tls::read(&url)? {
            None => None,
            Some(identity) => {
                let mut roots = rustls::RootCertStore::empty();
                for root in identity.roots {
                    roots.add(root).map_err(|error| tls_error(&url, &error))?;
                }
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let config = rustls::ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .map_err(|error| tls_error(&url, &error))?
                    .with_root_certificates(roots);
                let config = match identity.own {
                    None => config.with_no_client_auth(),
                    Some((chain, key)) => {
                        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| tls::no_key(&url))?;
                        config.with_client_auth_cert(chain, key).map_err(|error| tls_error(&url, &error))?
                    }
                };
                Some(MakeRustlsConnect::new(config))
            }
        };
        Ok(Address { url: Arc::new(url), tls, unsure: Arc::default() })
    }

    /// Records a grant whose answer was lost. The server may still commit it, and it has no holder.
    pub(super) fn be_unsure(&self, record: &str) {
        let mut unsure = self.unsure.lock().unwrap_or_else(PoisonError::into_inner);
        if unsure.len() >= MOST_UNSURE {
            unsure.remove(0);
        }
        unsure.push(record.to_owned());
    }

    /// Records that this record was granted after all.
    pub(super) fn be_sure(&self, record: &str) {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner).retain(|unsure| unsure != record);
    }

    /// Returns whether it is the record of a grant that has no holder.
    pub(super) fn is_unsure(&self, record: &str) -> bool {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|unsure| unsure == record)
    }

    fn user(&self) -> String {
        let of = |name| std::env::var(name).ok().filter(|user: &String| !user.is_empty());
        let user = self.url.user.clone().or_else(|| of("PGUSER")).or_else(|| of(sys::USER_VARIABLE));
        user.unwrap_or_else(|| "postgres".to_owned())
    }

    /// Returns the parameters of a connection, but for the host.
    fn config(&self, host: &str, port: u16) -> Config {
        let user = self.user();
        let database = if self.url.path.is_empty() { user.clone() } else { self.url.path.clone() };
        let mut config = Config::new();
        let ttl = self.url.ttl;
        config.user(&user).dbname(&database).application_name("tenure").port(port);
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

    /// Connects to the first host that accepts the connection and is fit for the purpose, within `limit` altogether, and
    /// sends `first`, whose last rows are [`sql::WHO`]'s.
    pub(super) fn connect(&self, first: &str, purpose: Purpose, limit: Duration) -> Result<Connection> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::io(&self.url.target, "no runtime for the connection", error))?;
        let mut try_all =
            TryAll { address: self, runtime: &runtime, first, purpose, failures: Vec::new(), refused: None };
        let connected = match &self.url.socket {
            Some(socket) => {
                // Where there are no Unix sockets, `Postgres::open` has refused the target.
                #[cfg_attr(not(unix), allow(unused_mut, reason = "only a Unix sets the socket"))]
                let mut config = self.config("localhost", self.url.hosts.first().map_or(5432, |host| host.port));
                #[cfg(unix)]
                config.host_path(socket);
                try_all.once(&socket.display().to_string(), &config, limit)?
            }
            None => {
                let share = limit / u32::try_from(self.url.hosts.len().clamp(1, 3)).unwrap_or(1);
                let end = Instant::now() + limit;
                let mut connected = None;
                for host in &self.url.hosts {
                    let left = end.saturating_duration_since(Instant::now());
                    connected = try_all.host(host, share.min(left))?;
                    if connected.is_some() {
                        break;
                    }
                }
                connected
            }
        };
        if let Some((client, driver, over, backend)) = connected {
            let (client, driver) = (Some(Arc::new(client)), Some(driver));
            return Ok(Connection { client, runtime, driver, over, backend, address: self.clone() });
        }
        let TryAll { failures, refused, .. } = try_all;
        // The only server has answered: asking again would not help.
        if let (Some(refused), true) = (refused, failures.len() == 1) {
            return Err(refused);
        }
        let detail = format!("no server answered: {}", failures.join("; "));
        let hint = tls::hint(&detail);
        let error = Error::new(ErrorKind::Unreachable, &self.url.target, detail);
        Err(match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }

    async fn start(
        &self,
        config: &Config,
        over: Arc<Over>,
    ) -> std::result::Result<(Client, tokio::task::JoinHandle<()>), tokio_postgres::Error> {
        let end = move |result: std::result::Result<(), tokio_postgres::Error>| {
            over.tell(
                result.err().map_or_else(|| "the server closed the connection".to_owned(), |error| words(&error)),
            );
        };
        Ok(match &self.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, tokio::spawn(async move { end(connection.await) }))
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                (client, tokio::spawn(async move { end(connection.await) }))
            }
        })
    }

    /// Fails behind a proxy that shares a server's session between clients, because session locks do not survive that. Two
    /// open connections of this process then have the same backend. Checked once a process.
    pub(super) fn refuse_proxy(&self, ours: &Connection, limit: Duration) -> Result<()> {
        static DIRECT: ForkLocal<Mutex<HashSet<String>>> = ForkLocal::new();
        let direct = || DIRECT.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        let url = &self.url;
        let key = format!("{:?} {:?} {} {}", url.hosts, url.socket, url.path, self.user());
        if direct().contains(&key) {
            return Ok(());
        }
        let other = match self.connect(sql::WHO, Purpose::Look, limit) {
            Ok(other) => other,
            // The server accepts no second connection. Every renewal compares the backend as well.
            Err(_) => return Ok(()),
        };
        let client = other.client();
        let begin = format!("BEGIN; {}", sql::WHO);
        match other.within(limit, async { client.simple_query(&begin).await }) {
            Ok(rows) if who(&rows).is_some_and(|who| who.backend == ours.backend) => {
                return Err(self.proxy("transaction pooling"));
            }
            Ok(_rows) => {
                for _ in 0..2 {
                    ours.check_backend(limit)?;
                }
            }
            Err(error) if error.is_unreachable() => return Err(error),
            // Every server lets its user begin a transaction. A peer that refuses that is no server.
            Err(error) => return Err(self.proxy(&format!("it refuses a transaction: {}", error.detail()))),
        }
        direct().insert(key);
        Ok(())
    }

    fn proxy(&self, how: &str) -> Error {
        let detail = format!("a proxy between us and the server lends its sessions to others ({how})");
        Error::new(ErrorKind::Unsupported, &self.url.target, detail)
            .with_hint("a session lock does not survive that: name the server itself, or a pool in session mode")
    }

    /// Returns what an error of the server or of the connection means for a lock.
    pub(super) fn error(&self, error: &tokio_postgres::Error) -> Error {
        let new = |kind, detail: String| Error::new(kind, &self.url.target, detail);
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
            let hint = match self.tls.is_none() && (text.contains("no encryption") || text.contains("SSL off")) {
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
            "57014" => new(ErrorKind::Unreachable, format!("the server did not answer in time: {text}")),
            "3D000" => new(ErrorKind::CannotCreate, text),
            "53300" => new(ErrorKind::Unreachable, format!("the server is at its connection limit: {text}")),
            "25006" => new(ErrorKind::ReadOnly, format!("the server takes no writes: {text}")),
            "57P01" | "57P02" | "57P05" => {
                new(ErrorKind::Lost, format!("the connection to the server is lost: {text}"))
            }
            "57P03" => new(ErrorKind::Unreachable, text),
            _ => new(ErrorKind::Io, text),
        }
    }
}

type Connected = (Client, tokio::task::JoinHandle<()>, Arc<Over>, i32);

/// The search for a server among several.
struct TryAll<'a> {
    address: &'a Address,
    runtime: &'a Runtime,
    first: &'a str,
    purpose: Purpose,
    failures: Vec<String>,
    /// The error of a server that answered and is not fit for the purpose.
    refused: Option<Error>,
}

impl TryAll<'_> {
    /// Tries every address of one name, each with its own share of the time: an address that never answers does not use up
    /// the time of the others.
    fn host(&mut self, host: &Host, limit: Duration) -> Result<Option<Connected>> {
        let end = Instant::now() + limit;
        let addresses = match names::addresses(&host.name, limit) {
            Ok(addresses) => addresses,
            Err(error) => {
                self.failures.push(format!("{}: {error}", host.authority()));
                return Ok(None);
            }
        };
        let config = self.address.config(&host.name, host.port);
        for (at, address) in addresses.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
            let mut config = config.clone();
            config.host(&host.name).hostaddr(*address);
            let name = match addresses.len() {
                1 => host.authority(),
                _ => format!("{} ({address})", host.authority()),
            };
            if let Some(connected) = self.once(&name, &config, share)? {
                return Ok(Some(connected));
            }
        }
        Ok(None)
    }

    /// Tries one address. Returns an error that the other addresses would have as well.
    fn once(&mut self, name: &str, config: &Config, limit: Duration) -> Result<Option<Connected>> {
        let over = Arc::new(Over::default());
        let start = async {
            let (client, driver) = self.address.start(config, Arc::clone(&over)).await?;
            let rows = client.simple_query(self.first).await?;
            Ok::<_, tokio_postgres::Error>((client, driver, rows))
        };
        let target = &self.address.url.target;
        let (client, driver, rows) = match self.runtime.block_on(async { timeout(limit, start).await }) {
            Err(_) => {
                self.failures.push(format!("{name}: no answer within {} ms", limit.as_millis()));
                return Ok(None);
            }
            Ok(Err(error)) => {
                let error = self.address.error(&error);
                // Another host has the same users and databases.
                if !error.is_unreachable() && !error.is_lost() {
                    return Err(error);
                }
                self.failures.push(format!("{name}: {}", error.detail()));
                return Ok(None);
            }
            Ok(Ok(connected)) => connected,
        };
        let Some(who) = who(&rows).filter(|who| who.version >= OLDEST) else {
            let detail = "the server is older than PostgreSQL 14 and cannot end an idle session by itself";
            return Err(Error::new(ErrorKind::Unsupported, target, detail));
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
        let Some((why, hint)) = refused else { return Ok(Some((client, driver, over, who.backend))) };
        self.failures.push(format!("{name}: {why}"));
        let detail = format!("{name} grants no lock: {why}");
        self.refused = Some(Error::new(ErrorKind::ReadOnly, target, detail).with_hint(hint));
        Ok(None)
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn client(&self) -> Arc<Client> {
        match &self.client {
            Some(client) => Arc::clone(client),
            // Only `drop` takes it.
            None => unreachable!("a connection is used after its end"),
        }
    }

    /// Runs `work` within `limit`. After that the server counts as one that does not answer.
    pub(super) fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        match self.runtime.block_on(async { timeout(limit, work).await }) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(match self.over.why() {
                Some(why) => self.lost(&why),
                None => self.address.error(&error),
            }),
            Err(_) => {
                let detail = format!("the server did not answer within {} ms", limit.as_millis());
                Err(Error::new(ErrorKind::Unreachable, &self.address.url.target, detail))
            }
        }
    }

    pub(super) fn lost(&self, why: &str) -> Error {
        Error::new(ErrorKind::Lost, &self.address.url.target, format!("the connection to the server is lost: {why}"))
    }

    /// Runs one statement, and returns its rows. It is not prepared, because it is sent once.
    pub(super) fn rows(&self, limit: Duration, sql: &str, values: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
        let client = self.client();
        self.within(limit, async { client.query_typed(sql, values).await })
    }

    /// Runs one statement, and returns how many rows it changed.
    pub(super) fn changed(&self, limit: Duration, sql: &str, values: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64> {
        let client = self.client();
        self.within(limit, async { client.execute_typed(sql, values).await })
    }

    /// Runs statements without values and without rows.
    pub(super) fn batch(&self, limit: Duration, sql: &str) -> Result<()> {
        let client = self.client();
        self.within(limit, async { client.batch_execute(sql).await })
    }

    /// As [`rows`](Connection::rows); creates the tables where they are missing.
    pub(super) fn with_tables<T>(&self, limit: Duration, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(error) if is_missing(&error) => {
                let make = || self.batch(limit, sql::TABLES);
                // Two sessions that create them at once disturb each other. The second time they are there.
                make().or_else(|error| if error.is_permission_denied() { Err(error) } else { make() })?;
                work()
            }
            other => other,
        }
    }

    /// Checks that it is the same session of the server as before. The query also renews the lease.
    pub(super) fn check_backend(&self, limit: Duration) -> Result<()> {
        let rows = self.rows(limit, sql::RENEW, &[])?;
        match rows.first().map(|row| row.get::<_, i32>(0)) {
            Some(backend) if backend == self.backend => Ok(()),
            _ => Err(self.address.proxy("transaction pooling")),
        }
    }

    /// Ends another session, and waits for its end. `false` if there was none.
    pub(super) fn end(&self, backend: i32, limit: Duration) -> Result<bool> {
        let client = self.client();
        let target = &self.address.url.target;
        let patience = i64::try_from((limit / 2).as_millis()).unwrap_or(i64::MAX);
        let ended = self.runtime.block_on(async {
            timeout(limit, client.query_typed(sql::END_BACKEND, &[(&backend, Type::INT4), (&patience, Type::INT8)]))
                .await
        });
        let forbidden = |error: &tokio_postgres::Error| {
            let detail = format!("the holder's session (backend {backend}) cannot be ended: {}", words(error));
            Error::new(ErrorKind::PermissionDenied, target, detail).with_hint(
                "nothing was changed: the user must be a member of the role that holds, or of pg_signal_backend, or a \
                 superuser where a superuser holds",
            )
        };
        match ended {
            Ok(Err(error)) if error.code().is_some_and(|code| code.code() == "42501") => Err(forbidden(&error)),
            Ok(Err(error)) => Err(self.address.error(&error)),
            Ok(Ok(rows)) if rows.first().is_some_and(|row| row.get(0)) => Ok(true),
            // It may have ended by itself, or still be there.
            Ok(Ok(_)) => match self.rows(limit, sql::RUNS, &[(&backend, Type::INT4)])?.is_empty() {
                true => Ok(false),
                false => {
                    let detail = format!("the holder's session (backend {backend}) was told to end and has not yet");
                    Err(Error::new(ErrorKind::Unreachable, target, detail)
                        .with_hint("the lock stays its own until it does: look at it in pg_stat_activity"))
                }
            },
            Err(_) => {
                let detail = format!("the server did not answer within {} ms", limit.as_millis());
                Err(Error::new(ErrorKind::Unreachable, target, detail))
            }
        }
    }

    /// Cancels the statement that the server executes for this session: a wait in its queue.
    pub(super) fn cancel(&self, limit: Duration) {
        let token = self.client().cancel_token();
        let tls = self.address.tls.clone();
        let _ = self.runtime.block_on(async move {
            timeout(limit, async move {
                match tls {
                    Some(tls) => token.cancel_query(tls).await,
                    None => token.cancel_query(NoTls).await,
                }
            })
            .await
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop(self.client.take());
        // Informs the server at once. A server that does not answer must not block this.
        if let Some(driver) = self.driver.take() {
            let _ = self.runtime.block_on(async { timeout(Duration::from_millis(200), driver).await });
        }
    }
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
    })
}

fn tls_error(url: &Url, error: &rustls::Error) -> Error {
    Error::new(ErrorKind::InvalidTarget, &url.target, format!("ca=, cert= or key= will not do: {error}"))
}
