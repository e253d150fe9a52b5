"""Who waits in this process beside its threads: tasks and greenlets, all at one descriptor."""

from __future__ import annotations

import itertools
import os

from . import _tenure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Callable, Dict, Optional

    from ._tenure import Held, Waiting


class Desk:
    """The doorbell of a process, and who wakes up when it rings.

    Every loop that has waiters listens to it. One of them answers, and passes on what is for others.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.doorbell = _tenure.Doorbell()
        self.numbers = itertools.count(1)
        self.waiters: Dict[int, Callable[[object], None]] = {}
        self.loops: Dict[asyncio.AbstractEventLoop, int] = {}

    def enter(self, waiting: Waiting, wake: Callable[[object], None]) -> int:
        """From the next poll() of `waiting` on, `wake` is called with the loop that answers the doorbell."""
        number = next(self.numbers)
        self.waiters[number] = wake
        waiting.listen(self.doorbell, number)
        return number

    def leave(self, number: int) -> None:
        self.waiters.pop(number, None)

    def answer(self, loop: object) -> None:
        for number in self.doorbell.answer():
            wake = self.waiters.get(number)
            if wake is not None:
                wake(loop)

    def attend(self, loop: asyncio.AbstractEventLoop) -> None:
        count = self.loops.get(loop, 0)
        if count == 0:
            loop.add_reader(self.doorbell.fileno(), self.answer, loop)
        self.loops[loop] = count + 1

    def depart(self, loop: asyncio.AbstractEventLoop) -> None:
        count = self.loops.pop(loop) - 1
        if count > 0:
            self.loops[loop] = count
        else:
            loop.remove_reader(self.doorbell.fileno())


_desk: Optional[Desk] = None


def desk() -> Desk:
    """This process's: a forked child has its own."""
    global _desk
    if _desk is None or _desk.pid != os.getpid():
        _desk = Desk()
    return _desk


class _Place:
    """A task that waits."""

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
            pass  # Its loop was closed.

    def ring(self) -> None:
        self.rung = True
        self.up()

    def up(self) -> None:
        if self.asleep is not None and not self.asleep.done():
            self.asleep.set_result(None)


async def wait(waiting: Waiting, timeout: Optional[float]) -> Held:
    """Waits in this task. A wait that is cancelled holds nothing."""
    import asyncio

    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    place = _Place(loop)
    try:
        at = desk()
        number = at.enter(waiting, place.wake)
        try:
            at.attend(loop)
            try:
                while True:
                    place.rung = False
                    held = waiting.poll()
                    if held is not None:
                        return held
                    if deadline is not None and loop.time() >= deadline:
                        return waiting.give_up()
                    if not place.rung:
                        await _sleep(place, deadline)
            finally:
                at.depart(loop)
        finally:
            at.leave(number)
    finally:
        waiting.close()


async def _sleep(place: _Place, deadline: Optional[float]) -> None:
    place.asleep = place.loop.create_future()
    timer = None if deadline is None else place.loop.call_at(deadline, place.up)
    try:
        await place.asleep
    finally:
        place.asleep = None
        if timer is not None:
            timer.cancel()
