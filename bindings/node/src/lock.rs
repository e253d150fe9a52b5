//! A lock that is opened once and acquired many times.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::Duration;

use napi::Status;
use napi::bindgen_prelude::{Either, Either3, Function, Result, Uint8Array};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use tenure::{Requester, Event, Lock, Options, Overrun, Style, Wait};

use crate::guard::NativeGuard;
use crate::report::{Failure, duration, milliseconds, number, path_text};
use crate::wait::NativeWait;

/// The library's options. Times are in milliseconds.
#[napi(object, object_to_js = false)]
pub struct NativeOptions {
    /// What this holder calls itself.
    pub label: Option<String>,
    /// `flock` locks the target itself, in place of showing a lock file.
    #[napi(ts_type = "'lock-file' | 'flock'")]
    pub style: Option<String>,
    /// May this process acquire again what it holds?
    pub reentrant: Option<bool>,
    /// How long a tenure is meant to last.
    pub max_hold: Option<f64>,
    /// End it then, or only tell?
    pub revoke: Option<bool>,
    /// How often the lock file's date is made new.
    pub refresh_interval: Option<f64>,
    /// How old a lock file without a valid pid must be.
    pub malformed_grace: Option<f64>,
    /// Make missing parents?
    pub create_parents: Option<bool>,
}

/// A tenure that has lasted longer than it was meant to.
#[napi(object, object_from_js = false)]
pub struct Overdue {
    /// The path that the lock protects.
    pub target: String,
    /// The tenure's fence.
    pub fence: i64,
    /// How long it has been held.
    pub held_for: f64,
    /// What was meant.
    pub max_hold: f64,
    /// Was it ended?
    pub revoked: bool,
}

type Told = ThreadsafeFunction<Overdue, (), Overdue, Status, false, true>;

/// Tells one thread of Node which tenures are overdue. Each costs libuv a handle for as long as it is there, so a thread has
/// one for all its locks.
#[napi]
pub struct NativeTeller(Arc<Told>);

#[napi]
impl NativeTeller {
    /// `overdue` is called in the event loop. It does not keep the process alive.
    #[napi(constructor)]
    pub fn new(overdue: Function<'_, Overdue, ()>) -> Result<NativeTeller> {
        let told = overdue.build_threadsafe_function().callee_handled::<false>().weak::<true>().build()?;
        Ok(NativeTeller(Arc::new(told)))
    }
}

/// One target's lock.
#[napi]
pub struct NativeLock(Lock);

/// A path as Node has it.
pub(crate) type Target = Either<String, Uint8Array>;

pub(crate) fn os_string(target: Target) -> OsString {
    match target {
        Either::A(text) => OsString::from(text),
        Either::B(bytes) => OsString::from_vec(bytes.to_vec()),
    }
}

#[napi]
impl NativeLock {
    /// Opens it. Nothing is locked yet. `teller` is told when a tenure outlasts `maxHold`.
    #[napi]
    pub fn open(
        #[napi(ts_arg_type = "string | Uint8Array")] target: Target,
        options: NativeOptions,
        teller: Option<&NativeTeller>,
    ) -> Result<Either<NativeLock, Failure>> {
        let mut opening = options.library()?;
        if let Some(NativeTeller(told)) = teller {
            let told = Arc::clone(told);
            opening = opening.on_event(move |event| {
                if let Event::Overrun { target, fence, held_for, max_hold, revoked, .. } = event {
                    let overdue = Overdue {
                        target: path_text(target),
                        fence: number(*fence),
                        held_for: milliseconds(*held_for),
                        max_hold: milliseconds(*max_hold),
                        revoked: *revoked,
                    };
                    let _ = told.call(overdue, ThreadsafeFunctionCallMode::NonBlocking);
                }
            });
        }
        Ok(match opening.open(os_string(target)) {
            Ok(lock) => Either::A(NativeLock(lock)),
            Err(error) => Either::B(error.into()),
        })
    }

    /// One try, which does not wait.
    #[napi]
    pub fn try_acquire(&self) -> Either<NativeGuard, Failure> {
        match self.0.acquire_with(Wait::Never) {
            Ok(guard) => Either::A(NativeGuard::new(guard)),
            Err(error) => Either::B(error.into()),
        }
    }

    /// Acquires: at once where it is free, and otherwise by a wait.
    #[napi]
    pub fn begin(&self) -> Either3<NativeGuard, NativeWait, Failure> {
        NativeWait::begun(self.0.begin(Requester::Task))
    }
}

impl NativeOptions {
    fn library(&self) -> Result<Options> {
        // Node's tasks share a thread, and exclude each other.
        let mut options = Options::default().deadlock_check(false);
        if let Some(label) = &self.label {
            options = options.label(label);
        }
        options = match self.style.as_deref() {
            None | Some("lock-file") => options,
            Some("flock") => options.style(Style::Flock),
            Some(other) => return Err(invalid(format!("style is 'lock-file' or 'flock', not {other:?}"))),
        };
        if let Some(max_hold) = self.max_hold {
            options = options.max_hold(duration(max_hold).unwrap_or(Duration::MAX));
        }
        if self.revoke == Some(true) {
            options = options.overrun(Overrun::Revoke);
        }
        if let Some(interval) = self.refresh_interval {
            options = options.refresh_interval(duration(interval).unwrap_or(Duration::MAX));
        }
        if let Some(grace) = self.malformed_grace {
            options = options.malformed_grace(duration(grace).unwrap_or(Duration::MAX));
        }
        if let Some(create) = self.create_parents {
            options = options.create_parents(create);
        }
        Ok(options.reentrant(self.reentrant == Some(true)))
    }
}

fn invalid(why: String) -> napi::Error {
    napi::Error::new(Status::InvalidArg, why)
}
