//! A connection of our own, and what its errors mean for a lock.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::password::{self, Whereto};
use super::sql;
use crate::engine::tls;
use crate::engine::url::Url;
use crate::error::{Error, Kind, Result};
use crate::sys::PerProcess;

/// The first version that ends an idle session by itself (`idle_session_timeout`).
const OLDEST: u32 = 140_000;

/// Where we may connect to, and as whom.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) url: Arc<Url>,
    tls: Option<MakeRustlsConnect>,
}

/// A session of the server. It ends when this goes.
pub(super) struct Connection {
    // Before the runtime: its end is what tells the server.
    client: Option<Arc<Client>>,
    pub(super) runtime: Runtime,
    driver: Option<tokio::task::JoinHandle<()>>,
    pub(super) over: Arc<Over>,
    pub(super) backend: i32,
    pub(super) address: Address,
}

/// Tells that the connection is at its end, and why.
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

    /// Ends when the connection does.
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
        Ok(Address { url: Arc::new(url), tls })
    }

    fn user(&self) -> String {
        let of = |name| std::env::var(name).ok().filter(|user: &String| !user.is_empty());
        let user = self.url.user.clone().or_else(|| of("PGUSER")).or_else(|| of("USER"));
        user.unwrap_or_else(|| "postgres".to_owned())
    }

    /// How to connect to each host: several, as a failover has them.
    fn configs(&self) -> Vec<(String, Config)> {
        let user = self.user();
        let database = if self.url.path.is_empty() { user.clone() } else { self.url.path.clone() };
        let mut base = Config::new();
        let ttl = self.url.ttl;
        base.user(&user).dbname(&database).application_name("tenure");
        // Whole seconds: less would be none.
        base.keepalives_idle((ttl / 3).max(Duration::from_secs(1)))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3);
        base.tcp_user_timeout(ttl);
        base.ssl_mode(if self.tls.is_some() { SslMode::Require } else { SslMode::Disable });
        let of = |mut config: Config, host: &str, port: u16| {
            let whereto = Whereto { host, port, database: &database, user: &user };
            if let Some(password) = password::find(&whereto) {
                config.password(password);
            }
            config.port(port);
            config
        };
        let mut configs = Vec::new();
        if let Some(socket) = &self.url.socket {
            let port = self.url.hosts.first().map_or(5432, |host| host.port);
            let mut config = of(base, "localhost", port);
            config.host_path(socket);
            return vec![(socket.display().to_string(), config)];
        }
        for host in &self.url.hosts {
            let mut config = of(base.clone(), &host.name, host.port);
            config.host(&host.name);
            if self.url.hosts.len() > 1 {
                config.target_session_attrs(TargetSessionAttrs::ReadWrite);
            }
            configs.push((host.authority(), config));
        }
        configs
    }

    /// Connects to whichever host lets us in, within `limit` altogether, and says `first`, whose last rows are
    /// [`sql::WHO`]'s.
    pub(super) fn connect(&self, first: &str, limit: Duration) -> Result<Connection> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::io(&self.url.target, "no runtime for the connection", error))?;
        let configs = self.configs();
        let share = limit / u32::try_from(configs.len().min(3)).unwrap_or(1);
        let mut failures = Vec::new();
        for (name, config) in &configs {
            let over = Arc::new(Over::default());
            let start = async {
                let (client, driver) = self.start(config, Arc::clone(&over)).await?;
                let rows = client.simple_query(first).await?;
                Ok::<_, tokio_postgres::Error>((client, driver, rows))
            };
            let connected = runtime.block_on(async { timeout(share, start).await });
            let (client, driver, rows) = match connected {
                Err(_) => {
                    failures.push(format!("{name}: no answer within {} ms", share.as_millis()));
                    continue;
                }
                Ok(Err(error)) => {
                    let error = self.error(&error);
                    // Another host has the same users and databases.
                    if !error.is_unreachable() && !error.is_lost() {
                        return Err(error);
                    }
                    failures.push(format!("{name}: {}", error.detail()));
                    continue;
                }
                Ok(Ok(connected)) => connected,
            };
            let (backend, version) = who(&rows).unwrap_or((0, 0));
            if version < OLDEST {
                let detail = "the server is older than PostgreSQL 14 and cannot end an idle session by itself";
                return Err(Error::new(Kind::Unsupported, &self.url.target, detail));
            }
            let (client, driver) = (Some(Arc::new(client)), Some(driver));
            return Ok(Connection { client, runtime, driver, over, backend, address: self.clone() });
        }
        let detail = format!("no server answered: {}", failures.join("; "));
        Err(Error::new(Kind::Unreachable, &self.url.target, detail))
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

    /// Session locks do not survive a proxy that lends a server's session to whoever speaks next. It shows: two
    /// connections of ours, open at once, have the same backend. Asked once a process.
    pub(super) fn refuse_proxy(&self, ours: &Connection) -> Result<()> {
        static DIRECT: PerProcess<Mutex<HashSet<String>>> = PerProcess::new();
        let direct = || DIRECT.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        let url = &self.url;
        let key = format!("{:?} {:?} {} {}", url.hosts, url.socket, url.path, self.user());
        if direct().contains(&key) {
            return Ok(());
        }
        let limit = url.ttl / 3;
        match self.connect(&format!("BEGIN; {}", sql::WHO), limit) {
            Ok(other) if other.backend == ours.backend => return Err(self.proxy()),
            Ok(_other) => {
                for _ in 0..2 {
                    ours.check_backend(limit)?;
                }
            }
            // No second connection is to be had: every renewal compares the backend as well.
            Err(_) => return Ok(()),
        }
        direct().insert(key);
        Ok(())
    }

    fn proxy(&self) -> Error {
        let detail = "a proxy between us and the server lends its sessions to others (transaction pooling)";
        Error::new(Kind::Unsupported, &self.url.target, detail)
            .with_hint("a session lock does not survive that: name the server itself, or a pool in session mode")
    }

    /// What an error of the server's or of the connection means for a lock.
    pub(super) fn error(&self, error: &tokio_postgres::Error) -> Error {
        let new = |kind, detail: String| Error::new(kind, &self.url.target, detail);
        let text = words(error);
        let Some(code) = error.code() else {
            if error.is_closed() {
                return new(Kind::Lost, format!("the connection to the server is lost: {text}"));
            }
            // The crate has no kind for it.
            if text.contains("password missing") {
                return new(Kind::PermissionDenied, "the server wants a password and there is none".to_owned())
                    .with_hint("put it into PGPASSWORD or ~/.pgpass, which only its owner may read");
            }
            return new(Kind::Unreachable, text);
        };
        if *code == SqlState::INVALID_PASSWORD || code.code().starts_with("28") {
            return new(Kind::PermissionDenied, text)
                .with_hint("the user is named in the target, the password in PGPASSWORD or ~/.pgpass");
        }
        match code.code() {
            "42501" | "42P01" | "3F000" => {
                let detail = format!("the tables of the lock cannot be made or used: {text}");
                new(Kind::PermissionDenied, detail).with_hint(format!(
                    "let somebody who may run this, and grant the user USAGE on schema tenure and sequence \
                     tenure.fence, and SELECT, INSERT, UPDATE on tenure.locks:\n{}",
                    sql::TABLES
                ))
            }
            "3D000" => new(Kind::CannotCreate, text),
            "53300" => new(Kind::Unreachable, format!("the server is at its connection limit: {text}")),
            "25006" => new(Kind::Unreachable, format!("the server takes no writes, as a standby does: {text}")),
            "57P01" | "57P02" | "57P05" => new(Kind::Lost, format!("the connection to the server is lost: {text}")),
            "57P03" => new(Kind::Unreachable, text),
            _ => new(Kind::Io, text),
        }
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
            // It is taken only by `drop`.
            None => unreachable!("a connection is used after its end"),
        }
    }

    /// Runs `work` within `limit`; time that is over is a server that does not answer.
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
                Err(Error::new(Kind::Unreachable, &self.address.url.target, detail))
            }
        }
    }

    pub(super) fn lost(&self, why: &str) -> Error {
        Error::new(Kind::Lost, &self.address.url.target, format!("the connection to the server is lost: {why}"))
    }

    /// One statement with its rows. Without a name at the server: it is sent once.
    pub(super) fn rows(&self, limit: Duration, sql: &str, values: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
        let client = self.client();
        self.within(limit, async { client.query_typed(sql, values).await })
    }

    /// How many rows a statement changed.
    pub(super) fn changed(&self, limit: Duration, sql: &str, values: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64> {
        let client = self.client();
        self.within(limit, async { client.execute_typed(sql, values).await })
    }

    /// As [`rows`](Connection::rows); the tables are made where they are missing.
    pub(super) fn with_tables<T>(&self, limit: Duration, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(error) if error.is_permission_denied() && error.detail().contains("does not exist") => {
                let client = self.client();
                let make = || self.within(limit, async { client.batch_execute(sql::TABLES).await });
                // Two that make them at once disturb each other; the second time they are there.
                make().or_else(|error| if error.is_permission_denied() { Err(error) } else { make() })?;
                work()
            }
            other => other,
        }
    }

    /// Is it the same session of the server as before? It is a question that also says that we live.
    pub(super) fn check_backend(&self, limit: Duration) -> Result<()> {
        let rows = self.rows(limit, sql::RENEW, &[])?;
        match rows.first().map(|row| row.get::<_, i32>(0)) {
            Some(backend) if backend == self.backend => Ok(()),
            _ => Err(self.address.proxy()),
        }
    }

    /// Ends what the server is doing for us: a wait in its queue.
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
        // So that the server hears of it at once. It may be silent: that must not hold us up.
        if let Some(driver) = self.driver.take() {
            let _ = self.runtime.block_on(async { timeout(Duration::from_millis(200), driver).await });
        }
    }
}

/// An error with its causes: the crate's own says only where it struck.
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

fn who(rows: &[SimpleQueryMessage]) -> Option<(i32, u32)> {
    let row = rows.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })?;
    Some((row.get(0)?.parse().ok()?, row.get(1)?.parse().ok()?))
}

fn tls_error(url: &Url, error: &rustls::Error) -> Error {
    Error::new(Kind::InvalidTarget, &url.target, format!("ca=, cert= or key= will not do: {error}"))
}
