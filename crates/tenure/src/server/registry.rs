//! The locks that this process holds or waits for on servers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::pending::PendingAcquire;
use super::tenure::ServerTenure;
use crate::model::error::{Error, ErrorKind};
use crate::model::slots::SlotAcquire;
use crate::model::tenure::Tenure;
use crate::sys::ForkLocal;
use crate::util::thread_pool;

type Waiting = Vec<Weak<PendingAcquire>>;

fn waiting() -> MutexGuard<'static, Waiting> {
    static WAITING: ForkLocal<Mutex<Waiting>> = ForkLocal::new();
    WAITING.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn add_waiting(pending: &Arc<PendingAcquire>) {
    let mut waiting = waiting();
    if waiting.len().is_power_of_two() {
        waiting.retain(|pending| pending.strong_count() > 0);
    }
    waiting.push(Arc::downgrade(pending));
}

/// The acquires of slots. Each waits for one lock after the other, and for some requests.
type WaitingForSlots = Vec<Weak<dyn SlotAcquire>>;

fn waiting_for_slots() -> MutexGuard<'static, WaitingForSlots> {
    static WAITING: ForkLocal<Mutex<WaitingForSlots>> = ForkLocal::new();
    WAITING.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn add_waiting_for_slots(acquire: Weak<dyn SlotAcquire>) {
    let mut waiting = waiting_for_slots();
    if waiting.len().is_power_of_two() {
        waiting.retain(|acquire| acquire.strong_count() > 0);
    }
    waiting.push(acquire);
}

/// The tenures of each target: several where they are shared.
type Held = HashMap<PathBuf, Vec<Weak<ServerTenure>>>;

fn held() -> MutexGuard<'static, Held> {
    static HELD: ForkLocal<Mutex<Held>> = ForkLocal::new();
    HELD.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn add_held(tenure: &Arc<ServerTenure>) {
    let mut held = held();
    if held.len().is_power_of_two() && !held.contains_key(tenure.target()) {
        held.retain(|_, tenures| {
            tenures.retain(|tenure| tenure.strong_count() > 0);
            !tenures.is_empty()
        });
    }
    let tenures = held.entry(tenure.target().to_owned()).or_default();
    if tenures.len().is_power_of_two() {
        tenures.retain(|tenure| tenure.strong_count() > 0);
    }
    tenures.push(Arc::downgrade(tenure));
}

/// Returns this process's tenures of `target` that are held: several where they are shared.
pub(super) fn held_here(target: &Path) -> Vec<Arc<ServerTenure>> {
    let held = held();
    let tenures = held.get(target).into_iter().flatten();
    tenures.filter_map(Weak::upgrade).filter(|tenure| tenure.is_held()).collect()
}

/// Returns the tenures of this process that are held, also those whose lease has run out unnoticed.
#[cfg(any(feature = "etcd", feature = "postgres"))]
pub(super) fn all_held() -> Vec<Arc<ServerTenure>> {
    held().values().flatten().filter_map(Weak::upgrade).filter(|tenure| tenure.is_held()).collect()
}

/// Gives up every acquire of this process that waits for a server, so that the program can end: it returns the places in
/// the servers' queues, and waits for `limit` at most until the servers have answered. A process that ends without this
/// leaves its places to their leases, and the waiters behind it wait for those.
///
/// The acquires fail, as [busy](crate::Error::is_busy). What a guard holds stays held. A lease on etcd that holds nothing is
/// given back as well.
///
/// ```
/// // At the end of a program whose threads may still wait:
/// tenure::server::give_up_waits(std::time::Duration::from_secs(1));
/// ```
pub fn give_up_waits(limit: Duration) {
    let end = Instant::now() + limit;
    // First, so that none of them goes on to wait for another lock.
    let slots: Vec<_> = waiting_for_slots().iter().filter_map(Weak::upgrade).collect();
    slots.iter().for_each(|acquire| acquire.give_up());
    let all = std::mem::take(&mut *waiting());
    let (sender, released) = channel();
    let mut returning = Vec::new();
    for pending in all.iter().filter_map(Weak::upgrade) {
        let detail = "the wait was given up: the program is about to end";
        if let Some(tenure) = pending.withdraw(Error::new(ErrorKind::Busy, pending.target(), detail)) {
            // Granted, and not taken yet. The release waits for the server.
            tenure.discard_unless_joined();
            let sender = sender.clone();
            let releases = Arc::clone(&tenure);
            let started = thread_pool::run(move || {
                let _ = releases.drop_guard();
                drop(sender);
            });
            if started.is_err() {
                // Without a thread, the session releases it as soon as it can.
                tenure.abandon();
            }
        }
        returning.push(pending);
    }
    drop(sender);
    returning.iter().for_each(|pending| pending.await_place_returned(end));
    slots.iter().for_each(|acquire| acquire.await_returned(end));
    let _: Result<(), _> = released.recv_timeout(end.saturating_duration_since(Instant::now()));
    #[cfg(feature = "etcd")]
    super::etcd::give_idle_leases_back(end.saturating_duration_since(Instant::now()));
}
