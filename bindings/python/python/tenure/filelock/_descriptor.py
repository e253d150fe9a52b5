"""flock(2) on a descriptor of the caller's, which FileLock respects. It has no record: use it where no path is known."""

from __future__ import annotations

import errno
import fcntl
import time
from threading import TIMEOUT_MAX

from ._options import blocking_of, seconds


def lock_descriptor(fd: int, *, blocking: bool = True, poll_interval: float = 0.05) -> bool:
    """Lock an open file that the caller owns, and closes.

    Args:
        fd: its descriptor.
        blocking: False: try once.
        poll_interval: how many seconds to wait between two tries: a sleep can be interrupted, a wait in the kernel not.

    Returns:
        Is it locked? False only without ``blocking``.
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
    """Unlock what lock_descriptor() has locked. The file stays open."""
    fcntl.flock(fd, fcntl.LOCK_UN)
