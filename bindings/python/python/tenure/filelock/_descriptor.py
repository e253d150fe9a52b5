"""flock(2) on a descriptor of the caller, which FileLock respects. It keeps no record. Use it where no path is known."""

from __future__ import annotations

import errno
import fcntl
import time
from threading import TIMEOUT_MAX

from ._options import blocking_of, seconds


def lock_descriptor(fd: int, *, blocking: bool = True, poll_interval: float = 0.05) -> bool:
    """Locks an open file, which the caller closes.

    ::

        with open("data") as file:
            lock_descriptor(file.fileno())
            try:
                ...
            finally:
                unlock_descriptor(file.fileno())

    Args:
        fd: The descriptor of the file.
        blocking: False makes a single attempt.
        poll_interval: How long to sleep between two attempts, in seconds. A sleep can be interrupted, unlike a wait in
            the kernel.

    Returns:
        True if the file is locked. False only without ``blocking``.
    """
    if not blocking_of(blocking):
        return _try(fd)
    interval = seconds("poll_interval", poll_interval)
    if not 0 < interval <= TIMEOUT_MAX:
        raise ValueError(f"poll_interval must be greater than 0 and at most {TIMEOUT_MAX}, got {interval}")
    while not _try(fd):
        time.sleep(interval)
    return True


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def unlock_descriptor(fd: int) -> None:
    """Unlocks a file that lock_descriptor() locked. The file stays open."""
    fcntl.flock(fd, fcntl.LOCK_UN)
