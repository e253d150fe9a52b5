//! The checks of a server.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tenure::probe::Answer;
use tenure::{Lock, Wait, server};

use super::checks::{self, Check, Findings};
use super::meanings::{self, Short};
use super::second_process;
use crate::output::{Failure, exit};

/// The name of the lock that is tested, below the target. It is always the same, so that only one record remains.
const NAME: &str = "tenure-doctor";

/// The answers, the target for the stress run, and how long a dead holder blocks it.
pub(super) struct ServerFindings {
    pub(super) findings: Findings,
    pub(super) target: PathBuf,
    pub(super) lease: Duration,
}

/// Checks a server. A server that does not answer, or refuses access, is an error.
pub(super) fn check(dir: &Path, kind: server::Scheme) -> Result<ServerFindings, Failure> {
    let target = server::below(dir, NAME)?;
    let lock = Lock::options().label("tenure doctor").open(&target)?;
    let began = Instant::now();
    let guard = match lock.acquire_with(Wait::Never) {
        Err(error) if error.is_busy() => {
            return Err(Failure::new(exit::BUSY, format!("another doctor is running, or was killed: {error}")));
        }
        other => other?,
    };
    let took = began.elapsed();
    let lease = guard.lease().map_or(Duration::ZERO, |lease| lease.free_in);
    let first = guard.fence().unwrap_or_default();
    let second = second_process::check_while_held(&target);
    guard.release()?;
    let again = lock.acquire_with(Wait::Never)?;
    let next = again.fence().unwrap_or_default();
    let fences = if next > first { Answer::Yes } else { Answer::No(format!("{first}, and then {next}")) };
    again.release()?;
    let checks = vec![
        Check::new("lock", &Answer::Yes, &format!("it was acquired within {} ms", took.as_millis())),
        Check::new("second-process", &second, meanings::second_process(Short::of(&second))),
        Check::new("fence", &fences, "a resource can refuse a past holder by this number"),
    ];
    let fence = (!fences.is_yes()).then_some("a fence that grows");
    let lacks = checks::lacks_exclusion(&second).into_iter().chain(fence).collect();
    let findings = Findings { file_system: kind.as_str().to_owned(), shared: true, checks, lacks };
    Ok(ServerFindings { findings, target, lease })
}
