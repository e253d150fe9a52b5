"""Tasks as the holders and waiters of locks."""

from __future__ import annotations

from . import _tenure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Awaitable, Optional, TypeVar

    _T = TypeVar("_T")


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

    from ._scope import scope

    token = scope.set((_tenure.Task(name), asyncio.current_task()))
    try:
        return await work
    finally:
        scope.reset(token)


def current() -> Optional[_tenure.Task]:
    """Returns the task in whose scope this one is."""
    from ._scope import scope

    found = scope.get()
    if found is None:
        return None
    import asyncio

    return found[0] if asyncio.current_task() is found[1] else None
