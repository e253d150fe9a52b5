//! Circles of programs that wait for each other.

use napi_derive::napi;

use crate::convert::{date, path_text};

/// A program that holds a lock and waits for another: one step of a deadlock. Properties that are not known are undefined. Texts
/// are unescaped, as their writer recorded them.
#[napi(object, object_from_js = false)]
pub struct CircleWait {
    /// The process id of the waiting program.
    pub pid: i64,
    /// The command line.
    pub command: Option<String>,
    /// The label that the program chose for itself.
    pub label: Option<String>,
    /// The number of the waiting task in its process. undefined: a thread waits.
    pub task: Option<i64>,
    /// The task's name.
    pub task_name: Option<String>,
    /// The path whose lock it holds. Of a slot, the slot's own path.
    pub holds: String,
    /// The process id of the holder, where the program is a command that runs under its lock, as with `tenure run`.
    pub holder_pid: Option<i64>,
    /// The path whose lock it waits for.
    pub waits_for: String,
    /// The number of slots of which it waits for one. undefined: it waits for the lock.
    pub slots: Option<u32>,
    /// When the wait began, in milliseconds since 1970.
    pub since: Option<f64>,
    /// A one-line description, escaped for a terminal.
    pub text: String,
}

impl From<&tenure::Waiting> for CircleWait {
    fn from(waiting: &tenure::Waiting) -> CircleWait {
        CircleWait {
            pid: waiting.pid,
            command: waiting.command.clone(),
            label: waiting.label.clone(),
            task: waiting.task.and_then(|task| i64::try_from(task).ok()),
            task_name: waiting.task_name.clone(),
            holds: path_text(&waiting.holds),
            holder_pid: waiting.holder_pid,
            waits_for: path_text(&waiting.waits_for),
            slots: waiting.slots,
            since: waiting.since.map(date),
            text: waiting.to_string(),
        }
    }
}

/// Converts a circle.
pub(crate) fn waits(circle: &tenure::Circle) -> Vec<CircleWait> {
    circle.waits.iter().map(CircleWait::from).collect()
}
