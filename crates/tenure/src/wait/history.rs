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

    /// Notes the exit code of the work under the lock.
    pub(crate) fn note_exit_code(&self, code: i32) {
        self.notes.change(|noted| noted.exit_code = Some(code));
    }

    /// Enters the tenure, which is about to end, into the history. A failure is reported, and delays nothing.
    #[cold]
    pub(crate) fn enter_history(&self, revoked: bool) {
        let ended = match revoked {
            true => Ending::Revoked,
            false if self.check().is_err_and(|error| error.is_lost()) => Ending::Lost,
            false => Ending::Released,
        };
        let options = &self.request.options;
        let noted = self.notes.change(|noted| *noted);
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
        let past =
            PastTenure { waited: Some(noted.waited), exit_code: noted.exit_code, shared: self.request.shared, ..known };
        match history::append(self.paths(), options, past) {
            Ok(too_large) => self.notes.change(|noted| noted.too_large = too_large),
            Err(error) => options.report_history_failure(&self.paths().target_path, &error),
        }
    }

    /// Rewrites the history without its old lines, if [`enter_history`](FileTenure::enter_history) found it too large. The
    /// lock is free by now.
    #[cold]
    pub(crate) fn shorten_history(&self) {
        if self.generation == sys::fork_generation() && self.notes.change(|noted| std::mem::take(&mut noted.too_large))
        {
            history::rewrite_and_report(self.paths(), &self.request.options);
        }
    }
}
