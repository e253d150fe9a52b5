//! A held lock.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use napi::bindgen_prelude::{Function, Result};
use napi_derive::napi;
use tenure::{Guard, Previous};

use crate::report::{Failure, Holder, number, path_text};
use crate::wake::waker;

/// A tenure. It ends with `release`, or when this object goes: at the latest with its thread of Node.
#[napi]
pub struct NativeGuard {
    guard: Option<Guard>,
    loss: Option<Loss>,
}

struct Loss {
    revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
    waker: Waker,
}

impl NativeGuard {
    pub(crate) fn new(guard: Guard) -> NativeGuard {
        NativeGuard { guard: Some(guard), loss: None }
    }

    fn held(&self) -> Result<&Guard> {
        self.guard.as_ref().ok_or_else(|| napi::Error::from_reason("the lock was released"))
    }
}

#[napi]
impl NativeGuard {
    /// This tenure's number: greater than that of every tenure before.
    #[napi(getter)]
    pub fn fence(&self) -> Result<i64> {
        Ok(number(self.held()?.fence()))
    }

    /// The path that the lock protects.
    #[napi(getter)]
    pub fn target(&self) -> Result<String> {
        Ok(path_text(self.held()?.target()))
    }

    /// `<target>.lock`.
    #[napi(getter)]
    pub fn lock_file(&self) -> Result<String> {
        Ok(path_text(self.held()?.lock_file()))
    }

    /// Who held before and died while it held.
    #[napi]
    pub fn crashed(&self) -> Result<Option<Holder>> {
        Ok(match self.held()?.previous() {
            Previous::Clean => None,
            Previous::Crashed(holder) => Some(Holder::from(&**holder)),
        })
    }

    /// This holder, as others see it.
    #[napi]
    pub fn holder(&self) -> Result<Holder> {
        Ok(Holder::from(&self.held()?.holder()))
    }

    /// Is it still ours? What says that it is not, otherwise.
    #[napi]
    pub fn check(&self) -> Result<Option<Failure>> {
        Ok(self.held()?.check().err().map(Failure::from))
    }

    /// Changes the label that others see.
    #[napi]
    pub fn set_label(&self, label: String) -> Result<Option<Failure>> {
        Ok(self.held()?.set_label(&label).err().map(Failure::from))
    }

    /// Ends the tenure. Again, it does nothing.
    #[napi]
    pub fn release(&mut self) -> Option<Failure> {
        self.loss = None;
        self.guard.take()?.release().err().map(Failure::from)
    }

    /// From now on calls `wake` when `isLost` has something new to say. It does not keep the process alive.
    #[napi]
    pub fn watch(&mut self, wake: Function<'_, (), ()>) -> Result<()> {
        let revoked = Box::pin(self.held()?.revoked());
        self.loss = Some(Loss { revoked, waker: waker::<true>(&wake)? });
        Ok(())
    }

    /// Was it revoked, or found to be lost, since `watch`?
    #[napi]
    pub fn is_lost(&mut self) -> bool {
        let Some(loss) = &mut self.loss else { return false };
        loss.revoked.as_mut().poll(&mut Context::from_waker(&loss.waker)).is_ready()
    }
}
