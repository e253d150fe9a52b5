"""Tasks as the holders and waiters of locks."""

from __future__ import annotations

from contextvars import ContextVar

from . import _tenure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Awaitable, Optional, Tuple, TypeVar

    _T = TypeVar("_T")

# The task of the scope, with the task of the event loop that runs it: a task that is started in a scope inherits the variable.
_scope: ContextVar[Optional[Tuple[_tenure.Task, Any]]] = ContextVar("tenure.task", default=None)


async def task(work: Awaitable[_T], *, name: Optional[str] = None) -> _T:
    """Awaits ``work`` as one task: what it acquires belongs to the task. So an acquire that would wait for the task itself, or that
    would close a circle of waiting tasks, threads and programs, raises :class:`WouldDeadlock` immediately.

    ::

        async def transfer(source, target):
            async with source, target:
                ...

        await asyncio.gather(tenure.task(transfer(a, b)), tenure.task(transfer(b, a)))

    That is a promise: what the task acquires with ``async with`` or ``acquire_async()``, only the task releases, and while one of
    these acquires waits, the task releases nothing. Open a lock whose guard another task releases with
    ``deadlock_check=False``. A task that ``work`` starts is no part of it, and has a scope of its own if it needs one.

    Args:
        work: A coroutine, or another awaitable that runs in the task that awaits it.
        name: A name, which :attr:`CircleWait.task_name` shows.
    """
    import asyncio

    token = _scope.set((_tenure.Task(name), asyncio.current_task()))
    try:
        return await work
    finally:
        _scope.reset(token)


def current() -> Optional[_tenure.Task]:
    """Returns the task in whose scope this one is."""
    scope = _scope.get()
    if scope is None:
        return None
    import asyncio

    return scope[0] if asyncio.current_task() is scope[1] else None
