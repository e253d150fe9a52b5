"""Waits under gevent, where the other greenlets of the thread run meanwhile."""

from __future__ import annotations

import time
import weakref

import gevent  # type: ignore[import-untyped,unused-ignore]
import gevent.event  # type: ignore[import-untyped,unused-ignore]

from ._waits import desk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, TypeVar, Union

    from ._tenure import Guard, Releasing, Waiting

    _T = TypeVar("_T")


class _Listener:
    """Listens to the doorbell while greenlets of a hub wait."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.desk = desk()
        self.count = 0
        self.watcher = hub.loop.io(self.desk.doorbell.fileno(), 1)

    def attend(self) -> None:
        if self.count == 0:
            self.watcher.start(self.desk.answer, self.hub)
        self.count += 1

    def depart(self) -> None:
        self.count -= 1
        if self.count == 0:
            self.watcher.stop()


_listeners: weakref.WeakKeyDictionary[Any, _Listener] = weakref.WeakKeyDictionary()


def _listener(hub: Any) -> _Listener:
    listener = _listeners.get(hub)
    if listener is None or listener.desk is not desk():
        listener = _listeners[hub] = _Listener(hub)
    return listener


def wait(waiting: Waiting) -> Guard:
    """Waits in this greenlet. A greenlet that is killed meanwhile holds nothing."""
    try:
        return _wait(waiting, waiting.poll, waiting.left(), waiting.give_up)
    finally:
        waiting.close()


def settle(releasing: Releasing) -> None:
    """Waits in this greenlet for the end of a release. A greenlet that is killed meanwhile does not stop it."""
    _wait(releasing, releasing.poll, None, None)


def _wait(
    waiting: Union[Waiting, Releasing],
    poll: Callable[[], Optional[_T]],
    left: Optional[float],
    give_up: Optional[Callable[[], _T]],
) -> _T:
    hub = gevent.get_hub()
    rung = gevent.event.Event()

    def wake(answering: object) -> None:
        if answering is hub:
            rung.set()
        else:
            hub.loop.run_callback_threadsafe(rung.set)

    deadline = None if left is None else time.monotonic() + left
    listener = _listener(hub)
    number = listener.desk.enter(waiting, wake)
    try:
        listener.attend()
        try:
            while True:
                rung.clear()
                outcome = poll()
                if outcome is not None:
                    return outcome
                if deadline is not None:
                    left = deadline - time.monotonic()
                    if left <= 0 and give_up is not None:
                        return give_up()
                rung.wait(left)
        finally:
            listener.depart()
    finally:
        listener.desk.leave(number)
