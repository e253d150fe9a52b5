//! The start of the program, in place of Rust's own.
//!
//! Rust's runtime prepares a message for a stack overflow. For that it asks the C library for the main thread's stack, which
//! reads and parses `/proc/self/maps`: a twentieth of `tenure run T -- true`. Without it, a stack overflow ends the process by
//! SIGSEGV with no message. The functions here do the rest of what the runtime does, but for the name of the main thread in the
//! message of a panic.
//!
//! The C library must pass the words of the call to Rust's library, for `std::env::args`. glibc does, musl does not.

use std::ffi::c_int;
use std::io::{self, Write};
use std::panic;

use crate::sys::unix::disposition::ignore;

/// The exit code after a panic, as that of every Rust program.
const PANICKED: u8 = 101;

/// Runs the program, and returns the exit code.
pub(crate) fn start(run: fn() -> u8) -> c_int {
    open_standard_streams();
    // A closed pipe is then an error of the call that writes. The commands that are run get the default back.
    ignore(libc::SIGPIPE);
    // The panic has printed its message.
    let code = panic::catch_unwind(run).unwrap_or(PANICKED);
    let _ = io::stdout().flush();
    code.into()
}

/// Opens `/dev/null` for each standard stream that is closed. Otherwise a file of a lock would become standard output, and
/// each message would be written into it.
fn open_standard_streams() {
    for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: it takes numbers only.
        if unsafe { libc::fcntl(stream, libc::F_GETFD) } >= 0 {
            continue;
        }
        // SAFETY: the path ends in a NUL and lives during the call.
        let opened = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        // The kernel gives the lowest number that is free, and those below this stream are open by now.
        if opened != stream {
            std::process::abort();
        }
    }
}
