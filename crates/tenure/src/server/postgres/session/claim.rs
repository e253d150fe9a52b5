//! A claim that no tenure has yet.

use std::sync::Arc;
use std::time::Duration;

use super::super::connect::Answer;
use super::super::word::Written;
use super::Claim;
use crate::record::Record;
use crate::server::tenure::ServerTenure;

impl Claim {
    /// Returns the advisory lock's place among the claims of its session.
    pub(in crate::server::postgres) fn key(&self) -> Option<u64> {
        self.number
    }

    /// Unlocks it, and waits for the server's answer. It is unlocked also where the caller does not wait for that.
    pub(in crate::server::postgres) async fn leave(mut self) {
        let Some(claim) = self.number.take().and_then(|number| self.session.take_claim(number)) else { return };
        let session = Arc::clone(&self.session);
        let leaving = tokio::spawn(async move {
            let _ = session.unshare(&claim, session.call_limit()).await;
            let _ = session.unlock(claim).await;
        });
        let _ = leaving.await;
    }

    /// Shares the word of the name in this session, which the first of its shared locks writes by `write`. The others wait
    /// for it within `limit`. Returns the exclusive holder before, if that was never released; `None` where the word could
    /// not be written.
    pub(in crate::server::postgres) async fn share<W>(
        &self,
        name: &str,
        limit: Duration,
        write: impl FnOnce() -> W,
    ) -> Answer<Option<Option<Record>>>
    where
        W: Future<Output = Answer<Option<Written>>>,
    {
        let word = self.session.state().claims.word_of(name).ok_or_else(|| self.session.loss())?;
        let joined = word.join(limit, write).await?;
        let mut state = self.session.state();
        if joined.is_some()
            && let Some(claim) = self.number.and_then(|key| state.claims.get_mut(key))
        {
            claim.word = Some(word);
        }
        Ok(joined)
    }

    /// Makes the claim that of a tenure; `false` if the session is lost.
    pub(in crate::server::postgres) fn hold(&mut self, fence: i64, tenure: &Arc<ServerTenure>) -> bool {
        let mut state = self.session.state();
        let Some(key) = self.number.filter(|_| state.lost.is_none()) else { return false };
        let confirmed = state.term.confirmed;
        let Some(claim) = state.claims.get_mut(key) else { return false };
        (claim.fence, claim.tenure) = (fence, Some(Arc::clone(tenure)));
        // A renewal may have ended since the tenure was created.
        tenure.confirm(confirmed);
        drop(state);
        self.number = None;
        true
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(claim) = self.number.take().and_then(|number| self.session.take_claim(number)) else { return };
        if claim.word.is_none() {
            return self.session.unlock_later(&claim, None);
        }
        let session = Arc::clone(&self.session);
        tokio::spawn(async move {
            let _ = session.unshare(&claim, session.call_limit()).await;
            session.unlock_later(&claim, None);
        });
    }
}
