mod clock;
mod fs;
mod process;
mod wait;

pub(crate) use clock::since_boot;
pub(crate) use fs::*;
pub(crate) use process::*;
pub(crate) use wait::*;
