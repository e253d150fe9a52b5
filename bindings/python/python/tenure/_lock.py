"""The lock, with what asyncio needs of it."""

from __future__ import annotations

import sys

from . import _tenure
from ._tenure import Held

# Not from typing, whose import would cost more than all of this package's.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Optional, Type, Union

    if sys.version_info >= (3, 10):
        from types import EllipsisType
    else:
        from builtins import ellipsis as EllipsisType


class Lock(_tenure.Lock):
    """The lock of a path. It is opened once and acquired as often as you like, by any thread or task.

    ::

        with tenure.Lock("sessions/main.jsonl", timeout=10) as held:
            if held.previous is not None:
                ...  # The last holder died in the middle: repair what it left.
            ...  # Append, with held.fence for a resource that checks it.

    While it is held, ``sessions/main.jsonl.lock`` tells everybody who holds. A waiting thread lets the GIL go, and a
    Ctrl-C ends its wait at once. ``async with`` waits without a thread, and a cancelled wait leaves nothing behind.

    Args:
        path: what the lock protects. It need not exist. Not the lock file: that is ``<path>.lock``.
        timeout: how many seconds an acquire waits. ``None``: as long as it takes; 0: not at all.
        label: what this holder calls itself, for others to see.
        style: ``"lock-file"``: a ``<path>.lock`` is there while held, and programs that know only lock files are
            excluded and exclude us. ``"flock"``: the path itself is locked with flock(2), so that ``flock(1)`` and the
            package filelock are excluded and exclude us.
        shared: acquire shares: others may share at the same time, nobody may hold. In flock style only.
        reentrant: may this process acquire again while it holds? It is counted for the whole process: two threads do
            not exclude each other then.
        deadlock_check: raise WouldDeadlock where a thread would wait for itself. Turn it off where locks are handed to
            other threads, which release them.
        max_hold: how many seconds a tenure is meant to last.
        overrun: what happens after that: ``"report"`` (it only shows) or ``"revoke"`` (the lock is released, and
            ``check()`` raises Lost).
        steal_after: a live holder's lock is stolen once it has held for that many seconds. Never, by default: only a
            dead one's lock is taken over.
        stale_after: from which age in seconds on a record counts as too old, in reports; half an hour.
        malformed_grace: how many seconds old a lock file without a pid must be before it may be taken over; 5.
        refresh_interval: after how many seconds the record's date is updated while held; 600, ``inf``: never.
        create_parents: make the folders above the path if they are missing.
        mode: the permission bits of the lock's files, whatever the umask: 0o666 shares a lock between users.
        record: keep a record? Without one it is the bare flock(2) on the path, with no fence and no holder.

    Raises:
        tenure.Error: where the lock cannot be opened.
        ValueError: for a number or a word that means nothing.
    """

    async def acquire_async(self, timeout: Union[float, None, EllipsisType] = ...) -> Held:
        """As :meth:`acquire`, for a task of asyncio: the loop goes on meanwhile, and no thread waits.

        A wait that is cancelled holds nothing, even if the lock was granted at that moment. Two tasks exclude each
        other, so a task that acquires twice waits for itself: give it a time.
        """
        if timeout is ...:
            timeout = self.timeout
        if timeout is not None and not timeout > 0:
            return super().acquire(timeout)
        begun = self._begin()
        if isinstance(begun, Held):
            return begun
        from . import _waits

        return await _waits.wait(begun, timeout)

    async def __aenter__(self) -> Held:
        frame = sys._getframe().f_back
        held = await self.acquire_async()
        self._keep(_task(), 0 if frame is None else id(frame), held)
        return held

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        frame = sys._getframe().f_back
        held = self._take(_task(), 0 if frame is None else id(frame))
        held.__exit__(kind, error, traceback)

    def __reduce__(self) -> Any:
        raise TypeError("a lock belongs to its process: open it by its path in the other one")


def _task() -> int:
    """A number for this task; 0 where no loop runs, as when what is left over is collected."""
    import asyncio

    try:
        return id(asyncio.current_task())
    except RuntimeError:
        return 0


def _clean_up_at_a_childs_end() -> None:
    """A process of multiprocessing ends by ``_exit(2)``: what it has not released goes with its own finalizers."""
    process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _tenure._clean_up, exitpriority=-1000)
