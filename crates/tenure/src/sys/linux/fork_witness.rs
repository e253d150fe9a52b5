//! A word that a fork sets to zero.

use std::ptr;
use std::sync::atomic::AtomicU64;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Maps a page that is zeroed in every forked child (`madvise(2)`, `MADV_WIPEONFORK`), and returns its first word. `None`
/// before Linux 4.14, or without memory.
pub(crate) fn map() -> Option<&'static AtomicU64> {
    // Not rustix's `page_size`: it reads the auxiliary vector, and follows a pointer there that is invalid under Valgrind.
    // SAFETY: sysconf(3) has no precondition.
    let length = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    // SAFETY: mmap(2) requires that a fixed address alias nothing: none is given.
    let page =
        unsafe { mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).ok()? };
    // SAFETY: madvise(2) and munmap(2) require a mapping that nothing else uses: `page` is that mapping, whole, and new. A
    // reference requires an aligned, initialised word that stays valid: a page is aligned and zeroed, and this one is never
    // unmapped after this.
    unsafe {
        if madvise(page, length, Advice::LinuxWipeOnFork).is_err() {
            let _ = munmap(page, length);
            return None;
        }
        Some(&*page.cast::<AtomicU64>())
    }
}
