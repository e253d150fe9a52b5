//! The check that a lock excludes a second process.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use tenure::probe::Answer;
use tenure::{Lock, Wait};

use super::worker;
use crate::output::exit;

/// Acquires a lock, and checks that a second process is refused it.
pub(super) fn check(target: &Path) -> Answer {
    let tried = Lock::open(target).and_then(|lock| {
        let guard = lock.acquire_with(Wait::Never)?;
        let answer = check_while_held(target);
        guard.release().map(|()| answer)
    });
    tried.unwrap_or_else(|error| Answer::Unknown(error.to_string()))
}

/// Checks that a second process is refused the lock that this process holds.
pub(super) fn check_while_held(target: &Path) -> Answer {
    let tried = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.args([OsString::from(worker::SUBCOMMAND), "--".into(), target.into()]);
        command.stdin(Stdio::null()).output()
    });
    match tried {
        Ok(output) if output.status.code() == Some(exit::BUSY.into()) => Answer::Yes,
        Ok(output) if output.status.success() => {
            Answer::No("it acquired the lock while this process held it".to_owned())
        }
        Ok(output) => Answer::Unknown(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Answer::Unknown(format!("it did not start: {error}")),
    }
}
