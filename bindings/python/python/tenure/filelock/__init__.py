"""The interface of the package filelock, on Tenure's locks: ``import tenure.filelock as filelock`` serves.

- :class:`FileLock` excludes the real ``filelock.FileLock`` on the same path, and is excluded by it.
- :class:`SoftFileLock` does not exclude the real one in every case: see there.
- Nothing polls: ``poll_interval`` is only how often a ``cancel_check`` is asked.
- A second holder in the same process, thread or task waits as another process does.

``docs/from-filelock.md`` in Tenure's repository has each difference.
"""

from ._aio import (
    AsyncAcquireReturnProxy,
    AsyncFileLock,
    AsyncSoftFileLock,
    AsyncUnixFileLock,
    BaseAsyncFileLock,
)
from ._base import AcquireReturnProxy, BaseFileLock, Timeout
from ._locks import FileLock, SoftFileLock, UnixFileLock

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
    "FileLock",
    "SoftFileLock",
    "Timeout",
    "UnixFileLock",
    "has_fcntl",
]

_INSTEAD = {
    "ReadWriteLock": "tenure.Lock(path, style='flock', shared=True) shares",
    "SoftReadWriteLock": "tenure.Lock(path, style='flock', shared=True) shares",
    "AsyncReadWriteLock": "tenure.Lock(path, style='flock', shared=True) shares, with `async with` too",
    "StrictSoftFileLock": "tenure.Lock(path) never robs a live holder",
    "SoftFileLease": "tenure.Lock(path, max_hold=.., overrun='revoke') ends by itself",
    "WindowsFileLock": "there is no Tenure for Windows",
}


def __getattr__(name: str) -> object:
    instead = _INSTEAD.get(name)
    more = "" if instead is None else f": {instead}"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{more}")
