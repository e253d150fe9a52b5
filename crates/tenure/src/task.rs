//! Tasks as the holders and waiters of locks.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::model::requester::{self, RequesterId};

/// Runs `future` as one task: what it acquires belongs to the task, and not to a thread. So an acquire that would wait for the
/// task itself, or that would close a [circle](crate::Error::circle) of waiting tasks, threads and processes, fails at once.
///
/// That is a promise about the task, as a thread gives it by itself: what the task acquires, only the task releases, and while
/// one of its acquires waits, the task releases nothing. Locks whose guards are handed to other tasks are opened with
/// [`deadlock_check(false)`](crate::Options::deadlock_check). The branches of a `join!` or a `select!`, of which one goes on
/// while another waits, are tasks of their own: give each a scope. A runtime's task that is started inside is no part of this
/// one.
///
/// An acquire that blocks its thread belongs to the task as well, and blocks the thread and each task around it.
///
/// ```
/// use tenure::{Lock, Wait, task};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if !cfg!(target_os = "linux") { return Ok(()); }
/// # let dir = tempfile::tempdir()?;
/// let (x, y) = (Lock::open(dir.path().join("x"))?, Lock::open(dir.path().join("y"))?);
/// let both_hold = tokio::sync::Barrier::new(2);
/// let transfer = async |from: &Lock, to: &Lock| {
///     let _from = from.acquire_async(Wait::Forever).await?;
///     both_hold.wait().await;
///     to.acquire_async(Wait::Forever).await.map(drop)
/// };
/// // Two tasks of one thread, each of which waits for what the other one holds.
/// let (one, other) = tokio::join!(task(transfer(&x, &y)), task(transfer(&y, &x)));
/// let error = one.and(other).expect_err("one of them fails, and so the other one goes on");
/// let circle = error.circle().expect("it is named");
/// assert_eq!(circle.waits.len(), 2);
/// assert_ne!(circle.waits[0].task, circle.waits[1].task);
/// # Ok(())
/// # }
/// ```
pub fn task<F: Future>(future: F) -> impl Future<Output = F::Output> {
    Task::new().scope(future)
}

/// A task: the holder of what is acquired in its scope, and the waiter. [`task`] is the short form.
///
/// A scope goes with its future from thread to thread. In a scope within another, acquires belong to the inner task.
///
/// ```
/// use tenure::{Lock, Task, Wait};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("main.jsonl");
/// let lock = Lock::open(&path)?;
/// let import = Task::named("import").scope(async {
///     let _guard = lock.acquire_async(Wait::Forever).await?;
///     // Without a task, this would wait for ever.
///     assert!(lock.acquire_async(Wait::Forever).await.unwrap_err().is_would_deadlock());
///     tenure::Result::Ok(())
/// });
/// import.await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Task {
    id: RequesterId,
    named: bool,
}

impl Task {
    /// Returns a task without a name.
    #[expect(clippy::new_without_default, reason = "each task is another one")]
    pub fn new() -> Task {
        Task { id: RequesterId::new_task(), named: false }
    }

    /// Returns a task with a name, which [`Waiting::task_name`](crate::Waiting::task_name) shows.
    pub fn named(name: impl Into<String>) -> Task {
        let mut task = Task::new();
        requester::set_name(task.id, Some(Arc::from(name.into())));
        task.named = true;
        task
    }

    /// Returns the task's number, by which [`Waiting::task`](crate::Waiting::task) means it. No other task of this process has
    /// it.
    pub fn id(&self) -> u64 {
        self.id.task().unwrap_or_default()
    }

    /// Runs `future` in the scope of this task, wherever and whenever it is polled. It is dropped in that scope as well.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let future = pin!(Some(future));
        let mut scoped = Scoped { task: self, future };
        poll_fn(|context| scoped.poll(context)).await
    }

    /// Runs `act` in the scope of this task, on this thread: for a caller that polls by itself, as an event loop of another
    /// language does. What the task holds, it holds until it releases it, in this scope or in a later one.
    ///
    /// ```
    /// use tenure::{Lock, Requester, Task};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let (lock, task) = (Lock::open(&path)?, Task::new());
    /// let guard = task.sync_scope(|| lock.begin(Requester::Task))?.give_up()?;
    /// assert!(task.sync_scope(|| lock.begin(Requester::Task)).unwrap_err().is_would_deadlock());
    /// // Another task waits.
    /// drop(lock.begin(Requester::Task)?);
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sync_scope<T>(&self, act: impl FnOnce() -> T) -> T {
        let _entered = requester::enter(self.id);
        act()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.named {
            requester::set_name(self.id, None);
        }
    }
}

/// A future in its task's scope.
struct Scoped<'a, F> {
    task: Task,
    future: Pin<&'a mut Option<F>>,
}

impl<F: Future> Scoped<'_, F> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        let future = self.future.as_mut().as_pin_mut();
        self.task.sync_scope(|| future.map_or(Poll::Pending, |future| future.poll(context)))
    }
}

impl<F> Drop for Scoped<'_, F> {
    fn drop(&mut self) {
        // What it has may acquire and release as it ends.
        let future = &mut self.future;
        self.task.sync_scope(|| future.set(None));
    }
}
