//! A held lock.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Waker};

use napi::bindgen_prelude::{Either, Either3, Function, Null, Result};
use napi_derive::napi;
use tenure::{Guard, Previous};

use crate::convert::{fence_of, milliseconds, path_text};
use crate::failure::Failure;
use crate::holder::Holder;
use crate::release::{NativeRelease, release_at_end};
use crate::wake::waker;

/// A held lock. It is released by `release`, or with this object, at the latest when its thread of Node ends.
#[napi]
pub struct NativeGuard {
    state: State,
    loss: Option<Loss>,
}

/// The lock, and what can still be asked after its release.
enum State {
    Held(Guard),
    Released(Box<Facts>),
}

/// The properties of a grant. They do not change while it lasts.
struct Facts {
    fence: Option<u64>,
    shared: bool,
    target: PathBuf,
    lock_file: PathBuf,
    previous: Previous,
}

impl Facts {
    fn of(guard: &Guard) -> Facts {
        Facts {
            fence: guard.fence(),
            shared: guard.is_shared(),
            target: guard.target().to_owned(),
            lock_file: guard.lock_file().to_owned(),
            previous: guard.previous().clone(),
        }
    }
}

/// A future that resolves when the lock is lost, and the waker that it is polled with.
struct Loss {
    revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
    waker: Waker,
}

impl Drop for NativeGuard {
    fn drop(&mut self) {
        let State::Held(guard) = &self.state else { return };
        // Only the release of a lock with a lease waits for a server.
        if guard.lease().is_none() {
            return;
        }
        if let Some(guard) = self.take() {
            release_at_end(guard);
        }
    }
}

/// The rest of a lease on a server, if it is not renewed.
#[napi(object, object_from_js = false)]
pub struct LeaseLeft {
    /// The milliseconds until `check` fails. 0 once it does.
    pub lost_in: f64,
    /// The milliseconds until the server may grant the lock to another holder. Work under the lock must have stopped by then.
    pub free_in: f64,
}

/// Converts the outcome of an acquire.
pub(crate) fn guard_of(outcome: tenure::Result<Guard>) -> Either<NativeGuard, Failure> {
    match outcome {
        Ok(guard) => Either::A(NativeGuard { state: State::Held(guard), loss: None }),
        Err(error) => Either::B(error.into()),
    }
}

impl NativeGuard {
    /// Takes the guard to release or to suspend it; `None` after that.
    pub(crate) fn take(&mut self) -> Option<Guard> {
        self.loss = None;
        let State::Held(guard) = &self.state else { return None };
        let facts = State::Released(Box::new(Facts::of(guard)));
        match std::mem::replace(&mut self.state, facts) {
            State::Held(guard) => Some(guard),
            State::Released(_) => None,
        }
    }

    /// Puts a guard in the place of one that was taken.
    pub(crate) fn put(&mut self, guard: Guard) {
        self.state = State::Held(guard);
    }

    pub(crate) fn held(&self) -> Result<&Guard> {
        match &self.state {
            State::Held(guard) => Ok(guard),
            State::Released(_) => Err(napi::Error::from_reason("the lock was released")),
        }
    }
}

#[napi]
impl NativeGuard {
    /// The fencing token, greater than that of every earlier holder. Null for a shared lock and for one without a record.
    #[napi(getter)]
    pub fn fence(&self) -> Either<i64, Null> {
        fence_of(match &self.state {
            State::Held(guard) => guard.fence(),
            State::Released(facts) => facts.fence,
        })
    }

    /// Whether `release` and `NativeSuspended.of` have not taken the lock from this object.
    #[napi]
    pub fn is_held(&self) -> bool {
        matches!(self.state, State::Held(_))
    }

    /// Whether this is a shared lock.
    #[napi(getter)]
    pub fn shared(&self) -> bool {
        match &self.state {
            State::Held(guard) => guard.is_shared(),
            State::Released(facts) => facts.shared,
        }
    }

    /// The path that the lock protects, or the target on a server.
    #[napi(getter)]
    pub fn target(&self) -> String {
        path_text(match &self.state {
            State::Held(guard) => guard.target(),
            State::Released(facts) => &facts.target,
        })
    }

    /// The path of the lock file: `<target>.lock`. On a server, the lock's name there.
    #[napi(getter)]
    pub fn lock_file(&self) -> String {
        path_text(match &self.state {
            State::Held(guard) => guard.lock_file(),
            State::Released(facts) => &facts.lock_file,
        })
    }

    /// Returns the previous holder if it died or was revoked while it held the lock.
    #[napi]
    pub fn crashed(&self) -> Option<Holder> {
        let previous = match &self.state {
            State::Held(guard) => guard.previous(),
            State::Released(facts) => &facts.previous,
        };
        match previous {
            Previous::Clean => None,
            Previous::Crashed(holder) => Some(Holder::from(&**holder)),
        }
    }

    /// Returns this holder, as other processes see it.
    #[napi]
    pub fn holder(&self) -> Result<Holder> {
        Ok(Holder::from(&self.held()?.holder()))
    }

    /// Returns a failure if the lock is lost.
    #[napi]
    pub fn check(&self) -> Result<Option<Failure>> {
        Ok(self.held()?.check().err().map(Failure::from))
    }

    /// Changes the label that other processes see.
    #[napi]
    pub fn set_label(&self, label: String) -> Result<Option<Failure>> {
        Ok(self.held()?.set_label(&label).err().map(Failure::from))
    }

    /// Sets the exit code of the work under the lock, for the history.
    #[napi]
    pub fn set_exit_code(&self, code: i32) -> Result<()> {
        self.held()?.set_exit_code(code);
        Ok(())
    }

    /// The number of the slot that is held, from 0.
    #[napi(getter)]
    pub fn slot(&self) -> Result<Option<u32>> {
        Ok(self.held()?.slot())
    }

    /// Records that the work succeeded.
    #[napi]
    pub fn mark_successful(&self) -> Result<Option<Failure>> {
        Ok(self.held()?.mark_successful().err().map(Failure::from))
    }

    /// The rest of the lease of a lock on a server, or `null` for a lock in files.
    #[napi(getter, ts_return_type = "LeaseLeft | null")]
    pub fn lease(&self) -> Result<Either<LeaseLeft, Null>> {
        Ok(match self.held()?.lease() {
            Some(left) => {
                Either::A(LeaseLeft { lost_in: milliseconds(left.lost_in), free_in: milliseconds(left.free_in) })
            }
            None => Either::B(Null),
        })
    }

    /// Releases the lock. A second call does nothing. Blocks until a server has answered.
    #[napi]
    pub fn release(&mut self) -> Option<Failure> {
        self.take()?.release().err().map(Failure::from)
    }

    /// Releases the lock without blocking. Returns what is left to wait for, the failure, or `null`.
    #[napi]
    pub fn start_release(&mut self) -> Either3<NativeRelease, Failure, Null> {
        match self.take() {
            Some(guard) => NativeRelease::start(guard),
            None => Either3::C(Null),
        }
    }

    /// Calls `wake` whenever `isLost` may have changed. Does not keep the process alive.
    #[napi]
    pub fn watch(&mut self, wake: Function<'_, (), ()>) -> Result<()> {
        let revoked = Box::pin(self.held()?.revoked());
        self.loss = Some(Loss { revoked, waker: waker::<true>(&wake)? });
        Ok(())
    }

    /// Returns true if the lock was lost since `watch`.
    #[napi]
    pub fn is_lost(&mut self) -> bool {
        let Some(loss) = &mut self.loss else { return false };
        loss.revoked.as_mut().poll(&mut Context::from_waker(&loss.waker)).is_ready()
    }
}
