//! Calls etcd's JSON gateway, at the first member that answers.
//!
//! All locks of a process on one cluster, by one user, share connections and the user's token: an authentication costs the
//! server a tenth of a second of work, and a member that restarts forgets every token that it gave.

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::model::error::{Error, ErrorKind, Result};
use crate::server::tls::Identity;
use crate::server::url::Url;
use crate::server::{names, tls};
use crate::sys::ForkLocal;

/// The variable with the password.
const PASSWORD: &str = "TENURE_ETCD_PASSWORD";
/// The variable with the password file, which is read at each authentication.
const PASSWORD_FILE: &str = "TENURE_ETCD_PASSWORD_FILE";
/// The maximum length of an answer.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// The number of bytes shown of an answer that is not etcd's.
const MOST_SHOWN: usize = 200;

/// The maximum number of addresses of a name.
const MOST_ADDRESSES: usize = 16;

/// The status codes of gRPC that have a meaning here.
const NOT_FOUND: i64 = 5;
const PERMISSION_DENIED: i64 = 7;
const UNAUTHENTICATED: i64 = 16;
/// Status codes that concern one member at this moment: cancelled, deadline, aborted, internal, unavailable.
const NOT_HERE: [i64; 6] = [1, 2, 4, 10, 13, 14];

/// A cluster, for one target.
#[derive(Debug)]
pub(super) struct Gateway {
    cluster: Arc<Cluster>,
    url: Arc<Url>,
}

/// A cluster, by its members' addresses, and a user of it.
struct Cluster {
    agent: ureq::Agent,
    config: Config,
    /// `http://host:port`
    members: Vec<String>,
    /// The member that answered last.
    first: AtomicUsize,
    user: Option<String>,
    identity: Option<Identity>,
    token: Mutex<Token>,
    token_changed: Condvar,
}

/// The user's token.
#[derive(Default)]
struct Token {
    text: Option<Arc<str>>,
    /// A thread is asking for a new one.
    asked_for: bool,
}

/// The failure of a call.
#[derive(Debug)]
enum Failure {
    /// Another member may answer.
    Member(String),
    /// An error that etcd reported.
    Refused { code: i64, message: String },
}

/// The result of a call.
struct Outcome {
    /// etcd's answer, or its error.
    answer: std::result::Result<Value, Option<(i64, String)>>,
    /// The failure of each member, none of which answered. A member may have executed the call nevertheless.
    failures: Vec<String>,
}

/// Resolves names by [`names`].
#[derive(Debug)]
struct Names;

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else { return Err(ureq::Error::HostNotFound) };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut found = self.empty();
        for address in names::addresses(host, *timeout.after)?.into_iter().take(MOST_ADDRESSES) {
            found.push((address, port).into());
        }
        Ok(found)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("members", &self.members).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Returns this process's connection to these members, with this user and these certificates.
    fn of(url: &Url) -> Result<Arc<Cluster>> {
        static CLUSTERS: ForkLocal<Mutex<Vec<Weak<Cluster>>>> = ForkLocal::new();
        let identity = tls::read(url)?;
        let protocol = if identity.is_some() { "https" } else { "http" };
        let members: Vec<String> = url.hosts.iter().map(|host| format!("{protocol}://{}", host.authority())).collect();
        let mut clusters = CLUSTERS.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        clusters.retain(|cluster| cluster.strong_count() > 0);
        let same = |other: &Cluster| other.members == members && other.user == url.user && other.identity == identity;
        if let Some(cluster) = clusters.iter().filter_map(Weak::upgrade).find(|cluster| same(cluster)) {
            return Ok(cluster);
        }
        let mut config =
            TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        if let Some(identity) = &identity {
            let own = |der: &rustls::pki_types::CertificateDer<'_>| Certificate::from_der(der).to_owned();
            let roots: Vec<_> = identity.roots.iter().map(own).collect();
            config = config.root_certs(RootCerts::new_with_certs(&roots));
            if let Some((chain, key)) = &identity.own {
                let chain: Vec<_> = chain.iter().map(own).collect();
                let key = PrivateKey::from_pem(key).map_err(|_| tls::no_key(url))?;
                config = config.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
            }
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_idle_connections(64)
            .max_idle_connections_per_host(16)
            .user_agent("tenure")
            .tls_config(config.build())
            .build();
        let cluster = Arc::new(Cluster {
            agent: agent(&config),
            config,
            members,
            first: AtomicUsize::new(0),
            user: url.user.clone(),
            identity,
            token: Mutex::default(),
            token_changed: Condvar::new(),
        });
        clusters.push(Arc::downgrade(&cluster));
        Ok(cluster)
    }
}

fn agent(config: &Config) -> ureq::Agent {
    ureq::Agent::with_parts(config.clone(), DefaultConnector::new(), Names)
}

impl Gateway {
    pub(super) fn new(url: Arc<Url>) -> Result<Gateway> {
        Ok(Gateway { cluster: Cluster::of(&url)?, url })
    }

    /// Calls one member after the other, within `limit` altogether. `None` where etcd answers that there is no such thing.
    pub(super) fn call(&self, path: &str, body: &Value, limit: Duration) -> Result<Option<Value>> {
        self.call_and_count(path, body, limit).map(|(answer, _)| answer)
    }

    /// As [`call`](Gateway::call), and returns whether the call was repeated. A member whose answer was lost may have
    /// executed it.
    pub(super) fn call_and_count(&self, path: &str, body: &Value, limit: Duration) -> Result<(Option<Value>, bool)> {
        let Outcome { answer, failures } = self.cluster.call(path, body, limit);
        let repeated = !failures.is_empty();
        let refused = match answer {
            Ok(answer) => return Ok((Some(answer), repeated)),
            Err(refused) => refused,
        };
        match refused {
            Some((NOT_FOUND, _)) => Ok((None, repeated)),
            Some((code @ (PERMISSION_DENIED | UNAUTHENTICATED), message)) => Err(self.denied(code, &message)),
            Some((code, message)) if is_of_the_user(code, &message) => Err(self.denied(UNAUTHENTICATED, &message)),
            Some((_, message)) if message.contains("no space") || message.contains("space exceeded") => {
                let detail = format!("etcd takes no writes: {message}");
                let hint = "its alarm NOSPACE: compact, defragment, and `etcdctl alarm disarm`";
                Err(Error::new(ErrorKind::ReadOnly, &self.url.target, detail).with_hint(hint))
            }
            Some((_, message)) => Err(Error::new(ErrorKind::Io, &self.url.target, format!("etcd refused: {message}"))),
            None => {
                let detail = format!("no member of the cluster answered: {}", failures.join("; "));
                let hint = hint(&failures);
                Err(Error::new(ErrorKind::Unreachable, &self.url.target, detail).with_hint(hint))
            }
        }
    }

    fn denied(&self, code: i64, message: &str) -> Error {
        let error = Error::new(ErrorKind::PermissionDenied, &self.url.target, format!("etcd refused: {message}"));
        match code {
            PERMISSION_DENIED => error.with_hint(
                "the user's role needs readwrite on the prefixes NAME/ and .tenure/NAME: \
                 `etcdctl role grant-permission`",
            ),
            _ => error.with_hint(format!(
                "name the user in the target (etcd://USER@..), the password in {PASSWORD} or in a file that \
                 {PASSWORD_FILE} names"
            )),
        }
    }

    /// Returns the member that is called first.
    pub(super) fn first(&self) -> usize {
        self.cluster.first.load(Ordering::Relaxed)
    }

    /// Prepares a watch of one key.
    pub(super) fn watch(&self) -> Watch {
        let cluster = &self.cluster;
        let agent = agent(&cluster.config);
        Watch { agent, cluster: Arc::clone(cluster), member: self.first() }
    }
}

/// Returns advice for a call that no member answered.
fn hint(failures: &[String]) -> &'static str {
    let says = |word: &str| failures.iter().any(|failure| failure.contains(word));
    if let Some(hint) = failures.iter().find_map(|failure| tls::hint(failure)) {
        return hint;
    }
    if says("CommonName") {
        return "etcd's JSON gateway, which Tenure speaks to, refuses client certificates with a CommonName where users \
                are on: make one without (`-subj /`), or turn client certificates off";
    }
    if says("bad certificate") || says("server preface") {
        return "etcd's JSON gateway, which Tenure speaks to, calls its own member with the server's certificate: that \
                must be good for clientAuth as well as serverAuth";
    }
    if says("(status 4") {
        return "is it etcd, with its JSON gateway on? `enable-grpc-gateway: true` in a configuration file; \
                `etcd grpc-proxy` has none";
    }
    "is it running, and is a majority of it reachable from here?"
}

/// Returns whether etcd refused the user or the token. The codes differ from version to version.
fn is_of_the_user(code: i64, message: &str) -> bool {
    match code {
        UNAUTHENTICATED => true,
        PERMISSION_DENIED | NOT_FOUND => false,
        _ => message.contains("auth") || message.contains("user name is empty"),
    }
}

/// Returns the user's password, from the file as it is now, so that it can be changed while the process runs.
fn password() -> std::result::Result<String, Failure> {
    match std::env::var_os(PASSWORD_FILE).filter(|file| !file.is_empty()) {
        None => Ok(std::env::var(PASSWORD).unwrap_or_default()),
        Some(file) => {
            let unreadable = |why: &dyn std::fmt::Display| Failure::Refused {
                code: UNAUTHENTICATED,
                message: format!("{PASSWORD_FILE} ({}) cannot be read: {why}", crate::util::text::path(file.as_ref())),
            };
            let bytes = crate::sys::read_file(file.as_ref()).map_err(|error| unreadable(&error))?;
            let text = String::from_utf8(bytes).map_err(|error| unreadable(&error))?;
            Ok(text.trim_end_matches(['\n', '\r']).to_owned())
        }
    }
}

impl Cluster {
    fn call(&self, path: &str, body: &Value, limit: Duration) -> Outcome {
        let end = Instant::now() + limit;
        let mut failures = Vec::new();
        let count = self.members.len();
        let first = self.first.load(Ordering::Relaxed);
        // A member that never answers leaves time for two others.
        let share = limit / u32::try_from(count.min(3)).unwrap_or(1);
        for at in (0..count).map(|step| (first + step) % count) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                failures.push(format!("{}: no time was left", self.members[at]));
                continue;
            }
            match self.authorised(at, path, body, left.min(share)) {
                Ok(answer) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Outcome { answer: Ok(answer), failures };
                }
                Err(Failure::Member(why)) => {
                    failures.push(format!("{}: {why}", self.members[at]));
                    // The next call begins with another member, because there may be more of them than time allows.
                    self.first.store((at + 1) % count, Ordering::Relaxed);
                }
                Err(Failure::Refused { code, message }) => {
                    return Outcome { answer: Err(Some((code, message))), failures };
                }
            }
        }
        Outcome { answer: Err(None), failures }
    }

    /// Calls with the user's token. A token that is refused, for whatever reason, is replaced, once.
    fn authorised(&self, at: usize, path: &str, body: &Value, limit: Duration) -> std::result::Result<Value, Failure> {
        let Some(user) = &self.user else { return self.once(at, path, body, None, limit) };
        let end = Instant::now() + limit;
        let left = || end.saturating_duration_since(Instant::now());
        let token = self.token(user, at, None, end)?;
        match self.once(at, path, body, Some(&token), left()) {
            Err(Failure::Refused { code, message }) if is_of_the_user(code, &message) => {
                let token = self.token(user, at, Some(&token), end)?;
                self.once(at, path, body, Some(&token), left())
            }
            other => other,
        }
    }

    /// Returns a token other than `refused`. One thread asks for it, and the others wait for that thread.
    fn token(
        &self,
        user: &str,
        at: usize,
        refused: Option<&str>,
        end: Instant,
    ) -> std::result::Result<Arc<str>, Failure> {
        let left = || end.saturating_duration_since(Instant::now());
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(text) = &token.text
                && Some(&**text) != refused
            {
                return Ok(Arc::clone(text));
            }
            if !token.asked_for {
                break;
            }
            if left().is_zero() {
                return Err(Failure::Member("no token within the time".to_owned()));
            }
            (token, _) = self.token_changed.wait_timeout(token, left()).unwrap_or_else(PoisonError::into_inner);
        }
        token.asked_for = true;
        drop(token);
        let _asking = Asking(self);
        let credentials = json!({"name": user, "password": password()?});
        let answer = self.once(at, "/v3/auth/authenticate", &credentials, None, left())?;
        let text: Arc<str> = answer["token"].as_str().unwrap_or_default().into();
        self.token.lock().unwrap_or_else(PoisonError::into_inner).text = Some(Arc::clone(&text));
        Ok(text)
    }

    fn once(
        &self,
        at: usize,
        path: &str,
        body: &Value,
        token: Option<&str>,
        limit: Duration,
    ) -> std::result::Result<Value, Failure> {
        let member = |error: ureq::Error| Failure::Member(error.to_string());
        let mut request = self
            .agent
            .post(format!("{}{path}", self.members[at]))
            .config()
            .timeout_global(Some(limit))
            .build()
            .content_type("application/json");
        if let Some(token) = token {
            request = request.header("Authorization", token);
        }
        let mut response = request.send(body.to_string()).map_err(member)?;
        let status = response.status();
        let text = response.body_mut().with_config().limit(MOST_BYTES).read_to_string().map_err(member)?;
        let line = text.lines().next().unwrap_or_default();
        let answer: Value = serde_json::from_str(line).map_err(|_| {
            let shown: String = line.chars().take(MOST_SHOWN).collect();
            Failure::Member(format!(
                "its answer is none of etcd's: {} (status {status})",
                crate::util::text::text(&shown)
            ))
        })?;
        // In a stream, answers and errors are nested one level deeper.
        let error = if answer["error"].is_object() { &answer["error"] } else { &answer };
        let code = error["code"].as_i64().or_else(|| error["grpc_code"].as_i64());
        let message = error["message"].as_str().or_else(|| error["error"].as_str());
        if let Some(message) = message {
            let code = code.unwrap_or(-1);
            return Err(match NOT_HERE.contains(&code) && !message.contains("space exceeded") {
                true => Failure::Member(message.to_owned()),
                false => Failure::Refused { code, message: message.to_owned() },
            });
        }
        if !status.is_success() {
            return Err(Failure::Member(format!("status {status}")));
        }
        Ok(if answer["result"].is_object() { answer["result"].clone() } else { answer })
    }
}

/// Dropped when the thread that asks for a token has it, or has failed.
struct Asking<'a>(&'a Cluster);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.token.lock().unwrap_or_else(PoisonError::into_inner).asked_for = false;
        self.0.token_changed.notify_all();
    }
}

/// A watch, on a connection of its own, which ends when this is [stopped](Watch::stop).
#[derive(Clone)]
pub(super) struct Watch {
    agent: ureq::Agent,
    cluster: Arc<Cluster>,
    /// The member that it is at.
    pub(super) member: usize,
}

impl Watch {
    /// Watches `key` from `revision` on, for at most `limit`. `true` if it was deleted. `false` if the watch failed: the
    /// caller has to read the key.
    pub(super) fn await_deletion(&self, key: &str, revision: i64, limit: Duration) -> bool {
        let cluster = &self.cluster;
        let token = cluster.token.lock().unwrap_or_else(PoisonError::into_inner).text.clone();
        let body = json!({"create_request": {
            "key": encode(key), "start_revision": revision.to_string(), "filters": ["NOPUT"],
        }});
        let mut request = self
            .agent
            .post(format!("{}/v3/watch", cluster.members[self.member]))
            .config()
            .timeout_global(Some(limit))
            .build()
            .content_type("application/json");
        if let Some(token) = token {
            request = request.header("Authorization", &*token);
        }
        let Ok(mut response) = request.send(body.to_string()) else { return false };
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let Ok(line) = line else { return false };
            let Ok(answer) = serde_json::from_str::<Value>(&line) else { return false };
            let result = &answer["result"];
            if result["events"].is_array() {
                return true;
            }
            if answer["error"].is_object() || result["canceled"] == true {
                return false;
            }
        }
        false
    }

    /// Ends the watch, from any thread.
    pub(super) fn stop(&self) {
        self.agent.clone().shutdown();
    }
}

/// Encodes a key or value for JSON.
pub(super) fn encode(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// As [`encode`], for bytes.
pub(super) fn encode_bytes(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// Returns the bytes of a key or value; empty where it is absent.
pub(super) fn decode(value: &Value) -> Vec<u8> {
    value.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok()).unwrap_or_default()
}

/// Returns an `int64`, which the JSON has as text; 0 where it is absent.
pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

/// Returns the first key after all those that begin with `prefix`.
pub(super) fn end_of(prefix: &str) -> String {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if last < 0xff {
            bytes.push(last + 1);
            return BASE64_STANDARD.encode(bytes);
        }
    }
    // Beyond every key.
    BASE64_STANDARD.encode([0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_after_its_last_byte() {
        assert_eq!(end_of("a/"), BASE64_STANDARD.encode("a0"));
        assert_eq!(end_of(""), BASE64_STANDARD.encode([0]));
    }

    #[test]
    fn what_the_gateway_wants_is_recognised() {
        let of = |failure: &str| hint(&["http://a: no answer".to_owned(), failure.to_owned()]);
        assert!(
            of("its answer is none of etcd's: 404 page not found (status 404 Not Found)")
                .contains("enable-grpc-gateway")
        );
        assert!(of("CommonName of client sending a request against gateway will be ignored").contains("without"));
        assert!(of("error reading server preface: remote error: tls: bad certificate").contains("clientAuth"));
        assert!(of("invalid peer certificate: UnknownIssuer").contains("ca="));
        assert!(of("connection refused").contains("majority"));
    }

    #[test]
    fn a_token_is_refused_in_many_words() {
        for (code, message) in [
            (16, "etcdserver: invalid auth token"),
            (3, "etcdserver: revision of auth store is old"),
            (3, "etcdserver: user name is empty"),
            (9, "etcdserver: authentication is not enabled"),
        ] {
            assert!(is_of_the_user(code, message), "{message}");
        }
        assert!(!is_of_the_user(PERMISSION_DENIED, "etcdserver: permission denied (auth)"));
        assert!(!is_of_the_user(3, "etcdserver: key is not provided"));
    }

    #[test]
    fn numbers_are_text_or_numbers_or_absent() {
        assert_eq!(number(&json!("7587848390000000001")), 7_587_848_390_000_000_001);
        assert_eq!(number(&json!(5)), 5);
        assert_eq!(number(&Value::Null), 0);
    }
}
