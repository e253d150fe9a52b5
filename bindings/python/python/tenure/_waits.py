"""The waiting tasks and greenlets of this process, which share one descriptor."""

from __future__ import annotations

import itertools
import os

from . import _tenure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Callable, Dict, Optional

    from ._tenure import Guard, Waiting


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

    def enter(self, waiting: Waiting, wake: Callable[[object], None]) -> int:
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
            loop.add_reader(self.doorbell.fileno(), self.answer, loop)
        self.loops[loop] = count + 1

    def depart(self, loop: asyncio.AbstractEventLoop) -> None:
        """Counts a waiter of a loop down. The loop stops listening after the last one."""
        count = self.loops.pop(loop) - 1
        if count > 0:
            self.loops[loop] = count
        else:
            loop.remove_reader(self.doorbell.fileno())


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


async def wait(waiting: Waiting, timeout: Optional[float]) -> Guard:
    """Waits in this task. A cancelled wait holds nothing."""
    import asyncio

    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    sleeper = _Sleeper(loop)
    try:
        at = desk()
        number = at.enter(waiting, sleeper.wake)
        try:
            at.attend(loop)
            try:
                while True:
                    sleeper.rung = False
                    guard = waiting.poll()
                    if guard is not None:
                        return guard
                    if deadline is not None and loop.time() >= deadline:
                        return waiting.give_up()
                    if not sleeper.rung:
                        await _sleep(sleeper, deadline)
            finally:
                at.depart(loop)
        finally:
            at.leave(number)
    finally:
        waiting.close()


async def _sleep(sleeper: _Sleeper, deadline: Optional[float]) -> None:
    sleeper.asleep = sleeper.loop.create_future()
    timer = None if deadline is None else sleeper.loop.call_at(deadline, sleeper.wake_up)
    try:
        await sleeper.asleep
    finally:
        sleeper.asleep = None
        if timer is not None:
            timer.cancel()
