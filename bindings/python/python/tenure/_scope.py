"""The scope that a task is in: a module of its own, as an import of the package loads no contextvars."""

from __future__ import annotations

from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Tuple

    from ._tenure import Task

# The task of the scope, with the task of the event loop that runs it: a task that is started in a scope inherits the variable.
scope: ContextVar[Optional[Tuple[Task, Any]]] = ContextVar("tenure.task", default=None)
