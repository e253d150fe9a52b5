//! etcd's JSON gateway: one call after the other, to whichever member answers.

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::engine::tls;
use crate::engine::url::Url;
use crate::error::{Error, Kind, Result};

/// Where the password is looked for.
const PASSWORD: &str = "TENURE_ETCD_PASSWORD";
/// The longest answer that is read.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// What gRPC's numbers mean that a caller may want to tell apart.
const NOT_FOUND: i64 = 5;
const PERMISSION_DENIED: i64 = 7;
const UNAUTHENTICATED: i64 = 16;
/// Only that member, and only now: cancelled, deadline, aborted, internal, unavailable.
const NOT_HERE: [i64; 6] = [1, 2, 4, 10, 13, 14];

/// A cluster, by its members' addresses.
#[derive(Debug)]
pub(super) struct Gateway {
    agent: ureq::Agent,
    /// `http://host:port`
    members: Vec<String>,
    /// Which member answered last.
    first: AtomicUsize,
    user: Option<String>,
    token: Mutex<Option<String>>,
    url: Arc<Url>,
}

/// Why a call failed.
#[derive(Debug)]
enum Failure {
    /// Another member may answer.
    Member(String),
    /// etcd's own word.
    Refused { code: i64, message: String },
}

impl Gateway {
    pub(super) fn new(url: Arc<Url>) -> Result<Gateway> {
        let identity = tls::read(&url)?;
        let protocol = if identity.is_some() { "https" } else { "http" };
        let mut config =
            TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        if let Some(identity) = identity {
            let own = |der: &rustls::pki_types::CertificateDer<'_>| Certificate::from_der(der).to_owned();
            let roots: Vec<_> = identity.roots.iter().map(own).collect();
            config = config.root_certs(RootCerts::new_with_certs(&roots));
            if let Some((chain, key)) = identity.own {
                let chain: Vec<_> = chain.iter().map(own).collect();
                let key = PrivateKey::from_pem(&key).map_err(|_| tls::no_key(&url))?;
                config = config.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
            }
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent("tenure")
            .tls_config(config.build())
            .build();
        Ok(Gateway {
            agent: config.new_agent(),
            members: url.hosts.iter().map(|host| format!("{protocol}://{}", host.authority())).collect(),
            first: AtomicUsize::new(0),
            user: url.user.clone(),
            token: Mutex::new(None),
            url,
        })
    }

    /// Asks one member after the other, within `limit` altogether; `None` where etcd says that there is no such thing.
    pub(super) fn call(&self, path: &str, body: &Value, limit: Duration) -> Result<Option<Value>> {
        let (failures, refused) = match self.try_all(path, body, limit) {
            Ok(answer) => return Ok(Some(answer)),
            Err(outcome) => outcome,
        };
        match refused {
            Some((NOT_FOUND, _)) => Ok(None),
            Some((code @ (PERMISSION_DENIED | UNAUTHENTICATED), message)) => Err(self.denied(code, &message)),
            // What was off in the words of a call is off in its credentials: nothing else of it is a caller's.
            Some((_, message)) if message.contains("auth") || message.contains("user name is empty") => {
                Err(self.denied(UNAUTHENTICATED, &message))
            }
            Some((_, message)) if message.contains("no space") || message.contains("space exceeded") => {
                let detail = format!("etcd takes no writes: {message}");
                let hint = "its alarm NOSPACE: compact, defragment, and `etcdctl alarm disarm`";
                Err(Error::new(Kind::Unreachable, &self.url.target, detail).with_hint(hint))
            }
            Some((_, message)) => Err(Error::new(Kind::Io, &self.url.target, format!("etcd refused: {message}"))),
            None => {
                let detail = format!("no member of the cluster answered: {}", failures.join("; "));
                let hint = "is it running, and is a majority of it reachable from here?";
                Err(Error::new(Kind::Unreachable, &self.url.target, detail).with_hint(hint))
            }
        }
    }

    fn denied(&self, code: i64, message: &str) -> Error {
        let error = Error::new(Kind::PermissionDenied, &self.url.target, format!("etcd refused: {message}"));
        match code {
            PERMISSION_DENIED => error.with_hint(
                "the user's role needs readwrite on the prefixes NAME/ and .tenure/NAME: \
                 `etcdctl role grant-permission`",
            ),
            _ => error.with_hint(format!("name the user in the target (etcd://USER@..), the password in {PASSWORD}")),
        }
    }

    #[allow(clippy::type_complexity, reason = "what each member said, and etcd's own word if there was one")]
    fn try_all(
        &self,
        path: &str,
        body: &Value,
        limit: Duration,
    ) -> std::result::Result<Value, (Vec<String>, Option<(i64, String)>)> {
        let end = Instant::now() + limit;
        let mut failures = Vec::new();
        let count = self.members.len();
        let first = self.first.load(Ordering::Relaxed);
        // So that one that never answers leaves time for two others.
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
                    return Ok(answer);
                }
                Err(Failure::Member(why)) => failures.push(format!("{}: {why}", self.members[at])),
                Err(Failure::Refused { code, message }) => return Err((failures, Some((code, message)))),
            }
        }
        Err((failures, None))
    }

    /// One call with the token of the user; a token that has run out is had anew, once.
    fn authorised(&self, at: usize, path: &str, body: &Value, limit: Duration) -> std::result::Result<Value, Failure> {
        let Some(user) = &self.user else { return self.once(at, path, body, None, limit) };
        let kept = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = &kept {
            match self.once(at, path, body, Some(token), limit) {
                Err(Failure::Refused { code: UNAUTHENTICATED, .. }) => {}
                other => return other,
            }
        }
        let password = std::env::var(PASSWORD).unwrap_or_default();
        let credentials = json!({"name": user, "password": password});
        let answer = self.once(at, "/v3/auth/authenticate", &credentials, None, limit)?;
        let token = answer["token"].as_str().unwrap_or_default().to_owned();
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        self.once(at, path, body, Some(&token), limit)
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
        let answer: Value = serde_json::from_str(text.lines().next().unwrap_or_default())
            .map_err(|_| Failure::Member(format!("its answer is no JSON (status {status})")))?;
        // A stream's answer, and a stream's error, are one level further down.
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

    /// Watches `key` from `revision` on, for at most so long. Returns when it was deleted, or when that can no longer be
    /// told: then too the caller looks for itself.
    pub(super) fn watch_deletion(&self, key: &str, revision: i64, limit: Duration) {
        let at = self.first.load(Ordering::Relaxed);
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let body = json!({"create_request": {
            "key": encode(key), "start_revision": revision.to_string(), "filters": ["NOPUT"],
        }});
        let mut request = self
            .agent
            .post(format!("{}/v3/watch", self.members[at]))
            .config()
            .timeout_global(Some(limit))
            .build()
            .content_type("application/json");
        if let Some(token) = token {
            request = request.header("Authorization", &token);
        }
        let Ok(mut response) = request.send(body.to_string()) else { return };
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let Ok(line) = line else { return };
            let Ok(answer) = serde_json::from_str::<Value>(&line) else { return };
            let result = &answer["result"];
            if answer["error"].is_object() || result["canceled"] == true || result["events"].is_array() {
                return;
            }
        }
    }
}

/// A key or value, as JSON has it.
pub(super) fn encode(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// The bytes of a key or value; none where there is none.
pub(super) fn decode(value: &Value) -> Vec<u8> {
    value.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok()).unwrap_or_default()
}

/// An `int64`, which JSON has as text; absent is 0.
pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

/// The first key that does not begin with `prefix`.
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
    fn numbers_are_text_or_numbers_or_absent() {
        assert_eq!(number(&json!("7587848390000000001")), 7_587_848_390_000_000_001);
        assert_eq!(number(&json!(5)), 5);
        assert_eq!(number(&Value::Null), 0);
    }
}
