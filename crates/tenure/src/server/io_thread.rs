//! The I/O thread: one for each process, which talks to all servers whose clients are asynchronous.
//!
//! It has a runtime of its own, so the program's event loop neither delays it nor is delayed by it. Callbacks
//! of the program, the system's resolver and reads of a password file run on threads of the [pool](thread_pool). So the
//! silence of one server delays no renewal at another. The program's `tracing` subscriber and its wakers run on it: they
//! must not block.

use std::future::Future;
use std::io;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::sys::{self, ForkLocal};
use crate::util::thread_pool;

/// A runtime whose thread may not start. Dropped by itself it would panic in the caller's own runtime.
struct Unstarted(Option<Runtime>);

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns the runtime of this process, which starts at the first use.
fn runtime() -> io::Result<Handle> {
    static RUNTIME: ForkLocal<Mutex<Option<Handle>>> = ForkLocal::new();
    let mut runtime = RUNTIME.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*runtime {
        return Ok(handle.clone());
    }
    let started = Unstarted(Some(Builder::new_current_thread().enable_io().enable_time().build()?));
    let handle = started.0.as_ref().map(|runtime| runtime.handle().clone()).ok_or(io::ErrorKind::Other)?;
    sys::spawn("tenure-io", move || {
        let mut started = started;
        if let Some(runtime) = started.0.take() {
            runtime.block_on(std::future::pending::<()>());
        }
    })?;
    *runtime = Some(handle.clone());
    Ok(handle)
}

/// Starts a task on the I/O thread, from any thread.
pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    runtime()?.spawn(task);
    Ok(())
}

/// Runs a task on the I/O thread and waits for its result. Other threads only: it would wait for itself.
pub(super) fn wait<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let (sender, result) = channel();
    spawn(async move {
        let _ = sender.send(task.await);
    })?;
    result.recv().map_err(|_| io::Error::other("the I/O thread failed"))
}

/// Runs a job that may block, such as a callback of the program, on another thread. Returns its result; `None` if it
/// panicked or no thread could be started.
pub(super) async fn run_blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, result) = oneshot::channel();
    let started = thread_pool::run(move || {
        // The caller may have gone on without it.
        let _ = sender.send(job());
    });
    started.ok()?;
    result.await.ok()
}

/// Waits for `task` for at most `limit`.
pub(super) async fn within<T>(limit: Duration, task: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, task).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_panics_ends_alone() {
        let failed = wait(async {
            let joined = tokio::spawn(async { panic!("a task of this test panics") });
            joined.await.is_err()
        });
        assert!(failed.unwrap());
        assert!(wait(async { panic!("a task of this test panics") as () }).is_err());
        assert_eq!(wait(async { 7 }).unwrap(), 7);
    }

    #[test]
    fn a_job_that_blocks_delays_no_task() {
        let (release, blocked) = channel::<()>();
        let waits = move || blocked.recv().is_ok();
        let (sender, result) = channel();
        spawn(async move {
            let _ = sender.send(run_blocking(waits).await);
        })
        .unwrap();
        assert_eq!(wait(async { 7 }).unwrap(), 7);
        release.send(()).unwrap();
        assert_eq!(result.recv().unwrap(), Some(true));
    }
}
