"""FileLock and SoftFileLock, by Tenure's two styles."""

from __future__ import annotations

import os
from typing import Any, Optional

import tenure

from ._base import BaseFileLock


class UnixFileLock(BaseFileLock):
    """A flock(2) on the lock's file, which excludes the package's FileLock on the same path, and is excluded by it.

    This is Tenure's flock style with the lock's file as the target. The folder ``.tenure`` beside it records the holder,
    so that a Timeout names it, waiters are woken in order, and a crash is reported in ``lock.held.previous``.

    ::

        with filelock.FileLock("data.lock", timeout=10) as lock:
            if lock.held.previous is not None:
                ...  # The previous holder died while it held the lock.
    """

    def _open(self, **more: Any) -> tenure.Lock:
        return tenure.Lock(self._lock_file, style="flock", **more)


FileLock = UnixFileLock
"""The FileLock of this platform."""


class SoftFileLock(BaseFileLock):
    """A lock file that exists while the lock is held: Tenure's lock-file style. ``x.lock`` is the lock of the target ``x``.

    It excludes Tenure's other users of ``x``, and programs that only know lock files. With the package's SoftFileLock:

    - This lock waits for it, and takes over the lock file of a killed process, which the file names.
    - From filelock 3.22 on, the package considers a lock file that it cannot read stale after 2 seconds without a change,
      so this lock updates the file's date twice a second while it is held. The lock of a holder that is stopped for longer
      (SIGSTOP) is stolen, and its ``held.check()`` raises tenure.Lost.

    ::

        with filelock.SoftFileLock("data.lock", timeout=10) as lock:
            print(lock.pid)

    Raises:
        tenure.Unsupported: For a name that does not end in ``.lock``, because Tenure would create another lock file than
            the one that other programs check.
    """

    _BEAT = 0.5
    _lifetime_counts = True
    _native = False

    def _check_name(self) -> None:
        path = os.fsdecode(self._lock_file)
        target, suffix = os.path.splitext(path)
        if suffix != ".lock" or not os.path.basename(target):
            hint = "choose a name that ends in .lock, or use FileLock"
            raise tenure.Unsupported(
                f"{path}: the name of a lock file is the protected path and .lock; {hint}", path, None, hint
            )

    def _target(self) -> str:
        return os.path.splitext(os.fsdecode(self._path()))[0]

    def _open(self, **more: Any) -> tenure.Lock:
        return tenure.Lock(os.path.splitext(self._lock_file)[0], refresh_interval=self._BEAT, **more)

    @property
    def pid(self) -> Optional[int]:
        """The process id of the holder, or None."""
        try:
            holder = tenure.status(self._target()).holder
        except tenure.Error:
            return None
        return None if holder is None else holder.pid

    @property
    def is_lock_held_by_us(self) -> bool:
        """True if this process holds the lock."""
        try:
            status = tenure.status(self._target())
        except tenure.Error:
            return False
        return status.state == "held" and status.holder is not None and status.holder.pid == os.getpid()

    def break_lock(self) -> None:
        """Breaks the lock, also that of a live holder, which may then work at the same time as the next one. The
        ``check()`` of a holder that uses Tenure raises tenure.Lost.

        Raises:
            tenure.Obstructed: If the file is not a lock. It is left unchanged.
        """
        tenure.break_lock(self._target(), force=True)
