//! Circles of waits: programs of which each holds a lock and waits for the next one's.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::util::text;

/// A circle of waits, none of which can end while the others last: [`Error::circle`](crate::Error::circle),
/// [`deadlocks`](crate::deadlocks()).
///
/// `Display` writes it as one sentence. Texts in it come from other programs, so escape them before you print them yourself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Circle {
    /// The waits. Each is for the lock that the next one holds, and the last one's for the lock that the first one holds.
    pub waits: Vec<Waiting>,
}

/// A program that has a lock and waits for another: one step of a [`Circle`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// The pid of the waiting process, in its own pid namespace.
    pub pid: i64,
    /// Its command line.
    pub command: Option<String>,
    /// Its name for itself ([`Options::label`](crate::Options::label)).
    pub label: Option<String>,
    /// The target whose lock it holds.
    pub holds: PathBuf,
    /// The holder of that lock, where the waiting process is a command that runs under it, as with `tenure run`.
    pub holder_pid: Option<i64>,
    /// The target whose lock it waits for.
    pub waits_for: PathBuf,
    /// When the wait began.
    pub since: Option<SystemTime>,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, waiting) in self.waits.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{waiting}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        if let Some(command) = &self.command {
            write!(f, " \"{}\"", text::text(command))?;
        }
        if let Some(label) = &self.label {
            write!(f, " ({})", text::text(label))?;
        }
        let holds = text::path(&self.holds);
        match self.holder_pid {
            Some(holder) => write!(f, " runs under {holds}, which pid {holder} holds for it,")?,
            None => write!(f, " holds {holds}")?,
        }
        write!(f, " and waits for {}", text::path(&self.waits_for))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_reads_as_a_sentence() {
        let waiting = |pid, holds: &str, holder_pid, waits_for: &str| Waiting {
            pid,
            command: Some("node a.js".to_owned()),
            label: (pid == 1).then(|| "nightly\n".to_owned()),
            holds: holds.into(),
            holder_pid,
            waits_for: waits_for.into(),
            since: None,
        };
        let circle = Circle { waits: vec![waiting(1, "/x", None, "/y"), waiting(2, "/y", Some(3), "/x")] };
        assert_eq!(
            circle.to_string(),
            "pid 1 \"node a.js\" (nightly\\n) holds /x and waits for /y; \
             pid 2 \"node a.js\" runs under /y, which pid 3 holds for it, and waits for /x"
        );
    }
}
