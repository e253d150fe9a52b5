"""The interface of the package filelock, on Tenure's locks: ``import tenure.filelock as filelock`` serves.

- :class:`FileLock` excludes the real ``filelock.FileLock`` on the same path, and is excluded by it.
- :class:`SoftFileLock` does not exclude the real one in every case: see there.
- Nothing polls: ``poll_interval`` is only how often a ``cancel_check`` is asked.
- A second holder in the same process, thread or task waits as another process does.

``docs/from-filelock.md`` in Tenure's repository has each difference.
"""

from typing import TYPE_CHECKING

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
"""The version of filelock whose interface this is; ``tenure.__version__`` is this package's."""

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

# asyncio takes longer to import than all the rest.
_OF_ASYNCIO = (
    "AsyncAcquireReturnProxy",
    "AsyncFileLock",
    "AsyncSoftFileLock",
    "AsyncUnixFileLock",
    "BaseAsyncFileLock",
)

_SHARES = "tenure.Lock(path, style='flock', shared=True) shares"
_ENDS = "tenure.Lock(path, max_hold=.., overrun='revoke') ends by itself"
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
    "CompromiseReason": "`tenure.Lost` says how a lock was lost",
    "MarkerSoftFileLock": "SoftFileLock(path) or tenure.Lock(path); tenure.status(path) says who holds",
    "OwnerMode": "tenure.status(path).holder is who holds",
    "OwnerRecord": "tenure.status(path).holder is who holds",
    "FileLockContext": "lock.held is the tenure behind it",
    "AcquireWait": "there is nothing to wait for between the threads of one lock",
    "InFlight": "there is nothing in flight: a wait is in the kernel",
    "ReleasePendingError": "there is no Tenure for Windows",
    "WindowsFileLock": "there is no Tenure for Windows",
    "AsyncWindowsFileLock": "there is no Tenure for Windows",
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
    # As it is imported, so as it is shown and pickled.
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
