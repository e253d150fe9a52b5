//! Resolves the servers' names, and remembers their addresses.
//!
//! A holder has to reach its server every few seconds, so the last good addresses of a name are kept: a name service that
//! fails or does not answer costs no holder its lock. The name is resolved again meanwhile, because a server may move.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sys::ForkLocal;
use crate::util::thread_pool;

/// Up to this age addresses are used as they are.
const FRESH: Duration = Duration::from_secs(10);
/// Up to this age they are used while the name is resolved again.
const USABLE: Duration = Duration::from_secs(60);
/// The wait for a new answer where there is an older one.
const BRIEFLY: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Known {
    addresses: Vec<IpAddr>,
    /// When the name service answered with them.
    good: Instant,
    /// When the name service was asked last.
    asked: Instant,
}

impl Known {
    /// Returns how long to wait for a new answer; `None` where none is needed.
    fn wait_for_news(&self, now: Instant, limit: Duration) -> Option<Duration> {
        if now.saturating_duration_since(self.asked) < FRESH {
            None
        } else if now.saturating_duration_since(self.good) < USABLE {
            Some(Duration::ZERO)
        } else {
            Some((limit / 2).min(BRIEFLY))
        }
    }
}

fn known() -> MutexGuard<'static, HashMap<String, Known>> {
    static KNOWN: ForkLocal<Mutex<HashMap<String, Known>>> = ForkLocal::new();
    KNOWN.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// A question to the name service, and the addresses that are used where it is not answered in time.
struct Asked {
    kept: Option<Vec<IpAddr>>,
    wait: Duration,
}

impl Asked {
    /// Returns the addresses; `news` is the answer, if it came in time.
    fn settle(self, news: Option<io::Result<Vec<IpAddr>>>) -> io::Result<Vec<IpAddr>> {
        match (self.kept, news) {
            (_, Some(Ok(addresses))) => Ok(addresses),
            (Some(kept), _) => Ok(kept),
            (None, Some(Err(error))) => Err(error),
            (None, None) => {
                let text = format!("the name was not resolved within {} ms", self.wait.as_millis());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }
}

/// Returns the addresses of `host` where no question is needed. Otherwise asks the name service, whose answer goes to
/// `tell`.
fn ask(
    host: &str,
    limit: Duration,
    tell: impl FnOnce(io::Result<Vec<IpAddr>>) + Send + 'static,
) -> io::Result<std::result::Result<Vec<IpAddr>, Asked>> {
    if let Ok(address) = host.parse() {
        return Ok(Ok(vec![address]));
    }
    let now = Instant::now();
    let kept = known().get(host).cloned();
    let wait = match &kept {
        None => limit,
        Some(kept) => match kept.wait_for_news(now, limit) {
            None => return Ok(Ok(kept.addresses.clone())),
            Some(wait) => wait,
        },
    };
    if let Some(kept) = known().get_mut(host) {
        kept.asked = now;
    }
    // The system's resolver has no timeout and cannot be cancelled, so another thread waits for it.
    let name = host.to_owned();
    thread_pool::run(move || {
        let found = look_up(&name);
        if let Ok(addresses) = &found {
            let now = Instant::now();
            known().insert(name, Known { addresses: addresses.clone(), good: now, asked: now });
        }
        tell(found);
    })?;
    Ok(Err(Asked { kept: kept.map(|kept| kept.addresses), wait }))
}

/// As [`resolve`], blocking.
#[cfg(test)]
pub(super) fn addresses(host: &str, limit: Duration) -> io::Result<Vec<IpAddr>> {
    let (sender, answer) = std::sync::mpsc::channel();
    // The caller may have gone on without the answer.
    let tell = move |found| drop(sender.send(found));
    match ask(host, limit, tell)? {
        Ok(addresses) => Ok(addresses),
        Err(asked) => {
            let news = answer.recv_timeout(asked.wait).ok();
            asked.settle(news)
        }
    }
}

/// Returns the addresses of `host`, within `limit`.
#[cfg(any(feature = "etcd", feature = "postgres"))]
pub(super) async fn resolve(host: &str, limit: Duration) -> io::Result<Vec<IpAddr>> {
    let (sender, answer) = tokio::sync::oneshot::channel();
    let tell = move |found| drop(sender.send(found));
    match ask(host, limit, tell)? {
        Ok(addresses) => Ok(addresses),
        Err(asked) => {
            let news = super::io_thread::within(asked.wait, answer).await;
            asked.settle(news.and_then(std::result::Result::ok))
        }
    }
}

fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in (name, 0).to_socket_addrs()? {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        false => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_own() {
        assert_eq!(addresses("127.0.0.9", Duration::ZERO).unwrap(), ["127.0.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(addresses("::1", Duration::ZERO).unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn what_is_known_is_used_and_looked_up_again() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let known =
            |good, asked| Known { addresses: Vec::new(), good: now - seconds(good), asked: now - seconds(asked) };
        assert_eq!(known(1, 1).wait_for_news(now, seconds(5)), None);
        assert_eq!(known(30, 30).wait_for_news(now, seconds(5)), Some(Duration::ZERO));
        assert_eq!(known(90, 90).wait_for_news(now, seconds(5)), Some(seconds(1)), "a server may have moved");
        assert_eq!(known(90, 90).wait_for_news(now, seconds(1)), Some(seconds(1) / 2));
        assert_eq!(known(90, 1).wait_for_news(now, seconds(5)), None, "the name service is away");
    }

    #[test]
    fn a_name_that_is_known_survives_the_name_service() {
        let name = "known.tenure.invalid";
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let now = Instant::now();
        known().insert(name.to_owned(), Known { addresses: vec![address], good: now - USABLE, asked: now - USABLE });
        assert_eq!(addresses(name, Duration::from_secs(5)).unwrap(), [address]);
        assert!(addresses("unknown.tenure.invalid", Duration::from_secs(60)).is_err());
    }
}
