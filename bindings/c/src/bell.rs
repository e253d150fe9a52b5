//! Descriptors for event loops: each becomes readable when something may have happened.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// A descriptor that the library's threads make readable.
#[derive(Debug)]
pub(crate) struct Bell {
    heard: UnixStream,
    waker: Waker,
    /// The process that made it. A forked child has the same descriptor, and must not read the parent's byte.
    pid: u32,
}

struct Ringer(UnixStream);

impl Wake for Ringer {
    fn wake(self: Arc<Ringer>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Ringer>) {
        // A full buffer is readable already, and never blocks a thread of the library.
        let _ = (&self.0).write(&[1]);
    }
}

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        let (heard, rung) = UnixStream::pair()?;
        heard.set_nonblocking(true)?;
        rung.set_nonblocking(true)?;
        Ok(Bell { heard, waker: Waker::from(Arc::new(Ringer(rung))), pid: std::process::id() })
    }

    /// Returns the waker that makes the descriptor readable.
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Returns the number of the descriptor, which is open for as long as this object.
    pub(crate) fn descriptor(&self) -> i32 {
        self.heard.as_raw_fd()
    }

    /// Makes the descriptor unreadable, until the next wake.
    pub(crate) fn reset(&self) {
        let mut rings = [0; 64];
        while self.pid == std::process::id() && (&self.heard).read(&mut rings).is_ok_and(|read| read == rings.len()) {}
    }
}
