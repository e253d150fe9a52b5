//! A held lock.

use std::future::Future;
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
    guard: Option<Guard>,
    loss: Option<Loss>,
}

/// A future that resolves when the lock is lost, and the waker that it is polled with.
struct Loss {
    revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
    waker: Waker,
}

/// Converts the outcome of an acquire.
pub(crate) fn guard_of(outcome: tenure::Result<Guard>) -> Either<NativeGuard, Failure> {
    match outcome {
        Ok(guard) => Either::A(NativeGuard { guard: Some(guard), loss: None }),
        Err(error) => Either::B(error.into()),
    }
}

impl NativeGuard {
    fn held(&self) -> Result<&Guard> {
        self.guard.as_ref().ok_or_else(|| napi::Error::from_reason("the lock was released"))
    }
}

#[napi]
impl NativeGuard {
    /// The fencing token, greater than that of every earlier holder. Null for a shared lock and for one without a record.
    #[napi(getter)]
    pub fn fence(&self) -> Result<Either<i64, Null>> {
        Ok(fence_of(self.held()?.fence()))
    }

    /// Whether this is a shared lock.
    #[napi(getter)]
    pub fn shared(&self) -> Result<bool> {
        Ok(self.held()?.is_shared())
    }

    /// The path that the lock protects.
    #[napi(getter)]
    pub fn target(&self) -> Result<String> {
        Ok(path_text(self.held()?.target()))
    }

    /// The path of the lock file: `<target>.lock`.
    #[napi(getter)]
    pub fn lock_file(&self) -> Result<String> {
        Ok(path_text(self.held()?.lock_file()))
    }

    /// Returns the previous holder if it died or was revoked while it held the lock.
    #[napi]
    pub fn crashed(&self) -> Result<Option<Holder>> {
        Ok(match self.held()?.previous() {
            Previous::Clean => None,
            Previous::Crashed(holder) => Some(Holder::from(&**holder)),
        })
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
        self.guard.take()?.release().err().map(Failure::from)
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
