"""A lock between programs. The lock of a program that died never blocks others, and the holder is always known.

Example::

    import tenure

    with tenure.Lock("sessions/main.jsonl", timeout=10, label="gateway") as guard:
        if guard.previous is not None:
            ...  # The previous holder died while it held the lock: repair the data.
        ...  # Write, with guard.fence for a resource that checks it.

Pitfalls:

- The lock is advisory: it only stops programs that use the lock file or ``flock``.
- Check ``guard.previous``. After a crash the lock is granted immediately, and the protected data may be half-written.
- ``check()`` reports the state at that moment. To stop late writes, pass ``guard.fence`` to the resource, which refuses
  a smaller one.
- Keep the guard that ``acquire()`` returns: the lock is released when the last reference to it is dropped.
- A forked child holds nothing, and releases nothing.
- A second acquire by the same thread raises :class:`WouldDeadlock`, unless the lock is ``reentrant``. So does a wait that would
  close a circle of waiting threads and programs, or of tasks in a scope (:func:`task`). Among other tasks, and among greenlets, no
  circle is found: use a timeout.
- A lock on a server (``etcd://..``, ``postgres://..``) can be lost by a slow network: use ``guard.fence``.

:mod:`tenure.filelock` has the interface of the package filelock.
"""

import sys

from ._errors import (
    Busy,
    CannotCreate,
    Error,
    InvalidTarget,
    Lost,
    Obstructed,
    PermissionDenied,
    Skipped,
    Unreachable,
    Unsupported,
    WouldDeadlock,
)
from ._lock import Lock
from ._several import acquire_all, acquire_all_async
from ._task import task
from ._tenure import (
    CircleWait,
    Guard,
    Holder,
    LeaseLeft,
    PastTenure,
    Status,
    Suspended,
    SuspendedHolder,
    __version__,
    break_lock,
    deadlocks,
    history,
    list,
    slots,
    status,
)

__all__ = [
    "Busy",
    "CannotCreate",
    "CircleWait",
    "Error",
    "Guard",
    "Holder",
    "InvalidTarget",
    "LeaseLeft",
    "Lock",
    "Lost",
    "Obstructed",
    "PastTenure",
    "PermissionDenied",
    "Skipped",
    "Status",
    "Suspended",
    "SuspendedHolder",
    "Unreachable",
    "Unsupported",
    "WouldDeadlock",
    "__version__",
    "acquire_all",
    "acquire_all_async",
    "break_lock",
    "deadlocks",
    "history",
    "list",
    "slots",
    "status",
    "task",
]

for _name in ("Busy", "CannotCreate", "Error", "InvalidTarget", "Lock", "Lost", "Obstructed", "PermissionDenied",
              "Skipped", "Unreachable", "Unsupported", "WouldDeadlock"):
    # Shown and pickled by their public name.
    globals()[_name].__module__ = __name__
del _name

if "gevent.monkey" in sys.modules:
    # Imported early, because several threads that import it at once deadlock in gevent's import locks.
    from . import _gevent as _gevent
del sys
