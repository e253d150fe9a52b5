//! Removing lock files when a signal ends the process.
//!
//! A handler may not allocate and may not lock, so all that it needs is in a table of atomics. While it works with an
//! entry, the owner's release waits, so that the handler never writes to, or removes, what has passed to another holder.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::dir::Dir;
use super::file::File;
use super::held_table::{Entry, NAME_WORDS, OWNER, TABLE};
use super::name::Name;
use super::signal::{self, action_of, set_handler};
use super::table::Entered;
use crate::sys::types::FileId;

const SIGNALS: [i32; 5] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGABRT];

/// The static bytes that are written into the record of a lock file before its removal. Set before any entry exists.
static MARK: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static MARK_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The program's handlers that run after ours, by the index of their signal in `SIGNALS`. Each is set once and leaked: a
/// handler reads it, and no thread may wait for the thread that sets it, which a forked child may not have.
static BEHIND: [AtomicPtr<libc::sigaction>; SIGNALS.len()] = [const { AtomicPtr::new(ptr::null_mut()) }; SIGNALS.len()];

/// A visible lock file's entry in the table.
pub(crate) struct HeldCell(Entered<Entry>);

impl HeldCell {
    /// Removes the entry, because the owner is about to remove the lock file and may close its descriptors.
    ///
    /// Waits for a handler that works with the entry on another thread: it would write to the file that has the
    /// descriptor's number next.
    pub(crate) fn leave(&self) {
        self.0.leave();
    }

    /// Sets the offset at which the mark is written.
    pub(crate) fn set_state_offset(&self, offset: u64) {
        self.0.entry().state_offset.store(offset, Ordering::Release);
    }
}

/// Adds a lock file that this process holds. `None` for a name that does not fit.
///
/// `mark` is written at `state_offset` of `anchor` before the lock file is removed, because the anchor stays. It is the same
/// for all lock files of a program.
pub(crate) fn enter_held(
    dir: &Dir,
    name: &Name,
    id: FileId,
    _lock_file: &File,
    anchor: &File,
    mark: &'static [u8],
    state_offset: u64,
) -> Option<HeldCell> {
    let bytes = name.as_c_str().to_bytes_with_nul();
    if bytes.len() > NAME_WORDS * 8 {
        return None;
    }
    // Before the entry can be seen, which is stored with release ordering.
    MARK.store(mark.as_ptr().cast_mut(), Ordering::Relaxed);
    MARK_BYTES.store(mark.len(), Ordering::Relaxed);
    let fill = |entry: &Entry| {
        let (whole, rest) = bytes.as_chunks();
        for (word, bytes) in entry.name.iter().zip(whole) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        // The name's end, and the zero behind it. An end of eight bytes needs no further word.
        if let Some(word) = entry.name.get(whole.len()).filter(|_| !rest.is_empty()) {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(last, byte)| *last = *byte);
            word.store(u64::from_ne_bytes(last), Ordering::Relaxed);
        }
        entry.dir.store(dir.raw(), Ordering::Relaxed);
        entry.file.store(anchor.raw(), Ordering::Relaxed);
        entry.device.store(id.device, Ordering::Relaxed);
        entry.inode.store(id.inode, Ordering::Relaxed);
        entry.state_offset.store(state_offset, Ordering::Relaxed);
    };
    Some(HeldCell(TABLE.enter(Entry::empty, fill)))
}

/// Installs the handlers where the signal's default action would end the process (`sigaction(2)`), and the hook at exit
/// (`atexit(3)`).
pub(crate) fn install_cleanup() -> io::Result<()> {
    // SAFETY: getpid(2) has no precondition.
    let pid = unsafe { libc::getpid() };
    let known = OWNER.swap(pid, Ordering::AcqRel) == pid;
    // Also where it was done before: a runtime restores the default action when its program's last listener goes.
    for signal in SIGNALS {
        // The program's own handler decides about the process, and an ignored signal does not end it.
        if action_of(signal)?.sa_sigaction == libc::SIG_DFL {
            set_ours(signal)?;
        }
    }
    if known {
        return Ok(());
    }
    // SAFETY: atexit(3) requires a function that needs nothing that exit(3) tears down: the table is never freed.
    if unsafe { libc::atexit(at_exit) } != 0 {
        return Err(io::Error::other("atexit(3) has no room"));
    }
    Ok(())
}

/// As [`install_cleanup`], and before the program's handlers of `signals` too, which are known to end the process
/// (`sigaction(2)`).
pub(crate) fn install_cleanup_over(signals: &[i32]) -> io::Result<()> {
    install_cleanup()?;
    for (signal, behind) in SIGNALS.iter().zip(&BEHIND).filter(|(signal, _)| signals.contains(signal)) {
        let present = action_of(*signal)?;
        if !matches!(present.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) && present.sa_sigaction != ours() {
            // Before ours is set, because ours may be called at once. There is room for one.
            if run_before(behind, &present).sa_sigaction == present.sa_sigaction {
                set_ours(*signal)?;
            }
        }
    }
    Ok(())
}

/// Returns whether the signal's handler is removed at its first use (`sigaction(2)`, `SA_RESETHAND`).
pub(crate) fn resets_itself(signal: i32) -> io::Result<bool> {
    let present = action_of(signal)?;
    let is_handler = !matches!(present.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
    Ok(is_handler && present.sa_flags & libc::SA_RESETHAND != 0)
}

/// Returns the action that runs after ours: `present`, unless one was set before.
fn run_before(behind: &AtomicPtr<libc::sigaction>, present: &libc::sigaction) -> &'static libc::sigaction {
    let fresh = Box::into_raw(Box::new(*present));
    match behind.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: a reference requires a valid pointer: `fresh` was leaked just now and is never freed.
        Ok(_) => unsafe { &*fresh },
        // SAFETY: `from_raw` requires a box's pointer that is used nowhere else: `fresh` was not published. `known` is
        // leaked, so it stays valid.
        Err(known) => unsafe {
            drop(Box::from_raw(fresh));
            &*known
        },
    }
}

fn ours() -> libc::sighandler_t {
    let handler: extern "C" fn(i32) = on_signal;
    handler as usize
}

fn set_ours(signal: i32) -> io::Result<()> {
    // `on_signal` only works on atomics and makes calls that signal-safety(7) lists.
    set_handler(signal, ours(), libc::SA_RESTART)
}

/// Removes the lock files, and lets the signal have the effect that it would have without this handler.
extern "C" fn on_signal(signal: i32) {
    remove_all();
    let behind =
        SIGNALS.iter().position(|known| *known == signal).map(|at| BEHIND[at].load(Ordering::Acquire).cast_const());
    let default = signal::default_action();
    // SAFETY: `as_ref` requires a null or a valid pointer: what `BEHIND` has is leaked.
    let next = behind.and_then(|behind| unsafe { behind.as_ref() }).unwrap_or(&default);
    let _ = signal::set(signal, next);
    // The signal is blocked while its handler runs. On return it arrives at the program's handler or at the default action,
    // and ends the process with the status that it has without this handler.
    // SAFETY: raise(3) has no precondition, and is async-signal-safe.
    unsafe { libc::raise(signal) };
}

extern "C" fn at_exit() {
    remove_all();
}

/// Removes every visible lock file of this process now, as `exit(3)` does.
pub(crate) fn clean_up() {
    remove_all();
}

/// Removes every visible lock file of this process, and marks in its record that its tenure was cut off.
fn remove_all() {
    // SAFETY: getpid(2) has no precondition, and is async-signal-safe.
    if OWNER.load(Ordering::Acquire) != unsafe { libc::getpid() } {
        return;
    }
    TABLE.take_each(remove);
}

/// Removes one lock file, if its name still names it (`fstatat(2)`, `pwrite(2)`, `unlinkat(2)`).
#[allow(clippy::unnecessary_cast, reason = "the widths of these fields differ between systems")]
fn remove(entry: &Entry) {
    let mut name = [0_u64; NAME_WORDS];
    for (word, kept) in name.iter_mut().zip(&entry.name) {
        *word = kept.load(Ordering::Relaxed);
    }
    name[NAME_WORDS - 1] &= u64::from_ne_bytes([255, 255, 255, 255, 255, 255, 255, 0]);
    let dir = entry.dir.load(Ordering::Relaxed);
    let offset = entry.state_offset.load(Ordering::Acquire) as i64;
    let mut found = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: these calls require a path that ends in a zero byte, a `stat` to fill and bytes to read: `name` ends in one,
    // `found` is on this stack, and the mark is static. All are async-signal-safe (signal-safety(7)). The descriptors are
    // open, because their owner closes them only after it has left the table, which waits for this handler.
    unsafe {
        let path = name.as_ptr().cast();
        if libc::fstatat(dir, path, found.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) != 0 {
            return;
        }
        let found = found.assume_init();
        let (device, inode) = (found.st_dev as u64, found.st_ino as u64);
        if device == entry.device.load(Ordering::Relaxed) && inode == entry.inode.load(Ordering::Relaxed) {
            let (mark, bytes) = (MARK.load(Ordering::Relaxed), MARK_BYTES.load(Ordering::Relaxed));
            libc::pwrite(entry.file.load(Ordering::Relaxed), mark.cast(), bytes, offset);
            libc::unlinkat(dir, path, 0);
        }
    }
}
