//! Looks after the waiters of a session, for the case that a watch does not report what it should: the member that has it may
//! hang.
//!
//! Some waiters are looked after by each request. Where there are thousands, each has its turn more seldom, so that the
//! requests of a process do not grow with them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::super::batches::MOST_OPS;
use super::super::client::TXN;
use super::super::messages::{RangeRequest, TxnRequest};
use super::{Session, Waiter};
use crate::server::lease::call_limit;

/// The time between two checks of the keys that a waiter waits for, where there are few waiters.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// The least time between two requests.
const LEAST_PAUSE: Duration = Duration::from_millis(200);
/// The number of waiters in one request, with two conditions each.
const AT_ONCE: usize = MOST_OPS / 2;

/// Wakes waiters whose key, or the key for which they wait, is gone.
pub(super) async fn look_after(session: Arc<Session>) {
    let mut after = 0;
    while let Some((_, count)) = session.waiters_after(after, 0) {
        if count == 0 {
            session.await_waiter(session.term().ttl).await;
            continue;
        }
        sleep(pause(count)).await;
        let Some((some, _)) = session.waiters_after(after, AT_ONCE) else { return };
        // After the last one, the first is next.
        after = some.last().map_or(0, |last| last.number);
        check(&session, &some).await;
    }
}

/// Returns the time between two requests for that many waiters.
fn pause(count: usize) -> Duration {
    let requests = u32::try_from(count.div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
    (LOOK_AGAIN / requests.max(1)).max(LEAST_PAUSE)
}

async fn check(session: &Session, waiters: &[Waiter]) {
    let Some(first) = waiters.first() else { return };
    let read = RangeRequest { key: first.conditions[0].key.clone(), keys_only: true, ..RangeRequest::default() };
    let compare = waiters.iter().flat_map(|waiter| waiter.conditions.clone()).collect();
    let request = TxnRequest { compare, success: vec![read.into()], failure: Vec::new() };
    let answer = session.client.call(&TXN, &request, call_limit(session.term().ttl)).await;
    if answer.of(Path::new("")).is_ok_and(|answer| answer.is_some_and(|answer| !answer.succeeded)) {
        waiters.iter().for_each(|waiter| waiter.wakes.notify_one());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_looked_after_soon_and_many_with_few_requests() {
        assert_eq!(pause(1), LOOK_AGAIN);
        assert_eq!(pause(AT_ONCE), LOOK_AGAIN);
        assert_eq!(pause(AT_ONCE + 1), LOOK_AGAIN / 2);
        assert_eq!(pause(1_000_000), LEAST_PAUSE);
    }
}
