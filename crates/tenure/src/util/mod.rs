//! What knows nothing of locks: tickets and queues of threads, a pool of them, and text for people.

pub(crate) mod loss_listeners;
pub(crate) mod spread;
pub(crate) mod text;
pub(crate) mod thread_pool;
pub(crate) mod ticket;
pub(crate) mod trace;
pub(crate) mod wait_queue;
