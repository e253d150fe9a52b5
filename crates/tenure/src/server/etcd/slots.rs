//! Examines the slots of a name.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::Etcd;
use super::client::TXN;
use super::keys::RECORDS;
use super::messages::{ASCEND, BY_CREATION, RangeRequest, TxnRequest};
use super::status::{Found, key_of, status_of};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::slots::{FoundSlot, FoundSlots, Part, number};
use crate::server::slots::{complete, name_of, number_of, prefix_of};

/// Reads the keys of all slots and their records in one transaction, which is the majority's answer at one revision.
///
/// A slot whose key is gone is nobody's: the lease was over at the server, and its holder gave up before.
pub(super) async fn slots(etcd: &Etcd, least: Range<u32>, limit: Duration) -> Result<FoundSlots> {
    let (url, prefix) = (&etcd.url, prefix_of(&etcd.url));
    let queue = RangeRequest { sort_order: ASCEND, sort_target: BY_CREATION, ..RangeRequest::below(&prefix) };
    let kept = RangeRequest::below(&format!("{RECORDS}{prefix}"));
    let waiter = format!("{}/", name_of(url, Part::Next));
    let waiter = RangeRequest { keys_only: true, limit: 1, ..RangeRequest::below(&waiter) };
    let request = TxnRequest { success: vec![queue.into(), kept.into(), waiter.into()], ..TxnRequest::default() };
    let answer = etcd.client().call(&TXN, &request, limit).await.of(&url.target)?;
    let none = || Error::new(ErrorKind::Unreachable, &url.target, "etcd did not answer what slots there are");
    let answer = answer.ok_or_else(none)?;
    let mut slots: BTreeMap<u32, Found> = BTreeMap::new();
    for pair in answer.pairs(0) {
        let key = key_of(pair);
        let rest = key.strip_prefix(&prefix).and_then(|rest| rest.split_once('/'));
        if let Some(number) = rest.and_then(|(digits, _)| number(digits.as_bytes())) {
            slots.entry(number).or_default().queue.push(pair.clone());
        }
    }
    for pair in answer.pairs(1) {
        let key = key_of(pair);
        if let Some(number) = key.strip_prefix(RECORDS).and_then(|name| number_of(url, name)) {
            slots.entry(number).or_default().kept = Some(pair.clone());
        }
    }
    let lock_name = |name: &str| PathBuf::from(format!("{name}/"));
    let found = slots.iter().map(|(number, found)| {
        let name = format!("{prefix}{number}");
        let status = status_of(&url.sibling(&name), &name, found);
        FoundSlot { number: *number, status, is_relied_on: false }
    });
    let found = FoundSlots { slots: found.collect(), is_awaited: !answer.pairs(2).is_empty() };
    Ok(complete(url, least, found, lock_name))
}
