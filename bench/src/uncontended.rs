//! Acquire and release with nobody else there.

use std::ffi::CString;
use std::io;
use std::path::Path;
use std::time::Instant;

use tenure::{Lock, Style, Wait};

use crate::bare;
use crate::stats::Row;

/// How often a candidate runs before the next one's turn.
pub(crate) const BATCH: usize = 50;

/// One way to take a lock and let it go.
type Candidate<'a> = (&'static str, Box<dyn FnMut() -> crate::Result<()> + 'a>);

/// A record of the length that the library's have.
const RECORD: [u8; 640] = [b' '; 640];

pub(crate) fn measure(folder: &Path, rounds: usize) -> crate::Result<Vec<Row>> {
    let mut candidates = candidates(folder)?;
    let mut samples = vec![Vec::with_capacity(rounds * BATCH); candidates.len()];
    for (_, once) in &mut candidates {
        for _ in 0..BATCH {
            once()?; // Warm.
        }
    }
    for round in 0..rounds {
        for turn in 0..candidates.len() {
            let at = (round + turn) % candidates.len();
            for _ in 0..BATCH {
                let start = Instant::now();
                candidates[at].1()?;
                samples[at].push(start.elapsed().as_nanos() as u64);
            }
        }
    }
    Ok(candidates.iter().zip(samples).map(|((name, _), samples)| Row::new(name, samples)).collect())
}

fn candidates(folder: &Path) -> crate::Result<Vec<Candidate<'static>>> {
    let path = |name: &str| bare::c_path(&folder.join(name));
    let create = libc::O_RDWR | libc::O_CREAT;

    let open_file = bare::open(&path("bare")?, create)?;
    let flock_open = move || -> io::Result<()> {
        bare::flock(&open_file, libc::LOCK_EX)?;
        bare::flock(&open_file, libc::LOCK_UN)
    };

    let reopened = path("bare")?;
    let open_flock = move || -> io::Result<()> {
        let file = bare::open(&reopened, create)?;
        bare::flock(&file, libc::LOCK_EX)?;
        bare::flock(&file, libc::LOCK_UN)
    };

    let dir = bare::open(&bare::c_path(folder)?, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let anchor = bare::open(&path("anchor")?, create)?;
    let names = (CString::new("anchor")?, CString::new("anchor.lock")?);
    let record_link = move || -> io::Result<()> {
        bare::flock(&anchor, libc::LOCK_EX)?;
        bare::write_at_start(&anchor, &RECORD)?;
        bare::link_at(&dir, &names.0, &names.1)?;
        bare::unlink_at(&dir, &names.1)?;
        bare::flock(&anchor, libc::LOCK_UN)
    };

    let dir = bare::open(&bare::c_path(folder)?, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let dotlock = path("dotlock.lock")?;
    let dotlock_name = CString::new("dotlock.lock")?;
    let exclusive_create = move || -> io::Result<()> {
        let file = bare::open(&dotlock, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)?;
        bare::write_at_start(&file, &RECORD)?;
        drop(file);
        bare::unlink_at(&dir, &dotlock_name)
    };

    let lock_file = Lock::new(folder.join("lock-file"))?;
    let flock = Lock::options().style(Style::Flock).open(folder.join("flock"))?;
    let bare_kernel = Lock::options().style(Style::Flock).record(false).open(folder.join("no-record"))?;
    let tenure = |lock: Lock| {
        move || -> crate::Result<()> {
            lock.acquire(Wait::Never)?.release()?;
            Ok(())
        }
    };

    fn bare_calls(mut once: impl FnMut() -> io::Result<()> + 'static) -> Box<dyn FnMut() -> crate::Result<()>> {
        Box::new(move || Ok(once()?))
    }
    Ok(vec![
        ("bare: flock + unlock, file kept open", bare_calls(flock_open)),
        ("bare: open + flock + unlock + close", bare_calls(open_flock)),
        ("bare: flock + record + link + unlink + unlock, kept open", bare_calls(record_link)),
        ("bare: exclusive create + write + close + unlink", bare_calls(exclusive_create)),
        ("tenure, lock-file style", Box::new(tenure(lock_file))),
        ("tenure, flock style", Box::new(tenure(flock))),
        ("tenure, flock style, no record", Box::new(tenure(bare_kernel))),
    ])
}
