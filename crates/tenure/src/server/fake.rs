//! A server that has no locks, for tests of what this process does by itself.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::lease::BootTime;
use super::lock_server::{Granted, LockServer};
use super::tenure::ServerTenure;
use super::url::Url;
use crate::model::error::Result;
use crate::model::options::Options;
use crate::model::slots::FoundSlots;
use crate::model::status::{Scheme, Status};
use crate::record::Record;

#[derive(Debug)]
struct Fake(Url);

impl LockServer for Fake {
    fn lock_name(&self) -> &Path {
        Path::new("a")
    }

    fn url(&self) -> &Url {
        &self.0
    }

    fn cluster(&self, _limit: Duration) -> Result<String> {
        Ok(String::new())
    }

    fn status_within(&self, _limit: Duration) -> Result<Status> {
        Ok(Status::free(&self.0.target, self.lock_name()))
    }

    fn list(&self) -> Result<Vec<Status>> {
        Ok(Vec::new())
    }

    fn slots(&self, _least: Range<u32>, _limit: Duration) -> Result<FoundSlots> {
        Ok(FoundSlots::default())
    }

    fn force_release(&self, _found: &Status) -> Result<bool> {
        Ok(false)
    }
}

/// Returns a tenure that begins now, and that no session keeps.
pub(super) fn tenure(target: &str, options: Options, ttl: Duration) -> Arc<ServerTenure> {
    let url = Url::parse(Path::new(target), Scheme::Etcd).expect("a target of the test");
    let granted = Granted { record: Record::default(), last: None, confirmed: BootTime::now(), shared: false };
    Arc::new(ServerTenure::new(Arc::new(Fake(url)), options, granted, ttl, Arc::new(|| {}), None))
}
