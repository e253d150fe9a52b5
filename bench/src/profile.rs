//! The time of an acquire and release by system call: each call of the library, made bare in the same order on files of
//! the same kind, beside the library's total.
//!
//! The total's excess over its calls is the library's own work in user space. `crates/tenure-tests/tests/cost.rs`
//! checks which calls the library makes.

use std::path::Path;

use crate::bare;
use crate::candidate::{self, FLOCK_STYLE, LOCK_FILE, Locker};
use crate::row::Row;
use crate::setup::Setup;

pub(crate) const TOPIC: &str = "profile";
/// The number of rounds of a style's calls before the other style's, and the library's, turn.
const BATCH: usize = 50;
/// The length of the library's records.
const RECORD: usize = 1024;

type Call = (&'static str, Box<dyn FnMut() -> std::io::Result<()>>);

pub(crate) fn measure(setup: &Setup) -> crate::Result<Vec<Row>> {
    let rounds = setup.pick(400, 5);
    let mut rows = Vec::new();
    for (fs, folder) in setup.folders()? {
        for style in [LOCK_FILE, FLOCK_STYLE] {
            let calls = calls(style, &folder.join(format!("calls-of-{}", style.replace([' ', ','], "-"))))?;
            let library = candidate::open(style, &folder.join(format!("whole-of-{}", calls.len())))?;
            rows.extend(profile(&format!("{fs}, {style}"), calls, library, rounds)?);
        }
    }
    Ok(rows)
}

fn profile(case: &str, mut calls: Vec<Call>, mut library: Box<dyn Locker>, rounds: usize) -> crate::Result<Vec<Row>> {
    let clock = clock();
    let mut each = vec![Vec::new(); calls.len()];
    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for _ in 0..BATCH {
            for ((_, call), times) in calls.iter_mut().zip(&mut each) {
                let start = bare::now();
                call()?;
                times.push((bare::now() - start).saturating_sub(clock));
            }
        }
        for _ in 0..BATCH {
            let start = bare::now();
            calls.iter_mut().try_for_each(|(_, call)| call())?;
            bare.push((bare::now() - start).saturating_sub(clock));
        }
        for _ in 0..BATCH {
            let start = bare::now();
            library.acquire()?;
            library.release()?;
            whole.push((bare::now() - start).saturating_sub(clock));
        }
    }
    let named = calls.iter().zip(each).enumerate();
    let mut rows: Vec<Row> =
        named.map(|(at, ((name, _), times))| Row::times(TOPIC, case, &format!("{}. {name}", at + 1), times)).collect();
    rows.push(Row::times(TOPIC, case, "all of these calls", bare));
    rows.push(Row::times(TOPIC, case, "the library's acquire and release", whole));
    Ok(rows)
}

/// Returns the difference of two readings of the clock.
fn clock() -> u64 {
    (0..1000)
        .map(|_| {
            let start = bare::now();
            bare::now() - start
        })
        .min()
        .unwrap_or_default()
}

/// Returns the calls of a style, in the library's order: those of the acquire, then those of the release.
fn calls(style: &str, folder: &Path) -> crate::Result<Vec<Call>> {
    std::fs::create_dir_all(folder.join(".tenure"))?;
    std::fs::write(folder.join(".tenure/t.lock"), [b' '; RECORD])?;
    std::fs::write(folder.join("t"), "")?;
    let dir = || bare::open(&bare::c_path(folder)?, libc::O_RDONLY | libc::O_DIRECTORY);
    let anchor = || bare::open(&bare::c_path(&folder.join(".tenure/t.lock"))?, libc::O_RDWR);
    // One open file, as in the library: the lock belongs to the open file.
    let (one, target) = (anchor()?, bare::open(&bare::c_path(&folder.join("t"))?, libc::O_RDWR)?);
    let lock = |file: &std::os::fd::OwnedFd, name, operation| -> crate::Result<Call> {
        let file = file.try_clone()?;
        Ok((name, Box::new(move || bare::flock(&file, operation))))
    };
    let look = |name, what: &'static std::ffi::CStr| -> crate::Result<Call> {
        let dir = dir()?;
        Ok((name, Box::new(move || bare::look_at(&dir, what))))
    };
    let count = |name| -> crate::Result<Call> {
        let file = anchor()?;
        Ok((name, Box::new(move || bare::look_into(&file))))
    };
    let write = |name, length: usize| -> crate::Result<Call> {
        let file = anchor()?;
        Ok((name, Box::new(move || bare::write_at_start(&file, &[b' '; RECORD][..length]))))
    };
    let (file, mut text) = (anchor()?, [0; RECORD]);
    let read: Call = ("read the last record", Box::new(move || bare::read_at_start(&file, &mut text)));
    let take = libc::LOCK_EX | libc::LOCK_NB;
    let mut calls =
        vec![lock(&one, "lock the anchor", take)?, look("compare the anchor with its path", c".tenure/t.lock")?, read];
    if style == LOCK_FILE {
        let (to_link, to_unlink) = (dir()?, dir()?);
        calls.extend([
            write("write the record", RECORD)?,
            ("link the lock file", Box::new(move || bare::link_at(&to_link, c".tenure/t.lock", c"t.lock"))),
            count("count the anchor's links")?,
            look("compare the lock file with its path", c"t.lock")?,
            ("unlink the lock file", Box::new(move || bare::unlink_at(&to_unlink, c"t.lock"))),
            lock(&one, "unlock the anchor", libc::LOCK_UN)?,
        ]);
    } else {
        calls.extend([
            lock(&target, "lock the target", take)?,
            look("compare the target with its path", c"t")?,
            write("write the record", RECORD)?,
            count("count the anchor's links")?,
            write("record the release", 12)?,
            count("count the anchor's links again")?,
            lock(&target, "unlock the target", libc::LOCK_UN)?,
            lock(&one, "unlock the anchor", libc::LOCK_UN)?,
        ]);
    }
    Ok(calls)
}
