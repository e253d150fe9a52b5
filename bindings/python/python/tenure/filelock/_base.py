"""What filelock's classes have in common: counters, timeouts, singletons. Who holds is Tenure's business."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, Callable, Dict, Generic, Optional, Tuple, Type, TypeVar, Union
from weakref import WeakValueDictionary

import tenure

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from tenure import Held, Holder

UNSET_MODE = -1

_T = TypeVar("_T", bound="BaseFileLock")


class Timeout(TimeoutError):
    """The lock could not be acquired in time.

    Attributes:
        lock_file: the path of the lock.
        holder: who holds it, where that is known.
        hint: what to do about it.
    """

    def __init__(self, lock_file: str, holder: Optional[Holder] = None, hint: Optional[str] = None) -> None:
        super().__init__()
        self._lock_file = lock_file
        self._told = "" if holder is None else f" It is held by {holder}."
        self.holder = holder
        self.hint = hint

    @property
    def lock_file(self) -> str:
        """The path of the lock."""
        return self._lock_file

    def __str__(self) -> str:
        hint = "" if self.hint is None else f" {self.hint}."
        return f"The file lock '{self._lock_file}' could not be acquired.{self._told}{hint}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._lock_file!r})"

    def __reduce__(self) -> Tuple[Any, ...]:
        # A holder stays behind: it belongs to the process that looked. Its words come along.
        return type(self), (self._lock_file,), {**self.__dict__, "holder": None}


class AcquireReturnProxy(Generic[_T]):
    """What acquire() answers: a with block that releases and does not acquire again."""

    def __init__(self, lock: _T) -> None:
        self.lock: _T = lock

    def __enter__(self) -> _T:
        return self.lock

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.lock.release()


class Context:
    """What a lock knows of its hold: one for all threads, or one for each."""

    def __init__(self, timeout: float, blocking: bool, poll_interval: float, lifetime: Optional[float]) -> None:
        self.timeout = timeout
        self.blocking = blocking
        self.poll_interval = poll_interval
        self.lifetime = lifetime
        self.counter = 0
        self.held: Optional[Held] = None


class LocalContext(threading.local, Context):
    """One for each thread."""


def seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    return float(value)


def _poll_interval(value: Any) -> float:
    interval = seconds("poll_interval", value)
    if not 0 <= interval < math.inf:
        raise ValueError(f"poll_interval must be finite and non-negative, not {interval!r}")
    return interval


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"blocking must be a bool, not {type(value).__name__}")
    return value


def _mode(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"mode must be an int, not {type(value).__name__}")
    if value != UNSET_MODE and (not 0 <= value <= 0o777 or ~value & 0o600):
        raise ValueError(f"mode={value:#o} must be within 0o000-0o777 and grant the owner read and write")
    return value


#: What filelock has and this has not, with the value that asks for nothing.
_NEUTRAL: Dict[str, Tuple[Any, ...]] = {
    "context_error_policy": ("chain",),
    "close_error_policy": ("default", "raise", "suppress"),
    "fallback_to_soft": (True, False),
    "preserve_lock_file": (False, True),
    "on_acquired": (None,),
}


class _Meta(type):
    """Makes `is_singleton` give the instance that there is."""

    _instances: WeakValueDictionary[str, Any]
    _instances_lock: threading.RLock

    def __init__(cls, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        cls._instances = WeakValueDictionary()
        cls._instances_lock = threading.RLock()

    def __call__(cls, lock_file: Union[str, os.PathLike[str]], *words: Any, **more: Any) -> Any:
        for name, neutral in _NEUTRAL.items():
            if more.get(name, neutral[0]) not in neutral:
                lock_path = os.fspath(lock_file)
                raise tenure.Unsupported(f"{lock_path}: {name}={more[name]!r} is filelock's alone", lock_path)
            more.pop(name, None)
        if not more.get("is_singleton", False):
            # A subclass's __init__ may be narrower than ours.
            more.pop("is_singleton", None)
            return super().__call__(lock_file, *words, **more)
        parent, name = os.path.split(os.fspath(lock_file))
        key = os.path.join(os.path.realpath(parent or os.curdir), name)
        with cls._instances_lock:
            made = super().__call__(lock_file, *words, **more)
            known = cls._instances.setdefault(key, made)
            differ = {
                name: (theirs, ours)
                for name, ours in known._asked_for.items()
                for theirs in [made._asked_for.get(name)]
                if theirs != ours
            }
        if differ:
            lines = (
                f"\n\t{name} (existing lock has {ours} but {theirs} was passed)"
                for name, (theirs, ours) in differ.items()
            )
            raise ValueError(
                "Singleton lock instances cannot be initialized with differing arguments\nNon-matching arguments: "
                + "".join(lines)
            )
        return known


class BaseFileLock(contextlib.ContextDecorator, metaclass=_Meta):
    """What FileLock and SoftFileLock share. Not to be made itself.

    Args:
        lock_file: the path of the lock's file.
        timeout: how many seconds an acquire waits by default; below 0: as long as it takes; 0: it tries once.
        mode: the permission bits of the lock's files, whatever the umask.
        thread_local: does each thread count for itself? Otherwise all threads share one hold.
        blocking: False: an acquire tries once.
        is_singleton: give the instance that there is for this path.
        poll_interval: how often a ``cancel_check`` is asked, in seconds. Nothing else polls.
        lifetime: for SoftFileLock: after how many seconds a live holder may be robbed.
    """

    _in_this = "FileLock instance in this thread"

    def __init__(
        self,
        lock_file: Union[str, os.PathLike[str]],
        timeout: float = -1,
        mode: int = UNSET_MODE,
        thread_local: bool = True,
        *,
        blocking: bool = True,
        is_singleton: bool = False,
        poll_interval: float = 0.05,
        lifetime: Optional[float] = None,
    ) -> None:
        self._lock_file = os.fspath(lock_file)
        self._absolute = os.path.isabs(self._lock_file)
        self._mode = _mode(mode)
        self._thread_local = thread_local
        self._is_singleton = is_singleton
        kind = LocalContext if thread_local else Context
        words = (seconds("timeout", timeout), _flag(blocking), _poll_interval(poll_interval), self._lifetime(lifetime))
        self._context = kind(*words)
        self._asked_for: Dict[str, Any] = {
            "timeout": timeout if timeout >= 0 else -1,
            "mode": mode,
            "thread_local": thread_local,
            "blocking": blocking,
            "poll_interval": poll_interval,
            "lifetime": lifetime,
        }
        self._locks: Dict[Tuple[Optional[str], bool, Optional[float]], tenure.Lock] = {}
        self._gate = threading.RLock()
        self._pid = os.getpid()

    # Of the subclass.

    def _lifetime(self, lifetime: Optional[float]) -> Optional[float]:
        raise NotImplementedError("make a FileLock or a SoftFileLock")

    def _open(self, **more: Any) -> tenure.Lock:
        raise NotImplementedError("make a FileLock or a SoftFileLock")

    # Acquiring.

    def acquire(
        self,
        timeout: Optional[float] = None,
        poll_interval: Optional[float] = None,
        *,
        poll_intervall: Optional[float] = None,
        blocking: Optional[bool] = None,
        cancel_check: Optional[Callable[[], bool]] = None,
    ) -> AcquireReturnProxy[Self]:
        """Acquire, or count up where this is held already.

        Args:
            timeout: in seconds, in place of the lock's own.
            poll_interval: how often ``cancel_check`` is asked.
            blocking: False: try once.
            cancel_check: True ends the wait, as a time that is over does.

        Raises:
            Timeout: where it stays held by another.
            RuntimeError: where this thread holds it by another instance, and would wait for ever.
            tenure.Error: what else goes wrong.
        """
        if poll_intervall is not None:
            warnings.warn("use poll_interval instead of poll_intervall", DeprecationWarning, stacklevel=2)
            poll_interval = poll_intervall
        context = self._now()
        limit, interval = self._limits(context, timeout, poll_interval, blocking)
        if self._thread_local:
            self._acquire_once(context, limit, interval, cancel_check)
            return AcquireReturnProxy(self)
        # One thread at a time: the others join its hold.
        began = time.monotonic()
        if not self._gate.acquire(timeout=-1 if limit < 0 else limit):
            raise Timeout(self.lock_file)
        try:
            left = limit if limit <= 0 else max(0.0, limit - (time.monotonic() - began))
            self._acquire_once(context, left, interval, cancel_check)
        finally:
            self._gate.release()
        return AcquireReturnProxy(self)

    def _limits(
        self, context: Context, timeout: Optional[float], poll_interval: Optional[float], blocking: Optional[bool]
    ) -> Tuple[float, float]:
        """The time to wait (below 0: as long as it takes) and how often to look up from it."""
        interval = context.poll_interval if poll_interval is None else _poll_interval(poll_interval)
        if not (context.blocking if blocking is None else _flag(blocking)):
            return 0.0, interval
        limit = context.timeout if timeout is None else seconds("timeout", timeout)
        if math.isnan(limit):
            raise ValueError("timeout must be a number of seconds, not nan")
        return (-1.0 if limit < 0 or limit == math.inf else limit), interval

    def _acquire_once(
        self, context: Context, limit: float, interval: float, cancel_check: Optional[Callable[[], bool]]
    ) -> None:
        if context.held is None:
            try:
                try:
                    held = self._acquire_held(self._lock(context, limit), limit, interval, cancel_check)
                except tenure.CannotCreate:
                    # Its folder went, and may be there anew.
                    self._locks.clear()
                    held = self._acquire_held(self._lock(context, limit), limit, interval, cancel_check)
            except (tenure.Busy, tenure.WouldDeadlock) as error:
                raise self._as_filelock_has_it(error) from None
            context.held = held
        context.counter += 1

    @staticmethod
    def _acquire_held(
        lock: tenure.Lock, limit: float, interval: float, cancel_check: Optional[Callable[[], bool]]
    ) -> Held:
        if cancel_check is None:
            return lock.acquire(None if limit < 0 else limit)
        end = math.inf if limit < 0 else time.monotonic() + limit
        step = 0.0
        while True:
            try:
                return lock.acquire(step)
            except tenure.Busy:
                left = end - time.monotonic()
                if cancel_check() or left <= 0:
                    raise
                step = min(interval, left)

    def _lock(self, context: Context, limit: float) -> tenure.Lock:
        # Who waits for a time gets a Timeout even where it waits for itself, as filelock has it.
        patient = limit >= 0
        # A relative path is meant from where the process is by now.
        folder = None if self._absolute else os.getcwd()
        key = (folder, patient, context.lifetime)
        lock = self._locks.get(key)
        if lock is None:
            more: Dict[str, Any] = {} if self._mode == UNSET_MODE else {"mode": self._mode}
            lock = self._open(deadlock_check=not patient, steal_after=context.lifetime, **more)
            if len(self._locks) > 8:
                self._locks.clear()
            self._locks[key] = lock
        return lock

    def _as_filelock_has_it(self, error: tenure.Error) -> Exception:
        if isinstance(error, tenure.Busy):
            return Timeout(self.lock_file, error.holder, error.hint)
        return RuntimeError(
            f"Deadlock: lock '{self.lock_file}' is already held by a different {self._in_this}. "
            "Use is_singleton=True to enable reentrant locking across instances."
        )

    def release(self, force: bool = False) -> None:
        """Count down, and release at 0; at once with ``force``. Where it is not held, nothing happens.

        Raises:
            tenure.Lost: where the lock was no longer ours.
        """
        context = self._now()
        with contextlib.nullcontext() if self._thread_local else self._gate:
            held = context.held
            if held is None:
                return
            if context.counter > 1 and not force:
                context.counter -= 1
                return
            context.held, context.counter = None, 0
        held.release()

    def _now(self) -> Context:
        """What this process knows: a forked child holds nothing."""
        pid = os.getpid()
        if self._pid != pid:
            self._pid, self._gate = pid, threading.RLock()
            self._context.held, self._context.counter = None, 0
        return self._context

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.release()

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object: a lock belongs to its process")

    # Looking.

    @property
    def is_locked(self) -> bool:
        """Is it held by this instance (in this thread, with ``thread_local``)?"""
        return self._now().held is not None

    @property
    def lock_counter(self) -> int:
        """How many times it was acquired and not yet released."""
        return self._now().counter

    @property
    def lock_file(self) -> str:
        """The path of the lock's file."""
        return self._lock_file

    @property
    def held(self) -> Optional[Held]:
        """The tenure behind it, with its fence, its check() and its previous holder."""
        return self._now().held

    @property
    def is_singleton(self) -> bool:
        return self._is_singleton

    def is_thread_local(self) -> bool:
        return self._thread_local

    @property
    def timeout(self) -> float:
        return self._context.timeout

    @timeout.setter
    def timeout(self, value: float) -> None:
        self._context.timeout = seconds("timeout", value)

    @property
    def blocking(self) -> bool:
        return self._context.blocking

    @blocking.setter
    def blocking(self, value: bool) -> None:
        self._context.blocking = _flag(value)

    @property
    def poll_interval(self) -> float:
        return self._context.poll_interval

    @poll_interval.setter
    def poll_interval(self, value: float) -> None:
        self._context.poll_interval = _poll_interval(value)

    @property
    def lifetime(self) -> Optional[float]:
        return self._context.lifetime

    @lifetime.setter
    def lifetime(self, value: Optional[float]) -> None:
        self._context.lifetime = self._lifetime(value)

    @property
    def mode(self) -> int:
        return 0o644 if self._mode == UNSET_MODE else self._mode

    @property
    def has_explicit_mode(self) -> bool:
        return self._mode != UNSET_MODE
