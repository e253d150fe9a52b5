//! The calls of C: reading their arguments, writing their results, and returning codes.

use std::ffi::{CStr, OsStr, c_char};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::error::{Failure, TenureCode, TenureError};
use crate::raw::give;

/// Returns the text at `text`, which is an error if it is `NULL` or no UTF-8.
///
/// # Safety
///
/// `text` is `NULL` or points to a text that ends with a zero byte and does not change during `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::argument(format!("{name} is NULL")));
    }
    // SAFETY: the caller guarantees a text that ends with a zero byte.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| Failure::argument(format!("{name} is not UTF-8: {error}")))
}

/// Returns the path at `path`, which is an error if it is `NULL`, or where the system's paths are text and it is no UTF-8.
///
/// # Safety
///
/// As [`text`].
pub(crate) unsafe fn path(path: *const c_char, name: &str) -> Result<PathBuf, Failure> {
    if path.is_null() {
        return Err(Failure::argument(format!("{name} is NULL")));
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        // SAFETY: the caller guarantees a text that ends with a zero byte.
        let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
        Ok(Path::new(OsStr::from_bytes(bytes)).to_owned())
    }
    #[cfg(not(unix))]
    {
        // SAFETY: the caller guarantees a text that ends with a zero byte.
        let text = unsafe { text(path, name) }?;
        Ok(Path::new(OsStr::new(text)).to_owned())
    }
}

/// Returns the object at `object`, which is an error if it is `NULL`.
///
/// # Safety
///
/// `object` is `NULL` or came from [`give`] for this type, and has not been freed.
pub(crate) unsafe fn object<'a, T>(object: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller guarantees an object that is alive.
    unsafe { object.as_ref() }.ok_or_else(|| Failure::argument(format!("{name} is NULL")))
}

/// Writes `value` to the place that `place` names; an error if that is `NULL`.
///
/// # Safety
///
/// `place` is `NULL` or valid for a write.
pub(crate) unsafe fn put<T>(place: *mut T, value: T, name: &str) -> Result<(), Failure> {
    if place.is_null() {
        return Err(Failure::argument(format!("{name} is NULL")));
    }
    // SAFETY: the caller guarantees that the place is valid for a write.
    unsafe { place.write(value) };
    Ok(())
}

/// Returns the `count` objects to which the pointers at `objects` point. `NULL` is an error, there and among them.
///
/// # Safety
///
/// `objects` is `NULL` or has `count` pointers, each as [`object`] requires.
pub(crate) unsafe fn objects<'a, T>(objects: *const *const T, count: usize, name: &str) -> Result<Vec<&'a T>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    check_count::<*const T>(count, name)?;
    if objects.is_null() {
        return Err(Failure::argument(format!("{name} is NULL")));
    }
    // SAFETY: the caller guarantees that many pointers, whose size was just checked.
    let pointers = unsafe { std::slice::from_raw_parts(objects, count) };
    let numbered = pointers.iter().enumerate();
    // SAFETY: the caller guarantees that each is NULL or an object that is alive.
    numbered.map(|(at, pointer)| unsafe { object(*pointer, &format!("{name}[{at}]")) }).collect()
}

/// Returns the `count` places at `places`, which have no values yet.
///
/// # Safety
///
/// `places` is `NULL` or valid for `count` writes, and nothing else uses it during `'a`.
pub(crate) unsafe fn places<'a, T>(
    places: *mut *mut T,
    count: usize,
    name: &str,
) -> Result<&'a mut [MaybeUninit<*mut T>], Failure> {
    if count == 0 {
        return Ok(&mut []);
    }
    check_count::<*mut T>(count, name)?;
    if places.is_null() {
        return Err(Failure::argument(format!("{name} is NULL")));
    }
    // SAFETY: the caller guarantees that many places, whose size was just checked. `MaybeUninit` needs no value in them.
    Ok(unsafe { std::slice::from_raw_parts_mut(places.cast::<MaybeUninit<*mut T>>(), count) })
}

/// Fails for more values than a memory can have, such as a negative number that C made unsigned.
fn check_count<T>(count: usize, name: &str) -> Result<(), Failure> {
    match count.checked_mul(size_of::<T>()) {
        Some(size) if isize::try_from(size).is_ok() => Ok(()),
        _ => Err(Failure::argument(format!("count is {count}, which is more than {name} can have"))),
    }
}

/// Runs the body of a function, and returns its code. An error is also written to `error`, unless that is `NULL`. A panic of
/// the library, which must not unwind into C, is an error too.
///
/// # Safety
///
/// `error` is `NULL` or valid for a write.
pub(crate) unsafe fn run(error: *mut *mut TenureError, body: impl FnOnce() -> Result<(), Failure>) -> TenureCode {
    // The body leaves no broken state behind: the library's locks and guards survive a panic of their user.
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Failure::internal(text.unwrap_or_else(|| "unknown".to_owned())))
    });
    let (code, object) = match result {
        Ok(()) => (TenureCode::TENURE_OK, std::ptr::null_mut()),
        Err(failure) => {
            (failure.code(), if error.is_null() { std::ptr::null_mut() } else { give(TenureError::of(failure)) })
        }
    };
    if !error.is_null() {
        // SAFETY: the caller guarantees that the place is valid for a write.
        unsafe { error.write(object) };
    }
    code
}
