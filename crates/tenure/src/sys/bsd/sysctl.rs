//! Reading the kernel's variables (`sysctl(3)`).

use std::ffi::CStr;
#[cfg(target_os = "freebsd")]
use std::mem::MaybeUninit;
use std::ptr;

/// Reads a variable of the type `T` by its name (`sysctlbyname(3)`). `None` where it is missing or of another size.
///
/// # Safety
///
/// Every pattern of bytes must be a valid `T`.
#[cfg(target_os = "freebsd")]
pub(crate) unsafe fn value<T>(name: &CStr) -> Option<T> {
    let mut found = MaybeUninit::<T>::zeroed();
    let mut size = size_of::<T>();
    // SAFETY: sysctlbyname(3) requires a name that ends in a zero byte and a buffer of the given size, which is on this
    // stack. Nothing is set.
    let done =
        unsafe { libc::sysctlbyname(name.as_ptr(), found.as_mut_ptr().cast(), &raw mut size, ptr::null_mut(), 0) };
    // SAFETY: `assume_init` requires a valid `T`: the caller promises that all bytes are one.
    (done == 0 && size == size_of::<T>()).then(|| unsafe { found.assume_init() })
}

/// Reads a text of at most 255 bytes by its name (`sysctlbyname(3)`). `None` where it is missing or empty.
pub(crate) fn text(name: &CStr) -> Option<String> {
    let mut found = [0_u8; 256];
    let mut size = found.len();
    // SAFETY: as in `value`.
    let done =
        unsafe { libc::sysctlbyname(name.as_ptr(), found.as_mut_ptr().cast(), &raw mut size, ptr::null_mut(), 0) };
    let text = found.get(..size).filter(|_| done == 0)?;
    let text = String::from_utf8_lossy(text);
    let text = text.trim_end_matches('\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// Reads a variable that is named by numbers into `buffer`, and returns the number of bytes (`sysctl(3)`). `None` where it is
/// missing, denied, or larger.
pub(crate) fn bytes(mib: &[libc::c_int], buffer: &mut [u8]) -> Option<usize> {
    let mut size = buffer.len();
    // SAFETY: sysctl(3) requires a name of the given length, which it only reads, and a buffer of the given size. Nothing is
    // set.
    let done = unsafe {
        libc::sysctl(
            mib.as_ptr().cast_mut(),
            mib.len() as libc::c_uint,
            buffer.as_mut_ptr().cast(),
            &raw mut size,
            ptr::null_mut(),
            0,
        )
    };
    (done == 0).then_some(size)
}
