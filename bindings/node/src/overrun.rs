//! Reports of locks that are held for longer than `maxHold`.

use std::sync::Arc;

use napi::bindgen_prelude::{Either, Function, Null, Result};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use tenure::{Event, Options};

use crate::convert::{fence_of, milliseconds, path_text};

/// A lock that has been held for longer than its `maxHold`.
#[napi(object, object_from_js = false)]
pub struct Overrun {
    /// The path that the lock protects.
    pub target: String,
    /// The holder's fencing token, or null where the lock has none.
    #[napi(ts_type = "number | null")]
    pub fence: Either<i64, Null>,
    /// The time for which the lock has been held, in milliseconds.
    pub held_for: f64,
    /// The maximum hold time, in milliseconds.
    pub max_hold: f64,
    /// Whether the lock was released, by `overrun: "revoke"`.
    pub revoked: bool,
}

type Callback = ThreadsafeFunction<Overrun, (), Overrun, napi::Status, false, true>;

/// Passes overruns to a function. Each listener costs libuv a handle while it exists, so each thread of Node has one
/// for all its locks.
#[napi]
pub struct NativeOverrunListener(Arc<Callback>);

#[napi]
impl NativeOverrunListener {
    /// Calls `report` in the event loop. Does not keep the process alive.
    #[napi(constructor)]
    pub fn new(report: Function<'_, Overrun, ()>) -> Result<NativeOverrunListener> {
        let callback = report.build_threadsafe_function().callee_handled::<false>().weak::<true>().build()?;
        Ok(NativeOverrunListener(Arc::new(callback)))
    }

    /// Adds the listener to a lock's options.
    pub(crate) fn listen(&self, options: Options) -> Options {
        let callback = Arc::clone(&self.0);
        options.on_event(move |event| {
            if let Event::Overrun { target, fence, held_for, max_hold, revoked, .. } = event {
                let overrun = Overrun {
                    target: path_text(target),
                    fence: fence_of(*fence),
                    held_for: milliseconds(*held_for),
                    max_hold: milliseconds(*max_hold),
                    revoked: *revoked,
                };
                let _ = callback.call(overrun, ThreadsafeFunctionCallMode::NonBlocking);
            }
        })
    }
}
