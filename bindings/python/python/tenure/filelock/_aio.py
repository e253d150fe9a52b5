"""The locks for asyncio. A task waits without a thread, so that no executor is needed."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple, Type, Union
from weakref import WeakKeyDictionary

import tenure

from ._base import BaseFileLock, Context, Steps, Timeout
from ._locks import SoftFileLock, UnixFileLock
from ._options import UNSET_MODE, CloseErrorPolicy, ContextErrorPolicy, blocking_of

if TYPE_CHECKING:
    import concurrent.futures
    from types import TracebackType
    from typing import NoReturn

    from typing_extensions import Self

    from tenure import Guard

_SYNC = "Use `async with`: acquire/release are coroutines and cannot be awaited in a sync context manager."

#: The paths that each task holds, with the lock that holds them.
_of_tasks: WeakKeyDictionary[Any, Dict[str, Any]] = WeakKeyDictionary()


class AsyncAcquireReturnProxy:
    """The result of acquire(): an ``async with`` block that only releases."""

    def __init__(self, lock: BaseAsyncFileLock) -> None:
        self.lock = lock

    async def __aenter__(self) -> BaseAsyncFileLock:
        return self.lock

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.lock._leave_async(exc_value)


class BaseAsyncFileLock(BaseFileLock):
    """The base class of AsyncFileLock and AsyncSoftFileLock.

    ``loop``, ``run_in_executor`` and ``executor`` are accepted for compatibility, and not used. All tasks that use one
    instance share its hold, as threads do.
    """

    _in_this = "BaseAsyncFileLock instance in this task"
    _thread_local_by_default = False
    _more_defaults = {"loop": None, "run_in_executor": True, "executor": None}

    def __init__(
        self,
        lock_file: Union[str, os.PathLike[str]],
        timeout: float = -1,
        mode: int = UNSET_MODE,
        thread_local: bool = False,
        *,
        blocking: bool = True,
        is_singleton: bool = False,
        poll_interval: float = 0.05,
        lifetime: Optional[float] = None,
        context_error_policy: ContextErrorPolicy = "chain",
        close_error_policy: CloseErrorPolicy = "default",
        fallback_to_soft: bool = True,
        preserve_lock_file: bool = False,
        on_acquired: Optional[Callable[[int], None]] = None,
        loop: Optional[asyncio.AbstractEventLoop] = None,
        run_in_executor: bool = True,
        executor: Optional[concurrent.futures.Executor] = None,
    ) -> None:
        if thread_local and run_in_executor:
            raise ValueError("run_in_executor is not supported when thread_local is True")
        super().__init__(
            lock_file,
            timeout,
            mode,
            thread_local,
            blocking=blocking,
            is_singleton=is_singleton,
            poll_interval=poll_interval,
            lifetime=lifetime,
            context_error_policy=context_error_policy,
            close_error_policy=close_error_policy,
            fallback_to_soft=fallback_to_soft,
            preserve_lock_file=preserve_lock_file,
            on_acquired=on_acquired,
        )
        self._loop = loop
        self._run_in_executor = run_in_executor
        self._executor = executor
        self._turn: Optional[Tuple[asyncio.AbstractEventLoop, asyncio.Lock]] = None

    async def acquire(  # type: ignore[override]
        self,
        timeout: Optional[float] = None,
        poll_interval: Optional[float] = None,
        *,
        blocking: Optional[bool] = None,
        cancel_check: Optional[Callable[[], bool]] = None,
    ) -> AsyncAcquireReturnProxy:
        """Acquires like the synchronous lock, while the event loop runs. A cancelled wait holds nothing.

        ::

            lock = filelock.AsyncFileLock("data.lock")
            async with await lock.acquire(timeout=10):
                ...
        """
        context = self._now()
        if blocking is not None:
            blocking_of(blocking)
        limit, interval = self._limits(context, timeout, poll_interval, blocking)
        began = time.monotonic()
        # One task at a time acquires. The others join its hold.
        turn = self._my_turn()
        if turn.locked() and limit >= 0:
            try:
                await asyncio.wait_for(turn.acquire(), limit)
            except asyncio.TimeoutError:
                raise Timeout(self.lock_file) from None
        else:
            await turn.acquire()
        try:
            left = limit if limit <= 0 else max(0.0, limit - (time.monotonic() - began))
            await self._acquire_in_turn(context, left, interval, cancel_check)
        finally:
            turn.release()
        return AsyncAcquireReturnProxy(self)

    def _my_turn(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        if self._turn is None or self._turn[0] is not loop:
            self._turn = (loop, asyncio.Lock())
        return self._turn[1]

    async def _acquire_in_turn(
        self, context: Context, limit: float, interval: float, cancel_check: Optional[Callable[[], bool]]
    ) -> None:
        if context.held is None:
            holds = _of_tasks.setdefault(asyncio.current_task(), {})
            self._log("Attempting to acquire lock %s on %s")
            lock, path = self._lock(context, limit)
            if limit < 0:
                self._not_by_ourselves(holds, path)
            try:
                try:
                    held = await self._acquire_held_async(lock, limit, interval, cancel_check)
                except tenure.CannotCreate:
                    self._locks.clear()
                    lock, path = self._lock(context, limit)
                    held = await self._acquire_held_async(lock, limit, interval, cancel_check)
            except (tenure.Busy, tenure.WouldDeadlock) as error:
                raise self._as_filelock_has_it(error, limit) from None
            self._begin_hold(context, held, holds, path)
        else:
            context.counter += 1
        self._log("Lock %s acquired on %s")

    @staticmethod
    async def _acquire_held_async(
        lock: tenure.Lock, limit: float, interval: float, cancel_check: Optional[Callable[[], bool]]
    ) -> Guard:
        if cancel_check is None:
            return await lock.acquire_async(None if limit < 0 else limit)
        steps = Steps(limit, interval, cancel_check)
        while True:
            try:
                return await lock.acquire_async(steps.timeout)
            except tenure.Busy:
                if not steps.go_on():
                    raise

    async def release(self, force: bool = False) -> None:  # type: ignore[override]
        """Releases like the synchronous lock."""
        super().release(force)

    async def _leave_async(self, body: Optional[BaseException]) -> None:
        try:
            await self.release()
        except BaseException as failed:
            self._raise_both(body, failed)

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self._leave_async(exc_value)

    def __enter__(self) -> NoReturn:
        raise NotImplementedError(_SYNC)

    def __exit__(self, *_: object) -> NoReturn:
        raise NotImplementedError(_SYNC)

    @property
    def loop(self) -> Optional[asyncio.AbstractEventLoop]:
        """The value that was passed. It is not used."""
        return self._loop

    @property
    def executor(self) -> Optional[concurrent.futures.Executor]:
        """The value that was passed. It is not used."""
        return self._executor

    @executor.setter
    def executor(self, value: Optional[concurrent.futures.Executor]) -> None:
        self._executor = value

    @property
    def run_in_executor(self) -> bool:
        """The value that was passed. It is not used."""
        return self._run_in_executor


class AsyncUnixFileLock(BaseAsyncFileLock, UnixFileLock):
    """FileLock for asyncio."""


AsyncFileLock = AsyncUnixFileLock
"""The lock of this platform, for asyncio."""


class AsyncSoftFileLock(SoftFileLock, BaseAsyncFileLock):
    """SoftFileLock for asyncio."""
