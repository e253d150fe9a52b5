//! The options of a lock.

use napi::bindgen_prelude::Result;
use napi_derive::napi;
use tenure::{IfBusy, Options, Overrun, StalePolicy, Style};

use crate::convert::duration;

/// The library's options. Times are in milliseconds. `LockOptions` of `lib/lock.ts` documents them.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct NativeOptions {
    /// A name for this holder.
    pub label: Option<String>,
    /// `flock` locks the target itself instead of creating a lock file.
    #[napi(ts_type = "'lock-file' | 'flock'")]
    pub style: Option<String>,
    /// Whether to acquire shared locks.
    pub shared: Option<bool>,
    /// Whether this process may acquire again while it holds the lock.
    pub reentrant: Option<bool>,
    /// Whether an acquire fails that would wait for its own end.
    pub deadlock_check: Option<bool>,
    /// The maximum hold time.
    pub max_hold: Option<f64>,
    /// Whether to release the lock after that, and not only report it.
    pub revoke: Option<bool>,
    /// The hold time after which the lock is stolen from a live holder.
    pub steal_after: Option<f64>,
    /// The interval at which the lock file's date is updated.
    pub refresh_interval: Option<f64>,
    /// Whether to create missing parent folders.
    pub create_parents: Option<bool>,
    /// Whether to keep a record of the holder.
    pub record: Option<bool>,
    /// How many may hold at once, each with a slot.
    pub slots: Option<u32>,
    /// The action when the lock is busy.
    #[napi(ts_type = "'wait' | 'skip' | 'queue-one' | 'replace'")]
    pub if_busy: Option<String>,
    /// The time that a holder has to end before it is killed.
    pub grace: Option<f64>,
    /// The time for which a success makes further ones needless.
    pub not_more_often_than: Option<f64>,
    /// The number of past tenures that are kept.
    pub history: Option<u32>,
}

impl NativeOptions {
    /// Returns the name of an option that is given and that a server has no use for. The library refuses the others.
    pub(crate) fn for_files_only(&self) -> Option<&'static str> {
        let given = [
            ("refreshInterval", self.refresh_interval.is_some()),
            ("createParents", self.create_parents == Some(false)),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    pub(crate) fn library(&self) -> Result<Options> {
        let mut options = Options::default().reentrant(self.reentrant == Some(true));
        if let Some(check) = self.deadlock_check {
            options = options.deadlock_check(check);
        }
        if let Some(label) = &self.label {
            options = options.label(label);
        }
        options = match self.style.as_deref() {
            None | Some("lock-file") => options,
            Some("flock") => options.style(Style::Flock),
            Some(other) => {
                let why = format!("style must be 'lock-file' or 'flock', not {other:?}");
                return Err(napi::Error::new(napi::Status::InvalidArg, why));
            }
        };
        if let Some(max_hold) = self.max_hold {
            options = options.max_hold(duration(max_hold));
        }
        if self.revoke == Some(true) {
            options = options.overrun(Overrun::Revoke);
        }
        if let Some(age) = self.steal_after {
            options = options.stale_policy(StalePolicy::StealAfter(duration(age)));
        }
        if let Some(interval) = self.refresh_interval {
            options = options.refresh_interval(duration(interval));
        }
        if let Some(create) = self.create_parents {
            options = options.create_parents(create);
        }
        if let Some(record) = self.record {
            options = options.record(record);
        }
        if let Some(slots) = self.slots {
            options = options.slots(slots);
        }
        options = options.if_busy(match self.if_busy.as_deref() {
            None | Some("wait") => IfBusy::Wait,
            Some("skip") => IfBusy::Skip,
            Some("queue-one") => IfBusy::QueueOne,
            Some("replace") => IfBusy::Replace,
            Some(other) => {
                let why = format!("ifBusy must be 'wait', 'skip', 'queue-one' or 'replace', not {other:?}");
                return Err(napi::Error::new(napi::Status::InvalidArg, why));
            }
        });
        if let Some(grace) = self.grace {
            options = options.grace(duration(grace));
        }
        if let Some(interval) = self.not_more_often_than {
            options = options.not_more_often_than(duration(interval));
        }
        if let Some(tenures) = self.history {
            options = options.history(usize::try_from(tenures).unwrap_or(usize::MAX));
        }
        Ok(options)
    }
}
