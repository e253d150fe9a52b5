import sys
from datetime import datetime
from os import PathLike
from types import TracebackType
from typing import Coroutine, List, Literal, Optional, Sequence, Type, Union, final

from typing_extensions import Self, disjoint_base

if sys.version_info >= (3, 10):
    from types import EllipsisType
else:
    from builtins import ellipsis as EllipsisType

__all__ = [
    "CircleWait",
    "Doorbell",
    "Guard",
    "Holder",
    "LeaseLeft",
    "Lock",
    "PastTenure",
    "Releasing",
    "Status",
    "Suspended",
    "SuspendedHolder",
    "Task",
    "Waiting",
    "__version__",
    "_clean_up",
    "_give_up_waits",
    "_order_of",
    "_server_of",
    "break_lock",
    "deadlocks",
    "history",
    "list",
    "slots",
    "status",
]

_Path = Union[str, bytes, PathLike[str], PathLike[bytes]]
_Style = Literal["lock-file", "flock"]

__version__: str

@final
class Holder:
    """The process that holds a lock, or held it last. Attributes that are not recorded are None.

    The texts (command, label, host) are unescaped, as their writer recorded them. ``str(holder)`` escapes them for a
    terminal.
    """
    @property
    def pid(self) -> Optional[int]:
        """The process id."""
    @property
    def command_pid(self) -> Optional[int]:
        """The process id of the command that the holder runs under the lock, as ``tenure run`` does."""
    @property
    def liveness(self) -> Literal["alive", "dead", "unknown"]:
        """Whether the process lives: "alive", "dead" or "unknown"."""
    @property
    def why(self) -> str:
        """The evidence for liveness."""
    @property
    def command(self) -> Optional[str]:
        """The command line."""
    @property
    def label(self) -> Optional[str]:
        """The label that the holder chose for itself."""
    @property
    def host(self) -> Optional[str]:
        """The name of the machine."""
    @property
    def since(self) -> Optional[datetime]:
        """The time at which the lock was acquired: an aware datetime, UTC."""
    @property
    def held_for(self) -> Optional[float]:
        """The time for which the lock had been held when this object was made, in seconds."""
    @property
    def max_hold(self) -> Optional[float]:
        """The recorded maximum hold time, in seconds."""
    @property
    def fence(self) -> Optional[int]:
        """The fencing token."""
    @property
    def native(self) -> bool:
        """True for a holder that uses Tenure, False for a program that only knows lock files or flock(2)."""

@final
class Task:
    """The task of a scope."""
    def __new__(cls, name: Optional[str] = None) -> Self: ...
    @property
    def id(self) -> int:
        """The number by which CircleWait.task means it."""

@final
class CircleWait:
    """A program that holds a lock and waits for another: one step of a deadlock. Attributes that are not known are None.

    The texts (command, label) are unescaped, as their writer recorded them. ``str()`` escapes them for a terminal.
    """
    @property
    def pid(self) -> int:
        """The process id of the waiting program."""
    @property
    def command(self) -> Optional[str]:
        """The command line."""
    @property
    def label(self) -> Optional[str]:
        """The label that the program chose for itself."""
    @property
    def task(self) -> Optional[int]:
        """The number of the waiting task in its process. None: a thread waits."""
    @property
    def task_name(self) -> Optional[str]:
        """The task's name."""
    @property
    def holds(self) -> str:
        """The path whose lock it holds. Of a slot, the slot's own path."""
    @property
    def holder_pid(self) -> Optional[int]:
        """The process id of the holder, where the program is a command that runs under its lock, as with ``tenure run``."""
    @property
    def waits_for(self) -> str:
        """The path whose lock it waits for."""
    @property
    def slots(self) -> Optional[int]:
        """The number of slots of which it waits for one. None: it waits for the lock."""
    @property
    def since(self) -> Optional[datetime]:
        """When the wait began: an aware datetime, UTC."""

@final
class Status:
    """The state of a lock when :func:`status` read it."""
    @property
    def target(self) -> str:
        """The path that the lock protects, or the target on a server."""
    @property
    def lock_file(self) -> str:
        """The path of the lock file: ``<target>.lock``. On a server, the lock's name there."""
    @property
    def state(self) -> Literal["free", "held", "stale", "unknown"]:
        """"free", "held", "stale" (the holder is dead, and the next acquire takes over) or "unknown"."""
    @property
    def server(self) -> Optional[Literal["etcd", "postgres"]]:
        """"etcd" or "postgres" for a lock that a server keeps, None for one in files."""
    @property
    def style(self) -> _Style:
        """"lock-file" or "flock". "lock-file" for a lock that a server keeps."""
    @property
    def reasons(self) -> List[str]:
        """The reasons for which OpenClaw's protocol would call the lock file stale."""
    @property
    def holder(self) -> Optional[Holder]:
        """The holder, alive or dead. None for a free lock and for shared locks, whose holders open_by lists."""
    @property
    def waiters(self) -> Optional[int]:
        """The number of waiters in the kernel's queue, or in the server's. None where that cannot be read."""
    @property
    def queue(self) -> List[int]:
        """The process ids of the waiters, in the order of their arrival."""
    @property
    def open_by(self) -> List[int]:
        """The process ids that have the lock open and are not the holder: shared holders, and heirs of a descriptor."""
    @property
    def suspended(self) -> List[SuspendedHolder]:
        """The processes that have suspended the lock and mean to resume it, in the order in which they were suspended."""

@final
class SuspendedHolder:
    """A process that has suspended a lock, and means to resume it."""
    @property
    def pid(self) -> int:
        """The process id, in the process's own pid namespace."""
    @property
    def fence(self) -> int:
        """The fencing token of the suspended hold."""

@final
class LeaseLeft:
    """The rest of a lease on a server, if it is not renewed."""
    @property
    def lost_in(self) -> float:
        """The seconds until check() raises Lost. 0 once it does."""
    @property
    def free_in(self) -> float:
        """The seconds until the server may grant the lock to another holder. Work under the lock must have stopped by then."""

@final
class PastTenure:
    """A past tenure of a lock, or a wait that failed. Attributes that are not known are None.

    The texts (command, label, host, why, blocked_by) are unescaped, as their writer recorded them, and cut if they are long.
    """
    @property
    def ended(self) -> Literal["released", "crashed", "lost", "revoked", "broken", "busy", "deadlock", "skipped"]:
        """How it ended. "busy", "deadlock" or "skipped": the lock was never held."""
    @property
    def pid(self) -> Optional[int]:
        """The process id of the holder, or of the process that waited."""
    @property
    def command(self) -> Optional[str]:
        """The command line."""
    @property
    def label(self) -> Optional[str]:
        """The label that the holder chose for itself."""
    @property
    def host(self) -> Optional[str]:
        """The name of the machine."""
    @property
    def since(self) -> datetime:
        """When the tenure, or the failed wait, began: an aware datetime, UTC."""
    @property
    def until(self) -> datetime:
        """When it ended. After a crash: when the next holder found out."""
    @property
    def last_sign(self) -> Optional[datetime]:
        """After a crash: when the holder updated its record last."""
    @property
    def waited(self) -> Optional[float]:
        """How long the holder had waited for the lock, in seconds."""
    @property
    def exit_code(self) -> Optional[int]:
        """The exit code of the work under the lock."""
    @property
    def fence(self) -> Optional[int]:
        """The fencing token."""
    @property
    def shared(self) -> bool:
        """True for a shared lock."""
    @property
    def why(self) -> Optional[str]:
        """The evidence of a crash."""
    @property
    def blocked_by_pid(self) -> Optional[int]:
        """The process id of the holder that a failed wait waited for."""
    @property
    def blocked_by(self) -> Optional[str]:
        """That holder's label, or its command line."""

@final
class Guard:
    """A held lock, which acquire() and ``with`` return. It is released by release(), at the end of a with block, or when the
    last reference to it is dropped.

    In a forked child a guard holds nothing and releases nothing.

    ::

        guard = tenure.Lock("sessions/main.jsonl").acquire(timeout=10)
        try:
            ...  # Write, with guard.fence for a resource that checks it.
            guard.check()
        finally:
            guard.release()
    """
    @property
    def fence(self) -> Optional[int]:
        """The fencing token, greater than that of every earlier holder. A resource that checks it refuses a smaller one than
        it has seen. None for a shared lock and for one without a record, while the lock is suspended, and after a resume that
        failed: nothing may be written then.
        """
    @property
    def previous(self) -> Optional[Holder]:
        """The previous holder, if it died or was revoked while it held: the protected data may be half-written. None if it
        released the lock.
        """
    @property
    def shared(self) -> bool:
        """True for a shared lock."""
    @property
    def target(self) -> str:
        """The path that the lock protects."""
    def check(self) -> None:
        """Raises Lost if the lock was broken, revoked or released, or in a forked child. Takes one or two system calls."""
    @property
    def lost(self) -> bool:
        """True once check() would raise Lost. Raises the system's error where that cannot be determined."""
    @property
    def holder(self) -> Holder:
        """This holder, as other processes see it."""
    @property
    def record_json(self) -> str:
        """The lock file's record, as JSON."""
    def set_label(self, label: str) -> None:
        """Changes the label that other processes see."""
    @property
    def lease(self) -> Optional[LeaseLeft]:
        """The rest of the lease of a lock on a server. None for a lock in files, which needs no lease."""
    def set_exit_code(self, code: int) -> None:
        """Sets the exit code of the work under the lock, which the lock's history shows once the lock is released."""
    @property
    def slot(self) -> Optional[int]:
        """The number of the slot that is held, from 0. None for a lock without slots."""
    def mark_successful(self) -> None:
        """Records that the work succeeded, for later acquires with ``not_more_often_than``. Call it before the release."""
    def suspend(self) -> Suspended:
        """Lets others hold the lock for a while, as for a long network call, until resume() of the returned object. Then this
        guard holds it again, before processes that wait already, and resume() says whether others held it meanwhile.

        While it is suspended, check() raises Lost, fence is None, and release() gives it up for good.

        ::

            suspended = guard.suspend()
            answer = ask_a_model(messages)
            if suspended.resume(timeout=60):
                messages = read_again()

        Raises:
            tenure.Unsupported: For a shared lock, one with slots, without a record or on a server, and while another guard
                of this process holds it too. The lock stays held.
            tenure.Lost: If the lock was lost.
        """
    def suspended(self, timeout: Optional[float] = None) -> Suspended:
        """Returns a context manager that suspends the lock for a ``with`` or an ``async with`` block, and resumes it at the
        block's end.

        ::

            with guard.suspended() as suspended:
                answer = ask_a_model(messages)
            if suspended.changed:
                messages = read_again()

        Args:
            timeout: How long the end of the block waits for the lock, in seconds. None waits without a limit.
        """
    def release(self) -> None:
        """Releases the lock. A second call does nothing. Raises Lost if the lock had been lost, also by a resume that failed.

        On a server it waits for the answer, for a few seconds at most, and raises Unreachable without one. The lock is then
        free when its lease is over.
        """
    def release_async(self) -> Coroutine[None, None, None]:
        """Releases the lock like release(), for an asyncio task: the event loop runs while a server is waited for. A cancelled
        call does not stop the release.
        """
    def _start_release(self) -> Optional[Releasing]:
        """Releases the lock. Returns what is left to wait for."""
    def _start_exit(self, error: Optional[BaseException]) -> Optional[Releasing]:
        """Releases the lock at the end of a block that raised ``error``, or None. Returns what is left to wait for."""
    def __enter__(self) -> Guard: ...
    def __exit__(
        self,
        _kind: Optional[Type[BaseException]] = None,
        error: Optional[BaseException] = None,
        _traceback: Optional[TracebackType] = None,
    ) -> Literal[False]: ...

@final
class Doorbell:
    """A descriptor that becomes readable when tasks or greenlets of this process should poll their Waiting."""
    def __new__(cls) -> Self: ...
    def fileno(self) -> int:
        """Returns the descriptor that becomes readable."""
    def answer(self) -> List[int]:
        """Returns the numbers of the waiters to wake, and resets the descriptor. In a forked child it returns none."""

@final
class Suspended:
    """A suspended lock, which Guard.suspend() and Guard.suspended() return."""
    @staticmethod
    def _of(guard: Guard, timeout: Optional[float]) -> Suspended:
        """Returns the object by which a guard is suspended, and resumed within the time."""
    @property
    def changed(self) -> Optional[bool]:
        """True if what was read before must be read again: False only where it is proven that no other process held the lock
        meanwhile. None until the lock is resumed.
        """
    @property
    def meanwhile(self) -> Optional[Literal["nobody", "others", "unknown"]]:
        """"nobody" where it is proven that no other process held the lock meanwhile, "others" where one did, and "unknown" where
        no process with Tenure did, and nothing proves that no other one did. None until the lock is resumed.
        """
    def resume(self, timeout: Union[float, None, EllipsisType] = ...) -> bool:
        """Acquires the lock again, before processes that wait already. Returns True if what was read before must be read again
        (``changed``). The guard that was suspended holds it from then on, with a new ``fence`` and ``previous``.

        Args:
            timeout: How long to wait, in seconds. None waits without a limit. The default is that of ``suspended()``.

        Raises:
            tenure.Busy: After the timeout. The lock is given up for good, as after any other error, and the guard's release()
                raises Lost.
            RuntimeError: If the lock is not suspended, as in a second call.
        """
    def resume_async(self, timeout: Union[float, None, EllipsisType] = ...) -> Coroutine[None, None, bool]:
        """Acquires the lock again like resume(), for an asyncio task. A cancelled call gives the lock up for good."""
    def _start(self, timeout: Optional[float], task: Optional[Task]) -> Union[Guard, Waiting]:
        """Starts to acquire the lock again, for the task of this scope. _end() or _fail() must follow."""
    def _end(self, granted: Guard) -> bool:
        """Puts the guard that was granted in the place of the suspended one. Returns ``changed``."""
    def _fail(self) -> None:
        """Gives the lock up, whose wait failed."""
    def _is_suspended(self) -> bool:
        """Returns whether the lock is suspended, in the process that suspended it."""
    def __enter__(self) -> Suspended: ...
    def __exit__(
        self,
        _kind: Optional[Type[BaseException]] = None,
        error: Optional[BaseException] = None,
        _traceback: Optional[TracebackType] = None,
    ) -> Literal[False]: ...
    def __aenter__(self) -> Coroutine[None, None, Suspended]: ...
    def __aexit__(
        self,
        _kind: Optional[Type[BaseException]] = None,
        error: Optional[BaseException] = None,
        _traceback: Optional[TracebackType] = None,
    ) -> Coroutine[None, None, None]: ...

@final
class Waiting:
    """A queued acquire, for an event loop."""
    def listen(self, doorbell: Doorbell, number: int) -> None:
        """Rings the doorbell with this number, from the next poll() on, when it is time to poll again."""
    def left(self) -> Optional[float]:
        """Returns the seconds until give_up() is due. None where the wait has no limit, and for a server, whose wait ends by
        itself.
        """
    def poll(self) -> Optional[Guard]:
        """Returns the guard, or None while the lock is busy."""
    def give_up(self) -> Guard:
        """Ends the wait as a deadline does. Returns the guard if the lock was granted by then, and raises Busy otherwise."""
    def close(self) -> None:
        """Leaves the queue. A lock that was granted meanwhile is released."""

@final
class Releasing:
    """A release that waits for a server's answer, for an event loop. It goes on when this is dropped."""
    def listen(self, doorbell: Doorbell, number: int) -> None:
        """Rings the doorbell with this number, from the next poll() on, when it is time to poll again."""
    def poll(self) -> Optional[bool]:
        """Returns True once the lock is released, and None before. Raises if the release failed."""

@disjoint_base
class Lock:
    """The synchronous half of tenure.Lock, which documents both halves."""
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
        history: int = 0,
        slots: Optional[int] = None,
        if_busy: Literal["wait", "skip", "queue-one", "replace"] = "wait",
        grace: Optional[float] = None,
        not_more_often_than: Optional[float] = None,
    ) -> Self: ...
    def acquire(self, timeout: Union[float, None, EllipsisType] = ...) -> Guard:
        """Acquires the lock, and waits for at most ``timeout`` seconds. None waits without a limit. The default is the
        lock's own timeout.

        ::

            try:
                guard = lock.acquire(timeout=10)
            except tenure.Busy as busy:
                print("held by", busy.holder)

        Raises:
            tenure.Busy: After the timeout, with the holder.
            tenure.WouldDeadlock: Immediately, if this thread holds the lock.
            tenure.Unreachable: If the server does not answer.
            tenure.Error: For any other failure.
        """
    def _start(self, timeout: Union[float, None, EllipsisType] = ..., task: Optional[Task] = None) -> Union[Guard, Waiting]:
        """Tries to acquire, and joins the queue if the lock is busy. The acquire is that of the task of this scope."""
    def _keep(self, by: int, frame: int, guard: Guard) -> None:
        """Remembers the guard that a with block of a task entered."""
    def _take(self, by: int, frame: int) -> Guard:
        """Returns the guard that _keep() remembered for the block that is being left."""
    @property
    def target(self) -> str:
        """The path that the lock protects."""
    @property
    def timeout(self) -> Optional[float]:
        """The default timeout of an acquire, in seconds. None waits without a limit."""
    @property
    def style(self) -> _Style:
        """"lock-file" or "flock"."""
    @property
    def shared(self) -> bool:
        """True if acquire() takes a shared lock."""
    def status(self) -> Status:
        """Returns the state of the lock, as :func:`tenure.status` does. Does not acquire or change anything.

        ::

            if lock.status().state == "held":
                print("held by", lock.status().holder)
        """
    def __enter__(self) -> Guard: ...
    def __exit__(
        self,
        _kind: Optional[Type[BaseException]] = None,
        error: Optional[BaseException] = None,
        _traceback: Optional[TracebackType] = None,
    ) -> Literal[False]: ...

def _clean_up() -> None: ...
def _give_up_waits() -> None: ...
def _order_of(locks: Sequence[Lock], timeout: Optional[float]) -> List[int]: ...
def _server_of(path: _Path) -> Optional[Literal["etcd", "postgres"]]: ...
def status(path: _Path) -> Status:
    """Returns the state of a path's lock. Does not acquire or change anything.

    ::

        status = tenure.status("sessions/main.jsonl")
        if status.state == "held":
            print("held by", status.holder)

    Args:
        path: The protected path, or the target on a server, as for tenure.Lock.

    Raises:
        tenure.Unreachable: If the server does not answer, within a few seconds.
    """
def list(folder: _Path, *, recursive: bool = False) -> List[Status]:
    """Returns the locks in a folder that are held or stale, sorted by path. A missing folder has none.

    ::

        for lock in tenure.list("sessions"):
            print(lock.target, lock.state, lock.holder)

    Args:
        folder: A folder, or a name on a server, which lists all locks below it.
        recursive: Also list the locks in the folders below. Links are not followed.

    Raises:
        tenure.Unreachable: If the server does not answer, within a few seconds.
    """
def slots(path: _Path) -> List[Status]:
    """Returns the slots of a path (``slots=`` of tenure.Lock) that are held or stale, in the order of their numbers.

    ::

        for slot in tenure.slots("gpu"):
            print(slot.target, slot.state, slot.holder)

    A slot is a lock of its own: its ``target`` is ``gpu.slot-0`` and so on, which status() and break_lock() take.

    Args:
        path: The protected path, or the target on a server, as for tenure.Lock.

    Raises:
        tenure.Unreachable: If the server does not answer, within a few seconds.
    """
def deadlocks(folder: _Path, *, recursive: bool = False) -> List[List[CircleWait]]:
    """Returns the deadlocks in which a lock in a folder has a part: lists of programs, each of which holds a lock and waits for
    the next one's.

    A wait that would close such a circle raises WouldDeadlock, so these are of programs with ``deadlock_check=False``. Only what
    is proven is reported: no tasks, and no programs that only know flock(2).

    ::

        for circle in tenure.deadlocks("sessions", recursive=True):
            print(*circle, sep="\\n")

    Args:
        folder: A folder.
        recursive: Also look at the locks in the folders below. Links are not followed.
    """
def history(path: _Path) -> List[PastTenure]:
    """Returns the last tenures of a path's lock and its last failed waits, oldest first, if its holders keep a history.

    ::

        for past in tenure.history("backup"):
            print(past.since, past.label, past.ended, past.exit_code)

    Args:
        path: The protected path, as for tenure.Lock.
    """
def break_lock(path: _Path, *, force: bool = False) -> bool:
    """Breaks the lock of a path, as an operator does when its holder hangs.

    A dead holder's lock is removed. A live holder's lock is broken only with ``force``: the holder may still be
    working, its ``check()`` raises Lost from then on, and the next waiter acquires the lock.

    ::

        if tenure.break_lock("sessions/main.jsonl", force=True):
            print("the lock is free")

    Args:
        path: The protected path, or the target on a server, as for tenure.Lock.
        force: Break the lock of a live holder too.

    Returns:
        True if there was a lock to remove or break.

    Raises:
        tenure.Busy: Without ``force``, for a holder that lives or may live.
        tenure.Unsupported: For a holder that only uses flock(2), which no other process can break.
    """
