//! The word that the shared locks of one name in one session leave in the row of the name, so that the next exclusive holder
//! waits out their lease where the server drops the session.

use std::time::Duration;

use super::connect::{Answer, Failure};
use crate::record::Record;
use crate::server::io_thread::within;

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
    /// Counts one more lock. The first one writes the word, by `write`, while the others wait for its answer, for at most
    /// `limit`. Returns the exclusive holder before, if that was never released; `None` where the word could not be written.
    pub(super) async fn join<W>(&self, limit: Duration, write: impl FnOnce() -> W) -> Answer<Option<Option<Record>>>
    where
        W: Future<Output = Answer<Option<Written>>>,
    {
        let mut counted = within(limit, self.0.lock()).await.ok_or_else(Failure::blocked)?;
        if counted.is_none() {
            // Not within the limit: where its answer is lost, the word is removed later.
            let Some(written) = write().await? else { return Ok(None) };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::server::io_thread::wait;

    #[test]
    fn a_word_that_another_lock_writes_is_waited_for_in_time() {
        let (word, (answer, answered)) = (Arc::new(Word::default()), oneshot::channel());
        let (begin, begun) = oneshot::channel();
        let first = Arc::clone(&word);
        let joined = wait(async move {
            let first = tokio::spawn(async move {
                let write = || async {
                    begin.send(()).unwrap();
                    answered.await.unwrap();
                    Ok(Some(Written { key: "a".to_owned(), last: None }))
                };
                first.join(Duration::MAX, write).await
            });
            begun.await.unwrap();
            let second = word.join(Duration::ZERO, || async { panic!("the word is written twice") }).await;
            assert!(second.is_err_and(|failure| failure.is_blocked()));
            answer.send(()).unwrap();
            assert!(first.await.unwrap().unwrap().is_some());
            word.join(Duration::ZERO, || async { panic!("the word is written twice") }).await
        });
        assert!(joined.unwrap().unwrap().is_some());
    }
}
