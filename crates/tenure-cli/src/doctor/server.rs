//! `tenure doctor` with a server's target: can this server be trusted with a lock?

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tenure::probe::Answer;
use tenure::{Lock, Wait, server};

use super::means::Short;
use super::{Check, Findings};
use crate::exit::{self, Failure};

/// The lock that is fought for, below the target. Always the same, so that no record stays behind each time.
const NAME: &str = "tenure-doctor";

/// What was found, what to fight for, and for how long a dead holder blocks it.
pub(super) struct Found {
    pub(super) findings: Findings,
    pub(super) target: PathBuf,
    pub(super) lease: Duration,
}

/// Tries it out. A server that does not answer, or does not let us in, is an error of its own.
pub(super) fn try_all(dir: &Path, kind: server::Scheme) -> Result<Found, Failure> {
    let target = server::below(dir, NAME)?;
    let lock = Lock::options().label("tenure doctor").open(&target)?;
    let began = Instant::now();
    let guard = match lock.acquire_with(Wait::Never) {
        Err(error) if error.is_busy() => {
            return Err(Failure::new(exit::BUSY, format!("another doctor is at work, or was killed: {error}")));
        }
        other => other?,
    };
    let took = began.elapsed();
    let lease = guard.lease().map_or(Duration::ZERO, |lease| lease.free_in);
    let first = guard.fence().unwrap_or_default();
    let second = super::second_process_beside(&target);
    guard.release()?;
    let again = lock.acquire_with(Wait::Never)?;
    let next = again.fence().unwrap_or_default();
    let fences = if next > first { Answer::Yes } else { Answer::No(format!("{first}, and then {next}")) };
    again.release()?;
    let checks = vec![
        Check::new("lock", &Answer::Yes, &format!("it was had within {} ms", took.as_millis())),
        Check::new("second-process", &second, super::means::second_process(Short::of(&second))),
        Check::new("fence", &fences, "a resource can refuse a holder from the past by its number"),
    ];
    let fence = (!fences.is_yes()).then_some("a fence that grows");
    let lacks = super::lacks_second(&second).into_iter().chain(fence).collect();
    let findings = Findings { file_system: kind.as_str().to_owned(), shared: true, checks, lacks };
    Ok(Found { findings, target, lease })
}
