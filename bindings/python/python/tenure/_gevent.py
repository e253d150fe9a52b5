"""Waits under gevent, where the other greenlets of the thread run meanwhile."""

from __future__ import annotations

import time
import weakref

import gevent  # type: ignore[import-untyped,unused-ignore]
import gevent.event  # type: ignore[import-untyped,unused-ignore]

from ._waits import desk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from ._tenure import Guard, Waiting


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


def wait(waiting: Waiting, timeout: Optional[float]) -> Guard:
    """Waits in this greenlet. A greenlet that is killed meanwhile holds nothing."""
    hub = gevent.get_hub()
    rung = gevent.event.Event()

    def wake(answering: object) -> None:
        if answering is hub:
            rung.set()
        else:
            hub.loop.run_callback_threadsafe(rung.set)

    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        listener = _listener(hub)
        number = listener.desk.enter(waiting, wake)
        try:
            listener.attend()
            try:
                while True:
                    rung.clear()
                    guard = waiting.poll()
                    if guard is not None:
                        return guard
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return waiting.give_up()
                    rung.wait(left)
            finally:
                listener.depart()
        finally:
            listener.desk.leave(number)
    finally:
        waiting.close()
