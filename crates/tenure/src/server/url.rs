//! Targets that name a server: `etcd://host:2379,other:2379/name?ttl=10s`.
//!
//! The scheme alone decides what kind of target it is. A password in a target is refused: it would be visible in `ps`, in
//! logs and in the record.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::rank::Rank;
use crate::model::status::Scheme;
use crate::util::text;

/// The length of a lease where the target has no `ttl=`.
const TTL: Duration = Duration::from_secs(10);
/// The number of sessions in which acquires wait where the target has no `sessions=`.
const SESSIONS: usize = 4;
const MOST_SESSIONS: usize = 1000;
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_secs(24 * 60 * 60);

fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Etcd => 2379,
        Scheme::Postgres => 5432,
    }
}

fn known_keys(scheme: Scheme) -> &'static [&'static str] {
    match scheme {
        Scheme::Etcd => &["ttl", "ca", "cert", "key"],
        Scheme::Postgres => &["lock", "host", "ttl", "sessions", "ca", "cert", "key", "sslmode"],
    }
}

/// Returns the kind of server that `target` names; `None` for a file.
///
/// ```
/// use tenure::server::{Scheme, scheme};
///
/// # fn main() -> tenure::Result<()> {
/// assert_eq!(scheme("etcd://etcd-1:2379/sessions/main")?, Some(Scheme::Etcd));
/// assert_eq!(scheme("sessions/main.jsonl")?, None);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`is_unsupported`](crate::Error::is_unsupported) for any other scheme: `redis://..` is hardly meant as
/// the name of a file.
pub fn scheme(target: impl AsRef<Path>) -> Result<Option<Scheme>> {
    let target = target.as_ref();
    let Some((word, _)) = target.to_str().and_then(|text| text.split_once("://")) else { return Ok(None) };
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return Ok(None);
    }
    // `./x://y` and `.x://y` are files.
    if !word.as_bytes()[0].is_ascii_alphabetic() {
        return Ok(None);
    }
    match word {
        "etcd" => Ok(Some(Scheme::Etcd)),
        "postgres" | "postgresql" => Ok(Some(Scheme::Postgres)),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            without_secrets(target),
            format!("there is no kind of server `{word}`"),
        )
        .with_hint(format!(
            "the kinds are etcd:// and postgres://; for a file of that name write `./{}`",
            text::text(&without_secrets(target).to_string_lossy())
        ))),
    }
}

/// Returns the target `name` below `target`, on the same server.
///
/// ```
/// # fn main() -> tenure::Result<()> {
/// let target = tenure::server::below("etcd://etcd-1:2379/sessions?ttl=5s", "main")?;
/// assert_eq!(target.to_str(), Some("etcd://etcd-1:2379/sessions/main?ttl=5s"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`is_invalid_target`](crate::Error::is_invalid_target) where `target` names no server, or is malformed.
pub fn below(target: impl AsRef<Path>, name: &str) -> Result<PathBuf> {
    let target = target.as_ref();
    let Some(scheme) = scheme(target)? else {
        return Err(Error::new(ErrorKind::InvalidTarget, target, "it names no server"));
    };
    let url = Url::parse(target, scheme)?;
    Ok(match url.name.trim_end_matches('/') {
        "" => url.sibling(name),
        above => url.sibling(&format!("{above}/{name}")),
    })
}

/// Returns the name of a lock on its server, or the name below which `target` lists; `None` for a file.
pub(crate) fn name(target: &Path) -> Option<String> {
    let scheme = scheme(target).ok()??;
    Url::parse(target, scheme).ok().map(|url| url.name)
}

/// A server, or one member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Host {
    /// Returns `name:port`, as in a URL.
    pub(crate) fn authority(&self) -> String {
        if self.name.contains(':') {
            format!("[{}]:{}", self.name, self.port)
        } else {
            format!("{}:{}", self.name, self.port)
        }
    }
}

/// Files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The authority that must have signed the server's certificate. TLS is used where this is given, and only then.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

/// A parsed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    /// As the caller named it. It has no password, because a target with one is refused.
    pub(crate) target: PathBuf,
    pub(crate) user: Option<String>,
    pub(crate) hosts: Vec<Host>,
    /// The path, without the slash that ends the hosts.
    pub(crate) path: String,
    /// The lock's name, or the name below which to list.
    pub(crate) name: String,
    pub(crate) ttl: Duration,
    /// PostgreSQL: the maximum number of sessions in which acquires wait.
    pub(crate) sessions: usize,
    pub(crate) tls: TlsFiles,
    /// A folder with a Unix socket.
    pub(crate) socket: Option<PathBuf>,
}

impl Url {
    /// Parses `target`, whose scheme is [`scheme`]'s answer.
    pub(crate) fn parse(target: &Path, scheme: Scheme) -> Result<Url> {
        let wrong = |what: &str| Error::new(ErrorKind::InvalidTarget, without_secrets(target), what.to_owned());
        let text = target.to_str().ok_or_else(|| wrong("a target that names a server must be UTF-8"))?;
        let rest = text.split_once("://").map_or("", |(_, rest)| rest);
        if text.contains(char::is_control) {
            return Err(wrong("a control character: write it as %XX"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let decode = |text: &str| decode(text).ok_or_else(|| wrong("a %XX that is no UTF-8 text"));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            let hint = match scheme {
                Scheme::Etcd => "put it into TENURE_ETCD_PASSWORD",
                Scheme::Postgres => "put it into PGPASSWORD or ~/.pgpass",
            };
            return Err(wrong("a password in a target is seen in `ps`, in logs and in the record").with_hint(hint));
        }
        let mut url = Url {
            scheme,
            target: target.to_owned(),
            user: user.filter(|user| !user.is_empty()).map(decode).transpose()?,
            hosts: Vec::new(),
            path: decode(path)?,
            name: String::new(),
            ttl: TTL,
            sessions: SESSIONS,
            tls: TlsFiles::default(),
            socket: None,
        };
        let mut hosts: Vec<&str> = hosts.split(',').filter(|host| !host.is_empty()).collect();
        // libpq writes a socket's folder like this.
        if scheme == Scheme::Postgres && hosts.first().is_some_and(|host| host.to_ascii_uppercase().starts_with("%2F"))
        {
            if hosts.len() > 1 {
                return Err(wrong("a socket's folder among several hosts"));
            }
            let (folder, port) = hosts[0].split_once(':').unwrap_or((hosts[0], ""));
            let port = if port.is_empty() {
                default_port(scheme)
            } else {
                port.parse().map_err(|_| wrong("a port that is none"))?
            };
            url.socket = Some(decode(folder)?.into());
            url.hosts = vec![Host { name: "localhost".to_owned(), port }];
            hosts.clear();
        }
        for host in hosts {
            url.hosts.push(self::host(host, default_port(scheme)).ok_or_else(|| wrong("a host that is none"))?);
        }
        if scheme == Scheme::Etcd {
            url.name.clone_from(&url.path);
        }
        let unknown = |pair: &str| {
            let known = known_keys(scheme).join("=, ");
            // What has no name may be the rest of a password.
            let what = match pair.split_once('=') {
                Some((name, _)) => format!("unknown option `{}=`", text::text(name)),
                None => "an option without a name".to_owned(),
            };
            wrong(&what).with_hint(format!("the options are {known}="))
        };
        let (mut certificate, mut key, mut sslmode) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known_keys(scheme).contains(&name) {
                return Err(unknown(pair));
            }
            let value = decode(value)?;
            match name {
                "ttl" => {
                    url.ttl = ttl(&value).ok_or_else(|| {
                        wrong("ttl= is a number of seconds, minutes or hours from 1s to 24h, such as 10s or 1m")
                    })?;
                }
                "sessions" => {
                    let count = value.parse().ok().filter(|count| (1..=MOST_SESSIONS).contains(count));
                    url.sessions = count.ok_or_else(|| wrong("sessions= is a number from 1 to 1000"))?;
                }
                "lock" => url.name = value,
                "host" => url.socket = Some(value.into()),
                "ca" => url.tls.ca = Some(value.into()),
                "sslmode" => sslmode = Some(value),
                "cert" => certificate = Some(PathBuf::from(value)),
                "key" => key = Some(PathBuf::from(value)),
                _ => return Err(unknown(pair)),
            }
        }
        url.tls.certificate = match (certificate, key) {
            (Some(certificate), Some(key)) if url.tls.ca.is_some() => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(wrong("cert= and key= go together, with the ca= that turns TLS on")),
        };
        if url.hosts.is_empty() && url.socket.is_none() {
            return Err(wrong("no host is named").with_hint(match scheme {
                Scheme::Etcd => "write etcd://HOST/NAME",
                Scheme::Postgres => "write postgres://HOST/DATABASE?lock=NAME: PGHOST and PGSERVICE are not read",
            }));
        }
        if let Some(mode) = sslmode {
            url.suit_sslmode("sslmode=", &mode)?;
        }
        Ok(url)
    }

    /// Checks that the connection is at least as safe as `mode`, a word of libpq's, asks for. With `ca=` there is TLS, with
    /// the server's certificate and name checked (`verify-full`); without it there is none.
    pub(crate) fn suit_sslmode(&self, from: &str, mode: &str) -> Result<()> {
        let wrong = |what: String| Error::new(ErrorKind::InvalidTarget, &self.target, what);
        match (mode, self.tls.ca.is_some()) {
            ("" | "allow" | "prefer", _) | ("disable", false) | ("require" | "verify-ca" | "verify-full", true) => {
                Ok(())
            }
            // As in libpq: a connection by a socket does not leave the machine.
            ("require" | "verify-ca" | "verify-full", false) if self.socket.is_some() => Ok(()),
            ("disable", true) => Err(wrong(format!("{from}disable, and ca= that turns TLS on"))),
            ("require" | "verify-ca" | "verify-full", false) => {
                Err(wrong(format!("{from}{mode} wants TLS, which the target does not turn on"))
                    .with_hint("name the authority that signed the server's certificate: `ca=FILE`"))
            }
            _ => Err(wrong(format!("{from}{} is no mode", text::text(mode)))),
        }
    }

    /// Returns the name of the lock. [`parse`](Url::parse) accepts a target without one, because `list` needs none.
    pub(crate) fn lock_name(&self) -> Result<&str> {
        let wrong = |what: &'static str| Err(Error::new(ErrorKind::InvalidTarget, &self.target, what));
        match &*self.name {
            "" if self.scheme == Scheme::Postgres => wrong("no lock is named: add `?lock=NAME`"),
            "" => wrong("no lock is named: add `/NAME`"),
            name if name.ends_with('/') => wrong("the name of a lock does not end in a slash"),
            name if name.len() > 1024 => wrong("the name of a lock is at most 1024 bytes long"),
            name if name.contains('\0') => wrong("the name of a lock has no NUL"),
            name => Ok(name),
        }
    }

    /// Returns the lock's place in the order in which several are acquired.
    #[allow(dead_code, reason = "only a server's lock has one, which needs a feature")]
    pub(crate) fn rank(&self) -> Rank {
        let servers = match &self.socket {
            Some(folder) => vec![folder.to_string_lossy().into_owned()],
            None => self.hosts.iter().map(|host| host.authority().to_ascii_lowercase()).collect(),
        };
        // On etcd the path is the name.
        let database = match self.scheme {
            Scheme::Etcd => "",
            Scheme::Postgres => &self.path,
        };
        Rank::of_server(self.scheme, &self.name, database, servers)
    }

    /// Returns the target of another name on the same server.
    pub(crate) fn sibling(&self, name: &str) -> PathBuf {
        let text = self.target.to_string_lossy();
        let (front, query) = text.split_once('?').unwrap_or((&text, ""));
        let scheme_end = front.find("://").map_or(0, |at| at + 3);
        let authority_end = front[scheme_end..].find('/').map_or(front.len(), |at| scheme_end + at);
        let others = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("lock="));
        let mut words: Vec<String> = others.map(str::to_owned).collect();
        let mut out = match self.scheme {
            Scheme::Etcd => format!("{}/{}", &front[..authority_end], encode(name)),
            Scheme::Postgres => {
                words.insert(0, format!("lock={}", encode(name)));
                front.to_owned()
            }
        };
        if !words.is_empty() {
            out += &format!("?{}", words.join("&"));
        }
        out.into()
    }
}

/// Returns a target for an error that comes before the target is known to have no secret in it: without a password, and
/// without all that follows the `?`.
fn without_secrets(target: &Path) -> PathBuf {
    let text = target.to_string_lossy();
    let text = text.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    match authority.rfind('@') {
        Some(at) => {
            let user = &rest[..at];
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}{}", &rest[at..]).into()
        }
        None => text.into(),
    }
}

fn host(text: &str, port: u16) -> Option<Host> {
    let (name, rest) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(digits) => digits.parse().ok()?,
        None if rest.is_empty() => port,
        None => return None,
    };
    let wrong = |byte: u8| byte.is_ascii_whitespace() || b"/?#[]@\\\"'<>".contains(&byte);
    (!name.is_empty() && !name.bytes().any(wrong)).then(|| Host { name: name.to_owned(), port })
}

fn ttl(text: &str) -> Option<Duration> {
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let (digits, unit) = units.iter().find_map(|(word, unit)| Some((text.strip_suffix(*word)?, *unit)))?;
    let count: u64 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    let ttl = Duration::from_secs(count.checked_mul(unit)?);
    (SHORTEST_TTL..=LONGEST_TTL).contains(&ttl).then_some(ttl)
}

/// Decodes `%XX`. Returns `None` where a `%` has no two digits, or the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let complete = text.split('%').skip(1).all(is_escape);
    complete.then(|| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned))?
}

/// Encodes all bytes but those that have no meaning of their own in a URL's path or query.
fn encode(text: &str) -> String {
    const ESCAPED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Url> {
        let scheme = scheme(text)?.expect("a scheme");
        Url::parse(Path::new(text), scheme)
    }

    #[test]
    fn the_scheme_decides() {
        assert_eq!(scheme("etcd://a/b").unwrap(), Some(Scheme::Etcd));
        assert_eq!(scheme("postgres://a/b?lock=c").unwrap(), Some(Scheme::Postgres));
        assert_eq!(scheme("postgresql://a/b?lock=c").unwrap(), Some(Scheme::Postgres));
        for file in ["etcd:", "./etcd://a/b", "etcd:/a", "a/etcd://b", "", "://", "/x://y", ".x://y", "ETCD:x"] {
            assert_eq!(scheme(file).unwrap(), None, "{file}");
        }
        for other in ["redis://h/k", "https://h/k", "ETCD://h/k"] {
            assert!(scheme(other).unwrap_err().is_unsupported(), "{other}");
        }
    }

    #[test]
    fn hosts_names_and_words() {
        let url = parse("etcd://app@one,two:99,[::1]:7/sessions/main%20one?ttl=2m&ca=/a%2Fb").unwrap();
        let hosts: Vec<String> = url.hosts.iter().map(Host::authority).collect();
        assert_eq!(hosts, ["one:2379", "two:99", "[::1]:7"]);
        assert_eq!((url.user.as_deref(), url.lock_name().unwrap()), (Some("app"), "sessions/main one"));
        assert_eq!((url.ttl, url.tls.ca.as_deref()), (Duration::from_secs(120), Some(Path::new("/a/b"))));

        let url = parse("postgres://app@db/prod?lock=sessions/main&host=/run/pg").unwrap();
        assert_eq!((&*url.path, url.lock_name().unwrap()), ("prod", "sessions/main"));
        assert_eq!(url.sessions, 4);
        assert_eq!(parse("postgres://db/prod?lock=a&sessions=16").unwrap().sessions, 16);
        assert_eq!(url.socket.as_deref(), Some(Path::new("/run/pg")));
        assert_eq!(parse("postgres:///prod?lock=a&host=/run/pg").unwrap().hosts, []);
        assert_eq!(parse("etcd://h/a?ttl=1h").unwrap().ttl, Duration::from_secs(3600));
        let url = parse("postgres://app@%2Frun%2Fpg:99/d?lock=a&sslmode=prefer").unwrap();
        assert_eq!((url.socket.as_deref(), url.hosts[0].port), (Some(Path::new("/run/pg")), 99));
        parse("postgres://h/d?lock=a&sslmode=verify-full&ca=c").unwrap();
        assert_eq!(parse("etcd://h//a").unwrap().lock_name().unwrap(), "/a");
    }

    #[test]
    fn what_is_off_is_refused() {
        let wrong = [
            "etcd:///a",
            "etcd://h:x/a",
            "etcd://h:99999/a",
            "etcd://[::1/a",
            "etcd://h/a?ttl=0s",
            "etcd://h/a?ttl=10",
            "etcd://h/a?ttl=2d",
            "etcd://h/a?ttl=+1s",
            "etcd://h/a?lock=b",
            "etcd://h/a?cert=x",
            "etcd://h/a?ca=c&cert=x",
            "etcd://h/%ff",
            "etcd://h/%2",
            "etcd://h/a\nb",
            "etcd://h/a?ttl=25h",
            "postgres://h/d?sessions=0&lock=a",
            "postgres://h/d?sessions=1001&lock=a",
            "postgres://h/d?sslmode=require&lock=a",
            "postgres://h/d?sslmode=disable&ca=c&lock=a",
            "postgres://h/d?sslmode=full&lock=a",
            "postgres://%2Frun%2Fpg,h/d?lock=a",
        ];
        for text in wrong {
            assert!(parse(text).unwrap_err().is_invalid_target(), "{text}");
        }
        for text in ["etcd://h", "etcd://h/", "etcd://h/a/", "etcd://h/a%00", "postgres://h/d"] {
            assert!(parse(text).unwrap().lock_name().unwrap_err().is_invalid_target(), "{text}");
        }
    }

    #[test]
    fn a_password_is_refused_and_never_said_again() {
        let texts = [
            "etcd://app:hunter2@h/a",
            "postgres://app:hunter2@h/d?lock=a",
            "postgres://h/d?lock=a&password=hunter2",
            "etcd://app:hunter2@h:bad/a?ttl=no",
            "etcd://a:hunter2@b@h/x",
            "redis://:hunter2@h/0",
            "redis://h/0?hunter2",
            "postgres://h/d?lock=a&password=a&hunter2",
            "postgres://h/d?hunter2",
        ];
        for text in texts {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error} {error:?}");
        }
    }

    #[test]
    fn an_error_names_the_option_and_the_file() {
        let error = parse("etcd://h/a?ttl=5s&tls=on").unwrap_err().to_string();
        assert!(error.contains("unknown option `tls=`; the options are ttl=, ca=, cert=, key="), "{error}");
        let error = parse("postgres://h/d?lock=a&tls").unwrap_err().to_string();
        assert!(error.contains("an option without a name; the options are lock=, "), "{error}");
        let error = scheme("redis://app:x@h/k?a=b").unwrap_err().to_string();
        assert!(error.contains("for a file of that name write `./redis://app@h/k`"), "{error}");
    }

    #[test]
    fn every_known_option_has_its_own_meaning() {
        for (scheme, start) in [(Scheme::Etcd, "etcd://h/a?ca=c"), (Scheme::Postgres, "postgres://h/d?ca=c")] {
            for name in known_keys(scheme) {
                let error =
                    parse(&format!("{start}&{name}=")).map_or_else(|error| error.to_string(), |_| String::new());
                assert!(!error.contains("unknown option"), "{error}");
            }
            let url = parse(&format!("{start}&cert=x&key=y")).unwrap();
            assert_eq!(url.tls.certificate, Some(("x".into(), "y".into())));
        }
    }

    #[test]
    fn siblings_are_targets_of_the_same_server() {
        let url = parse("etcd://app@h:1,i:2/sessions?ttl=2s").unwrap();
        assert_eq!(url.sibling("sessions/a b?"), Path::new("etcd://app@h:1,i:2/sessions/a%20b%3F?ttl=2s"));
        let url = parse("postgres://h/d?lock=x&ttl=2s").unwrap();
        assert_eq!(url.sibling("a&b"), Path::new("postgres://h/d?lock=a%26b&ttl=2s"));
        let back = parse("postgres://h/d?lock=a%26b&ttl=2s").unwrap();
        assert_eq!(back.name, "a&b");
    }
}
