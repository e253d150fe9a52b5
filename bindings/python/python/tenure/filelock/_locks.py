"""The two locks, and what of Tenure each is."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any, Optional, Union

import tenure

from ._base import BaseFileLock, seconds


class UnixFileLock(BaseFileLock):
    """flock(2) on the lock's file, as the real one has it: they exclude each other on the same path.

    It is Tenure's flock style with the lock's file as the target: ``.tenure`` beside it keeps who holds, so a Timeout
    says so, waiters are woken in their order, and a crash is told (``lock.held.previous``).
    """

    def _lifetime(self, lifetime: Optional[float]) -> Optional[float]:
        if lifetime is not None:
            warnings.warn(
                "lifetime is ignored for FileLock: a live holder's kernel lock cannot be broken by age; "
                "only SoftFileLock supports lifetime-based expiry",
                stacklevel=4,
            )
        return None

    def _open(self, **more: Any) -> tenure.Lock:
        return tenure.Lock(self._lock_file, style="flock", **more)


FileLock = UnixFileLock
"""The lock of this platform."""


class SoftFileLock(BaseFileLock):
    """A lock file that is there while it is held: Tenure's lock-file style. ``x.lock`` is the lock of the target ``x``.

    It excludes Tenure's other users of ``x``, and whatever knows only lock files. With the real SoftFileLock:

    - Before filelock 3.22 both exclude each other.
    - From 3.22 on, theirs writes a text that is no record of ours: while they hold, ours raises tenure.InTheWay and does
      not wait. Theirs takes a lock file that it cannot read for stale when that has not changed for 2 seconds, so while
      ours is held its date is made new twice a second. A holder that is stopped for longer (SIGSTOP) is robbed, and
      its ``held.check()`` says so.

    Raises:
        tenure.Unsupported: for a name that does not end in ``.lock``: Tenure would show another file than the one that
            others look for.
    """

    _BEAT = 0.5

    def _lifetime(self, lifetime: Optional[float]) -> Optional[float]:
        if lifetime is None:
            return None
        lifetime = seconds("lifetime", lifetime)
        if not 0 <= lifetime < math.inf:
            raise ValueError(f"lifetime must be finite and non-negative, not {lifetime!r}")
        warnings.warn("SoftFileLock(lifetime=...) robs live holders", FutureWarning, stacklevel=4)
        return lifetime

    def __init__(self, lock_file: Union[str, os.PathLike[str]], *words: Any, **more: Any) -> None:
        path = os.fspath(lock_file)
        self._target, suffix = os.path.splitext(path)
        if suffix != ".lock" or not os.path.basename(self._target):
            hint = "name it with .lock at its end, or use FileLock"
            raise tenure.Unsupported(
                f"{path}: a lock file is named after what it protects, with .lock at its end; {hint}", path, None, hint
            )
        super().__init__(lock_file, *words, **more)

    def _open(self, **more: Any) -> tenure.Lock:
        return tenure.Lock(self._target, refresh_interval=self._BEAT, **more)

    @property
    def pid(self) -> Optional[int]:
        """The process that holds it, or None."""
        holder = tenure.status(self._target).holder
        return None if holder is None else holder.pid

    @property
    def is_lock_held_by_us(self) -> bool:
        """Is it held by this process?"""
        status = tenure.status(self._target)
        return status.state == "held" and status.holder is not None and status.holder.pid == os.getpid()
