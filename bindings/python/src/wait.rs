//! Waiting: for the library and for Python's signals at once, or as a descriptor for an event loop.
//!
//! The library wakes a waiter from a thread of its own, which writes a byte into a pipe, the *bell*, and never takes
//! the GIL. On the main thread, where Python runs signal handlers, the bell is also Python's wakeup descriptor
//! (`signal.set_wakeup_fd`) while a wait lasts: a signal that comes between the look for signals and the sleep rings it
//! as well, so none is slept through. Whose descriptor that was before gets it back, with the bytes that it missed.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use tenure::{Acquiring, Asker, Guard, Lock};

use crate::error::OrRaise;
use crate::held::Held;

/// How long an acquire waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Timeout {
    /// As the lock was opened.
    OfLock,
    For(Duration),
    Forever,
}

impl Timeout {
    pub(crate) fn or(self, of_lock: Timeout) -> Timeout {
        if self == Timeout::OfLock { of_lock } else { self }
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            // What is beyond the clock's reach is as good as for ever.
            Timeout::For(duration) => Instant::now().checked_add(duration),
            Timeout::Forever | Timeout::OfLock => None,
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Timeout {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Timeout> {
        if value.is_none() {
            return Ok(Timeout::Forever);
        }
        if value.is(pyo3::types::PyEllipsis::get(value.py())) {
            return Ok(Timeout::OfLock);
        }
        Ok(match crate::lock::seconds("timeout", value.extract()?)? {
            Duration::MAX => Timeout::Forever,
            duration => Timeout::For(duration),
        })
    }
}

/// A pipe that wakes whoever waits for it.
struct Bell {
    read: OwnedFd,
    write: OwnedFd,
}

impl Bell {
    fn new() -> PyResult<Arc<Bell>> {
        let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let (read, write) = pipe.map_err(std::io::Error::from)?;
        Ok(Arc::new(Bell { read, write }))
    }

    /// Empties it. The numbers of signals that rang go to `signals`.
    fn hush(&self, signals: &mut Vec<u8>) {
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = rustix::io::read(&self.read, &mut bytes) {
            signals.extend(bytes[..count].iter().filter(|byte| **byte != 0));
        }
    }

    /// Sleeps until it rings, a signal comes, or it is `until`.
    fn wait(&self, until: Option<Instant>) -> rustix::io::Result<()> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // What is too long for the kernel is looked at anew.
        let left = left.map(|left| Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
        let mut fds = [PollFd::from_borrowed_fd(self.read.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Full means that it rings already.
        let _ = rustix::io::write(&self.write, &[0]);
    }
}

/// The bell as Python's wakeup descriptor.
struct Ears {
    before: RawFd,
}

impl Ears {
    /// `None` on every thread but the main one: no signal handler runs there.
    fn open(py: Python<'_>, bell: &Bell) -> PyResult<Option<Ears>> {
        match set_wakeup_fd(py, bell.write.as_raw_fd(), false) {
            Ok(before) => Ok(Some(Ears { before })),
            Err(error) if error.is_instance_of::<PyValueError>(py) => Ok(None),
            // What a signal's handler raised meanwhile, say.
            Err(error) => Err(error),
        }
    }

    /// Gives the descriptor back, and what it missed.
    fn close(self, py: Python<'_>, bell: &Bell, mut missed: Vec<u8>) -> PyResult<()> {
        set_wakeup_fd(py, self.before, true)?;
        bell.hush(&mut missed);
        if self.before >= 0 && !missed.is_empty() {
            // Full, or closed by now: Python does not mind either.
            let _ = py.import("os")?.call_method1("write", (self.before, missed));
        }
        Ok(())
    }
}

fn set_wakeup_fd(py: Python<'_>, fd: RawFd, warn: bool) -> PyResult<RawFd> {
    let set = py.import("signal")?.getattr("set_wakeup_fd")?;
    let words = PyDict::new(py);
    words.set_item("warn_on_full_buffer", warn)?;
    set.call((fd,), Some(&words))?.extract()
}

enum Begun {
    Granted(Guard),
    Waits(Acquiring),
}

/// Begins, and asks for the first time.
fn begin(py: Python<'_>, lock: &Lock, shared: bool, asker: Asker, waker: &Waker) -> PyResult<Begun> {
    let begun = py.detach(|| {
        let mut acquiring = if shared { lock.begin_shared(asker) } else { lock.begin(asker) }?;
        match Pin::new(&mut acquiring).poll(&mut Context::from_waker(waker)) {
            Poll::Ready(outcome) => outcome.map(Begun::Granted),
            Poll::Pending => Ok(Begun::Waits(acquiring)),
        }
    });
    begun.or_raise(py)
}

/// Acquires, and runs Python's signal handlers meanwhile. What a handler raises ends the wait: nothing is held then.
pub(crate) fn acquire(py: Python<'_>, lock: &Lock, shared: bool, timeout: Timeout) -> PyResult<Guard> {
    if timeout == Timeout::For(Duration::ZERO) {
        let never = tenure::Wait::Never;
        return py.detach(|| if shared { lock.acquire_shared(never) } else { lock.acquire(never) }).or_raise(py);
    }
    let deadline = timeout.deadline();
    let mut acquiring = match begin(py, lock, shared, Asker::Thread, Waker::noop())? {
        Begun::Granted(guard) => return Ok(guard),
        Begun::Waits(acquiring) => acquiring,
    };
    let bell = Bell::new()?;
    let ears = Ears::open(py, &bell)?;
    let mut signals = Vec::new();
    let waited = wait(py, &mut acquiring, &bell, deadline, &mut signals);
    let heard = ears.map_or(Ok(()), |ears| ears.close(py, &bell, signals));
    let outcome = py.detach(|| match waited {
        Ok(Waited::Settled(outcome)) => Ok(outcome),
        Ok(Waited::TimeIsOver) => Ok(acquiring.give_up()),
        Err(raised) => {
            drop(acquiring);
            Err(raised)
        }
    })?;
    let guard = outcome.or_raise(py)?;
    match heard {
        Ok(()) => Ok(guard),
        Err(error) => {
            py.detach(|| drop(guard));
            Err(error)
        }
    }
}

enum Waited {
    Settled(tenure::Result<Guard>),
    TimeIsOver,
}

fn wait(
    py: Python<'_>,
    acquiring: &mut Acquiring,
    bell: &Arc<Bell>,
    deadline: Option<Instant>,
    signals: &mut Vec<u8>,
) -> PyResult<Waited> {
    let waker = Waker::from(Arc::clone(bell));
    loop {
        // What came while a handler ran.
        py.check_signals()?;
        let waited = py.detach(|| {
            if let Poll::Ready(outcome) = Pin::new(&mut *acquiring).poll(&mut Context::from_waker(&waker)) {
                return Ok(Some(Waited::Settled(outcome)));
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(Some(Waited::TimeIsOver));
            }
            bell.wait(deadline)?;
            bell.hush(signals);
            // Granted: a signal that came too is Python's to handle, after the return.
            match Pin::new(&mut *acquiring).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(outcome) => Ok(Some(Waited::Settled(outcome))),
                Poll::Pending => Ok(None),
            }
        });
        if let Some(waited) = waited.map_err(|error: Errno| std::io::Error::from(error))? {
            return Ok(waited);
        }
    }
}

/// A place in the queue, for an event loop: its descriptor becomes readable when poll() has something to say.
#[pyclass(frozen, module = "tenure")]
pub(crate) struct Waiting(Mutex<Option<Waits>>);

struct Waits {
    acquiring: Acquiring,
    bell: Arc<Bell>,
}

/// What an asynchronous acquire begins with.
#[derive(IntoPyObject)]
pub(crate) enum Start {
    Held(Held),
    Waiting(Waiting),
}

pub(crate) fn start(py: Python<'_>, lock: &Lock, shared: bool) -> PyResult<Start> {
    let bell = Bell::new()?;
    let waker = Waker::from(Arc::clone(&bell));
    Ok(match begin(py, lock, shared, Asker::Task, &waker)? {
        Begun::Granted(guard) => Start::Held(Held::new(guard)),
        Begun::Waits(acquiring) => Start::Waiting(Waiting(Mutex::new(Some(Waits { acquiring, bell })))),
    })
}

fn over() -> PyErr {
    PyValueError::new_err("the wait is over")
}

impl Waiting {
    fn waits(&self) -> MutexGuard<'_, Option<Waits>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Waiting {
    /// The descriptor that becomes readable.
    fn fileno(&self) -> PyResult<RawFd> {
        self.waits().as_ref().map(|waits| waits.bell.read.as_raw_fd()).ok_or_else(over)
    }

    /// The held lock, or None while it is busy.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Held>> {
        let mut waits = self.waits().take().ok_or_else(over)?;
        let polled = py.detach(|| {
            waits.bell.hush(&mut Vec::new());
            let waker = Waker::from(Arc::clone(&waits.bell));
            match Pin::new(&mut waits.acquiring).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(outcome) => outcome.map(Some),
                Poll::Pending => Ok(None),
            }
        });
        let granted = polled.or_raise(py)?;
        if granted.is_none() {
            *self.waits() = Some(waits);
        }
        Ok(granted.map(Held::new))
    }

    /// Ends the wait, as a deadline does: the held lock if it came by then, or Busy.
    fn give_up(&self, py: Python<'_>) -> PyResult<Held> {
        let waits = self.waits().take().ok_or_else(over)?;
        Ok(Held::new(py.detach(|| waits.acquiring.give_up()).or_raise(py)?))
    }

    /// Ends the wait. A grant that had come goes.
    fn close(&self, py: Python<'_>) {
        let waits = self.waits().take();
        py.detach(|| drop(waits));
    }
}
