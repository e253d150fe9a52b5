//! Starts and stops callgrind's counting from within the counted program.

/// callgrind's request to count instructions (`CALLGRIND_START_INSTRUMENTATION` in its `callgrind.h`).
const START: u64 = FIRST + 4;
/// callgrind's request to count no more (`CALLGRIND_STOP_INSTRUMENTATION`).
const STOP: u64 = FIRST + 5;
/// The first of callgrind's requests (`VG_USERREQ_TOOL_BASE('C', 'T')` in `valgrind.h`).
const FIRST: u64 = 0x4354_0000;

/// Counts the instructions of all threads from here on. Without callgrind it does nothing.
pub(crate) fn start() {
    request(START);
}

/// Counts none from here on.
pub(crate) fn stop() {
    request(STOP);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "Valgrind is asked by an instruction sequence that no crate without C has")]
fn request(request: u64) {
    let arguments = [request, 0, 0, 0, 0, 0];
    // SAFETY: `asm` requires that the block changes only what it declares. Outside of Valgrind, the four rotations sum up
    // to 128 bits and leave RDI as it was, and the exchange of RBX with itself does nothing. Valgrind reads the six words
    // at RAX, which live during the block, and writes RDX.
    unsafe {
        core::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") &raw const arguments,
            inout("rdx") 0_u64 => _,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn request(_request: u64) {
    eprintln!("loop: hand-offs can be counted on x86-64 only");
    std::process::exit(1);
}
