//! Waiting: for the library and for Python's signals at once, or by a doorbell for event loops.
//!
//! The library wakes a waiter from a thread of its own, which never takes the GIL.
//!
//! - A thread that waits is parked. Only on the main thread, where Python runs signal handlers, it sleeps at a pipe, its
//!   *ears*, which is Python's wakeup descriptor (`signal.set_wakeup_fd`) while the wait lasts: a signal that comes
//!   between the look for signals and the sleep wakes it as well, so none is slept through. The descriptor's previous
//!   owner gets it back, with the bytes that it missed.
//! - Tasks and greenlets have one [`Doorbell`] a process, however many wait: its descriptor becomes readable when some
//!   of them have something to ask, and it says which.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use tenure::{AcquireFuture, Guard, Lock, Requester};

use crate::cleanup;
use crate::error::{self, OrRaise};
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

/// A pipe that wakes the main thread.
struct Bell {
    read: OwnedFd,
    write: OwnedFd,
}

impl Bell {
    fn new(py: Python<'_>, lock: &Lock) -> PyResult<Arc<Bell>> {
        let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let (read, write) = pipe.map_err(|refused| error::cannot_wait(py, lock.target(), refused.into()))?;
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
    Waits(AcquireFuture),
}

/// Begins, and asks for the first time.
fn begin(py: Python<'_>, lock: &Lock, shared: bool, requester: Requester) -> tenure::Result<Begun> {
    cleanup::install_once(py);
    py.detach(|| {
        let mut acquiring = if shared { lock.begin_shared(requester) } else { lock.begin(requester) }?;
        match Pin::new(&mut acquiring).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome.map(Begun::Granted),
            Poll::Pending => Ok(Begun::Waits(acquiring)),
        }
    })
}

/// Without a wait.
fn try_once(py: Python<'_>, lock: &Lock, shared: bool) -> tenure::Result<Begun> {
    cleanup::install_once(py);
    let never = tenure::Wait::Never;
    py.detach(|| if shared { lock.acquire_shared(never) } else { lock.acquire_with(never) }).map(Begun::Granted)
}

/// Acquires, and runs Python's signal handlers meanwhile. What a handler raises ends the wait: nothing is held then.
pub(crate) fn acquire(py: Python<'_>, lock: &Lock, shared: bool, timeout: Timeout) -> PyResult<Guard> {
    let mut begun = match timeout {
        Timeout::For(Duration::ZERO) => try_once(py, lock, shared),
        _ => begin(py, lock, shared, Requester::Thread),
    };
    let deadline = timeout.deadline();
    let would_deadlock = matches!(&begun, Err(error) if error.is_would_deadlock());
    let green = if would_deadlock || matches!(&begun, Ok(Begun::Waits(_))) { green_threads(py) } else { None };
    if would_deadlock && green.is_some() {
        // It may be another greenlet of this thread that holds.
        begun = begin(py, lock, shared, Requester::Task);
    }
    let mut acquiring = match begun.or_raise(py)? {
        Begun::Granted(guard) => return Ok(guard),
        Begun::Waits(acquiring) => acquiring,
    };
    if let Some(green) = green {
        return acquire_green(py, &green, lock, acquiring, timeout);
    }
    if !is_main_thread(py)? {
        let outcome = py.detach(|| match wait_parked(&mut acquiring, deadline) {
            Waited::Settled(outcome) => outcome,
            Waited::TimeIsOver => acquiring.give_up(),
        });
        return outcome.or_raise(py);
    }
    let _waits = match Interruptible::enter(lock.target(), timeout == Timeout::Forever) {
        Some(waits) => waits,
        None => return Err(error::waits_for_itself(py, lock.target())),
    };
    let bell = Bell::new(py, lock)?;
    let ears = Ears::open(py, &bell)?;
    let mut signals = Vec::new();
    let waited = wait(py, lock, &mut acquiring, &bell, deadline, &mut signals);
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

thread_local! {
    /// The targets that the main thread waits for: more than one where a signal's handler acquires.
    static INTERRUPTIBLE: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// A wait of the main thread, which signals' handlers interrupt.
struct Interruptible;

impl Interruptible {
    /// `None`: a handler would wait without an end behind the wait that it interrupts, which goes on when it has returned.
    fn enter(target: &Path, forever: bool) -> Option<Interruptible> {
        INTERRUPTIBLE.with_borrow_mut(|waits| {
            if forever && waits.iter().any(|waited| waited == target) {
                return None;
            }
            waits.push(target.to_owned());
            Some(Interruptible)
        })
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        INTERRUPTIBLE.with_borrow_mut(Vec::pop);
    }
}

enum Waited {
    Settled(tenure::Result<Guard>),
    TimeIsOver,
}

fn wait(
    py: Python<'_>,
    lock: &Lock,
    acquiring: &mut AcquireFuture,
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
        if let Some(waited) = waited.map_err(|refused: Errno| error::cannot_wait(py, lock.target(), refused.into()))? {
            return Ok(waited);
        }
    }
}

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// On a thread that runs no signal handlers.
fn wait_parked(acquiring: &mut AcquireFuture, deadline: Option<Instant>) -> Waited {
    let waker = Waker::from(Arc::new(Parked(std::thread::current())));
    loop {
        if let Poll::Ready(outcome) = Pin::new(&mut *acquiring).poll(&mut Context::from_waker(&waker)) {
            return Waited::Settled(outcome);
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return Waited::TimeIsOver,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    threading.call_method0("get_ident")?.eq(main)
}

/// The module that waits where gevent has replaced what blocks: all greenlets share one thread, which must not sleep.
fn green_threads(py: Python<'_>) -> Option<Bound<'_, PyModule>> {
    let modules = py.import("sys").and_then(|sys| sys.getattr("modules")).ok()?;
    let monkey = modules.get_item("gevent.monkey").ok()?;
    let patched = monkey.call_method1("is_object_patched", ("time", "sleep")).and_then(|patched| patched.extract());
    if !patched.unwrap_or(false) {
        return None;
    }
    // Not by an import: the locks of imports are gevent's too, and threads that meet in them wait for ever.
    match modules.get_item("tenure._gevent") {
        Ok(green) => green.cast_into().ok(),
        Err(_) => py.import("tenure._gevent").ok(),
    }
}

/// Loads what an acquire may need, while most programs have one thread.
pub(crate) fn prepare(py: Python<'_>) {
    green_threads(py);
}

fn acquire_green(
    py: Python<'_>,
    green: &Bound<'_, PyModule>,
    lock: &Lock,
    acquiring: AcquireFuture,
    timeout: Timeout,
) -> PyResult<Guard> {
    let seconds = match timeout {
        Timeout::For(duration) => Some(duration.as_secs_f64()),
        Timeout::Forever | Timeout::OfLock => None,
    };
    let waiting = Bound::new(py, Waiting::new(acquiring, lock))?;
    let held: Py<Held> = green.call_method1("wait", (waiting, seconds))?.extract()?;
    held.get().give(py).ok_or_else(|| error::lost(py, lock.target(), "it was released meanwhile"))
}

/// The doorbell of a process: its descriptor becomes readable when a task that waits has something to ask of its
/// Waiting. It belongs to the process that made it.
#[pyclass(frozen, module = "tenure._tenure")]
pub(crate) struct Doorbell(Arc<Bells>);

struct Bells {
    event: OwnedFd,
    /// The numbers of those that were rung for. Locked without the GIL, for a push or a move: a forked child must not
    /// touch its parent's.
    rung: Mutex<Vec<u64>>,
    pid: u32,
}

struct Ringer {
    bells: Arc<Bells>,
    number: u64,
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        let mut rung = self.bells.rung.lock().unwrap_or_else(PoisonError::into_inner);
        rung.push(self.number);
        if rung.len() == 1 {
            // It cannot be full: it is emptied before each of these.
            let _ = rustix::io::write(&self.bells.event, &1u64.to_ne_bytes());
        }
    }
}

#[pymethods]
impl Doorbell {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Doorbell> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = rustix::event::eventfd(0, flags)
            .map_err(|refused| error::cannot_wait(py, Path::new("(this process)"), refused.into()))?;
        Ok(Doorbell(Arc::new(Bells { event, rung: Mutex::default(), pid: std::process::id() })))
    }

    /// The descriptor that becomes readable.
    fn fileno(&self) -> RawFd {
        self.0.event.as_raw_fd()
    }

    /// The numbers that were rung for, each as often as it was.
    fn answer(&self) -> Vec<u64> {
        if self.0.pid != std::process::id() {
            return Vec::new();
        }
        let mut rung = self.0.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = rustix::io::read(&self.0.event, &mut [0; 8]);
        std::mem::take(&mut *rung)
    }
}

/// A place in the queue, for an event loop.
#[pyclass(frozen, module = "tenure")]
pub(crate) struct Waiting {
    waits: Mutex<Option<Waits>>,
    target: PathBuf,
}

struct Waits {
    acquiring: AcquireFuture,
    waker: Waker,
}

/// What an asynchronous acquire begins with.
#[derive(IntoPyObject)]
pub(crate) enum Start {
    Held(Held),
    Waiting(Waiting),
}

pub(crate) fn start(py: Python<'_>, lock: &Lock, shared: bool) -> PyResult<Start> {
    Ok(match begin(py, lock, shared, Requester::Task).or_raise(py)? {
        Begun::Granted(guard) => Start::Held(Held::new(guard)),
        Begun::Waits(acquiring) => Start::Waiting(Waiting::new(acquiring, lock)),
    })
}

impl Waiting {
    fn new(acquiring: AcquireFuture, lock: &Lock) -> Waiting {
        let waits = Waits { acquiring, waker: Waker::noop().clone() };
        Waiting { waits: Mutex::new(Some(waits)), target: lock.target().to_owned() }
    }

    fn waits(&self) -> MutexGuard<'_, Option<Waits>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> PyErr {
        PyValueError::new_err(format!("{}: the wait is over", tenure::escape::path(&self.target)))
    }
}

#[pymethods]
impl Waiting {
    /// Has the doorbell rung for this number from the next poll() on.
    fn listen(&self, doorbell: &Doorbell, number: u64) -> PyResult<()> {
        let ringer = Ringer { bells: Arc::clone(&doorbell.0), number };
        self.waits().as_mut().ok_or_else(|| self.over())?.waker = Waker::from(Arc::new(ringer));
        Ok(())
    }

    /// The held lock, or None while it is busy.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Held>> {
        let mut waits = self.waits().take().ok_or_else(|| self.over())?;
        let polled = py.detach(|| match Pin::new(&mut waits.acquiring).poll(&mut Context::from_waker(&waits.waker)) {
            Poll::Ready(outcome) => outcome.map(Some),
            Poll::Pending => Ok(None),
        });
        let granted = polled.or_raise(py)?;
        if granted.is_none() {
            *self.waits() = Some(waits);
        }
        Ok(granted.map(Held::new))
    }

    /// Ends the wait, as a deadline does: the held lock if it came by then, or Busy.
    fn give_up(&self, py: Python<'_>) -> PyResult<Held> {
        let waits = self.waits().take().ok_or_else(|| self.over())?;
        Ok(Held::new(py.detach(|| waits.acquiring.give_up()).or_raise(py)?))
    }

    /// Ends the wait. A grant that had come goes.
    fn close(&self, py: Python<'_>) {
        let waits = self.waits().take();
        py.detach(|| drop(waits));
    }
}
