"""The exceptions of the package. The native half raises them, with the library's messages."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    from ._tenure import CircleWait, Holder


class Error(OSError):
    """A failure to open, acquire, keep, read or release a lock.

    Decide by the class, not by the text. ``str(error)`` names the path, the holder, the likely cause and a remedy.

    ::

        try:
            guard = tenure.Lock("sessions/main.jsonl").acquire(timeout=10)
        except tenure.Busy as busy:
            print(busy.holder.pid if busy.holder else "an unknown process", "holds the lock")
        except tenure.Error as error:
            print(error.path, error.hint)

    Attributes:
        path: The path of the failed operation. ``filename`` is the same.
        holder: The holder of the lock, if known.
        hint: A remedy, in one sentence.
        waited: The time for which the acquire waited, in seconds.
        circle: For WouldDeadlock, the programs of which each holds a lock and waits for the next one's, if there are several.
            The last wait is the one that failed.
        errno: The system's error number, if the system reported an error.
    """

    path: str
    holder: Optional[Holder]
    hint: Optional[str]
    waited: Optional[float]
    circle: Optional[List[CircleWait]]

    def __init__(
        self,
        message: str,
        path: str = "",
        holder: Optional[Holder] = None,
        hint: Optional[str] = None,
        errno: Optional[int] = None,
        waited: Optional[float] = None,
        circle: Optional[List[CircleWait]] = None,
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.filename = path
        self.path = path
        self.holder = holder
        self.hint = hint
        self.waited = waited
        self.circle = circle

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> Tuple[Any, Tuple[Any, ...], Dict[str, Any]]:
        # The holder and the circle are not pickled, as they describe what this process saw. Their text is part of the message.
        state = {**self.__dict__, "holder": None, "circle": None, "errno": self.errno, "filename": self.filename}
        return type(self), (self.args[0], self.path), state


class Busy(Error, TimeoutError):
    """The lock stayed held until the timeout, or is held and ``timeout`` is 0."""


class Skipped(Error):
    """The run is not needed: another acquire waits already, or the last success is recent. See ``if_busy`` and
    ``not_more_often_than``.
    """


class Lost(Error):
    """The lock is no longer held: broken, revoked, released, its files removed, its lease over, or this is a forked child."""


class WouldDeadlock(Error, RuntimeError):
    """This thread holds the lock and would wait for itself (see ``reentrant``), or its wait would close a circle of programs of
    which each holds a lock and waits for the next one's (``circle``). Circles through tasks are found where these run in a scope
    (:func:`tenure.task`), circles through greenlets are not.
    """


class Unsupported(Error):
    """The kernel, the file system, the platform or the server cannot do what is needed. Nothing was locked."""


class Obstructed(Error, FileExistsError):
    """The path of the lock file or its anchor is taken by something that is not a lock. It is left unchanged."""


class InvalidTarget(Error, ValueError):
    """The path cannot be locked: it is empty, ends in ``/`` or ``..``, or its name is too long. Or the target on a server is
    malformed, or has a password.
    """


class PermissionDenied(Error, PermissionError):
    """The system denies this user access to the lock's files, or the server denies it access to the lock."""


class CannotCreate(Error):
    """The lock's files cannot be created: the folder is missing, or the file system is read-only."""


class Unreachable(Error, ConnectionError):
    """No server answers, or the server accepts no writes. A lock that was held is free when its lease is over."""


def add_to_body(body: BaseException, failed: BaseException) -> None:
    """Adds a failed release at the end of a ``with`` block to the block's own exception: as its context, and in a note."""
    chain = [body]
    while chain[-1].__context__ is not None and chain[-1].__context__ not in chain:
        chain.append(chain[-1].__context__)
    # Python may have made the block's exception the context of the failure, which would close a circle.
    seen = failed
    while seen.__context__ is not None and seen.__context__ not in chain:
        seen = seen.__context__
    seen.__context__ = None
    if failed not in chain:
        chain[-1].__context__ = failed
    add_note = getattr(body, "add_note", None)
    if add_note is not None:
        add_note(f"At the end of the with block: {failed}")
