//! Acquires and releases once after a first pair, between two marks in the system call trace: `strace -f
//! target/debug/examples/once /tmp/t [flock]`.

use tenure::{Lock, Style, Wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let target = words.next().ok_or("name a target")?;
    let style = if words.next().as_deref() == Some("flock") { Style::Flock } else { Style::LockFile };
    let lock = Lock::options().style(style).open(target)?;
    lock.acquire_with(Wait::Never)?.release()?;
    eprintln!("begin");
    lock.acquire_with(Wait::Never)?.release()?;
    eprintln!("end");
    Ok(())
}
