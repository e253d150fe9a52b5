//! Acquires and releases many times in a row, for a profiler.

#![allow(clippy::disallowed_methods, reason = "it looks at files and starts a process as any program does")]

mod hand_off;
mod instrumentation;

use tenure::{Lock, Options, Style, Wait};

const USAGE: &str = "usage: loop TARGET COUNT [flock|no-record]
       loop TARGET COUNT hand-off [flock]";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn options(style: Option<&str>) -> Result<Options> {
    Ok(match style {
        None => Lock::options(),
        Some("flock") => Lock::options().style(Style::Flock),
        Some("no-record") => Lock::options().record(false),
        Some(other) => return Err(format!("no such style: {other}").into()),
    })
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let target = words.next().ok_or(USAGE)?;
    let count = words.next().ok_or(USAGE)?;
    let mut words = words.peekable();
    let handed_off = words.next_if(|word| word == "hand-off").is_some();
    let style = words.next();
    let lock = options(style.as_deref())?.open(&target)?;
    if count == hand_off::HOLDER {
        return hand_off::hold(&lock);
    }
    let count: u32 = count.parse()?;
    if handed_off {
        return hand_off::wait(&lock, &target, count, style.as_deref());
    }
    for _ in 0..count {
        lock.acquire_with(Wait::Never)?.release()?;
    }
    Ok(())
}
