//! Windows: sockets that are connected to each other, because Python takes a socket where it takes a pipe on Unix
//! (`signal.set_wakeup_fd`), and an event loop watches nothing else.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::windows::io::AsRawSocket;
use std::time::{Duration, Instant};

/// A pair of sockets in place of a pipe. Neither end blocks, except in [`Pipe::wait`].
pub(crate) struct Pipe {
    read: TcpStream,
    write: TcpStream,
}

impl Pipe {
    pub(crate) fn new() -> io::Result<Pipe> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let write = TcpStream::connect(listener.local_addr()?)?;
        let own = write.local_addr()?;
        let read = loop {
            let (read, from) = listener.accept()?;
            // Another program may have connected first.
            if from == own {
                break read;
            }
        };
        write.set_nodelay(true)?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        Ok(Pipe { read, write })
    }

    /// Returns the number of the end that is read from, which is readable while the pipe has bytes.
    pub(crate) fn reader(&self) -> i32 {
        number(&self.read)
    }

    /// Returns the number of the end that is written to.
    pub(crate) fn writer(&self) -> i32 {
        number(&self.write)
    }

    /// Writes a zero. A full socket is readable already.
    pub(crate) fn wake(&self) {
        let _ = (&self.write).write(&[0]);
    }

    /// Empties the pipe. The bytes that are not zero go to `bytes`.
    pub(crate) fn drain(&self, bytes: &mut Vec<u8>) {
        let mut part = [0; 64];
        while let Ok(count @ 1..) = (&self.read).read(&mut part) {
            bytes.extend(part[..count].iter().filter(|byte| **byte != 0));
        }
    }

    /// Sleeps until the pipe is written to, or `deadline`. Python's handler of Ctrl-C runs on another thread, and writes to it.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<()> {
        // A timeout of zero is none.
        let left = deadline.map(|deadline| {
            deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), LONGEST_WAIT)
        });
        self.read.set_read_timeout(left)?;
        self.read.set_nonblocking(false)?;
        let peeked = self.read.peek(&mut [0]);
        self.read.set_nonblocking(true)?;
        match peeked {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The caller loops, so a long time may be cut short. A socket takes 49 days at most, and is best not read after a timeout.
const LONGEST_WAIT: Duration = Duration::from_secs(40 * 86_400);

/// Returns a socket's number, which is that of a kernel object and small ("Interprocess Communication Between 32-bit and 64-bit
/// Applications").
fn number(socket: &TcpStream) -> i32 {
    i32::try_from(socket.as_raw_socket()).unwrap_or(-1)
}

/// Returns whether an error means that too many sockets are open (WSAEMFILE).
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    error.raw_os_error() == Some(10024)
}
