//! Wakers that call a JavaScript function, from any thread.

use std::sync::Arc;
use std::task::{Wake, Waker};

use napi::Status;
use napi::bindgen_prelude::{Function, Result};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};

type Callback<const WEAK: bool> = ThreadsafeFunction<(), (), (), Status, false, WEAK>;

struct CallWaker<const WEAK: bool>(Callback<WEAK>);

impl<const WEAK: bool> Wake for CallWaker<WEAK> {
    fn wake(self: Arc<Self>) {
        // The call fails once Node's thread has ended, when nothing waits any more.
        let _ = self.0.call((), ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// Returns a waker that calls `wake` in Node's event loop. With `WEAK` it does not keep the process alive.
pub(crate) fn waker<const WEAK: bool>(wake: &Function<'_, (), ()>) -> Result<Waker> {
    let call = wake.build_threadsafe_function().callee_handled::<false>().weak::<WEAK>().build()?;
    Ok(Waker::from(Arc::new(CallWaker::<WEAK>(call))))
}
