//! The identities of threads and tasks, of which each acquires for itself, and of which each releases what it acquired.
//!
//! An acquire belongs to the task in whose [scope](enter) it is made, or else to its thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::sys::ForkLocal;

/// The identity of a thread or a task of this process. None is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequesterId(NonZeroU64);

/// The number of the next thread and of the next task, from 1.
static NEXT_THREAD: AtomicU64 = AtomicU64::new(1);
static NEXT_TASK: AtomicU64 = AtomicU64::new(1);

impl RequesterId {
    /// Numbers a thread or a task: a thread's identity is even, a task's is odd.
    fn next(numbers: &AtomicU64, is_task: bool) -> RequesterId {
        let number = numbers.fetch_add(1, Ordering::Relaxed) << 1 | u64::from(is_task);
        RequesterId(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }

    /// Returns a new task's identity.
    pub(crate) fn new_task() -> RequesterId {
        RequesterId::next(&NEXT_TASK, true)
    }

    /// Returns the task's number in this process, from 1. `None` for a thread.
    pub(crate) fn task(self) -> Option<u64> {
        (!self.is_thread()).then(|| self.number())
    }

    /// Returns its number among the threads, or among the tasks.
    #[inline]
    pub(crate) fn number(self) -> u64 {
        self.0.get() >> 1
    }

    #[inline]
    pub(crate) fn is_thread(self) -> bool {
        self.0.get() & 1 == 0
    }
}

thread_local! {
    static THREAD: Cell<RequesterId> = Cell::new(RequesterId::next(&NEXT_THREAD, false));
    /// The requester that the acquires of this thread belong to.
    static CURRENT: Cell<RequesterId> = Cell::new(this_thread());
    /// The requesters whose scopes this thread is in besides, outermost first.
    static OUTER: RefCell<Vec<RequesterId>> = const { RefCell::new(Vec::new()) };
}

/// Returns this thread's identity.
pub(crate) fn this_thread() -> RequesterId {
    THREAD.get()
}

/// Returns the requester that an acquire by this thread belongs to, if it blocks the thread.
#[inline]
pub(crate) fn current() -> RequesterId {
    CURRENT.get()
}

/// Returns the task in whose scope this thread is.
pub(crate) fn current_task() -> Option<RequesterId> {
    Some(current()).filter(|current| !current.is_thread())
}

/// Returns the requesters in whose scopes the current one is, innermost first: they cannot go on while this thread is blocked.
pub(crate) fn around() -> Vec<RequesterId> {
    // At the end of a thread there may be none left.
    OUTER.try_with(|outer| outer.borrow().iter().rev().copied().collect()).unwrap_or_default()
}

/// Enters the scope of a requester, until the returned value is dropped on this thread.
pub(crate) fn enter(requester: RequesterId) -> Entered {
    let outer = CURRENT.replace(requester);
    let kept = OUTER.try_with(|all| all.borrow_mut().push(outer)).is_ok();
    Entered { outer, kept, _not_send: std::marker::PhantomData }
}

/// A scope of this thread.
#[must_use = "the scope is left when this is dropped"]
pub(crate) struct Entered {
    outer: RequesterId,
    kept: bool,
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
        if self.kept {
            let _ = OUTER.try_with(|all| all.borrow_mut().pop());
        }
    }
}

/// The names of the tasks that have one.
static NAMES: ForkLocal<Mutex<HashMap<RequesterId, Arc<str>>>> = ForkLocal::new();

/// Returns the name of a task that has one.
pub(crate) fn name(task: RequesterId) -> Option<Arc<str>> {
    names(|names| names.get(&task).cloned())
}

/// Names a task, or forgets its name.
pub(crate) fn set_name(task: RequesterId, name: Option<Arc<str>>) {
    names(|names| match name {
        Some(name) => drop(names.insert(task, name)),
        None => drop(names.remove(&task)),
    });
}

fn names<R>(act: impl FnOnce(&mut HashMap<RequesterId, Arc<str>>) -> R) -> R {
    act(&mut NAMES.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_tasks_are_distinct() {
        let other = std::thread::spawn(this_thread).join().unwrap();
        let (one, another) = (RequesterId::new_task(), RequesterId::new_task());
        assert!(other != this_thread() && one != another && one != other && other.is_thread() && !one.is_thread());
        assert!(another.task().unwrap() > one.task().unwrap() && one.task().unwrap() >= 1);
        assert_eq!(this_thread().task(), None);
    }

    #[test]
    fn a_scope_ends_where_it_is_dropped() {
        let thread = this_thread();
        let (one, other) = (RequesterId::new_task(), RequesterId::new_task());
        assert_eq!((current(), current_task(), around()), (thread, None, vec![]));
        let outer = enter(one);
        assert_eq!((current_task(), around()), (Some(one), vec![thread]));
        let panicked = std::panic::catch_unwind(|| {
            let _inner = enter(other);
            assert_eq!((current_task(), around()), (Some(other), vec![one, thread]));
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panicked.is_err());
        assert_eq!((current(), std::thread::spawn(current_task).join().unwrap()), (one, None));
        drop(outer);
        assert_eq!((current(), around()), (thread, vec![]));
    }
}
