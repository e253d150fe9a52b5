//! The word that the shared locks of one name in one session leave in the row of the name, so that the next exclusive holder
//! waits out their lease where the server drops the session.

use super::connect::Answer;
use crate::record::Record;

/// A word, which is written by the first of the locks, and removed by the last.
#[derive(Default)]
pub(super) struct Word(tokio::sync::Mutex<Option<Counted>>);

/// A word in the row.
pub(super) struct Written {
    /// Its key, which no other word ever has.
    pub(super) key: String,
    /// The exclusive holder before, if that was never released.
    pub(super) last: Option<Record>,
}

struct Counted {
    written: Written,
    locks: usize,
}

impl Word {
    /// Counts one more lock. The first one writes the word, by `write`, while the others wait for its answer. Returns the
    /// exclusive holder before, if that was never released; `None` where the word could not be written.
    pub(super) async fn join(
        &self,
        write: impl Future<Output = Answer<Option<Written>>>,
    ) -> Answer<Option<Option<Record>>> {
        let mut counted = self.0.lock().await;
        if counted.is_none() {
            let Some(written) = write.await? else { return Ok(None) };
            *counted = Some(Counted { written, locks: 0 });
        }
        Ok(counted.as_mut().map(|counted| {
            counted.locks += 1;
            counted.written.last.clone()
        }))
    }

    /// Counts one less. Returns the key of the word after the last one: it is to be removed.
    pub(super) async fn leave(&self) -> Option<String> {
        let mut counted = self.0.lock().await;
        let locks = &mut counted.as_mut()?.locks;
        *locks -= 1;
        if *locks > 0 {
            return None;
        }
        counted.take().map(|counted| counted.written.key)
    }

    /// Returns whether it is in the row under this key.
    pub(super) async fn is(&self, key: &str) -> bool {
        self.0.lock().await.as_ref().is_some_and(|counted| counted.written.key == key)
    }
}
