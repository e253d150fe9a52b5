"""The waiting tasks and greenlets of this process, which share one descriptor."""

from __future__ import annotations

import itertools
import os

from . import _tenure
from ._errors import Error, add_to_body
from ._task import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import threading
    from typing import Callable, Dict, Optional, Set, TypeVar, Union

    from ._tenure import Guard, Releasing, Suspended, Waiting

    _T = TypeVar("_T")


class Desk:
    """The doorbell of a process, and the waiters that it wakes.

    Every loop with waiters listens to the doorbell. One of them answers it, and wakes the waiters of the other loops too.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.doorbell = _tenure.Doorbell()
        self.numbers = itertools.count(1)
        self.waiters: Dict[int, Callable[[object], None]] = {}
        self.loops: Dict[asyncio.AbstractEventLoop, int] = {}
        self.unwatching: Set[asyncio.AbstractEventLoop] = set()
        self.listener: Optional[threading.Thread] = None

    def enter(self, waiting: Union[Waiting, Releasing], wake: Callable[[object], None]) -> int:
        """Registers a waiter. From its next poll() on, `wake` is called with the loop that answers the doorbell."""
        number = next(self.numbers)
        self.waiters[number] = wake
        waiting.listen(self.doorbell, number)
        return number

    def leave(self, number: int) -> None:
        """Unregisters a waiter."""
        self.waiters.pop(number, None)

    def answer(self, loop: object) -> None:
        """Wakes the waiters for which the doorbell was rung."""
        for number in self.doorbell.answer():
            wake = self.waiters.get(number)
            if wake is not None:
                wake(loop)

    def attend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Counts a waiter of a loop. The first one makes the loop listen to the doorbell."""
        count = self.loops.get(loop, 0)
        if count == 0:
            try:
                loop.add_reader(self.doorbell.fileno(), self.answer, loop)
            except NotImplementedError:
                # The loop that asyncio has by default on Windows watches no sockets.
                self._listen_by_thread()
                self.unwatching.add(loop)
        self.loops[loop] = count + 1

    def depart(self, loop: asyncio.AbstractEventLoop) -> None:
        """Counts a waiter of a loop down. The loop stops listening after the last one."""
        count = self.loops.pop(loop) - 1
        if count > 0:
            self.loops[loop] = count
        elif loop in self.unwatching:
            self.unwatching.remove(loop)
        else:
            loop.remove_reader(self.doorbell.fileno())

    def _listen_by_thread(self) -> None:
        """Starts the thread that listens to the doorbell for the loops that cannot, and sleeps as long as it is not rung."""
        if self.listener is not None:
            return
        import select
        import threading

        def listen() -> None:
            while True:
                select.select([self.doorbell.fileno()], [], [])
                self.answer(None)

        self.listener = threading.Thread(target=listen, name="tenure-doorbell", daemon=True)
        self.listener.start()


_desk: Optional[Desk] = None


def desk() -> Desk:
    """Returns this process's desk. A forked child makes its own."""
    global _desk
    if _desk is None or _desk.pid != os.getpid():
        _desk = Desk()
    return _desk


class _Sleeper:
    """A waiting task, and the future that it sleeps on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.rung = False
        self.asleep: Optional[asyncio.Future[None]] = None

    def wake(self, loop: object) -> None:
        if loop is self.loop:
            self.ring()
            return
        try:
            self.loop.call_soon_threadsafe(self.ring)
        except RuntimeError:
            pass  # The loop was closed.

    def ring(self) -> None:
        self.rung = True
        self.wake_up()

    def wake_up(self) -> None:
        if self.asleep is not None and not self.asleep.done():
            self.asleep.set_result(None)


async def wait(waiting: Waiting) -> Guard:
    """Waits in this task. A cancelled wait holds nothing."""
    try:
        return await _wait(waiting, waiting.poll, waiting.left(), waiting.give_up)
    finally:
        waiting.close()


async def release(guard: Guard) -> None:
    """Releases, and waits in this task for the server's answer. A cancelled wait does not stop the release."""
    releasing = guard._start_release()
    if releasing is not None:
        await _wait(releasing, releasing.poll, None, None)


async def resume(suspended: Suspended, timeout: Optional[float]) -> bool:
    """Resumes a suspended lock, and waits for it in this task. A cancelled wait gives the lock up."""
    started = suspended._start(timeout, current())
    try:
        guard = started if isinstance(started, _tenure.Guard) else await wait(started)
    except BaseException:
        suspended._fail()
        raise
    return suspended._end(guard)


async def suspend(suspended: Suspended) -> Suspended:
    """Suspends the lock for a block."""
    return suspended.__enter__()


async def resume_at_end(suspended: Suspended, body: Optional[BaseException]) -> None:
    """Resumes the lock at the end of a block, whose exception is ``body``."""
    if not suspended._is_suspended():
        return
    try:
        await suspended.resume_async()
    except Error as failed:
        if body is None:
            raise
        add_to_body(body, failed)


async def leave(releasing: Releasing, body: Optional[BaseException]) -> None:
    """Waits for a release at the end of a block, whose exception is ``body``."""
    try:
        await _wait(releasing, releasing.poll, None, None)
    except Error as failed:
        if body is None:
            raise
        add_to_body(body, failed)


async def _wait(
    waiting: Union[Waiting, Releasing],
    poll: Callable[[], Optional[_T]],
    left: Optional[float],
    give_up: Optional[Callable[[], _T]],
) -> _T:
    import asyncio

    loop = asyncio.get_running_loop()
    deadline = None if left is None else loop.time() + left
    sleeper = _Sleeper(loop)
    at = desk()
    number = at.enter(waiting, sleeper.wake)
    try:
        at.attend(loop)
        try:
            while True:
                sleeper.rung = False
                outcome = poll()
                if outcome is not None:
                    return outcome
                if deadline is not None and give_up is not None and loop.time() >= deadline:
                    return give_up()
                if not sleeper.rung:
                    await _sleep(sleeper, deadline)
        finally:
            at.depart(loop)
    finally:
        at.leave(number)


async def _sleep(sleeper: _Sleeper, deadline: Optional[float]) -> None:
    sleeper.asleep = sleeper.loop.create_future()
    timer = None if deadline is None else sleeper.loop.call_at(deadline, sleeper.wake_up)
    try:
        await sleeper.asleep
    finally:
        sleeper.asleep = None
        if timer is not None:
            timer.cancel()
