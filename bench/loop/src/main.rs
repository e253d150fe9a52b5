//! Acquires and releases many times in a row, for a profiler: `loop TARGET COUNT [flock|no-record]`.

use tenure::{Lock, Options, Style, Wait};

fn options(style: Option<&str>) -> Result<Options, Box<dyn std::error::Error>> {
    Ok(match style {
        None => Lock::options(),
        Some("flock") => Lock::options().style(Style::Flock),
        Some("no-record") => Lock::options().record(false),
        Some(other) => return Err(format!("no such style: {other}").into()),
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let target = words.next().ok_or("name a target")?;
    let count: u32 = words.next().ok_or("usage: loop TARGET COUNT [flock|no-record]")?.parse()?;
    let lock = options(words.next().as_deref())?.open(target)?;
    for _ in 0..count {
        lock.acquire_with(Wait::Never)?.release()?;
    }
    Ok(())
}
