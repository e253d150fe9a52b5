//! What a holder enters into the history of its lock.

use crate::file::history;
use crate::model::history::{Ending, PastTenure};
use crate::model::holder::Holder;
use crate::process::Liveness;
use crate::sys::{self, Moment};
use crate::wait::tenure::FileTenure;

impl FileTenure {
    /// Notes that the tenure's acquire has waited since then.
    #[cold]
    pub(crate) fn note_wait(&self, since: Moment) {
        let waited = sys::moment().since(since);
        self.notes.change(|noted| noted.waited = waited);
    }

    /// Notes that no caller received the grant.
    #[cold]
    pub(crate) fn note_undelivered(&self) {
        self.notes.change(|noted| noted.undelivered = true);
    }

    /// Notes the exit code of the work under the lock.
    pub(crate) fn note_exit_code(&self, code: i32) {
        self.notes.change(|noted| noted.exit_code = Some(code));
    }

    /// Enters the tenure, which is about to end, into the history. A failure is reported once the lock is free.
    #[cold]
    pub(crate) fn enter_history(&self, revoked: bool) {
        let (waited, exit_code, undelivered) =
            self.notes.change(|noted| (noted.waited, noted.exit_code, noted.undelivered));
        if undelivered {
            return;
        }
        let ended = match revoked {
            true => Ending::Revoked,
            false if self.check().is_err_and(|error| error.is_lost()) => Ending::Lost,
            false => Ending::Released,
        };
        let options = &self.request.options;
        let known = match self.record() {
            Some(record) => history::of_holder(
                ended,
                &Holder::from_record(Some(&record), Liveness::alive("it has the kernel lock")),
            ),
            None => {
                let until = sys::now();
                history::own(ended, until.checked_sub(self.age()).unwrap_or(until), until, options)
            }
        };
        let past = PastTenure { waited: Some(waited), exit_code, shared: self.request.shared, ..known };
        match history::append(self.paths(), options, past) {
            Ok(too_large) => self.notes.change(|noted| noted.too_large = too_large),
            Err(error) => self.notes.change(|noted| noted.failure = Some(error)),
        }
    }

    /// Reports a failure of [`enter_history`](FileTenure::enter_history), or rewrites the history without its old lines if that
    /// found it too large. The lock is free by now, so the program's callback may take its time.
    #[cold]
    pub(crate) fn shorten_history(&self) {
        if self.generation != sys::fork_generation() {
            return;
        }
        let (failure, too_large) =
            self.notes.change(|noted| (noted.failure.take(), std::mem::take(&mut noted.too_large)));
        if let Some(error) = failure {
            self.request.options.report_history_failure(&self.paths().target_path, &error);
        }
        if too_large {
            history::rewrite_and_report(self.paths(), &self.request.options);
        }
    }
}
