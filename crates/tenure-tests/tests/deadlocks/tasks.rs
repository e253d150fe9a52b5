//! Circles through tasks: what a task acquires in its scope belongs to it.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};

use tenure::{Guard, IfBusy, ListOptions, Lock, Requester, Task, Wait, task};
use tenure_tests::servers::{etcd, postgres};
use tenure_tests::{folder, until_waiting};

use crate::{holder, notes, paths, until_announced, wait_for};

fn lock(target: &Path) -> Lock {
    Lock::open(target).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Acquires for a task that this thread polls.
fn acquire(task: &Task, target: &Path) -> Guard {
    task.sync_scope(|| lock(target).begin_with(Wait::Never, Requester::Task)).unwrap().give_up().unwrap()
}

/// Polls once.
fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Each of so many tasks of one thread holds one lock, and waits for that of the next one.
#[test]
fn a_circle_of_tasks_is_named() {
    for count in [2, 3, 5] {
        let dir = folder();
        let targets: Vec<_> = (0..count).map(|at| dir.path().join(format!("t{at}"))).collect();
        let all_hold = Arc::new(tokio::sync::Barrier::new(count));
        let runtime = runtime();
        let tasks: Vec<_> = (0..count)
            .map(|at| {
                let (own, next) = (lock(&targets[at]), lock(&targets[(at + 1) % count]));
                let all_hold = Arc::clone(&all_hold);
                let name = format!("task {at}");
                runtime.spawn(Task::named(name).scope(async move {
                    let _own = own.acquire_async(Wait::Forever).await?;
                    all_hold.wait().await;
                    next.acquire_async(Wait::Forever).await.map(drop)
                }))
            })
            .collect();
        let outcomes: Vec<_> = runtime.block_on(async {
            let mut outcomes = Vec::new();
            for task in tasks {
                outcomes.push(task.await.unwrap());
            }
            outcomes
        });
        let errors: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
        assert_eq!(errors.len(), 1, "{count}: {errors:?}");
        let circle = errors[0].circle().unwrap();
        assert_eq!(circle.waits.len(), count);
        let mut names: Vec<_> = circle.waits.iter().map(|waiting| waiting.task_name.clone().unwrap()).collect();
        names.sort();
        assert_eq!(names, (0..count).map(|at| format!("task {at}")).collect::<Vec<_>>());
        let mut numbers: Vec<_> = circle.waits.iter().map(|waiting| waiting.task.unwrap()).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
        assert!(errors[0].to_string().contains(" \"task 0\" holds "), "{}", errors[0]);
    }
}

/// A task, a thread and another process.
#[test]
fn a_circle_of_a_task_a_thread_and_a_process_is_named() {
    for last in 0..3 {
        let dir = folder();
        let [x, y, z] = &paths(dir.path(), ["x", "y", "z"]);
        let task = Task::named("import");
        let held = acquire(&task, x);
        let mut process = holder(&[y], "");
        let (holds, thread_holds) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let (outcome, outcomes) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let held = lock(z).acquire().unwrap();
                holds.send(()).unwrap();
                goes.recv().unwrap();
                outcome.send(lock(x).acquire().map(drop)).unwrap();
                drop(held);
            });
            thread_holds.recv().unwrap();
            let mut pending = None;
            // The task waits for the process, the process for the thread, and the thread for the task.
            for at in [(last + 1) % 3, (last + 2) % 3] {
                match at {
                    0 => pending = Some(task.sync_scope(|| lock(y).begin(Requester::Task)).unwrap()),
                    1 => wait_for(&mut process, z, "", "forever", &[y]),
                    _ => go.send(()).unwrap(),
                }
                until_announced([x, y, z][at]);
            }
            let circle = match last {
                0 => {
                    let error = task.sync_scope(|| lock(y).begin(Requester::Task)).unwrap_err();
                    serde_json::to_value(error.circle().unwrap()).unwrap()["waits"].clone()
                }
                1 => {
                    process.must(&format!("open w {}", z.display()));
                    process.must_fail("acquire w got forever", "would-deadlock")["circle"].clone()
                }
                _ => {
                    go.send(()).unwrap();
                    let error = outcomes.recv().unwrap().unwrap_err();
                    serde_json::to_value(error.circle().unwrap()).unwrap()["waits"].clone()
                }
            };
            let waits = circle.as_array().unwrap();
            assert_eq!(waits.len(), 3, "{circle}");
            for waiting in waits {
                let is_task = waiting["holds"] == x.to_str().unwrap();
                let is_process = waiting["holds"] == y.to_str().unwrap();
                assert_eq!(waiting["task"] == task.id(), is_task, "{circle}");
                assert_eq!(waiting["taskName"] == "import", is_task, "{circle}");
                assert_eq!(waiting["pid"] == process.pid(), is_process, "{circle}");
            }
            // Each gives up what it holds, or waits for.
            drop((pending, held));
            process.kill();
            let _ = outcomes.recv();
        });
    }
}

#[test]
fn a_task_that_would_wait_for_itself_fails() {
    let dir = folder();
    let [x, y] = &paths(dir.path(), ["x", "y"]);
    let (one, other) = (Task::new(), Task::new());
    let held = acquire(&one, x);
    let begin = |task: &Task, wait| task.sync_scope(|| lock(x).begin_with(wait, Requester::Task));
    let error = begin(&one, Wait::Forever).unwrap_err();
    assert!(error.is_would_deadlock() && error.circle().is_none(), "{error}");
    assert!(begin(&one, Wait::Never).unwrap_err().is_busy());
    // Another task waits for it, and a thread does.
    drop(begin(&other, Wait::Forever).unwrap());
    drop(lock(x).begin(Requester::Thread).unwrap());
    drop(held);
    // Also for a slot.
    let slot = |task: &Task, wait| {
        task.sync_scope(|| Lock::options().slots(1).open(y).unwrap().begin_with(wait, Requester::Task))
    };
    let _slot = slot(&one, Wait::Never).unwrap().give_up().unwrap();
    let error = runtime().block_on(slot(&one, Wait::Forever).unwrap()).unwrap_err();
    assert!(error.is_would_deadlock(), "{error}");
}

/// The outer task may go on while the inner one waits.
#[test]
fn a_scope_within_a_scope_is_a_task_of_its_own() {
    let dir = folder();
    let [x, y] = &paths(dir.path(), ["x", "y"]);
    let mut other = holder(&[y], "");
    let (outer, inner) = (Task::new(), Task::new());
    let held = acquire(&outer, x);
    wait_for(&mut other, x, "", "forever", &[y]);
    let waiting = outer.sync_scope(|| {
        let waiting = inner.sync_scope(|| lock(y).begin(Requester::Task)).unwrap();
        // The outer scope is back.
        assert!(lock(x).begin(Requester::Task).unwrap_err().is_would_deadlock());
        waiting
    });
    assert!(notes(x).is_empty(), "the inner task holds nothing");
    drop(waiting);
    // An acquire that blocks the thread blocks both.
    let error = outer.sync_scope(|| inner.sync_scope(|| lock(y).acquire())).unwrap_err();
    let circle = error.circle().unwrap();
    assert_eq!(circle.waits[1].task, Some(inner.id()));
    let error = outer.sync_scope(|| inner.sync_scope(|| lock(x).acquire())).unwrap_err();
    assert!(error.is_would_deadlock() && error.circle().is_none(), "{error}");
    drop(held);
    assert_eq!(other.receive()["ok"], true);
}

#[test]
fn a_blocking_acquire_blocks_the_thread_and_its_task() {
    let dir = folder();
    let [x, y, z, other_z] = &paths(dir.path(), ["x", "y", "z", "other-z"]);
    let task = Task::new();
    let of_thread = lock(x).acquire().unwrap();
    let of_task = task.sync_scope(|| lock(y).acquire()).unwrap();
    // What it acquired belongs to the task.
    assert!(task.sync_scope(|| lock(y).begin(Requester::Task)).unwrap_err().is_would_deadlock());
    drop(lock(y).begin(Requester::Thread).unwrap());
    for (own, z) in [(x, z), (y, other_z)] {
        assert!(task.sync_scope(|| lock(own).acquire()).unwrap_err().is_would_deadlock());
        let mut other = holder(&[z], "");
        wait_for(&mut other, own, "", "forever", &[z]);
        let error = task.sync_scope(|| lock(z).acquire()).unwrap_err();
        assert_eq!(error.circle().unwrap().waits.len(), 2, "{error}");
        other.kill();
    }
    // Without a scope, it is the thread's.
    let third_z = &dir.path().join("third-z");
    let mut other = holder(&[third_z], "");
    wait_for(&mut other, y, "", "forever", &[third_z]);
    assert!(lock(third_z).acquire_timeout(std::time::Duration::from_millis(300)).unwrap_err().is_busy());
    drop((of_thread, of_task));
    assert_eq!(other.receive()["ok"], true);
}

/// As beside a file, so on a server, and for a policy that does more than wait.
#[test]
fn a_blocking_acquire_of_any_kind_blocks_what_is_around_its_task() {
    let dir = folder();
    let cluster = etcd::there().then(|| etcd::Cluster::start(1));
    let postgres = postgres::there().then(postgres::Postgres::start);
    let mut targets = Vec::new();
    for name in ["t", "queue-one", "replace", "slots"] {
        targets.push((dir.path().join(name).to_str().unwrap().to_owned(), name));
    }
    if let Some(cluster) = &cluster {
        targets.extend([(cluster.target("t", 20), "t"), (cluster.target("slots", 20), "slots")]);
    }
    if let Some(postgres) = &postgres {
        targets.extend([(postgres.target("t", 20), "t"), (postgres.target("slots", 20), "slots")]);
    }
    for (target, kind) in targets {
        let options = match kind {
            "queue-one" => Lock::options().if_busy(IfBusy::QueueOne),
            "replace" => Lock::options().if_busy(IfBusy::Replace),
            "slots" => Lock::options().slots(1),
            _ => Lock::options(),
        };
        let lock = options.open(&target).unwrap();
        let of_thread = lock.acquire().unwrap();
        let patience = Wait::For(std::time::Duration::from_secs(60));
        let error = Task::new().sync_scope(|| lock.acquire_with(patience)).unwrap_err();
        assert!(error.is_would_deadlock(), "{target}: {error}");
        // An acquire that does not block is the task's alone.
        drop(Task::new().sync_scope(|| lock.begin(Requester::Task)).unwrap());
        of_thread.release().unwrap();
    }
}

/// A future is the same task on each thread that polls it.
#[test]
fn a_task_goes_from_thread_to_thread() {
    let dir = folder();
    let [x, y] = &paths(dir.path(), ["x", "y"]);
    let (go, mut goes) = tokio::sync::mpsc::unbounded_channel::<()>();
    let (locks, held) = ((lock(x), lock(y)), mpsc::channel());
    let mut future = Box::pin(task(async move {
        let (x, y) = locks;
        let _x = x.acquire_async(Wait::Forever).await.unwrap();
        held.0.send(()).unwrap();
        goes.recv().await.unwrap();
        (x.acquire_async(Wait::Forever).await.unwrap_err(), y.acquire_async(Wait::Forever).await.unwrap_err())
    }));
    let mut future = std::thread::spawn(move || {
        assert!(poll(future.as_mut()).is_pending());
        future
    })
    .join()
    .unwrap();
    held.1.recv().unwrap();
    let mut other = holder(&[y], "");
    wait_for(&mut other, x, "", "forever", &[y]);
    go.send(()).unwrap();
    let (itself, circle) = std::thread::spawn(move || runtime().block_on(future.as_mut())).join().unwrap();
    assert!(itself.is_would_deadlock() && itself.circle().is_none(), "{itself}");
    assert_eq!(circle.circle().unwrap().waits.len(), 2, "{circle}");
    assert_eq!(other.receive()["ok"], true);
}

/// Says in whose scope it is dropped, by an acquire.
struct AcquiresAtItsEnd(Lock, mpsc::Sender<bool>);

impl Drop for AcquiresAtItsEnd {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.begin(Requester::Task).is_err_and(|error| error.is_would_deadlock()));
    }
}

#[test]
fn a_dropped_task_leaves_nothing() {
    let dir = folder();
    let [x, y] = &paths(dir.path(), ["x", "y"]);
    let mut other = holder(&[y], "");
    let (ended, ends) = mpsc::channel();
    let (locks, at_end) = ((lock(x), lock(y)), AcquiresAtItsEnd(lock(x), ended));
    let mut future = Box::pin(Task::named("dropped").scope(async move {
        let _x = locks.0.acquire_async(Wait::Forever).await.unwrap();
        let _at_end = at_end;
        locks.1.acquire_async(Wait::Forever).await.map(drop)
    }));
    assert!(poll(future.as_mut()).is_pending());
    until_announced(x);
    drop(future);
    assert!(ends.recv().unwrap(), "it was dropped in its scope");
    assert!(notes(x).is_empty());
    wait_for(&mut other, x, "", "forever", &[]);
    assert_eq!(other.receive()["ok"], true);
    other.must("release g0");
    other.must("acquire l0 again forever");
}

/// The program says by `deadlock_check(false)` that another task may release the lock.
#[test]
fn what_another_task_may_release_is_part_of_no_circle() {
    let dir = folder();
    let [x, y] = &paths(dir.path(), ["x", "y"]);
    let mut other = holder(&[y], "");
    let task = Task::new();
    let free = Lock::options().deadlock_check(false).open(x).unwrap();
    let held = task.sync_scope(|| free.begin(Requester::Task)).unwrap().give_up().unwrap();
    let waiting = task.sync_scope(|| lock(y).begin(Requester::Task)).unwrap();
    until_waiting(y, 1);
    assert!(notes(x).is_empty());
    wait_for(&mut other, x, "", "300", &[]);
    assert_eq!(other.receive()["kind"], "busy");
    drop((waiting, held));
}

/// `deadlocks` names the tasks.
#[test]
fn circles_of_tasks_are_listed() {
    let dir = folder();
    let [x, y] = &paths(dir.path(), ["x", "y"]);
    let (one, other) = (Task::named("one"), Task::new());
    let held = (acquire(&one, x), acquire(&other, y));
    let unchecked = |task: &Task, target: &Path| {
        let lock = Lock::options().deadlock_check(false).open(target).unwrap();
        task.sync_scope(|| lock.begin(Requester::Task)).unwrap()
    };
    let waits = (unchecked(&one, y), unchecked(&other, x));
    let found = tenure::deadlocks(dir.path(), &ListOptions::default()).unwrap();
    assert_eq!(found.len(), 1);
    let tasks: Vec<_> = found[0].waits.iter().map(|waiting| (waiting.task, waiting.task_name.as_deref())).collect();
    assert_eq!(tasks, [(Some(one.id()), Some("one")), (Some(other.id()), None)]);
    drop((waits, held));
}
