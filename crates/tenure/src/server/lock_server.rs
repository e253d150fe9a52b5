//! The trait that a kind of server implements, and what an acquire at any of them has.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lease::{ANSWER, BootTime, call_limit};
use super::url::Url;
use crate::model::error::Result;
use crate::model::slots::FoundSlots;
use crate::model::status::Status;
use crate::record::Record;

/// A server that holds the lock of one name. No call blocks for longer than a few seconds.
pub(crate) trait LockServer: Send + Sync + std::fmt::Debug {
    /// Returns the server's name for the lock, for people.
    fn lock_name(&self) -> &Path;

    /// Returns the target: which server, and which name there.
    fn url(&self) -> &Url;

    /// Returns the lock's status.
    fn status(&self) -> Result<Status> {
        self.status_within(call_limit(self.url().ttl))
    }

    /// Returns what the cluster says of itself, by `answer_by`, but it has a moment to answer however soon that is.
    fn cluster_by(&self, answer_by: Option<Instant>) -> Result<String> {
        let limit = call_limit(self.url().ttl);
        let left = answer_by.map(|by| by.saturating_duration_since(Instant::now()).max(ANSWER));
        self.cluster(left.map_or(limit, |left| left.min(limit)))
    }

    /// Returns what the cluster says of itself, within `limit`.
    fn cluster(&self, limit: Duration) -> Result<String>;

    /// Returns the lock's status. No call takes longer than `limit`.
    fn status_within(&self, limit: Duration) -> Result<Status>;

    /// Returns every lock whose name is below this one's.
    fn list(&self) -> Result<Vec<Status>>;

    /// Examines the slots of this name, by one request within `limit`: each that the server knows, and each of `least`.
    fn slots(&self, least: Range<u32>, limit: Duration) -> Result<FoundSlots>;

    /// Takes the lock from the holder in `found`. Returns `false` if that tenure is over. A later tenure is not broken.
    fn force_release(&self, found: &Status) -> Result<bool>;
}

pub(crate) type Interrupter = Arc<dyn Fn() + Send + Sync>;

/// How long an acquire waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitLimit {
    /// Not at all: the lock now or nothing.
    Never,
    /// Until then, or without an end.
    Until(Option<Instant>),
}

/// The grant of a lock.
#[derive(Debug)]
pub(crate) struct Granted {
    /// This holder's record as other programs see it, with its fence.
    pub(crate) record: Record,
    /// The record of the tenure before, if that was never released.
    pub(crate) last: Option<Record>,
    /// When the last confirmed request was sent.
    pub(crate) confirmed: BootTime,
    /// Other holders may share the lock. Such a tenure has no fence, and its record is not published.
    pub(crate) shared: bool,
}

/// Until when the calls of a wait must be answered, and whether the last one had little time.
#[derive(Debug, Default)]
pub(crate) struct AnswerBy {
    by: Option<Instant>,
    cut_short: AtomicBool,
}

impl AnswerBy {
    pub(crate) fn new(by: Option<Instant>) -> AnswerBy {
        AnswerBy { by, cut_short: AtomicBool::new(false) }
    }

    pub(crate) fn by(&self) -> Option<Instant> {
        self.by
    }

    /// Returns `limit`, or the time that is left where that is less.
    pub(crate) fn within(&self, limit: Duration) -> Duration {
        let left = self.by.map(|by| by.saturating_duration_since(Instant::now()));
        self.cut_short.store(left.is_some_and(|left| left < ANSWER && left < limit), Ordering::Relaxed);
        left.map_or(limit, |left| limit.min(left))
    }

    pub(crate) fn was_cut_short(&self) -> bool {
        self.cut_short.load(Ordering::Relaxed)
    }
}
