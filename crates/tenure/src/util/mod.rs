//! Code without knowledge of locks: tickets and queues of threads, a thread pool, and text for people.

pub(crate) mod loss_listeners;
pub(crate) mod parallel;
pub(crate) mod text;
pub(crate) mod thread_pool;
pub(crate) mod ticket;
pub(crate) mod trace;
pub(crate) mod wait_queue;
