//! Tenure for C: `libtenure` with `tenure.h`, and so for every language that can call C.
//!
//! cbindgen makes the header of this crate: the documentation of an item here is its documentation there. Each function is
//! one call of the Rust library, and this crate adds what C needs: pointers, codes and texts.
//!
//! Objects that a function returns belong to the caller, who frees each with the function that its type names. `NULL` is a
//! valid argument of every `_free` function. Texts are UTF-8 and end with a zero byte. A path is the system's bytes.
//!
//! # Safety
//!
//! One contract for all functions: an object is `NULL` or came from this library for that type and has not been freed; a text
//! is `NULL` or ends with a zero byte, and does not change during the call; a place for a result is `NULL` or valid for a
//! write. What a function frees is used no more. Options and guards are used by one thread at a time. The functions report
//! `NULL` where they need an object.

#![allow(clippy::missing_safety_doc, reason = "the contract above is that of every function")]

mod acquiring;
mod bell;
mod call;
mod error;
mod guard;
mod holder;
mod lock;
mod loss;
mod options;
mod raw;
mod status;
mod wait;

use std::ffi::{CStr, c_char};

pub use acquiring::*;
pub use error::*;
pub use guard::*;
pub use holder::*;
pub use lock::*;
pub use options::*;
pub use raw::tenure_text_free;
pub use status::*;

/// The version of the library, for [`tenure_version`].
const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version contains no zero byte"),
};

/// Returns the version of the library, such as `0.1.0`. The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_version() -> *const c_char {
    VERSION.as_ptr()
}
