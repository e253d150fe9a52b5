"""The asynchronous locks, under the name of filelock's module."""

from ._aio import (
    AsyncAcquireReturnProxy,
    AsyncSoftFileLock,
    AsyncUnixFileLock,
    BaseAsyncFileLock,
)

__all__ = [
    "AsyncAcquireReturnProxy",
    "AsyncSoftFileLock",
    "AsyncUnixFileLock",
    "BaseAsyncFileLock",
]
