//! Lock files that go when a signal ends the process, on Linux.
//!
//! A handler may allocate nothing and take no lock: what it needs stands in a table of atomics. Each entry is checked
//! against the file it names before that is removed, so that a half-changed entry removes nothing.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::fs::{Dir, File, Name};
use crate::record::{RecordState, state_text};
use crate::sys::types::FileId;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const HELD: u32 = 2;
/// A handler works with its descriptors: they must stay open.
const USED: u32 = 3;
/// A handler is done with it.
const DONE: u32 = 4;
const CHUNK: usize = 16;
/// A name of 255 bytes and its zero.
const NAME_WORDS: usize = 32;
const SIGNALS: [i32; 5] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGABRT];

static TABLE: AtomicPtr<Chunk> = AtomicPtr::new(ptr::null_mut());
/// The process that the table speaks of: a forked child removes nothing of its parent's.
static OWNER: AtomicI32 = AtomicI32::new(0);

struct Chunk {
    cells: [Cell; CHUNK],
    next: *const Chunk,
}

struct Cell {
    state: AtomicU32,
    dir: AtomicI32,
    file: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
    state_offset: AtomicU64,
    name: [AtomicU64; NAME_WORDS],
}

impl Cell {
    const fn new() -> Cell {
        Cell {
            state: AtomicU32::new(FREE),
            dir: AtomicI32::new(-1),
            file: AtomicI32::new(-1),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
            state_offset: AtomicU64::new(0),
            name: [const { AtomicU64::new(0) }; NAME_WORDS],
        }
    }
}

/// A visible lock file's place in the table.
pub(crate) struct HeldCell(&'static Cell);

impl HeldCell {
    /// The lock file is about to be removed in the ordinary way, and its descriptors may be closed: not before a handler
    /// that works with them, on another thread, is done, or it would write to whatever has their numbers next. That is a
    /// few system calls, and then the process ends as a rule.
    pub(crate) fn leave(&self) {
        let free_from = |state| self.0.state.compare_exchange(state, FREE, Ordering::AcqRel, Ordering::Acquire);
        while let Err(now) = free_from(HELD) {
            match now {
                USED => std::thread::yield_now(),
                DONE => drop(free_from(DONE)),
                _ => return,
            }
        }
    }

    pub(crate) fn set_state_offset(&self, offset: u64) {
        self.0.state_offset.store(offset, Ordering::Release);
    }
}

/// Enters a lock file that is held from now on. `None` for a name that does not fit.
pub(crate) fn enter_held(dir: &Dir, name: &Name, id: FileId, file: &File, state_offset: u64) -> Option<HeldCell> {
    let bytes = name.as_c_str().to_bytes_with_nul();
    if bytes.len() > NAME_WORDS * 8 {
        return None;
    }
    let cell = claim();
    for (word, bytes) in cell.name.iter().zip(bytes.chunks(8)) {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
    }
    cell.dir.store(dir.raw(), Ordering::Relaxed);
    cell.file.store(file.raw(), Ordering::Relaxed);
    cell.device.store(id.device, Ordering::Relaxed);
    cell.inode.store(id.inode, Ordering::Relaxed);
    cell.state_offset.store(state_offset, Ordering::Relaxed);
    cell.state.store(HELD, Ordering::Release);
    Some(HeldCell(cell))
}

fn claim() -> &'static Cell {
    let free = |cell: &&Cell| cell.state.compare_exchange(FREE, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    loop {
        let head = TABLE.load(Ordering::Acquire);
        if let Some(cell) = chunks(head).flat_map(|chunk| &chunk.cells).find(free) {
            return cell;
        }
        let fresh = Box::into_raw(Box::new(Chunk { cells: [const { Cell::new() }; CHUNK], next: head }));
        if TABLE.compare_exchange(head, fresh, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: it was not published, so it is still ours alone.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

fn chunks(head: *const Chunk) -> impl Iterator<Item = &'static Chunk> {
    // SAFETY: chunks are leaked when they are published: the pointers stay valid, and so does each `next`.
    let first = unsafe { head.as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |chunk| unsafe { chunk.next.as_ref() })
}

/// In a forked child: what is held is the parent's.
pub(super) fn forget_all() {
    for cell in chunks(TABLE.load(Ordering::Acquire)).flat_map(|chunk| &chunk.cells) {
        cell.state.store(FREE, Ordering::Release);
    }
    OWNER.store(0, Ordering::Release);
}

/// Installs the handlers where the signal would end the process as things stand, and the hook at exit.
pub(crate) fn install_cleanup() -> io::Result<()> {
    // SAFETY: no precondition.
    let pid = unsafe { libc::getpid() };
    if OWNER.swap(pid, Ordering::AcqRel) == pid {
        return Ok(());
    }
    for signal in SIGNALS {
        let mut present = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: asks only; `present` is on this stack and large enough.
        if unsafe { libc::sigaction(signal, ptr::null(), present.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: zeroed is a valid sigaction, and the call has filled it.
        let present = unsafe { present.assume_init() };
        // The program's own handler decides what becomes of the process, and an ignored signal ends nothing.
        if present.sa_sigaction != libc::SIG_DFL {
            continue;
        }
        let handler: extern "C" fn(i32) = on_signal;
        // SAFETY: all zeroes is a valid sigaction: an empty mask and no flags.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: `on_signal` does only what a handler may: atomics and the calls that signal-safety(7) lists.
        if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: `at_exit` touches nothing that exit(3) may have torn down: a table that is never freed.
    if unsafe { libc::atexit(at_exit) } != 0 {
        return Err(io::Error::other("atexit(3) has no room"));
    }
    Ok(())
}

extern "C" fn on_signal(signal: i32) {
    remove_all();
    // SAFETY: async-signal-safe calls. The signal is blocked while its handler runs: raised, it arrives on return, at
    // the default action, and ends the process with the status that it would have had.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
        libc::raise(signal);
    }
}

extern "C" fn at_exit() {
    remove_all();
}

/// Removes every lock file that this process shows, and leaves word in its record that it was cut off.
fn remove_all() {
    // SAFETY: getpid is async-signal-safe.
    if OWNER.load(Ordering::Acquire) != unsafe { libc::getpid() } {
        return;
    }
    let aborted = state_text(RecordState::Aborted);
    for cell in chunks(TABLE.load(Ordering::Acquire)).flat_map(|chunk| &chunk.cells) {
        if cell.state.compare_exchange(HELD, USED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            continue;
        }
        remove(cell, aborted);
        cell.state.store(DONE, Ordering::Release);
    }
}

/// Removes the lock file of a cell that is `USED` by us.
fn remove(cell: &Cell, aborted: &[u8]) {
    let mut name = [0_u64; NAME_WORDS];
    for (word, kept) in name.iter_mut().zip(&cell.name) {
        *word = kept.load(Ordering::Relaxed);
    }
    name[NAME_WORDS - 1] &= u64::from_ne_bytes([255, 255, 255, 255, 255, 255, 255, 0]);
    let dir = cell.dir.load(Ordering::Relaxed);
    let offset = cell.state_offset.load(Ordering::Relaxed) as i64;
    let mut found = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: async-signal-safe calls (signal-safety(7)). `name` ends in a zero byte, `found` is large enough, and
    // the descriptors stay open while the cell is `USED`.
    unsafe {
        let path = name.as_ptr().cast();
        if libc::fstatat(dir, path, found.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) != 0 {
            return;
        }
        let found = found.assume_init();
        if found.st_dev == cell.device.load(Ordering::Relaxed) && found.st_ino == cell.inode.load(Ordering::Relaxed) {
            libc::pwrite(cell.file.load(Ordering::Relaxed), aborted.as_ptr().cast(), aborted.len(), offset);
            libc::unlinkat(dir, path, 0);
        }
    }
}
