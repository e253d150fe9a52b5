//! Removing lock files when the console ends the process, and at its ordinary end.
//!
//! The system runs a console's handler on a thread of its own, so it may lock and allocate as any other.

use std::io;
use std::os::windows::fs::FileExt;
use std::os::windows::io::{AsHandle, OwnedHandle};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use windows_sys::Win32::System::Console::SetConsoleCtrlHandler;

use super::dir::{Dir, unlink_same};
use super::file::{File, Keeper};
use super::ident::{Volume, stat};
use super::name::Name;
use super::nt;
use crate::sys::types::FileId;

static HELD: Mutex<Vec<Arc<Held>>> = Mutex::new(Vec::new());
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// A visible lock file.
struct Held {
    folder: Arc<OwnedHandle>,
    volume: Volume,
    name: Vec<u16>,
    id: FileId,
    anchor: Arc<std::fs::File>,
    keeper: Arc<Keeper>,
    mark: &'static [u8],
    state_offset: AtomicU64,
}

/// A visible lock file's entry among those that are removed when the process ends.
pub(crate) struct HeldCell(Arc<Held>);

impl HeldCell {
    /// Removes the entry, because the owner is about to remove the lock file. Waits for a handler that works with it.
    pub(crate) fn leave(&self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|entry| !Arc::ptr_eq(entry, &self.0));
    }

    /// Sets the offset at which the mark is written.
    pub(crate) fn set_state_offset(&self, offset: u64) {
        self.0.state_offset.store(offset, Ordering::Release);
    }
}

/// Adds a lock file that this process holds.
///
/// `mark` is written at `state_offset` of `anchor` before the lock file is removed, because the anchor stays.
pub(crate) fn enter_held(
    dir: &Dir,
    name: &Name,
    id: FileId,
    lock_file: &File,
    anchor: &File,
    mark: &'static [u8],
    state_offset: u64,
) -> Option<HeldCell> {
    let entry = Arc::new(Held {
        folder: dir.shared_handle(),
        volume: dir.volume(),
        name: name.as_wide().to_vec(),
        id,
        anchor: anchor.shared_handle(),
        keeper: Arc::clone(lock_file.keeper()),
        mark,
        state_offset: AtomicU64::new(state_offset),
    });
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&entry));
    Some(HeldCell(entry))
}

/// Installs a handler for Ctrl-C, Ctrl-Break, a closed console, the end of the session and of the system
/// (`SetConsoleCtrlHandler`). The handlers that the program set before, and the default, which ends the process, follow.
pub(crate) fn install_cleanup() -> io::Result<()> {
    if INSTALLED.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    // SAFETY: SetConsoleCtrlHandler requires a function that may run on any thread at any time: this one uses statics only.
    if unsafe { SetConsoleCtrlHandler(Some(on_event), 1) } == 0 {
        INSTALLED.store(false, Ordering::Release);
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// As [`install_cleanup`]: there are no signals.
pub(crate) fn install_cleanup_over(_signals: &[i32]) -> io::Result<()> {
    install_cleanup()
}

/// Returns `false`: there are no signals.
pub(crate) fn resets_itself(_signal: i32) -> io::Result<bool> {
    Ok(false)
}

/// Removes the lock files, and lets the event have the effect that it would have without this handler.
unsafe extern "system" fn on_event(_event: u32) -> windows_sys::core::BOOL {
    remove_all();
    0
}

/// Removes every visible lock file of this process now, if handlers were installed.
pub(crate) fn clean_up() {
    if INSTALLED.load(Ordering::Acquire) {
        remove_all();
    }
}

fn remove_all() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    for entry in held.iter() {
        remove(entry);
    }
}

/// Removes one lock file if its name is still that file's. Before that, marks in its record that the tenure was cut off.
fn remove(entry: &Held) {
    let named = nt::open(entry.folder.as_handle(), &entry.name, super::dir::open(super::dir::FOR_ATTRIBUTES));
    if named.is_ok_and(|named| stat(named.as_handle(), entry.volume).is_ok_and(|found| found.id == entry.id)) {
        let _ = entry.anchor.seek_write(entry.mark, entry.state_offset.load(Ordering::Acquire));
        let _ = unlink_same(entry.folder.as_handle(), entry.volume, &entry.name, entry.id, &entry.keeper);
    }
}
