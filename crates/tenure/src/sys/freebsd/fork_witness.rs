//! A word that a fork sets to zero.

use std::ptr;
use std::sync::atomic::AtomicU64;

/// Maps a page that is zeroed in every forked child (`mmap(2)`; `minherit(2)`, `INHERIT_ZERO`), and returns its first word.
/// `None` without memory.
pub(crate) fn map() -> Option<&'static AtomicU64> {
    // SAFETY: sysconf(3) has no precondition.
    let length = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: mmap(2) requires that a fixed address alias nothing: none is given.
    let page = unsafe { libc::mmap(ptr::null_mut(), length, access, kind, -1, 0) };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: minherit(2) and munmap(2) require a mapping that nothing else uses: `page` is that mapping, whole, and new. A
    // reference requires an aligned, initialised word that stays valid: a page is aligned and zeroed, and this one is never
    // unmapped after this.
    unsafe {
        if libc::minherit(page, length, libc::INHERIT_ZERO) != 0 {
            libc::munmap(page, length);
            return None;
        }
        Some(&*page.cast::<AtomicU64>())
    }
}
