"""The interface of the package filelock on Tenure's locks. Use it by ``import tenure.filelock as filelock``.

Example::

    import tenure.filelock as filelock

    with filelock.FileLock("data.lock", timeout=10):
        ...

- :class:`FileLock` and the package's ``filelock.FileLock`` exclude each other on the same path.
- :class:`SoftFileLock` does not exclude the package's in every case, see its documentation.
- Waits do not poll. ``poll_interval`` only sets how often ``cancel_check`` is called.
- A second holder in the same process, thread or task waits like another process.

``docs/from-filelock.md`` in Tenure's repository lists every difference.
"""

import sys
from typing import TYPE_CHECKING

if sys.platform == "win32":
    raise ImportError("tenure.filelock has no port to Windows: tenure.Lock(path, style='flock') excludes filelock's FileLock")

from ._base import AcquireReturnProxy, BaseFileLock, Timeout
from ._descriptor import lock_descriptor, unlock_descriptor
from ._locks import FileLock, SoftFileLock, UnixFileLock
from ._options import CloseErrorPolicy, ContextErrorPolicy, LockOptions, SoftFileLockLifetimeWarning

if TYPE_CHECKING:
    from . import asyncio
    from ._aio import AsyncFileLock
    from .asyncio import (
        AsyncAcquireReturnProxy,
        AsyncSoftFileLock,
        AsyncUnixFileLock,
        BaseAsyncFileLock,
    )

__version__ = "4.3.1"
"""The version of filelock with this interface. ``tenure.__version__`` is the version of this package."""

has_fcntl = True
"""FileLock uses flock(2)."""

__all__ = [
    "AcquireReturnProxy",
    "AsyncAcquireReturnProxy",
    "AsyncFileLock",
    "AsyncSoftFileLock",
    "AsyncUnixFileLock",
    "BaseAsyncFileLock",
    "BaseFileLock",
    "CloseErrorPolicy",
    "ContextErrorPolicy",
    "FileLock",
    "LockOptions",
    "SoftFileLock",
    "SoftFileLockLifetimeWarning",
    "Timeout",
    "UnixFileLock",
    "__version__",
    "asyncio",
    "has_fcntl",
    "lock_descriptor",
    "unlock_descriptor",
]

# Imported on demand, because importing asyncio takes longer than the rest of the package.
_OF_ASYNCIO = (
    "AsyncAcquireReturnProxy",
    "AsyncFileLock",
    "AsyncSoftFileLock",
    "AsyncUnixFileLock",
    "BaseAsyncFileLock",
)

_SHARES = "tenure.Lock(path, style='flock', shared=True) shares"
_ENDS = "tenure.Lock(path, max_hold=.., overrun='revoke') ends after a maximum time"
_STRICT = "tenure.Lock(path) never steals a live holder's lock"

_INSTEAD = {
    "ReadWriteLock": _SHARES,
    "SoftReadWriteLock": _SHARES,
    "AsyncReadWriteLock": f"{_SHARES}, with `async with` too",
    "AsyncSoftReadWriteLock": f"{_SHARES}, with `async with` too",
    "AsyncAcquireReadWriteReturnProxy": _SHARES,
    "AsyncAcquireSoftReadWriteReturnProxy": _SHARES,
    "StrictSoftFileLock": _STRICT,
    "AsyncStrictSoftFileLock": _STRICT,
    "StrictSoftFileClaim": _STRICT,
    "StrictSoftFileClaimState": _STRICT,
    "StrictRelease": _STRICT,
    "SoftFileLockProtocolError": _STRICT,
    "SoftFileLease": _ENDS,
    "AsyncSoftFileLease": _ENDS,
    "LeaseClaim": _ENDS,
    "LeaseCompromise": _ENDS,
    "LeaseHeartbeat": _ENDS,
    "LeaseSettingsMismatch": _ENDS,
    "CompromiseReason": "the text of tenure.Lost names the reason",
    "MarkerSoftFileLock": "use SoftFileLock(path) or tenure.Lock(path); tenure.status(path) shows the holder",
    "OwnerMode": "tenure.status(path).holder is the holder",
    "OwnerRecord": "tenure.status(path).holder is the holder",
    "FileLockContext": "lock.held is the tenure.Guard behind the lock",
    "AcquireWait": "the threads of one lock need no wait of their own",
    "InFlight": "waits are in the kernel",
    "ReleasePendingError": "Tenure does not support Windows",
    "WindowsFileLock": "Tenure does not support Windows",
    "AsyncWindowsFileLock": "Tenure does not support Windows",
}


for _name in (
    "AcquireReturnProxy",
    "BaseFileLock",
    "SoftFileLock",
    "SoftFileLockLifetimeWarning",
    "Timeout",
    "UnixFileLock",
    "lock_descriptor",
    "unlock_descriptor",
):
    # Shown and pickled by their public name.
    globals()[_name].__module__ = __name__
del _name


def __getattr__(name: str) -> object:
    if name in _OF_ASYNCIO or name == "asyncio":
        from importlib import import_module

        if name == "asyncio":
            return import_module(f"{__name__}.asyncio")
        value = globals()[name] = getattr(import_module(f"{__name__}._aio"), name)
        return value
    instead = _INSTEAD.get(name)
    more = "" if instead is None else f": {instead}"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{more}")


def __dir__() -> "list[str]":
    return sorted({*globals(), *_OF_ASYNCIO, "asyncio"})
