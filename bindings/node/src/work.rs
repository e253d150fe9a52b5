//! Work on a thread of libuv's pool.

use napi::bindgen_prelude::{AsyncTask, Either, Result, ToNapiValue, TypeName};
use napi::{Env, Task};

use crate::failure::Failure;

/// A promise of an answer, or of a failure.
pub(crate) type Promised<T> = AsyncTask<Work<Either<T, Failure>>>;

/// A call whose result becomes a promise.
pub struct Work<T>(Option<Box<dyn FnOnce() -> T + Send>>);

impl<T: Send + ToNapiValue + TypeName + 'static> Work<T> {
    /// Returns the task that makes the call.
    pub(crate) fn task(call: impl FnOnce() -> T + Send + 'static) -> AsyncTask<Work<T>> {
        AsyncTask::new(Work(Some(Box::new(call))))
    }
}

impl<T: Send + ToNapiValue + TypeName + 'static> Task for Work<T> {
    type Output = T;
    type JsValue = T;

    fn compute(&mut self) -> Result<T> {
        match self.0.take() {
            Some(call) => Ok(call()),
            None => Err(napi::Error::from_reason("the call was made before")),
        }
    }

    fn resolve(&mut self, _env: Env, output: T) -> Result<T> {
        Ok(output)
    }
}
