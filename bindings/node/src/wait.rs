//! A wait for a lock, polled by Node's own thread.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use napi::bindgen_prelude::Either3;
use napi_derive::napi;
use tenure::Guard;

use crate::clock::clock;
use crate::guard::NativeGuard;
use crate::report::Failure;

type Acquire = Pin<Box<dyn Future<Output = tenure::Result<Guard>> + Send>>;

/// A place in a lock's queue. While it waits, the process stays alive; whoever lets it go never holds.
#[napi]
pub struct NativeWait(Option<Waiting>);

struct Waiting {
    acquire: Acquire,
    waker: Waker,
}

impl NativeWait {
    pub(crate) fn new(acquire: Acquire, waker: Waker) -> NativeWait {
        NativeWait(Some(Waiting { acquire, waker }))
    }
}

#[napi]
impl NativeWait {
    /// What came of it; `null` as long as nothing has, or once it is over.
    #[napi]
    pub fn poll(&mut self) -> napi::Result<Either3<NativeGuard, Failure, napi::bindgen_prelude::Null>> {
        let Some(waiting) = &mut self.0 else { return Ok(Either3::C(napi::bindgen_prelude::Null)) };
        // The future looks for its deadline's clock where it is polled.
        let _entered = clock()?.enter();
        match waiting.acquire.as_mut().poll(&mut Context::from_waker(&waiting.waker)) {
            Poll::Pending => Ok(Either3::C(napi::bindgen_prelude::Null)),
            Poll::Ready(outcome) => {
                self.0 = None;
                Ok(match outcome {
                    Ok(guard) => Either3::A(NativeGuard::new(guard)),
                    Err(error) => Either3::B(error.into()),
                })
            }
        }
    }

    /// Leaves the queue.
    #[napi]
    pub fn cancel(&mut self) {
        self.0 = None;
    }
}
