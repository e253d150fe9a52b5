//! The client of a cluster: one for each cluster and user in a process. It calls the first member that answers.
//!
//! Every lock of the process shares its connection to a member and the user's token: an authentication costs the server a
//! tenth of a second of work, and a member that restarts forgets every token that it gave.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use http::uri::PathAndQuery;
use prost::Message;
use rustls::ClientConfig;
use tokio::sync::watch;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::connection::{self, Channel, connect, in_words};
use super::messages::{
    AuthenticateRequest, AuthenticateResponse, Empty, LeaseGrantRequest, LeaseRequest, LeaseResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use crate::model::error::{Error, ErrorKind, Result};
use crate::server::io_thread::{run_blocking, within};
use crate::server::last_answer::LastAnswer;
use crate::server::lease::CALL;
use crate::server::tls::{self, Identity};
use crate::server::url::{Host, Url};
use crate::util::text;

/// The variable with the password.
const PASSWORD: &str = "TENURE_ETCD_PASSWORD";
/// The variable with the password file, which is read at each authentication.
const PASSWORD_FILE: &str = "TENURE_ETCD_PASSWORD_FILE";
/// The maximum length of an answer.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// A connection on which nothing was answered for this long, while a call waited, is replaced.
const SUSPECT: Duration = Duration::from_millis(200);

/// The status codes of gRPC that have a meaning here.
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const UNAUTHENTICATED: i32 = 16;
/// Status codes that concern one member at this moment: cancelled, unknown, deadline, aborted, internal, unavailable.
const NOT_HERE: [i32; 6] = [1, 2, 4, 10, 13, 14];

/// A method of etcd.
pub(super) struct Method<Q, A> {
    path: &'static str,
    /// Questions and answers are streams, of which the first of each is used.
    is_stream: bool,
    types: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Method<Q, A> {
    const fn new(path: &'static str) -> Method<Q, A> {
        Method { path, is_stream: false, types: PhantomData }
    }
}

pub(super) const RANGE: Method<RangeRequest, RangeResponse> = Method::new("/etcdserverpb.KV/Range");
pub(super) const TXN: Method<TxnRequest, TxnResponse> = Method::new("/etcdserverpb.KV/Txn");
pub(super) const LEASE_GRANT: Method<LeaseGrantRequest, LeaseResponse> = Method::new("/etcdserverpb.Lease/LeaseGrant");
pub(super) const LEASE_REVOKE: Method<LeaseRequest, Empty> = Method::new("/etcdserverpb.Lease/LeaseRevoke");
pub(super) const LEASE_TIME_TO_LIVE: Method<LeaseTimeToLiveRequest, LeaseTimeToLiveResponse> =
    Method::new("/etcdserverpb.Lease/LeaseTimeToLive");
pub(super) const LEASE_KEEP_ALIVE: Method<LeaseRequest, LeaseResponse> =
    Method { path: "/etcdserverpb.Lease/LeaseKeepAlive", is_stream: true, types: PhantomData };
const AUTHENTICATE: Method<AuthenticateRequest, AuthenticateResponse> = Method::new("/etcdserverpb.Auth/Authenticate");
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// The client of a cluster, by its members' addresses, for a user of it.
pub(super) struct Client {
    members: Vec<Arc<Member>>,
    /// The member that answered last.
    first: AtomicUsize,
    user: Option<String>,
    identity: Option<Identity>,
    token: Mutex<Option<Arc<str>>>,
    /// The last answer of the cluster, which a member without a leader does not give.
    pub(super) answers: LastAnswer,
    /// Locked by the task that asks for a token.
    authentication: tokio::sync::Mutex<()>,
}

/// A member of the cluster.
struct Member {
    /// `http://host:port`
    name: String,
    origin: Uri,
    host: Host,
    tls: Option<Arc<ClientConfig>>,
    link: Mutex<Link>,
}

/// The connection to a member.
#[derive(Default)]
enum Link {
    #[default]
    None,
    /// One task connects, and all callers wait for it.
    Opening(watch::Receiver<Option<std::result::Result<Open, String>>>),
    Open(Open),
}

#[derive(Clone)]
struct Open {
    channel: Channel,
    /// When a call was answered last.
    answered: Arc<Mutex<Instant>>,
}

/// The failure of a call.
#[derive(Debug)]
enum Failure {
    /// Another member may answer.
    Member(String),
    /// An error that etcd reported.
    Refused { code: i32, message: String },
}

/// The result of a call.
pub(super) struct Outcome<A> {
    /// etcd's answer, or its error.
    pub(super) answer: std::result::Result<A, Option<(i32, String)>>,
    /// The failure of each member, none of which answered. A member may have executed the call nevertheless.
    pub(super) failures: Vec<String>,
    /// Whether any member may have the call.
    pub(super) is_sent: bool,
}

impl<A> Outcome<A> {
    /// Returns the outcome of a call that no member answered.
    pub(super) fn unanswered(failures: Vec<String>) -> Outcome<A> {
        Outcome { answer: Err(None), failures, is_sent: true }
    }

    /// Returns the outcome of a call that was not made.
    pub(super) fn not_sent(failures: Vec<String>) -> Outcome<A> {
        Outcome { answer: Err(None), failures, is_sent: false }
    }

    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.answer, Err(None))
    }

    /// Returns the answer; `None` where etcd answers that there is no such thing.
    pub(super) fn of(self, target: &Path) -> Result<Option<A>> {
        self.and_count(target).map(|(answer, _)| answer)
    }

    /// As [`of`](Outcome::of), and returns whether the call was repeated. A member whose answer was lost may have executed
    /// it.
    pub(super) fn and_count(self, target: &Path) -> Result<(Option<A>, bool)> {
        let Outcome { answer, failures, .. } = self;
        let repeated = !failures.is_empty();
        let refused = match answer {
            Ok(answer) => return Ok((Some(answer), repeated)),
            Err(refused) => refused,
        };
        match refused {
            Some((NOT_FOUND, _)) => Ok((None, repeated)),
            Some((code @ (PERMISSION_DENIED | UNAUTHENTICATED), message)) => Err(denied(target, code, &message)),
            Some((code, message)) if is_of_the_user(code, &message) => Err(denied(target, UNAUTHENTICATED, &message)),
            Some((_, message)) if message.contains("no space") || message.contains("space exceeded") => {
                let detail = format!("etcd takes no writes: {message}");
                let hint = "its alarm NOSPACE: compact, defragment, and `etcdctl alarm disarm`";
                Err(Error::new(ErrorKind::ReadOnly, target, detail).with_hint(hint))
            }
            Some((_, message)) => Err(Error::new(ErrorKind::Io, target, format!("etcd refused: {message}"))),
            None => {
                let detail = format!("no member of the cluster answered: {}", failures.join("; "));
                let hint = hint(&failures);
                Err(Error::new(ErrorKind::Unreachable, target, detail).with_hint(hint))
            }
        }
    }
}

fn denied(target: &Path, code: i32, message: &str) -> Error {
    let error = Error::new(ErrorKind::PermissionDenied, target, format!("etcd refused: {message}"));
    match code {
        PERMISSION_DENIED => error.with_hint(
            "the user's role needs readwrite on the prefixes NAME/ and .tenure/NAME, and with slots on NAME. too: \
             `etcdctl role grant-permission`",
        ),
        _ => error.with_hint(format!(
            "name the user in the target (etcd://USER@..), the password in {PASSWORD} or in a file that \
             {PASSWORD_FILE} names"
        )),
    }
}

/// Returns advice for a call that no member answered.
fn hint(failures: &[String]) -> &'static str {
    if let Some(hint) = failures.iter().find_map(|failure| tls::hint(failure)) {
        return hint;
    }
    "is it running, and is a majority of it reachable from here?"
}

/// Returns whether etcd refused the user or the token. The codes differ from version to version.
fn is_of_the_user(code: i32, message: &str) -> bool {
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
                message: format!("{PASSWORD_FILE} ({}) cannot be read: {why}", text::path(file.as_ref())),
            };
            let bytes = crate::sys::read_file(file.as_ref()).map_err(|error| unreadable(&error))?;
            let text = String::from_utf8(bytes).map_err(|error| unreadable(&error))?;
            Ok(text.trim_end_matches(['\n', '\r']).to_owned())
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members: Vec<&str> = self.members.iter().map(|member| &*member.name).collect();
        f.debug_struct("Client").field("members", &members).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Client {
    /// Returns a client for the members, the user and the certificates of a target.
    pub(super) fn new(url: &Url, identity: Option<Identity>) -> Result<Client> {
        let tls = identity.as_ref().map(|identity| connection::tls_config(url, identity)).transpose()?;
        let protocol = if tls.is_some() { "https" } else { "http" };
        let member = |host: &Host| {
            let name = format!("{protocol}://{}", host.authority());
            let origin = name.parse().map_err(|_| {
                let detail = format!("{} is no host", text::text(&host.name));
                Error::new(ErrorKind::InvalidTarget, &url.target, detail)
            })?;
            let host = host.clone();
            Ok(Arc::new(Member { name, origin, host, tls: tls.clone(), link: Mutex::default() }))
        };
        Ok(Client {
            members: url.hosts.iter().map(member).collect::<Result<_>>()?,
            first: AtomicUsize::new(0),
            user: url.user.clone(),
            identity,
            token: Mutex::default(),
            answers: LastAnswer::default(),
            authentication: tokio::sync::Mutex::default(),
        })
    }

    /// Returns whether this is the client for these members, this user and these certificates.
    pub(super) fn is_for(&self, url: &Url, identity: Option<&Identity>) -> bool {
        self.members.iter().map(|member| &member.host).eq(&url.hosts)
            && self.user == url.user
            && self.identity.as_ref() == identity
    }

    /// Returns the member that is called first.
    pub(super) fn first(&self) -> usize {
        self.first.load(Ordering::Relaxed)
    }

    /// Calls one member after the other, within `limit` altogether.
    pub(super) async fn call<Q, A>(&self, method: &Method<Q, A>, message: &Q, limit: Duration) -> Outcome<A>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let end = Instant::now() + limit;
        let mut failures = Vec::new();
        let count = self.members.len();
        let first = self.first();
        // A member that never answers leaves time for two others.
        let share = limit / u32::try_from(count.min(3)).unwrap_or(1);
        for at in (0..count).map(|step| (first + step) % count) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                failures.push(format!("{}: no time was left", self.members[at].name));
                continue;
            }
            match self.authorised(at, method, message, left.min(share)).await {
                Ok(answer) => {
                    self.answers.record();
                    if at != first {
                        self.move_first(first, at);
                    }
                    return Outcome { answer: Ok(answer), failures, is_sent: true };
                }
                Err(Failure::Member(why)) => {
                    failures.push(format!("{}: {why}", self.members[at].name));
                    // The next call begins with another member, because there may be more of them than time allows.
                    self.move_first(at, (at + 1) % count);
                }
                Err(Failure::Refused { code, message }) => {
                    self.answers.record();
                    return Outcome { answer: Err(Some((code, message))), failures, is_sent: true };
                }
            }
        }
        Outcome::unanswered(failures)
    }

    /// Begins with `to` from now on, unless another call has moved on already.
    fn move_first(&self, from: usize, to: usize) {
        let _ = self.first.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Calls with the user's token. A token that is refused, for whatever reason, is replaced, once.
    async fn authorised<Q, A>(
        &self,
        at: usize,
        method: &Method<Q, A>,
        message: &Q,
        limit: Duration,
    ) -> std::result::Result<A, Failure>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let Some(user) = &self.user else { return self.once(at, method, message, None, limit).await };
        let end = Instant::now() + limit;
        let left = || end.saturating_duration_since(Instant::now());
        let token = self.token(user, at, None, end).await?;
        match self.once(at, method, message, Some(&token), left()).await {
            Err(Failure::Refused { code, message: text }) if is_of_the_user(code, &text) => {
                let token = self.token(user, at, Some(&token), end).await?;
                self.once(at, method, message, Some(&token), left()).await
            }
            other => other,
        }
    }

    /// Returns a token other than `refused`. One task asks for it, and the others wait for that task.
    async fn token(
        &self,
        user: &str,
        at: usize,
        refused: Option<&str>,
        end: Instant,
    ) -> std::result::Result<Arc<str>, Failure> {
        let left = || end.saturating_duration_since(Instant::now());
        let known = || self.known_token().filter(|token| Some(&**token) != refused);
        if let Some(token) = known() {
            return Ok(token);
        }
        let Some(_asking) = within(left(), self.authentication.lock()).await else {
            return Err(Failure::Member("no token within the time".to_owned()));
        };
        if let Some(token) = known() {
            return Ok(token);
        }
        // Its file may be on a server that hangs.
        let read = within(left(), run_blocking(password)).await.flatten();
        let password = read.ok_or_else(|| Failure::Member("no password was read within the time".to_owned()))??;
        let credentials = AuthenticateRequest { name: user.to_owned(), password };
        let answer = self.once(at, &AUTHENTICATE, &credentials, None, left()).await?;
        let token: Arc<str> = answer.token.into();
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
        Ok(token)
    }

    /// Returns the user's token, which a call may replace at any time.
    pub(super) fn known_token(&self) -> Option<Arc<str>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn once<Q, A>(
        &self,
        at: usize,
        method: &Method<Q, A>,
        message: &Q,
        token: Option<&str>,
        limit: Duration,
    ) -> std::result::Result<A, Failure>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let member = &self.members[at];
        let began = Instant::now();
        let called = within(limit, async {
            let open = member.open().await.map_err(Failure::Member)?;
            let mut grpc = member.grpc(&open);
            let path = PathAndQuery::from_static(method.path);
            let codec = ProstCodec::default();
            let mut request = Request::new(message.clone());
            // The server gives up as well.
            request.set_timeout(limit);
            authorise(&mut request, token);
            grpc.ready().await.map_err(|error| Failure::Member(in_words(&error)))?;
            let answer = if method.is_stream {
                let request = request.map(tokio_stream::once);
                match grpc.streaming(request, path, codec).await {
                    Ok(answers) => answers.into_inner().message().await.and_then(|answer| {
                        answer.ok_or_else(|| Status::unavailable("the stream ended without an answer"))
                    }),
                    Err(status) => Err(status),
                }
            } else {
                grpc.unary(request, path, codec).await.map(tonic::Response::into_inner)
            };
            *open.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            answer.map_err(|status| failure(&status))
        });
        called.await.unwrap_or_else(|| {
            member.replace_if_silent(began);
            Err(Failure::Member(format!("no answer within {} ms", limit.as_millis())))
        })
    }

    /// Opens a stream to the member that is called first. Returns the client for it, and that member.
    pub(super) async fn stream(&self) -> Option<(Grpc<Channel>, usize)> {
        let at = self.first();
        let member = &self.members[at];
        let open = within(CALL, member.open()).await?.ok()?;
        let mut grpc = member.grpc(&open);
        grpc.ready().await.ok()?;
        Some((grpc, at))
    }
}

/// Adds the user's token to a request.
pub(super) fn authorise<T>(request: &mut Request<T>, token: Option<&str>) {
    if let Some(token) = token
        && let Ok(value) = MetadataValue::try_from(token)
    {
        request.metadata_mut().insert("token", value);
    }
}

fn failure(status: &Status) -> Failure {
    let code = i32::from(status.code());
    let mut message = status.message().to_owned();
    if let Some(cause) = std::error::Error::source(status) {
        message = format!("{message}: {}", in_words(cause));
    }
    match NOT_HERE.contains(&code) && !message.contains("space exceeded") {
        true => Failure::Member(text::text(&message)),
        false => Failure::Refused { code, message },
    }
}

impl Member {
    fn link(&self) -> std::sync::MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grpc(&self, open: &Open) -> Grpc<Channel> {
        Grpc::with_origin(open.channel.clone(), self.origin.clone()).max_decoding_message_size(MOST_BYTES)
    }

    /// Returns the connection, which is opened if there is none.
    async fn open(self: &Arc<Self>) -> std::result::Result<Open, String> {
        let mut opened = {
            let mut link = self.link();
            match &*link {
                Link::Open(open) if !open.channel.is_closed() => return Ok(open.clone()),
                Link::Opening(opened) => opened.clone(),
                Link::Open(_) | Link::None => {
                    let (sender, opened) = watch::channel(None);
                    *link = Link::Opening(opened.clone());
                    let member = Arc::clone(self);
                    tokio::spawn(async move {
                        let connected = connect(&member.host, member.tls.clone(), CALL).await;
                        let outcome =
                            connected.map(|channel| Open { channel, answered: Arc::new(Mutex::new(Instant::now())) });
                        *member.link() = outcome.clone().map_or(Link::None, Link::Open);
                        sender.send_replace(Some(outcome));
                    });
                    opened
                }
            }
        };
        let outcome = opened.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| {
            // The task failed.
            *self.link() = Link::None;
            Err("the connection failed".to_owned())
        })
    }

    /// Replaces the connection if nothing was answered on it since `began`, some time ago. The network may have forgotten
    /// it, and a new one may work.
    fn replace_if_silent(&self, began: Instant) {
        let mut link = self.link();
        if let Link::Open(open) = &*link
            && began.elapsed() >= SUSPECT
            && *open.answered.lock().unwrap_or_else(PoisonError::into_inner) <= began
        {
            *link = Link::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn an_error_of_one_member_is_not_the_cluster_s() {
        let kind = |status: Status| match failure(&status) {
            Failure::Member(_) => "member",
            Failure::Refused { .. } => "refused",
        };
        assert_eq!(kind(Status::unavailable("etcdserver: request timed out")), "member");
        assert_eq!(kind(Status::unknown("h2 protocol error")), "member");
        assert_eq!(kind(Status::unknown("etcdserver: mvcc: database space exceeded")), "refused");
        assert_eq!(kind(Status::resource_exhausted("etcdserver: mvcc: database space exceeded")), "refused");
        assert_eq!(kind(Status::permission_denied("etcdserver: permission denied")), "refused");
    }
}
