//! Publishes the records of a session's tenures.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::super::batches::Urgency;
use super::super::keys;
use super::super::messages::{Compare, RequestOp, TxnRequest};
use super::{GONE, Session, deleted, forgotten};
use crate::model::error::Result;
use crate::record::Record;
use crate::server::lease::BootTime;
use crate::server::tenure::ServerTenure;
use crate::util::trace::event;

/// The time until a record that could not be published is published again.
const PUBLISH_AGAIN: Duration = Duration::from_secs(1);

impl Session {
    pub(super) async fn publish(self: Arc<Self>, number: u64, tenure: &Arc<ServerTenure>) {
        loop {
            let (key, created, name) = {
                let mut state = self.state();
                let Some(key) = state.keys.get_mut(&number) else { return };
                if !tenure.is_unpublished() || !tenure.is_held() {
                    key.is_publishing = false;
                    return;
                }
                (key.key.clone(), key.created, key.name.clone())
            };
            let Some(record) = tenure.take_unpublished() else { continue };
            let limit = tenure.lease().call_limit(BootTime::now());
            match self.write(&key, created, &name, &record, tenure.target(), limit).await {
                Ok(()) => {}
                Err(error) if error.is_lost() => {
                    self.lose_key(number, error.detail());
                    return;
                }
                Err(_) => {
                    event!(WARN, target = ?tenure.target(), "the record was not published: the server did not answer");
                    tenure.mark_unpublished();
                    sleep(PUBLISH_AGAIN).await;
                }
            }
        }
    }

    /// Writes a record to a key, and to where it outlives its lease.
    pub(in crate::server::etcd) async fn write(
        &self,
        key: &[u8],
        created: i64,
        name: &str,
        record: &Record,
        target: &Path,
        limit: Duration,
    ) -> Result<()> {
        let (value, text) = (record.to_json(), String::from_utf8_lossy(key));
        let request = TxnRequest {
            compare: vec![Compare::created(key, created)],
            success: vec![RequestOp::put(&text, &value, self.lease), RequestOp::put(&keys::record(name), &value, 0)],
            failure: Vec::new(),
        };
        let by = Some(Instant::now() + limit);
        match self.batches.txn(Urgency::First, name, request, limit, by).await.of(target)? {
            Some(answer) if answer.succeeded => Ok(()),
            Some(_) => Err(deleted(target)),
            None => {
                self.lose(GONE);
                Err(forgotten(target))
            }
        }
    }
}
