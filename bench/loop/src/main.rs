//! Acquires and releases many times in a row, for a profiler: `loop TARGET COUNT [flock]`.

use tenure::{Lock, Style, Wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let target = words.next().ok_or("name a target")?;
    let count: u32 = words.next().ok_or("usage: loop TARGET COUNT [flock]")?.parse()?;
    let style = if words.next().as_deref() == Some("flock") { Style::Flock } else { Style::LockFile };
    let lock = Lock::options().style(style).open(target)?;
    for _ in 0..count {
        lock.acquire_with(Wait::Never)?.release()?;
    }
    Ok(())
}
