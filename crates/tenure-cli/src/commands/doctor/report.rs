//! The answers as a text that a user can send: it names no folder, no machine and no user.

use std::fmt::Write;

use tenure::escape;
use tenure::probe::{self, Answer};

use super::checks::Findings;
use super::meanings::Short;
use crate::sys;

/// Renders the report. `trial` is the answer of the trial.
pub(super) fn render(findings: &Findings, trial: &Answer) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<19}  {}", escape::text(value));
    };
    line("tenure", env!("CARGO_PKG_VERSION"));
    let release = sys::release().map_or_else(String::new, |release| format!(" {release}"));
    line("system", &format!("{}{release}, {}", std::env::consts::OS, std::env::consts::ARCH));
    line("tries folders", if probe::tries_folders() { "yes, before the first lock" } else { "no" });
    let shared = if findings.shared { "two machines may mount it" } else { "one machine alone can mount it" };
    line("file system", &format!("{}; {shared}", findings.file_system));
    let trial = match trial {
        Answer::Yes => "passed".to_owned(),
        Answer::No(seen) => format!("did not pass: {seen}"),
        Answer::Unknown(error) => format!("could not be made: {error}"),
    };
    line("trial", &trial);
    for check in &findings.checks {
        match check.short {
            Short::Yes => line(check.name, "yes"),
            Short::No | Short::Unknown => line(check.name, &format!("{}: {}", check.short.as_str(), check.means)),
        }
    }
    text
}
