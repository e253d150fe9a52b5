//! Reads of a lock's status that several acquires share: a thousand waiters may reach one deadline at the same moment, and
//! each names the holder.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::model::status::Status;
use crate::server::io_thread::within;

type Answer = watch::Receiver<Option<Option<Status>>>;

/// The reads that are under way, by the names of the locks, and when each began.
#[derive(Default)]
pub(super) struct Looks(Mutex<HashMap<Box<str>, (Instant, Answer)>>);

impl Looks {
    fn under_way(&self) -> MutexGuard<'_, HashMap<Box<str>, (Instant, Answer)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read under way, until it is dropped.
struct Look<'a> {
    looks: &'a Looks,
    name: &'a str,
    began: Instant,
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let mut under_way = self.looks.under_way();
        if under_way.get(self.name).is_some_and(|(began, _)| *began == self.began) {
            under_way.remove(self.name);
        }
    }
}

/// Returns the status of the lock of `name` by a read that began at `since` or later: by `read`, or by that of another acquire.
/// `None` without an answer within `limit`.
pub(super) async fn status_since(
    looks: &Looks,
    name: &str,
    since: Instant,
    limit: Duration,
    read: impl Future<Output = Option<Status>>,
) -> Option<Status> {
    let (answer, mut shared) = watch::channel(None);
    let began = {
        let mut under_way = looks.under_way();
        match under_way.get(name) {
            Some((began, answer)) if *began >= since => {
                shared = answer.clone();
                None
            }
            _ => {
                let began = Instant::now();
                under_way.insert(name.into(), (began, shared.clone()));
                Some(began)
            }
        }
    };
    let Some(began) = began else {
        drop(answer);
        return within(limit, shared.wait_for(Option::is_some)).await?.ok()?.clone().flatten();
    };
    let _look = Look { looks, name, began };
    let found = read.await;
    answer.send_replace(Some(found.clone()));
    found
}
