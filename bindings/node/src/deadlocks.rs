//! `deadlocks()`: the circles of waits that there are.

use napi::bindgen_prelude::{Either, Result};
use napi_derive::napi;
use tenure::ListOptions;

use crate::circle::{CircleWait, waits};
use crate::convert::{Target, os_string};
use crate::work::{Promised, Work};

/// Returns the circles of programs that wait for each other, in which a lock in `folder` has a part.
#[napi(ts_return_type = "Promise<Array<Array<CircleWait>> | Failure>")]
pub fn deadlocks(
    #[napi(ts_arg_type = "string | Uint8Array")] folder: Target,
    recursive: bool,
) -> Result<Promised<Vec<Vec<CircleWait>>>> {
    let (folder, options) = (os_string(folder)?, ListOptions::default().recursive(recursive));
    Ok(Work::task(move || match tenure::deadlocks(folder, &options) {
        Ok(found) => Either::A(found.iter().map(waits).collect()),
        Err(error) => Either::B(error.into()),
    }))
}
