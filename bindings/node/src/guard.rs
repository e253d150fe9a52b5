//! A held lock.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Waker};

use napi::bindgen_prelude::{Either, Function, Null, Result};
use napi_derive::napi;
use tenure::{Guard, Previous};

use crate::convert::{fence_of, path_text};
use crate::failure::Failure;
use crate::holder::Holder;
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

/// Converts the outcome of an acquire.
pub(crate) fn guard_of(outcome: tenure::Result<Guard>) -> Either<NativeGuard, Failure> {
    match outcome {
        Ok(guard) => Either::A(NativeGuard { state: State::Held(guard), loss: None }),
        Err(error) => Either::B(error.into()),
    }
}

impl NativeGuard {
    fn held(&self) -> Result<&Guard> {
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

    /// Whether this is a shared lock.
    #[napi(getter)]
    pub fn shared(&self) -> bool {
        match &self.state {
            State::Held(guard) => guard.is_shared(),
            State::Released(facts) => facts.shared,
        }
    }

    /// The path that the lock protects.
    #[napi(getter)]
    pub fn target(&self) -> String {
        path_text(match &self.state {
            State::Held(guard) => guard.target(),
            State::Released(facts) => &facts.target,
        })
    }

    /// The path of the lock file: `<target>.lock`.
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

    /// Releases the lock. A second call does nothing.
    #[napi]
    pub fn release(&mut self) -> Option<Failure> {
        self.loss = None;
        let State::Held(guard) = &self.state else { return None };
        let facts = State::Released(Box::new(Facts::of(guard)));
        let State::Held(guard) = std::mem::replace(&mut self.state, facts) else { return None };
        guard.release().err().map(Failure::from)
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
