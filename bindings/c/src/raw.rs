//! Objects and texts of the caller: handing them out and taking them back.

use std::ffi::{CString, c_char};

/// Moves an object to the caller.
pub(crate) fn give<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

/// Takes an object back from the caller; `None` for `NULL`.
///
/// # Safety
///
/// `object` is `NULL` or came from [`give`] for this type, and is used no more afterwards.
pub(crate) unsafe fn take<T>(object: *mut T) -> Option<Box<T>> {
    // SAFETY: the caller guarantees that the pointer came from `Box::into_raw` and is taken once.
    (!object.is_null()).then(|| unsafe { Box::from_raw(object) })
}

/// Returns a text for C. A zero byte in it becomes U+FFFD.
pub(crate) fn c_text(text: &str) -> CString {
    // It cannot fail: the zero bytes are replaced.
    CString::new(text.replace('\0', "\u{FFFD}")).unwrap_or_default()
}

/// Moves a copy of a text to the caller.
pub(crate) fn give_text(text: &str) -> *mut c_char {
    c_text(text).into_raw()
}

/// Frees a text that a function of this library returned and whose description names this function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_text_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the caller guarantees a text of `give_text`, which made it by `CString::into_raw`.
        drop(unsafe { CString::from_raw(text) });
    }
}
