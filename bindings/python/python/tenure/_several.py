"""Several locks, all or none."""

from __future__ import annotations

import time

from . import _tenure
from ._errors import Error
from ._lock import Lock
from ._tenure import Guard

# Not from typing, whose import would cost more than that of this package.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterable, List, Optional


class _Left:
    """What is left of a timeout."""

    def __init__(self, timeout: Optional[float]) -> None:
        self._timeout = timeout
        self._began = time.monotonic()

    def __call__(self) -> Optional[float]:
        if self._timeout is None or not self._timeout > 0:
            return self._timeout
        return max(0.0, self._timeout - (time.monotonic() - self._began))


def _checked(guards: Dict[int, Guard]) -> List[Guard]:
    # A lease may have been lost while another lock was waited for.
    for guard in guards.values():
        if guard.lease is not None:
            guard.check()
    return [guards[at] for at in range(len(guards))]


def acquire_all(locks: Iterable[Lock], timeout: Optional[float] = None) -> List[Guard]:
    """Acquires several locks, all or none: of files, of servers, or both. Returns their guards in the order of ``locks``.

    All programs acquire in the same order, as ``tenure run`` with several targets does, whatever the order of ``locks``. So
    they never wait for each other in a circle. If one acquire fails, those before it are released.

    ::

        source, copy = tenure.acquire_all([tenure.Lock("source"), tenure.Lock("copy")], timeout=10)

    Args:
        locks: The locks, each of them once.
        timeout: The longest time for all of them together, in seconds. ``None`` waits without a limit, 0 does not wait.

    Raises:
        InvalidTarget: A lock is named twice.
        Lost: The lease of a lock on a server was lost while another lock was waited for.
        Error: An acquire failed, as in :meth:`Lock.acquire`.
    """
    all, left, guards = [*locks], _Left(timeout), {}
    try:
        for at in _tenure._order_of(all, timeout):
            guards[at] = all[at].acquire(left())
        return _checked(guards)
    except BaseException:
        for guard in reversed([*guards.values()]):
            try:
                guard.release()
            except Error:
                pass
        raise


async def acquire_all_async(locks: Iterable[Lock], timeout: Optional[float] = None) -> List[Guard]:
    """Acquires several locks like :func:`acquire_all`, in a task: the event loop continues."""
    import asyncio

    all, left, guards = [*locks], _Left(timeout), {}
    try:
        # In another thread, as servers may have to be asked.
        for at in await asyncio.get_running_loop().run_in_executor(None, _tenure._order_of, all, timeout):
            guards[at] = await all[at].acquire_async(left())
        return _checked(guards)
    except BaseException:
        for guard in reversed([*guards.values()]):
            try:
                await guard.release_async()
            except Error:
                pass
        raise
