//! Lock files that go when a signal ends the process, on Linux.
//!
//! A handler may allocate nothing and take no lock: what it needs stands in a table of atomics ([`Table`]). While it
//! works with an entry, the owner's release waits, so that it never writes to, or removes, what has passed to another.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::fs::{Dir, File, Name};
use super::table::{Entered, Table};
use crate::sys::types::FileId;

/// A name of 255 bytes and its zero.
const NAME_WORDS: usize = 32;
const SIGNALS: [i32; 5] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGABRT];

/// What is written into the record of a lock file that goes: static bytes, set before any entry is there.
static MARK: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static MARK_BYTES: AtomicUsize = AtomicUsize::new(0);

static TABLE: Table<Entry> = Table::new();
/// The process that the table speaks of: a forked child removes nothing of its parent's.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// The handlers that ours stand before, by the place of their signal in `SIGNALS`. Set once and leaked: a handler reads
/// it, and nobody waits for the thread that sets it, which a forked child may not have.
static BEHIND: [AtomicPtr<libc::sigaction>; SIGNALS.len()] = [const { AtomicPtr::new(ptr::null_mut()) }; SIGNALS.len()];

struct Entry {
    dir: AtomicI32,
    file: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
    state_offset: AtomicU64,
    name: [AtomicU64; NAME_WORDS],
}

impl Entry {
    fn empty() -> Entry {
        Entry {
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
pub(crate) struct HeldCell(Entered<Entry>);

impl HeldCell {
    /// The lock file is about to be removed in the ordinary way, and its descriptors may be closed: not before a handler
    /// that works with them, on another thread, is done, or it would write to whatever has their numbers next.
    pub(crate) fn leave(&self) {
        self.0.leave();
    }

    pub(crate) fn set_state_offset(&self, offset: u64) {
        self.0.entry().state_offset.store(offset, Ordering::Release);
    }
}

/// Enters a lock file that is held from now on. `None` for a name that does not fit.
/// `mark` is what is written at `state_offset` where the file goes: the same for all of a program.
pub(crate) fn enter_held(
    dir: &Dir,
    name: &Name,
    id: FileId,
    file: &File,
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
        for (word, bytes) in entry.name.iter().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
        entry.dir.store(dir.raw(), Ordering::Relaxed);
        entry.file.store(file.raw(), Ordering::Relaxed);
        entry.device.store(id.device, Ordering::Relaxed);
        entry.inode.store(id.inode, Ordering::Relaxed);
        entry.state_offset.store(state_offset, Ordering::Relaxed);
    };
    Some(HeldCell(TABLE.enter(Entry::empty, fill)))
}

/// In a forked child: what is held is the parent's.
pub(super) fn forget_all() {
    TABLE.forget_all();
    OWNER.store(0, Ordering::Release);
}

/// Installs the handlers where the signal would end the process as things stand, and the hook at exit.
pub(crate) fn install_cleanup() -> io::Result<()> {
    // SAFETY: no precondition.
    let pid = unsafe { libc::getpid() };
    let known = OWNER.swap(pid, Ordering::AcqRel) == pid;
    // Again as well: a runtime gives a signal its default action back when its program's last listener goes.
    for signal in SIGNALS {
        // The program's own handler decides what becomes of the process, and an ignored signal ends nothing.
        if present(signal)?.sa_sigaction == libc::SIG_DFL {
            set_ours(signal)?;
        }
    }
    if known {
        return Ok(());
    }
    // SAFETY: `at_exit` touches nothing that exit(3) may have torn down: a table that is never freed.
    if unsafe { libc::atexit(at_exit) } != 0 {
        return Err(io::Error::other("atexit(3) has no room"));
    }
    Ok(())
}

/// Installs ours before the handlers of `signals` as well, which are known to end the process.
pub(crate) fn install_cleanup_over(signals: &[i32]) -> io::Result<()> {
    install_cleanup()?;
    for (signal, behind) in SIGNALS.iter().zip(&BEHIND).filter(|(signal, _)| signals.contains(signal)) {
        let present = present(*signal)?;
        if !matches!(present.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) && present.sa_sigaction != ours() {
            // Before ours is set: it may be called at once. There is room for one.
            if stand_before(behind, &present).sa_sigaction == present.sa_sigaction {
                set_ours(*signal)?;
            }
        }
    }
    Ok(())
}

/// Does the signal's handler go with its first use (`SA_RESETHAND`)?
pub(crate) fn resets_itself(signal: i32) -> io::Result<bool> {
    let present = present(signal)?;
    let is_handler = !matches!(present.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
    Ok(is_handler && present.sa_flags & libc::SA_RESETHAND != 0)
}

/// The handler that ours stands before: `present`, unless there is one already.
fn stand_before(behind: &AtomicPtr<libc::sigaction>, present: &libc::sigaction) -> &'static libc::sigaction {
    let fresh = Box::into_raw(Box::new(*present));
    match behind.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: just leaked; never freed.
        Ok(_) => unsafe { &*fresh },
        // SAFETY: `fresh` was not published, so it is still ours alone; `known` is leaked.
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

pub(super) fn present(signal: i32) -> io::Result<libc::sigaction> {
    let mut present = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only; `present` is on this stack and large enough.
    if unsafe { libc::sigaction(signal, ptr::null(), present.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed is a valid sigaction, and the call has filled it.
    Ok(unsafe { present.assume_init() })
}

fn set_ours(signal: i32) -> io::Result<()> {
    // `on_signal` does only what a handler may: atomics and the calls that signal-safety(7) lists.
    set_handler(signal, ours(), libc::SA_RESTART)
}

/// Sets a handler, which runs on the alternate stack where there is one. It must be async-signal-safe.
pub(super) fn set_handler(signal: i32, handler: libc::sighandler_t, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: all zeroes is a valid sigaction: an empty mask and no flags.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_ONSTACK | flags;
    // SAFETY: `action` is on this stack, and its handler does only what a handler may.
    if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_signal(signal: i32) {
    remove_all();
    let behind =
        SIGNALS.iter().position(|known| *known == signal).map(|at| BEHIND[at].load(Ordering::Acquire).cast_const());
    // SAFETY: async-signal-safe calls, and a read of what was set once. The signal is blocked while its handler runs:
    // raised, it arrives on return, at the handler that ours stands before or at the default action, and ends the
    // process with the status that it would have had.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = libc::SIG_DFL;
        let next = behind.filter(|behind| !behind.is_null()).unwrap_or(&raw const action);
        libc::sigaction(signal, next, ptr::null_mut());
        libc::raise(signal);
    }
}

extern "C" fn at_exit() {
    remove_all();
}

/// What is done at `exit(3)`, now.
pub(crate) fn clean_up() {
    remove_all();
}

/// Removes every lock file that this process shows, and leaves word in its record that it was cut off.
fn remove_all() {
    // SAFETY: getpid is async-signal-safe.
    if OWNER.load(Ordering::Acquire) != unsafe { libc::getpid() } {
        return;
    }
    TABLE.take_each(remove);
}

fn remove(entry: &Entry) {
    let mut name = [0_u64; NAME_WORDS];
    for (word, kept) in name.iter_mut().zip(&entry.name) {
        *word = kept.load(Ordering::Relaxed);
    }
    name[NAME_WORDS - 1] &= u64::from_ne_bytes([255, 255, 255, 255, 255, 255, 255, 0]);
    let dir = entry.dir.load(Ordering::Relaxed);
    let offset = entry.state_offset.load(Ordering::Acquire) as i64;
    let mut found = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: async-signal-safe calls (signal-safety(7)). `name` ends in a zero byte and `found` is large enough. The
    // descriptors are open: their owner closes them only after it has left the table, which waits for us.
    unsafe {
        let path = name.as_ptr().cast();
        if libc::fstatat(dir, path, found.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) != 0 {
            return;
        }
        let found = found.assume_init();
        if found.st_dev == entry.device.load(Ordering::Relaxed) && found.st_ino == entry.inode.load(Ordering::Relaxed) {
            let (mark, bytes) = (MARK.load(Ordering::Relaxed), MARK_BYTES.load(Ordering::Relaxed));
            libc::pwrite(entry.file.load(Ordering::Relaxed), mark.cast(), bytes, offset);
            libc::unlinkat(dir, path, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Table;

    /// More cells than one chunk has, and a handler at any time; under Miri, whether every pointer is a good one.
    #[test]
    fn entries_come_and_go_under_a_handler() {
        static TABLE: Table<AtomicUsize> = Table::new();
        std::thread::scope(|scope| {
            for thread in 0..3 {
                scope.spawn(move || {
                    for round in 0..if cfg!(miri) { 3 } else { 300 } {
                        let entered: Vec<_> = (0..8)
                            .map(|at| {
                                TABLE.enter(
                                    || AtomicUsize::new(0),
                                    |entry| entry.store(1000 * thread + round + at, Ordering::Relaxed),
                                )
                            })
                            .collect();
                        for (at, entered) in entered.iter().enumerate() {
                            assert_eq!(entered.entry().load(Ordering::Relaxed), 1000 * thread + round + at);
                            entered.leave();
                        }
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..if cfg!(miri) { 5 } else { 1000 } {
                    TABLE.take_each(|entry| assert!(entry.load(Ordering::Relaxed) < 3000));
                }
            });
        });
        TABLE.take_each(|_| panic!("everything was left"));
        let _held = TABLE.enter(|| AtomicUsize::new(0), |_| ());
        TABLE.forget_all();
        TABLE.take_each(|_| panic!("it was forgotten"));
    }
}
