mod fs;
mod process;
mod wait;

pub(crate) use fs::*;
pub(crate) use process::*;
pub(crate) use wait::*;
