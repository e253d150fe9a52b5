//! The guard: a tenure in the hands of its holder.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::task::Poll;

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::{Holder, Previous};
use crate::process;
use crate::record::Record;
use crate::server::{LeaseLeft, ServerTenure};
use crate::sys;
use crate::wait::tenure::Tenure;
use crate::wait::watchdog;

/// A held lock. It is released when this is dropped; [`release`](Guard::release) does so and shows the error.
///
/// It owns what it needs, may be sent to another thread and may be stored. Leaked ([`std::mem::forget`]), it is held
/// until the process ends. In a forked child it holds nothing and releases nothing.
#[must_use = "the lock is released as soon as the guard is dropped"]
#[derive(Debug)]
pub struct Guard {
    held: Held,
    released: bool,
}

#[derive(Debug)]
enum Held {
    /// By the kernel, for a file.
    File(Arc<Tenure>),
    /// By a server.
    Server(Arc<ServerTenure>),
}

impl Guard {
    pub(crate) fn new(tenure: Arc<Tenure>) -> Guard {
        Guard { held: Held::File(tenure), released: false }
    }

    pub(crate) fn of_server(hold: Arc<ServerTenure>) -> Guard {
        Guard { held: Held::Server(hold), released: false }
    }

    /// The fencing token of this tenure: greater than that of every tenure before. Hand it to the resource, which
    /// refuses whatever comes with a smaller one than it has seen. `None` for a shared lock and for one without a
    /// record: such a tenure has no token.
    pub fn fence(&self) -> Option<u64> {
        let fence = match &self.held {
            Held::File(tenure) => tenure.fence,
            Held::Server(hold) => hold.fence,
        };
        (fence != 0).then_some(fence)
    }

    /// Is this still ours? One or two system calls, also where a server keeps it: then the clock and what the server said
    /// last are asked, not the server.
    ///
    /// # Errors
    ///
    /// [`is_lost`](Error::is_lost): it was broken or revoked, its anchor or its lock file was removed, in flock style the
    /// target was removed or replaced (as `sed -i` and editors do), or this is a forked child. The system's own where
    /// that cannot be told.
    pub fn check(&self) -> Result<()> {
        match &self.held {
            Held::File(tenure) => tenure.check(),
            Held::Server(hold) => hold.check(),
        }
    }

    /// Are other natives still kept out, whatever became of the lock file? `false` once the lock was broken or
    /// revoked, or its anchor removed; a lock file that somebody deleted alone leaves it `true`.
    pub fn excludes_natives(&self) -> bool {
        let checked = match &self.held {
            Held::File(tenure) => tenure.check_anchor(),
            Held::Server(hold) => hold.check(),
        };
        !checked.is_err_and(|error| error.is_lost())
    }

    /// How the tenure before this one ended. Everyone who shares hears of a crash, until somebody has held exclusively
    /// and could repair what it left.
    pub fn previous(&self) -> &Previous {
        match &self.held {
            Held::File(tenure) => &tenure.grant.previous,
            Held::Server(hold) => &hold.previous,
        }
    }

    /// This holder, as others see it.
    pub fn holder(&self) -> Holder {
        match &self.held {
            Held::File(tenure) => tenure.holder(),
            Held::Server(hold) => hold.holder(),
        }
    }

    /// The path that the lock protects, or the name on a server.
    pub fn target(&self) -> &Path {
        match &self.held {
            Held::File(tenure) => &tenure.paths().target_path,
            Held::Server(hold) => hold.target(),
        }
    }

    /// `<target>.lock`: visible in lock-file style only. On a server: what it calls the lock.
    pub fn lock_file(&self) -> &Path {
        match &self.held {
            Held::File(tenure) => &tenure.paths().lock_path,
            Held::Server(hold) => hold.lock_name(),
        }
    }

    /// Is it a share ([`Lock::acquire_shared`](crate::Lock::acquire_shared))?
    pub fn is_shared(&self) -> bool {
        match &self.held {
            Held::File(tenure) => tenure.request.shared,
            Held::Server(_) => false,
        }
    }

    /// The record as others can read it, as JSON; `{}` where none is kept.
    pub fn record_json(&self) -> String {
        match &self.held {
            Held::File(tenure) => tenure.record_json(),
            Held::Server(hold) => hold.record_json(),
        }
    }

    /// Changes the label that others see; on a server a moment later.
    ///
    /// # Errors
    ///
    /// The system's own; [`is_lost`](Error::is_lost) after a revoke and in a forked child.
    pub fn set_label(&self, label: &str) -> Result<()> {
        self.change(|record| {
            if let Some(native) = &mut record.native {
                native.label = Some(label.into());
            }
        })
    }

    /// Makes the date new that foreign programs judge by. The watchdog does so by itself, unless
    /// [`refresh_interval`](crate::Options::refresh_interval) says otherwise: call it then at least every 10 minutes,
    /// and three times within `max_hold`.
    ///
    /// # Errors
    ///
    /// The system's own; [`is_lost`](Error::is_lost) after a revoke and in a forked child.
    pub fn refresh(&self) -> Result<()> {
        match &self.held {
            Held::File(tenure) if tenure.has_date() => tenure.refresh(),
            // A server's lock is not judged by its date.
            _ => Ok(()),
        }
    }

    /// Records the command that this holder runs under the lock, and whose end it waits for: natives see both processes,
    /// and an acquire by that command, or by what it starts, fails at once instead of waiting for itself
    /// ([`is_would_deadlock`](Error::is_would_deadlock)). The recorded holder stays this process, because it is the one
    /// that removes the lock file: programs that know only the lock file take over when that process has ended.
    ///
    /// # Errors
    ///
    /// The system's own; [`is_lost`](Error::is_lost) after a revoke and in a forked child.
    pub fn set_command(&self, pid: u32, line: Option<&str>) -> Result<()> {
        // Without one the pid proves nothing.
        let start_time = process::start_time(pid);
        self.change(|record| {
            if let Some(native) = &mut record.native {
                native.command_pid = Some(pid.into());
                native.command_start_time = start_time;
                if let Some(line) = line {
                    native.command = Some(line.into());
                }
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        match &self.held {
            Held::File(tenure) => tenure.change(change),
            Held::Server(hold) => hold.change(change),
        }
    }

    /// What is left of the lease, where a server keeps the lock; `None` for a file, which needs no lease.
    pub fn lease(&self) -> Option<LeaseLeft> {
        match &self.held {
            Held::File(_) => None,
            Held::Server(hold) => Some(hold.left()),
        }
    }

    /// Makes `command` inherit the kernel lock: it stays held while the child (or what inherits from it) lives, even
    /// if this process is killed. [`release`](Guard::release) here still frees it at once.
    ///
    /// Drop `command` once the child runs: as long as it lives, a child that is forked without exec inherits the kernel
    /// lock as well.
    ///
    /// # Errors
    ///
    /// The system's own, where the descriptor cannot be duplicated; [`is_lost`](Error::is_lost) in a forked child;
    /// [`is_unsupported`](Error::is_unsupported) where a server keeps the lock, for whom no child stands in.
    pub fn keep_for(&self, command: &mut Command) -> Result<()> {
        for file in self.kept_files()? {
            sys::inherit(command, file);
        }
        Ok(())
    }

    /// As [`keep_for`](Guard::keep_for), for every child that *any* thread of this process starts while the returned
    /// value lives: drop it as soon as the one that is meant runs. It saves a process that starts one child the fork,
    /// for which `keep_for` is the reason.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn keep_for_children(&self) -> Result<KeptForChildren> {
        let files = self.kept_files()?;
        for file in &files {
            sys::inherit_always(file).map_err(|error| self.cannot_hand_on(error))?;
        }
        Ok(KeptForChildren { _files: files })
    }

    fn cannot_hand_on(&self, error: std::io::Error) -> Error {
        Error::io(self.target(), "the lock cannot be handed to the command", error)
    }

    /// Duplicates of everything that carries a kernel lock of this tenure.
    fn kept_files(&self) -> Result<Vec<sys::Inherited>> {
        let tenure = match &self.held {
            Held::File(tenure) => tenure,
            Held::Server(hold) => {
                let detail = "a child cannot inherit a lock that a server keeps";
                return Err(Error::new(ErrorKind::Unsupported, hold.target(), detail)
                    .with_hint("end the child when this process ends, or when the lock is lost"));
            }
        };
        tenure.check_anchor()?;
        let grant = &tenure.grant;
        let anchor = grant.anchor.as_deref().map(|anchor| &anchor.file);
        let target = grant.target.as_deref().map(|target| &target.file);
        let copy = match &grant.lock_file {
            crate::file::lock_file::LockFile::Copy { file, .. } => Some(&**file),
            _ => None,
        };
        let files = [anchor, target, copy].into_iter().flatten();
        files.map(|file| file.duplicate().map_err(|error| self.cannot_hand_on(error))).collect()
    }

    /// Ends once the watchdog has revoked the tenure ([`Overrun::Revoke`](crate::Overrun::Revoke)) or, within about a
    /// second, found it lost. Runs on any executor.
    pub fn revoked(&self) -> impl Future<Output = ()> + Send + 'static {
        let held = match &self.held {
            Held::File(tenure) => Held::File(Arc::clone(tenure)),
            Held::Server(hold) => Held::Server(Arc::clone(hold)),
        };
        let mut enlisted = false;
        poll_fn(move |context| {
            let gone = match &held {
                Held::File(tenure) => {
                    let gone = tenure.poll_gone(context.waker());
                    if !gone && !enlisted {
                        enlisted = true;
                        watchdog::listen(tenure);
                    }
                    gone
                }
                Held::Server(hold) => hold.poll_gone(context.waker()),
            };
            if gone { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// Releases, and says whether that went well. The kernel lock is free in any case.
    ///
    /// # Errors
    ///
    /// The system's own, where the lock file could not be removed; [`is_lost`](Error::is_lost) where the lock was no
    /// longer ours; [`is_unreachable`](Error::is_unreachable) where the server does not answer: then it lets go by itself
    /// when the lease is over.
    pub fn release(mut self) -> Result<()> {
        self.released = true;
        self.release_held()
    }

    /// Nobody was told of this tenure: what it would have been told is for the next.
    pub(crate) fn discard_undelivered(&self) {
        match &self.held {
            Held::File(tenure) => tenure.discard_undelivered(),
            Held::Server(hold) => hold.discard_undelivered(),
        }
    }

    fn release_held(&self) -> Result<()> {
        match &self.held {
            Held::File(tenure) => tenure.queue.release(tenure),
            Held::Server(hold) => hold.leave(),
        }
    }
}

/// While this lives, the children that this process starts inherit the kernel lock: [`Guard::keep_for_children`].
#[must_use = "children inherit the lock only while this lives"]
#[derive(Debug)]
pub struct KeptForChildren {
    _files: Vec<sys::Inherited>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.released
            && let Err(_error) = self.release_held()
        {
            crate::util::trace::event!(WARN, error = %_error, "a guard was dropped and its release failed");
        }
    }
}
