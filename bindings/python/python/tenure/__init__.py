"""A lock between programs: never held by two at once, never left behind by a program that died, and it always knows
who holds it.

Pitfalls:

- The lock is advisory: a program that asks neither for the lock file nor for a ``flock`` is not kept out.
- Look at ``held.previous``. After a crash you get the lock at once, and what it protects may be half-written.
- ``check()`` looks at this moment. Where a late write must not get through, hand ``held.fence`` to the resource and let
  it refuse an older one.
- Keep what ``acquire()`` answers: the lock is released when the last reference to it goes.
- A forked child holds nothing, and releases nothing.
- The same thread asking twice is an error at once (:class:`WouldDeadlock`), unless the lock is ``reentrant``.

Example::

    import tenure

    with tenure.Lock("sessions/main.jsonl", timeout=10, label="gateway") as held:
        print(held.fence)

:mod:`tenure.filelock` has the interface of the package filelock.
"""

import sys

from ._errors import (
    Busy,
    CannotCreate,
    Error,
    InTheWay,
    InvalidTarget,
    Lost,
    PermissionDenied,
    Unsupported,
    WouldDeadlock,
)
from ._lock import Lock
from ._tenure import Held, Holder, Status, __version__, break_lock, status

__all__ = [
    "Busy",
    "CannotCreate",
    "Error",
    "Held",
    "Holder",
    "InTheWay",
    "InvalidTarget",
    "Lock",
    "Lost",
    "PermissionDenied",
    "Status",
    "Unsupported",
    "WouldDeadlock",
    "__version__",
    "break_lock",
    "status",
]

for _name in ("Busy", "CannotCreate", "Error", "InTheWay", "InvalidTarget", "Lock", "Lost", "PermissionDenied",
              "Unsupported", "WouldDeadlock"):
    # As it is imported, so as it is shown and pickled.
    globals()[_name].__module__ = __name__
del _name

if "gevent.monkey" in sys.modules:
    # Later, by several threads at once, its import would stand still: its locks are gevent's.
    from . import _gevent as _gevent
del sys
