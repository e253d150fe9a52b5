"""The lock, with its asynchronous half."""

from __future__ import annotations

import sys

from . import _tenure
from ._task import current
from ._tenure import Guard

# Not from typing, whose import would cost more than that of this package.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Optional, Type, Union

    if sys.version_info >= (3, 10):
        from types import EllipsisType
    else:
        from builtins import ellipsis as EllipsisType


class Lock(_tenure.Lock):
    """The lock of a path, or of a name on a server. Open it once, and acquire it as often as needed, from any thread or task.

    ::

        lock = tenure.Lock("sessions/main.jsonl", timeout=10)
        with lock as guard:
            if guard.previous is not None:
                ...  # The previous holder died while it held the lock: repair the data.
            ...  # Append, with guard.fence for a resource that checks it.

    While the lock is held, ``sessions/main.jsonl.lock`` names the holder. A waiting thread releases the GIL, and a Ctrl-C
    ends its wait immediately. ``async with`` waits without a thread, and a cancelled wait leaves nothing behind.

    A lock on a server reaches beyond one machine. Its target has the server's options (``ttl=``, ``ca=`` ..), and the project's
    docs/distributed.md describes them::

        lock = tenure.Lock("etcd://etcd-1:2379,etcd-2:2379/sessions/main?ttl=10s")
        lock = tenure.Lock("postgres://app@db/prod?lock=sessions/main")

    Such a lock has no ``style``, ``steal_after``, ``stale_after``, ``malformed_grace``, ``refresh_interval``,
    ``create_parents``, ``mode`` and ``record``: they raise Unsupported.

    Args:
        path: The path to protect. It need not exist. The lock file is ``<path>.lock``, so do not pass that. Or a target on a
            server.
        timeout: The default timeout of an acquire, in seconds. ``None`` waits without a limit, 0 does not wait.
        label: A name for this holder, which other processes see.
        style: ``"lock-file"`` creates ``<path>.lock`` while the lock is held, which also excludes programs that only know
            lock files. ``"flock"`` locks the path itself with flock(2), which excludes ``flock(1)`` and the package
            filelock.
        shared: Acquire shared locks, which exclude exclusive locks but not each other. In flock style, or on a server.
        reentrant: Allow this process to acquire again while it holds the lock. The process counts its acquires, so two
            of its threads do not exclude each other.
        deadlock_check: Raise WouldDeadlock where a thread would wait for itself. Turn it off if guards are passed to other
            threads, which release them.
        max_hold: The intended maximum time of a hold, in seconds.
        overrun: The action after ``max_hold``. ``"report"`` only shows it to other processes, ``"revoke"`` releases the
            lock, and ``check()`` raises Lost.
        steal_after: Steal the lock from a live holder that has held it for this many seconds, or for longer than its own
            ``max_hold``. The stolen holder may still be working. By default, only a dead holder's lock is taken over.
        stale_after: The age in seconds at which reports call a record too old. The default is half an hour.
        malformed_grace: The age in seconds at which a lock file without a pid may be taken over. The default is 5.
        refresh_interval: The interval at which the record's date is updated while the lock is held, in seconds. The
            default is 600, and ``inf`` turns it off.
        create_parents: Create missing parent folders of the path.
        mode: The permission bits of the lock's files, whatever the umask. 0o666 shares a lock between users.
        history: Keep the last tenures of this lock, so many, and as many failed waits: :func:`tenure.history` returns them.
            0, the default, keeps none.
        record: Keep a record of the holder. False takes only the flock(2) on the path, without a fence and a holder.
        slots: Let up to this many hold the lock at once, each with a slot of its own. At most as many hold as the smallest
            number of all holders. A lock without slots is another lock.
        if_busy: The action when the lock is busy. ``"skip"`` raises Busy at once. ``"queue-one"`` waits, but raises Skipped
            if another acquire with it waits already. ``"replace"`` asks the holder's process to end, by SIGTERM, and after
            ``grace`` by SIGKILL.
        grace: The time in seconds that ``"replace"`` leaves the holder. The default is 5.
        not_more_often_than: Raise Skipped if the last hold that called ``mark_successful()`` began less than this many
            seconds ago.

    Raises:
        tenure.Error: If the lock cannot be opened.
        ValueError: For an argument out of range.
    """

    async def acquire_async(self, timeout: Union[float, None, EllipsisType] = ...) -> Guard:
        """Acquires the lock like :meth:`acquire`, for an asyncio task. The event loop runs meanwhile, and no thread waits.

        A cancelled wait holds nothing, even if the lock was granted at that moment. Two tasks exclude each other, so a
        task that acquires twice waits for itself: pass a timeout, or run it in a scope (:func:`tenure.task`), where that
        raises :class:`WouldDeadlock`. The release of a lock on a server waits for its answer: use ``async with``, or
        :meth:`Guard.release_async`.

        ::

            guard = await lock.acquire_async(timeout=10)
            try:
                ...
            finally:
                guard.release()
        """
        started = self._start(timeout, current())
        if isinstance(started, Guard):
            return started
        from . import _waits

        return await _waits.wait(started)

    async def __aenter__(self) -> Guard:
        frame = sys._getframe().f_back
        guard = await self.acquire_async()
        self._keep(_task(), 0 if frame is None else id(frame), guard)
        return guard

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        frame = sys._getframe().f_back
        guard = self._take(_task(), 0 if frame is None else id(frame))
        releasing = guard._start_exit(error)
        if releasing is not None:
            from . import _waits

            await _waits.leave(releasing, error)

    def __reduce__(self) -> Any:
        raise TypeError("a lock belongs to its process: open it by its path in the other process")


def _task() -> int:
    """Returns a number for this task, or 0 without a running loop, as when a generator is garbage-collected."""
    import asyncio

    try:
        return id(asyncio.current_task())
    except RuntimeError:
        return 0


def _register_child_cleanup() -> None:
    """Registers a finalizer of multiprocessing, whose processes end by ``_exit(2)``, to remove lock files."""
    process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _tenure._clean_up, exitpriority=-1000)
