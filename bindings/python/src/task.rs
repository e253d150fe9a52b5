//! The tasks of scopes: `tenure.task()`.

use pyo3::prelude::*;

/// The task of a scope.
#[pyclass(frozen, module = "tenure")]
pub(crate) struct Task(pub(crate) tenure::Task);

#[pymethods]
impl Task {
    #[new]
    #[pyo3(signature = (name = None))]
    fn new(name: Option<String>) -> Task {
        Task(name.map_or_else(tenure::Task::new, tenure::Task::named))
    }

    /// The number by which CircleWait.task means it.
    #[getter]
    fn id(&self) -> u64 {
        self.0.id()
    }
}
