//! Circles of waits: programs of which each holds a lock and waits for the next one's.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::util::text;

/// A circle of waits, none of which can end while the others last: [`Error::circle`](crate::Error::circle),
/// [`deadlocks`](crate::deadlocks()).
///
/// A wait for a [slot](crate::Options::slots) ends with any of the slots. So where one is part of a circle, all holders of these
/// slots that keep it from ending are part of it too.
///
/// `Display` writes it as one sentence. Texts in it come from other programs, so escape them before you print them yourself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Circle {
    /// The waits. Each is for the lock that the next one holds, and the last one's for the lock that the first one holds. With a
    /// wait for a slot, each is for what others of them hold.
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
    /// The number of the waiting [`Task`](crate::Task) in its process. `None`: a thread waits.
    pub task: Option<u64>,
    /// The task's name, if it has one.
    pub task_name: Option<String>,
    /// The target whose lock it holds. For a slot it is the slot's own: `<target>.slot-N`.
    pub holds: PathBuf,
    /// The holder of that lock, where the waiting process is a command that runs under it, as with `tenure run`.
    pub holder_pid: Option<i64>,
    /// The target whose lock it waits for.
    pub waits_for: PathBuf,
    /// The number of slots of which it waits for one. `None`: it waits for the lock.
    pub slots: Option<u32>,
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
        match (self.task, &self.task_name) {
            (Some(task), Some(name)) => write!(f, " task {task} \"{}\"", text::text(name))?,
            (Some(task), None) => write!(f, " task {task}")?,
            (None, _) => {}
        }
        let holds = text::path(&self.holds);
        match self.holder_pid {
            Some(holder) => write!(f, " runs under {holds}, which pid {holder} holds for it,")?,
            None => write!(f, " holds {holds}")?,
        }
        let waits_for = text::path(&self.waits_for);
        match self.slots {
            None => write!(f, " and waits for {waits_for}"),
            Some(1) => write!(f, " and waits for the slot of {waits_for}"),
            Some(slots) => write!(f, " and waits for one of {slots} slots of {waits_for}"),
        }
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
            task: None,
            task_name: None,
            holds: holds.into(),
            holder_pid,
            waits_for: waits_for.into(),
            slots: None,
            since: None,
        };
        let mut circle = Circle { waits: vec![waiting(1, "/x", None, "/y"), waiting(2, "/y", Some(3), "/x")] };
        assert_eq!(
            circle.to_string(),
            "pid 1 \"node a.js\" (nightly\\n) holds /x and waits for /y; \
             pid 2 \"node a.js\" runs under /y, which pid 3 holds for it, and waits for /x"
        );
        circle.waits = vec![waiting(1, "/x", None, "/y"), waiting(1, "/y.slot-0", None, "/x")];
        (circle.waits[0].task, circle.waits[0].slots) = (Some(3), Some(2));
        (circle.waits[1].task, circle.waits[1].task_name) = (Some(4), Some("import\t".to_owned()));
        assert_eq!(
            circle.to_string(),
            "pid 1 \"node a.js\" (nightly\\n) task 3 holds /x and waits for one of 2 slots of /y; \
             pid 1 \"node a.js\" (nightly\\n) task 4 \"import\\t\" holds /y.slot-0 and waits for /x"
        );
    }
}
