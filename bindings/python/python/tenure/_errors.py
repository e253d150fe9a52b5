"""What can go wrong, as exceptions. The native half raises them; their texts are the library's."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Tuple

    from ._tenure import Holder


class Error(OSError):
    """Why a lock could not be had, kept, looked at or let go.

    Decide by the class, never by the text. ``str(error)`` names the path, the holder, the likely cause and what to do.

    Attributes:
        path: the path that this is about; ``filename`` too.
        holder: who is in the way, where that is known.
        hint: what to do about it, in a sentence.
        waited: how long was waited, in seconds.
        errno: the system's own number, where the system refused.
    """

    path: str
    holder: Optional[Holder]
    hint: Optional[str]
    waited: Optional[float]

    def __init__(
        self,
        message: str,
        path: str = "",
        holder: Optional[Holder] = None,
        hint: Optional[str] = None,
        errno: Optional[int] = None,
        waited: Optional[float] = None,
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.filename = path
        self.path = path
        self.holder = holder
        self.hint = hint
        self.waited = waited

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> Tuple[Any, Tuple[Any, ...], Dict[str, Any]]:
        # A holder stays behind: it belongs to the process that looked. Its words are in the message.
        state = {**self.__dict__, "holder": None, "errno": self.errno, "filename": self.filename}
        return type(self), (self.args[0], self.path), state


class Busy(Error, TimeoutError):
    """Held by another within the time given (or at once, with ``timeout=0``)."""


class Lost(Error):
    """The lock was held and is no more: broken, revoked, released, its files removed, or this is a forked child."""


class WouldDeadlock(Error, RuntimeError):
    """This thread holds the lock already and would wait for itself. See ``reentrant``."""


class Unsupported(Error):
    """The kernel, the file system or the platform cannot do what is needed. Nothing was locked."""


class InTheWay(Error, FileExistsError):
    """Something that is no lock stands where the lock file or its anchor belongs. It was left as it is."""


class InvalidTarget(Error, ValueError):
    """The path cannot be a target: empty, ends in ``/`` or ``..``, or its name is too long."""


class PermissionDenied(Error, PermissionError):
    """The system denied it to this user."""


class CannotCreate(Error):
    """The lock's files cannot be made here: no such folder, a read-only file system."""


def tell_beside(body: BaseException, failed: BaseException) -> None:
    """Tell of what failed at the end of a ``with`` block by the block's exception: as its context, and in a note."""
    chain = [body]
    while chain[-1].__context__ is not None and chain[-1].__context__ not in chain:
        chain.append(chain[-1].__context__)
    # Python may have made the block's exception the context of what failed: that would be a circle.
    seen = failed
    while seen.__context__ is not None and seen.__context__ not in chain:
        seen = seen.__context__
    seen.__context__ = None
    if failed not in chain:
        chain[-1].__context__ = failed
    add_note = getattr(body, "add_note", None)
    if add_note is not None:
        add_note(f"At the end of the with block: {failed}")
