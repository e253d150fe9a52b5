//! A waker that calls a function of JavaScript, from whatever thread.

use std::sync::Arc;
use std::task::{Wake, Waker};

use napi::Status;
use napi::bindgen_prelude::{Function, Result};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};

type Callback<const WEAK: bool> = ThreadsafeFunction<(), (), (), Status, false, WEAK>;

struct Calls<const WEAK: bool>(Callback<WEAK>);

impl<const WEAK: bool> Wake for Calls<WEAK> {
    fn wake(self: Arc<Self>) {
        // Where Node has gone already, nobody waits.
        let _ = self.0.call((), ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// Calls `wake` in Node's event loop. With `WEAK` it does not keep the process alive.
pub(crate) fn waker<const WEAK: bool>(wake: &Function<'_, (), ()>) -> Result<Waker> {
    let call = wake.build_threadsafe_function().callee_handled::<false>().weak::<WEAK>().build()?;
    Ok(Waker::from(Arc::new(Calls::<WEAK>(call))))
}
