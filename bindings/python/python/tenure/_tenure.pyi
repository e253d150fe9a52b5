import sys
from datetime import datetime
from os import PathLike
from types import TracebackType
from typing import List, Literal, Optional, Type, Union, final

from typing_extensions import Self, disjoint_base

if sys.version_info >= (3, 10):
    from types import EllipsisType
else:
    from builtins import ellipsis as EllipsisType

__all__ = ["Doorbell", "Held", "Holder", "Lock", "Status", "Waiting", "__version__", "_clean_up", "break_lock", "status"]

_Path = Union[str, bytes, PathLike[str], PathLike[bytes]]
_Style = Literal["lock-file", "flock"]

__version__: str

@final
class Holder:
    """The process that holds a lock, or held it last. What is not recorded is None.

    The texts (command, label, host) are as their writer put them: escape them before you print them. ``str(holder)``
    does.
    """
    @property
    def pid(self) -> Optional[int]:
        """Its process id."""
    @property
    def liveness(self) -> Literal["alive", "dead", "unknown"]:
        """"alive", "dead" or "unknown"."""
    @property
    def why(self) -> str:
        """How that is known."""
    @property
    def command(self) -> Optional[str]:
        """Its command line."""
    @property
    def label(self) -> Optional[str]:
        """What it calls itself."""
    @property
    def host(self) -> Optional[str]:
        """Its machine."""
    @property
    def since(self) -> Optional[datetime]:
        """When its tenure began (an aware datetime, UTC)."""
    @property
    def held_for(self) -> Optional[float]:
        """How long it had held when this was looked at, in seconds."""
    @property
    def max_hold(self) -> Optional[float]:
        """How long it means to hold, in seconds."""
    @property
    def fence(self) -> Optional[int]:
        """The fence of its tenure."""
    @property
    def native(self) -> bool:
        """True where it uses Tenure. False: it knows only the lock file, or flock(2)."""

@final
class Status:
    """How a lock stands: what :func:`status` answers."""
    @property
    def target(self) -> str:
        """The path that the lock protects."""
    @property
    def lock_file(self) -> str:
        """``<target>.lock``."""
    @property
    def state(self) -> Literal["free", "held", "stale", "unknown"]:
        """"free", "held", "stale" (its holder is dead: the next acquire takes over) or "unknown"."""
    @property
    def style(self) -> _Style:
        """"lock-file" or "flock"."""
    @property
    def holder(self) -> Optional[Holder]:
        """The process that holds, or held and died. None when free, and for shared locks: see open_by."""
    @property
    def waiters(self) -> Optional[int]:
        """How many processes wait in the kernel's queue; None where that cannot be read."""
    @property
    def queue(self) -> List[int]:
        """The process ids of those that wait, first come first."""
    @property
    def open_by(self) -> List[int]:
        """Processes that have the lock open where the holder does not say it all: sharers, heirs of a descriptor."""

@final
class Held:
    """A held lock: what an acquire answers. It is released by release(), at the end of a with block, and when the last
    reference to it goes.

    In a forked child it holds nothing and releases nothing.
    """
    @property
    def fence(self) -> int:
        """This tenure's number, greater than that of every tenure before. Hand it to a resource that refuses a smaller
        one than it has seen. 0 for a shared lock and for one without a record.
        """
    @property
    def previous(self) -> Optional[Holder]:
        """The holder before, if it died while it held or its tenure was revoked: what the lock protects may be half-written.
        None: it released.
        """
    @property
    def shared(self) -> bool:
        """True for a share."""
    @property
    def target(self) -> str:
        """The path that the lock protects."""
    def check(self) -> None:
        """Raises Lost unless the lock is still ours: not broken, not revoked, not released, and this no forked child."""
    @property
    def lost(self) -> bool:
        """True once the lock is no longer ours. Where that cannot be told, the system's own error is raised."""
    @property
    def holder(self) -> Holder:
        """This holder, as others see it."""
    @property
    def record_json(self) -> str:
        """The record as others can read it, as JSON."""
    def set_label(self, label: str) -> None:
        """Changes the label that others see."""
    def release(self) -> None:
        """Releases. A second time it does nothing. Raises Lost where the lock was no longer ours."""
    def __enter__(self) -> Held: ...
    def __exit__(
        self,
        _kind: Optional[Type[BaseException]] = None,
        error: Optional[BaseException] = None,
        _traceback: Optional[TracebackType] = None,
    ) -> Literal[False]: ...

@final
class Doorbell:
    """The doorbell of a process: its descriptor becomes readable when a task that waits has something to ask of its
    Waiting. It belongs to the process that made it.
    """
    def __new__(cls) -> Self: ...
    def fileno(self) -> int:
        """The descriptor that becomes readable."""
    def answer(self) -> List[int]:
        """The numbers that were rung for, each as often as it was."""

@final
class Waiting:
    """A place in the queue, for an event loop."""
    def listen(self, doorbell: Doorbell, number: int) -> None:
        """Has the doorbell rung for this number from the next poll() on."""
    def poll(self) -> Optional[Held]:
        """The held lock, or None while it is busy."""
    def give_up(self) -> Held:
        """Ends the wait, as a deadline does: the held lock if it came by then, or Busy."""
    def close(self) -> None:
        """Ends the wait. A grant that had come goes."""

@disjoint_base
class Lock:
    """The synchronous half of tenure.Lock, which documents both."""
    def __new__(
        cls,
        path: _Path,
        timeout: Optional[float] = None,
        *,
        label: Optional[str] = None,
        style: _Style = "lock-file",
        shared: bool = False,
        reentrant: bool = False,
        deadlock_check: bool = True,
        max_hold: Optional[float] = None,
        overrun: Literal["report", "revoke"] = "report",
        steal_after: Optional[float] = None,
        stale_after: Optional[float] = None,
        malformed_grace: Optional[float] = None,
        refresh_interval: Optional[float] = None,
        create_parents: bool = True,
        mode: Optional[int] = None,
        record: bool = True,
    ) -> Self: ...
    def acquire(self, timeout: Union[float, None, EllipsisType] = ...) -> Held:
        """Acquire, waiting for as many seconds as the lock's own timeout says, or this one. None: as long as it takes.

        Raises:
            tenure.Busy: with the holder, when the time is over.
            tenure.WouldDeadlock: at once, when this very thread holds it.
            tenure.Error: what else goes wrong.
        """
    def _begin(self) -> Union[Held, Waiting]:
        """Tries, and begins to wait where that is not enough."""
    def _keep(self, by: int, frame: int, held: Held) -> None:
        """Remembers what a with block of a task entered."""
    def _take(self, by: int, frame: int) -> Held:
        """What _keep() remembered for the block that is left."""
    @property
    def target(self) -> str:
        """The path that it protects."""
    @property
    def timeout(self) -> Optional[float]:
        """The seconds that an acquire waits where it is told nothing else; None: as long as it takes."""
    @property
    def style(self) -> _Style:
        """"lock-file" or "flock"."""
    @property
    def shared(self) -> bool:
        """True where acquire() shares."""
    def status(self) -> Status:
        """How it stands, without touching it."""
    def __enter__(self) -> Held: ...
    def __exit__(
        self,
        _kind: Optional[Type[BaseException]] = None,
        error: Optional[BaseException] = None,
        _traceback: Optional[TracebackType] = None,
    ) -> Literal[False]: ...

def _clean_up() -> None: ...
def status(path: _Path) -> Status:
    """How the lock of a path stands, without touching it.

    Args:
        path: what tenure.Lock takes.
    """
def break_lock(path: _Path, *, force: bool = False) -> bool:
    """An operator's takeover: frees the lock of a path, whoever holds it.

    A dead holder's lock is cleared away. A live holder's is broken with force alone: it may be at work still, its
    check() raises Lost from then on, and the next one gets in.

    Returns:
        Was there anything to break?

    Raises:
        tenure.Busy: where the holder lives, or that cannot be told, and force is not given.
        tenure.Unsupported: where the holder knows only flock(2): nobody but the kernel can take that away.
    """
