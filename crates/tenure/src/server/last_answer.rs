//! When a server answered last. By that an acquire that ends at its deadline tells a lock that is held from a server that is
//! silent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The moment of a server's last answer, whatever was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct LastAnswer(Arc<Mutex<Option<Instant>>>);

impl LastAnswer {
    /// Records that the server has answered.
    pub(super) fn record(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns when it answered; `None` if it never did.
    pub(super) fn when(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether it has answered since then.
    pub(super) fn is_since(&self, then: Instant) -> bool {
        self.when().is_some_and(|when| when >= then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_to_all_that_share_it() {
        let (answers, before) = (LastAnswer::default(), Instant::now());
        assert!(!answers.is_since(before) && answers.when().is_none());
        answers.clone().record();
        assert!(answers.is_since(before) && answers.when() <= Some(Instant::now()));
    }
}
