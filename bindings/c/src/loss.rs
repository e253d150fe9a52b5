//! The descriptor that reports a lost lock.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tenure::Guard;

use crate::bell::Bell;
use crate::error::Failure;

/// The watch for the loss of a guard's tenure.
pub(crate) struct Loss {
    bell: Bell,
    /// `None` while the lock is suspended.
    revoked: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Loss {
    pub(crate) fn of(guard: &Guard) -> Result<Loss, Failure> {
        let bell = Bell::new().map_err(|error| Failure::System("a descriptor cannot be created", error))?;
        let mut loss = Loss { bell, revoked: None };
        loss.watch(guard);
        Ok(loss)
    }

    /// Watches this guard's tenure from now on.
    pub(crate) fn watch(&mut self, guard: &Guard) {
        let mut revoked: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(guard.revoked());
        if revoked.as_mut().poll(&mut Context::from_waker(self.bell.waker())).is_ready() {
            self.bell.waker().wake_by_ref();
        }
        self.revoked = Some(revoked);
    }

    /// Returns the number of the descriptor.
    pub(crate) fn descriptor(&self) -> i32 {
        self.bell.descriptor()
    }

    /// Watches nothing: the lock is suspended.
    pub(crate) fn pause(&mut self) {
        self.revoked = None;
    }
}
