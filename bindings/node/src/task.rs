//! The tasks of scopes: `task()`.

use napi_derive::napi;

/// The task of a scope.
#[napi]
pub struct NativeTask(Option<tenure::Task>);

#[napi]
impl NativeTask {
    /// Returns a new task.
    #[napi(constructor)]
    pub fn new(name: Option<String>) -> NativeTask {
        NativeTask(Some(name.map_or_else(tenure::Task::new, tenure::Task::named)))
    }

    /// Ends the task. Later acquires belong to none.
    #[napi]
    pub fn end(&mut self) {
        self.0 = None;
    }
}

/// Runs `act` in the scope of a task, if there is one.
pub(crate) fn in_scope<T>(task: Option<&NativeTask>, act: impl FnOnce() -> T) -> T {
    match task.and_then(|task| task.0.as_ref()) {
        Some(task) => task.sync_scope(act),
        None => act(),
    }
}
