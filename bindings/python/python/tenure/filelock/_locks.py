"""The two locks, and what of Tenure each is."""

from __future__ import annotations

import os
from typing import Any, Optional

import tenure

from ._base import BaseFileLock


class UnixFileLock(BaseFileLock):
    """flock(2) on the lock's file, as the real one has it: they exclude each other on the same path.

    It is Tenure's flock style with the lock's file as the target: ``.tenure`` beside it keeps who holds, so a Timeout
    says so, waiters are woken in their order, and a crash is told (``lock.held.previous``).
    """

    def _open(self, **more: Any) -> tenure.Lock:
        return tenure.Lock(self._lock_file, style="flock", **more)


FileLock = UnixFileLock
"""The lock of this platform."""


class SoftFileLock(BaseFileLock):
    """A lock file that is there while it is held: Tenure's lock-file style. ``x.lock`` is the lock of the target ``x``.

    It excludes Tenure's other users of ``x``, and whatever knows only lock files. With the real SoftFileLock:

    - Ours waits for theirs, and takes over what a killed one left: its file says which process that was.
    - From filelock 3.22 on, theirs takes a lock file that it cannot read for stale when that has not changed for 2
      seconds, so while ours is held its date is updated twice a second. The lock of a holder that is stopped for longer
      (SIGSTOP) is stolen, and its ``held.check()`` says so.

    Raises:
        tenure.Unsupported: for a name that does not end in ``.lock``: Tenure would show another file than the one that
            others look for.
    """

    _BEAT = 0.5
    _lifetime_counts = True
    _native = False

    def _check_name(self) -> None:
        path = os.fsdecode(self._lock_file)
        target, suffix = os.path.splitext(path)
        if suffix != ".lock" or not os.path.basename(target):
            hint = "name it with .lock at its end, or use FileLock"
            raise tenure.Unsupported(
                f"{path}: a lock file is named after what it protects, with .lock at its end; {hint}", path, None, hint
            )

    def _target(self) -> str:
        return os.path.splitext(os.fsdecode(self._path()))[0]

    def _open(self, **more: Any) -> tenure.Lock:
        return tenure.Lock(os.path.splitext(self._lock_file)[0], refresh_interval=self._BEAT, **more)

    @property
    def pid(self) -> Optional[int]:
        """The process that holds it, or None."""
        try:
            holder = tenure.status(self._target()).holder
        except tenure.Error:
            return None
        return None if holder is None else holder.pid

    @property
    def is_lock_held_by_us(self) -> bool:
        """Is it held by this process?"""
        try:
            status = tenure.status(self._target())
        except tenure.Error:
            return False
        return status.state == "held" and status.holder is not None and status.holder.pid == os.getpid()

    def break_lock(self) -> None:
        """Break the lock, whoever holds it: two may then be at work. A holder of Tenure's is told by its ``check()``.

        Raises:
            tenure.InTheWay: where the file is no lock. It stays.
        """
        tenure.break_lock(self._target(), force=True)
