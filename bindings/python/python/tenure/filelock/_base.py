"""The base of filelock's classes: counters, timeouts and singletons over Tenure's locks."""

from __future__ import annotations

import contextlib
import errno
import inspect
import logging
import math
import os
import sys
import threading
import time
import warnings
from abc import ABCMeta, abstractmethod
from typing import TYPE_CHECKING, Any, Callable, Dict, Generic, List, Optional, Tuple, Type, TypeVar, Union
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary, ref

import tenure
from tenure._errors import add_to_body

from ._options import (
    UNSET_MODE,
    CloseErrorPolicy,
    ContextErrorPolicy,
    behavior,
    blocking_of,
    lifetime_of,
    mode_of,
    native_only,
    one_of,
    poll_interval_of,
    refuse_server,
    seconds,
)

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import Self

    from tenure import Guard, Holder

_LOGGER = logging.getLogger("filelock")

_T = TypeVar("_T", bound="BaseFileLock")


class Timeout(TimeoutError):
    """The lock could not be acquired in time.

    Attributes:
        lock_file: The path of the lock.
        holder: The :class:`tenure.Holder`, if known.
        hint: A remedy, in one sentence.
    """

    def __init__(self, lock_file: str, holder: Union[Holder, str, None] = None, hint: Optional[str] = None) -> None:
        super().__init__()
        self._lock_file = lock_file
        self._held_by = "" if holder is None else f" It is held by {holder}."
        self.holder = holder
        self.hint = hint

    @property
    def lock_file(self) -> str:
        """The path of the lock."""
        return self._lock_file

    def __str__(self) -> str:
        hint = "" if self.hint is None else f" {self.hint}."
        return f"The file lock '{self._lock_file}' could not be acquired.{self._held_by}{hint}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._lock_file!r})"

    def __reduce__(self) -> Tuple[Any, ...]:
        # The holder is not pickled, as it describes what this process saw. Its text is.
        return type(self), (self._lock_file,), {**self.__dict__, "holder": None}


class AcquireReturnProxy(Generic[_T]):
    """The result of acquire(): a with block that only releases."""

    _context: Optional[Context] = None

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
        self.lock._leave(self._context, exc_value)


class Context:
    """The options and the hold of a lock, for all threads or for one of them."""

    def __init__(
        self, timeout: float, blocking: bool, poll_interval: float, lifetime: Union[int, float, None]
    ) -> None:
        self.timeout = timeout
        self.blocking = blocking
        self.poll_interval = poll_interval
        self.lifetime = lifetime
        self.counter = 0
        self.held: Optional[Guard] = None
        #: The registry entry that this thread, or task, holds the path: the registry and the key.
        self.known: Optional[Tuple[Dict[str, Any], str]] = None
        self.lent: Optional[_LentDescriptor] = None
        #: The frame of an acquire that has not returned.
        self.acquiring: Optional[FrameType] = None

    def another(self) -> Context:
        """Returns a context with the same options and no hold, for another thread."""
        return Context(self.timeout, self.blocking, self.poll_interval, self.lifetime)

    def forget(self) -> None:
        """Clears the hold, which has ended or belongs to the parent of this forked child."""
        self.counter, self.held, self.known, self.lent = 0, None, None, None


class _LentDescriptor:
    """A descriptor of the lock's file for ``on_acquired``, open while the lock is held."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        folder = os.stat(os.path.dirname(path))
        # Another user may have linked one of our files to this name, and the callback must not write to that.
        if os.fstat(self.fd).st_nlink > 1 and (folder.st_uid not in (os.geteuid(), 0) or folder.st_mode & 0o022):
            reason = "on_acquired gets no descriptor of a file with several links, in a folder that other users may write"
            raise PermissionError(errno.EACCES, reason, path)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        try:
            close(self.fd)
        except (OSError, AttributeError):
            pass


class Steps:
    """The timeouts of an acquire that calls a ``cancel_check`` between its attempts."""

    def __init__(self, limit: float, interval: float, cancel_check: Callable[[], bool]) -> None:
        self._end = math.inf if limit < 0 else time.monotonic() + limit
        self._interval = interval
        self._cancel_check = cancel_check
        #: How long the next attempt may take.
        self.timeout = 0.0

    def go_on(self) -> bool:
        """Prepares another attempt. Returns False at the end of the time, or if ``cancel_check`` returns True."""
        left = self._end - time.monotonic()
        if left <= 0 or self._cancel_check():
            return False
        self.timeout = min(self._interval, left)
        return True


class _OfThread(threading.local):
    """The paths that a thread holds, with the lock that holds them."""

    def __init__(self) -> None:
        self.held: Dict[str, Any] = {}


_of_thread = _OfThread()


def canonical(path: Union[str, os.PathLike[str]]) -> str:
    """Resolves all links but one in the last component, which counts as a file of its own."""
    parent, name = os.path.split(os.fspath(path))
    return os.path.join(os.path.realpath(parent or os.curdir), name)


class FileLockMeta(ABCMeta):
    """Checks the options before a lock is made, and returns the existing instance for ``is_singleton``."""

    _instances: WeakValueDictionary[str, Any]
    _instances_lock: Any
    _making: "set[str]"

    def __init__(cls, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        cls._reset_singletons()
        _classes.add(cls)

    def _reset_singletons(cls) -> None:
        cls._instances = WeakValueDictionary()
        cls._instances_lock = threading.RLock()
        cls._making = set()

    def __call__(
        cls,
        lock_file: Union[str, os.PathLike[str]],
        timeout: float = -1,
        mode: int = UNSET_MODE,
        thread_local: Optional[bool] = None,
        *,
        blocking: bool = True,
        is_singleton: bool = False,
        poll_interval: float = 0.05,
        lifetime: Optional[float] = None,
        context_error_policy: ContextErrorPolicy = "chain",
        close_error_policy: CloseErrorPolicy = "default",
        fallback_to_soft: bool = True,
        preserve_lock_file: bool = False,
        on_acquired: Optional[Callable[[int], None]] = None,
        **more: Any,
    ) -> Any:
        kind: Any = cls
        native_only("preserve_lock_file=True", preserve_lock_file, kind)
        native_only("on_acquired", on_acquired is not None, kind)
        options: Dict[str, Any] = {
            "timeout": seconds("timeout", timeout),
            "mode": mode_of(mode, cls.__name__),
            "thread_local": kind._thread_local_by_default if thread_local is None else thread_local,
            "blocking": blocking_of(blocking),
            "is_singleton": is_singleton,
            "poll_interval": poll_interval_of(poll_interval),
            "lifetime": lifetime_of(lifetime, kind, stacklevel=2),
            "context_error_policy": one_of("context_error_policy", context_error_policy, ("chain", "group")),
            "close_error_policy": one_of("close_error_policy", close_error_policy, ("default", "raise", "suppress")),
            "fallback_to_soft": fallback_to_soft,
            "preserve_lock_file": preserve_lock_file,
            "on_acquired": on_acquired,
            **kind._more_defaults,
            **more,
        }
        if context_error_policy == "group" and sys.version_info < (3, 11):
            path = os.fspath(lock_file)
            raise tenure.Unsupported(f"{path}: context_error_policy='group' needs Python 3.11", path)
        words = _accepted(cls, options)
        if is_singleton:
            return cls._singleton(lock_file, words, options)
        return super().__call__(lock_file, **words)

    def _singleton(cls, lock_file: Any, words: Dict[str, Any], options: Dict[str, Any]) -> Any:
        key = canonical(lock_file)
        with cls._instances_lock:
            known = cls._instances.get(key)
            # After a chdir, a relative path names another file.
            if known is None or canonical(known._path()) != key:
                if key in cls._making:
                    raise RuntimeError(f"Singleton lock construction is already active for {lock_file}")
                cls._making.add(key)
                try:
                    known = super().__call__(lock_file, **words)
                finally:
                    cls._making.discard(key)
                cls._instances[key] = known
                return known
        _compare(known, options)
        return known


#: All lock classes. A forked child resets their singletons, as another thread may have been making one.
_classes: WeakSet[FileLockMeta] = WeakSet()
_signatures: WeakKeyDictionary[type, Tuple[bool, frozenset[str]]] = WeakKeyDictionary()


def _accepted(cls: Any, options: Dict[str, Any]) -> Dict[str, Any]:
    """Returns the options that __init__ of the class accepts. Options that it lacks must have their default."""
    known = _signatures.get(cls)
    if known is None:
        taken = list(inspect.signature(cls.__init__).parameters.values())
        names = frozenset(one.name for one in taken if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY))
        known = _signatures[cls] = (any(one.kind is one.VAR_KEYWORD for one in taken), names)
    takes_all, names = known
    if takes_all:
        return options
    refused = sorted(name for name, value in options.items() if name not in names and _is_set(cls, name, value))
    if refused:
        raise TypeError(f"{cls.__name__} does not support non-default lock options: {', '.join(refused)}")
    return {name: value for name, value in options.items() if name in names}


def _is_set(cls: Any, name: str, value: Any) -> bool:
    if name == "thread_local":
        return bool(value != cls._thread_local_by_default)
    if name in cls._more_defaults:
        return bool(value != cls._more_defaults[name])
    parameter = inspect.signature(FileLockMeta.__call__).parameters.get(name)
    return parameter is None or bool(value != parameter.default)


def _compare(known: BaseFileLock, options: Dict[str, Any]) -> None:
    context = known._now()
    pairs: Dict[str, Tuple[Any, Any]] = {
        "thread_local": (options["thread_local"], known.is_thread_local()),
        "timeout": (behavior(options["timeout"]), behavior(context.timeout)),
        "mode": (options["mode"], known._mode),
        "blocking": (options["blocking"], context.blocking),
        "poll_interval": (options["poll_interval"], context.poll_interval),
        "lifetime": (options["lifetime"], context.lifetime),
        **{
            name: (options[name], getattr(known, name))
            for name in ("context_error_policy", "close_error_policy", "fallback_to_soft", "preserve_lock_file")
        },
        **{name: (options[name], getattr(known, name)) for name in known._more_defaults},
    }
    differ = [(name, asked, there) for name, (asked, there) in pairs.items() if asked != there]
    # Equal functions may still behave differently.
    if options["on_acquired"] is not known.on_acquired:
        differ.append(("on_acquired", options["on_acquired"], known.on_acquired))
    if differ:
        raise ValueError(
            "Singleton lock instances cannot be initialized with differing arguments\nNon-matching arguments: "
            + "".join(f"\n\t{name} (existing lock has {there} but {asked} was passed)" for name, asked, there in differ)
        )


def _in_a_forked_child() -> None:
    for cls in list(_classes):
        cls._reset_singletons()
    _of_thread.held = {}


os.register_at_fork(after_in_child=_in_a_forked_child)


class BaseFileLock(contextlib.ContextDecorator, metaclass=FileLockMeta):
    """The base class of FileLock and SoftFileLock.

    Args:
        lock_file: The path of the lock's file.
        timeout: The default timeout of an acquire, in seconds. Below 0 it waits without a limit, 0 makes one attempt.
        mode: The permission bits of the lock's files, whatever the umask.
        thread_local: Count the acquires of each thread separately. Otherwise all threads share one hold.
        blocking: False makes a single attempt.
        is_singleton: Return the existing instance for this path.
        poll_interval: How often ``cancel_check`` is called, in seconds. Nothing else polls.
        lifetime: For SoftFileLock, the age in seconds at which a live holder's lock may be stolen.
        context_error_policy: What is raised when a with block and the release at its end both fail. ``"chain"`` raises
            the block's exception with the other as its context, ``"group"`` an ExceptionGroup of both (Python 3.11).
        close_error_policy: Accepted for compatibility, and not used.
        fallback_to_soft: Accepted for compatibility, and not used. Without ``flock``, tenure.Unsupported is raised.
        preserve_lock_file: For FileLock, whose file always remains.
        on_acquired: For FileLock, a function that is called with a descriptor of the lock's file after each acquire. If
            it raises, the lock is released.
    """

    _in_this = "FileLock instance in this thread"
    _thread_local_by_default = True
    _more_defaults: Dict[str, Any] = {}
    #: Whether the class honours a lifetime, and whether it is a kernel lock.
    _lifetime_counts = False
    _native = True

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
        context_error_policy: ContextErrorPolicy = "chain",
        close_error_policy: CloseErrorPolicy = "default",
        fallback_to_soft: bool = True,
        preserve_lock_file: bool = False,
        on_acquired: Optional[Callable[[int], None]] = None,
    ) -> None:
        self._lock_file = os.fspath(lock_file)
        refuse_server(self._lock_file)
        self._absolute = os.path.isabs(self._lock_file)
        self._check_name()
        self._mode = mode
        self._thread_local = thread_local
        self._is_singleton = is_singleton
        self._context_error_policy: ContextErrorPolicy = context_error_policy
        self._close_error_policy: CloseErrorPolicy = close_error_policy
        self._fallback_to_soft = fallback_to_soft
        self._preserve_lock_file = preserve_lock_file
        self._on_acquired = on_acquired
        self._first = Context(timeout, blocking, poll_interval, lifetime)
        self._own = threading.local()
        #: The holds of all threads, so that the hold of a thread that ended can be released.
        self._holds: Dict[int, Tuple[Context, threading.Thread]] = {}
        #: The with blocks that threads have entered: the frame's address, the thread, its context.
        self._blocks: List[Tuple[int, int, Context]] = []
        #: Open locks, with the canonical path, which costs a system call for each parent folder.
        self._locks: Dict[Tuple[Optional[str], bool, Union[int, float, None]], Tuple[tenure.Lock, str]] = {}
        self._gate = threading.RLock()
        self._pid = os.getpid()
        self._ref = ref(self)

    # For the subclasses.

    def _check_name(self) -> None:
        """Raises if the name cannot be that of a lock."""

    @abstractmethod
    def _open(self, **more: Any) -> tenure.Lock:
        raise NotImplementedError

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
        """Acquires the lock, or increments its counter if it is held already.

        ::

            with lock.acquire(timeout=10):
                ...

        Args:
            timeout: The timeout in seconds, instead of the lock's own.
            poll_interval: How often ``cancel_check`` is called, in seconds.
            blocking: False makes a single attempt.
            cancel_check: A function that ends the wait like a timeout by returning True.

        Raises:
            Timeout: If the lock stays held by another holder.
            RuntimeError: If this thread holds the lock by another instance, and would wait without an end.
            tenure.Error: For any other failure.
        """
        context = self._now()
        if blocking is not None:
            blocking_of(blocking)
        if poll_intervall is not None:
            warnings.warn("use poll_interval instead of poll_intervall", DeprecationWarning, stacklevel=2)
            poll_interval = poll_intervall
        limit, interval = self._limits(context, timeout, poll_interval, blocking)
        if self._thread_local:
            self._acquire_once(context, limit, interval, cancel_check)
        else:
            # One thread at a time acquires. The others join its hold.
            began = time.monotonic()
            if not self._enter_gate(limit, interval, cancel_check):
                raise Timeout(self.lock_file)
            try:
                left = limit if limit <= 0 else max(0.0, limit - (time.monotonic() - began))
                self._acquire_once(context, left, interval, cancel_check)
            finally:
                self._gate.release()
        proxy = AcquireReturnProxy(self)
        proxy._context = context
        return proxy

    def _limits(
        self, context: Context, timeout: Optional[float], poll_interval: Optional[float], blocking: Optional[bool]
    ) -> Tuple[float, float]:
        """Returns how long to wait (below 0 without a limit) and how often to call ``cancel_check``."""
        interval = context.poll_interval if poll_interval is None else poll_interval_of(poll_interval)
        limit = context.timeout if timeout is None else seconds("timeout", timeout)
        if not (context.blocking if blocking is None else blocking_of(blocking)):
            return 0.0, interval
        if math.isnan(limit):
            raise ValueError("timeout must be a number of seconds, not nan")
        return (-1.0 if limit < 0 or limit == math.inf else limit), interval

    def _enter_gate(self, limit: float, interval: float, cancel_check: Optional[Callable[[], bool]]) -> bool:
        if cancel_check is None:
            return self._gate.acquire(timeout=-1 if limit < 0 else min(limit, threading.TIMEOUT_MAX))
        steps = Steps(limit, interval, cancel_check)
        while not self._gate.acquire(timeout=steps.timeout):
            if not steps.go_on():
                return False
        return True

    def _acquire_once(
        self, context: Context, limit: float, interval: float, cancel_check: Optional[Callable[[], bool]]
    ) -> None:
        if context.held is None:
            if _is_on_this_stack(context.acquiring):
                # A signal handler acquires. The wait that it interrupts continues only after the handler returns.
                raise RuntimeError(
                    f"Deadlock: lock '{self.lock_file}' is acquired again while this thread's acquire of it waits"
                )
            holds = _of_thread.held
            self._log("Attempting to acquire lock %s on %s")
            context.acquiring = sys._getframe()
            try:
                lock, path = self._lock(context, limit)
                if limit < 0:
                    self._not_by_ourselves(holds, path)
                try:
                    held = self._acquire_held(lock, limit, interval, cancel_check)
                except tenure.CannotCreate:
                    # The folder was removed, and may have been created again.
                    self._locks.clear()
                    lock, path = self._lock(context, limit)
                    held = self._acquire_held(lock, limit, interval, cancel_check)
            except (tenure.Busy, tenure.WouldDeadlock) as error:
                raise self._as_filelock_has_it(error, limit) from None
            finally:
                context.acquiring = None
            self._begin_hold(context, held, holds, path)
        else:
            context.counter += 1
        self._log("Lock %s acquired on %s")

    def _not_by_ourselves(self, holds: Dict[str, Any], path: str) -> None:
        """Raises if this thread, or task, holds the path by another instance, and would wait without an end."""
        by = holds.get(path)
        other = None if by is None else by()
        if other is not None and other is not self and other._holds_any():
            raise self._deadlock()

    def _holds_any(self) -> bool:
        return self._now().held is not None or bool(self._holds)

    def _begin_hold(self, context: Context, held: Guard, holds: Dict[str, Any], path: str) -> None:
        context.held, context.counter, context.known = held, 1, (holds, path)
        holds[path] = self._ref
        if self._thread_local:
            self._holds[id(context)] = (context, threading.current_thread())
        if self._on_acquired is not None:
            try:
                context.lent = _LentDescriptor(path)
                self._on_acquired(context.lent.fd)
            except BaseException as error:
                try:
                    self._end_hold(context)
                except BaseException as failed:
                    add_to_body(error, failed)
                raise

    def _end_hold(self, context: Context) -> None:
        held, known = context.held, context.known
        context.forget()
        self._holds.pop(id(context), None)
        if known is not None:
            holds, path = known
            if holds.get(path) is self._ref:
                del holds[path]
        if held is not None:
            self._log("Attempting to release lock %s on %s")
            held.release()
            self._log("Lock %s released on %s")

    @staticmethod
    def _acquire_held(
        lock: tenure.Lock, limit: float, interval: float, cancel_check: Optional[Callable[[], bool]]
    ) -> Guard:
        if cancel_check is None:
            return lock.acquire(None if limit < 0 else limit)
        steps = Steps(limit, interval, cancel_check)
        while True:
            try:
                return lock.acquire(steps.timeout)
            except tenure.Busy:
                if not steps.go_on():
                    raise

    def _lock(self, context: Context, limit: float) -> Tuple[tenure.Lock, str]:
        # As in filelock, a wait with a timeout ends in a Timeout even if a thread waits for itself.
        patient = limit >= 0
        # A relative path refers to the current working directory.
        folder = None if self._absolute else os.getcwd()
        key = (folder, patient, context.lifetime)
        found = self._locks.get(key)
        if found is None:
            more: Dict[str, Any] = {} if self._mode == UNSET_MODE else {"mode": self._mode}
            # A lock that threads share may be released by another thread than acquired it.
            check = not patient and self._thread_local
            lock = self._open(deadlock_check=check, steal_after=context.lifetime, **more)
            if len(self._locks) > 8:
                self._locks.clear()
            found = self._locks[key] = (lock, canonical(self._lock_file))
        return found

    def _as_filelock_has_it(self, error: tenure.Error, limit: float) -> Exception:
        if not isinstance(error, tenure.Busy):
            return self._deadlock() if error.circle is None else RuntimeError(f"Deadlock: {error}")
        if limit == 0:
            self._log("Failed to immediately acquire lock %s on %s")
        else:
            self._log("Timeout on acquiring lock %s on %s")
        return Timeout(self.lock_file, error.holder, error.hint)

    def _deadlock(self) -> RuntimeError:
        return RuntimeError(
            f"Deadlock: lock '{self.lock_file}' is already held by a different {self._in_this}. "
            "Use is_singleton=True to enable reentrant locking across instances."
        )

    def _log(self, text: str) -> None:
        if _LOGGER.isEnabledFor(logging.DEBUG):
            _LOGGER.debug(text, id(self), self._lock_file)

    # Releasing.

    def release(self, force: bool = False) -> None:
        """Decrements the counter, and releases the lock at 0. Does nothing if the lock is not held.

        Args:
            force: Release whatever the counter. With ``thread_local``, also release the holds of threads that ended.

        Raises:
            tenure.Lost: If the lock had been lost.
        """
        self._release_in(self._now(), force)
        if force:
            for context, thread in list(self._holds.values()):
                if not thread.is_alive():
                    self._release_in(context, True)

    def _release_in(self, context: Context, force: bool) -> None:
        if self._thread_local:
            self._count_down(context, force)
        else:
            with self._gate:
                self._count_down(context, force)

    def _count_down(self, context: Context, force: bool) -> None:
        if context.held is None:
            return
        if context.counter > 1 and not force:
            context.counter -= 1
            return
        self._end_hold(context)

    def _now(self) -> Context:
        """Returns the context of this thread. A forked child starts without a hold."""
        pid = os.getpid()
        if self._pid != pid:
            own = self._context_of_thread()
            self._pid, self._gate, self._own = pid, threading.RLock(), threading.local()
            self._holds, self._blocks = {}, []
            own.forget()
            self._own.context = own
        return self._context_of_thread()

    def _context_of_thread(self) -> Context:
        if not self._thread_local:
            return self._first
        try:
            context: Context = self._own.context
        except AttributeError:
            context = self._own.context = self._first.another()
        return context

    def __enter__(self) -> Self:
        self.acquire()
        if self._thread_local:
            context = self._now()
            self._blocks.append((_caller(sys._getframe()), threading.get_ident(), context))
            if len(self._blocks) > context.counter:
                self._forget_blocks(context)
        return self

    def _forget_blocks(self, context: Context) -> None:
        """Forgets blocks that are entered more often than the lock is held: their hold was released otherwise."""
        own = [block for block in self._blocks if block[2] is context]
        for block in own[: max(0, len(own) - context.counter)]:
            self._blocks.remove(block)

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._leave(self._entered(_caller(sys._getframe())) if self._thread_local else None, exc_value)

    def _entered(self, frame: int) -> Optional[Context]:
        """Returns the context of the block that is being left, by the rules of tenure.Lock."""
        self._now()
        if self._blocks and self._blocks[-1][0] == frame != 0:
            return self._blocks.pop()[2]
        blocks = list(enumerate(self._blocks))[::-1]
        me = threading.get_ident()
        by_frame = (at for at, block in blocks if block[0] == frame != 0)
        by_thread = (at for at, block in blocks if block[1] == me)
        over = (at for at, block in blocks if block[2].held is None)
        any_one = (at for at, _ in blocks)
        for found in (by_frame, by_thread, over, any_one):
            for at in found:
                return self._blocks.pop(at)[2]
        return None

    def _leave(self, context: Optional[Context], body: Optional[BaseException]) -> None:
        try:
            if context is None or context is self._now():
                self.release()
            else:
                self._release_in(context, False)
        except BaseException as failed:
            self._raise_both(body, failed)

    def _raise_both(self, body: Optional[BaseException], failed: BaseException) -> None:
        """Raises what the policy asks for, inside the handler of `failed`. The block's exception propagates by itself."""
        if body is None:
            raise failed
        if self._context_error_policy == "group":
            failed.__context__ = None
            group = BaseExceptionGroup  # type: ignore[name-defined,unused-ignore]  # noqa: F821
            raise group("lock body and release both failed", [body, failed]) from None
        add_to_body(body, failed)

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object: a lock belongs to its process")

    # State and options.

    def _path(self) -> str:
        """Returns the path of the lock's file, or of the file that was locked while the lock is held."""
        known = self._now().known
        return self._lock_file if known is None else known[1]

    @property
    def is_locked(self) -> bool:
        """True if this instance holds the lock (with ``thread_local``, in this thread)."""
        return self._now().held is not None

    @property
    def lock_counter(self) -> int:
        """The number of acquires without a release."""
        return self._now().counter

    @property
    def lock_file(self) -> str:
        """The path of the lock's file."""
        return self._lock_file

    @property
    def held(self) -> Optional[Guard]:
        """The tenure.Guard of this hold, with its fence, its check() and its previous holder."""
        return self._now().held

    @property
    def is_singleton(self) -> bool:
        """The ``is_singleton`` that was passed."""
        return self._is_singleton

    def is_thread_local(self) -> bool:
        """Returns the ``thread_local`` that was passed."""
        return self._thread_local

    @property
    def timeout(self) -> float:
        """The default timeout of an acquire, in seconds. Below 0 it waits without a limit."""
        return self._now().timeout

    @timeout.setter
    def timeout(self, value: Union[float, str, bytes, bytearray]) -> None:
        if isinstance(value, (str, bytes, bytearray)):
            warnings.warn(
                "setting timeout from a string is deprecated and will be removed; pass a number",
                DeprecationWarning,
                stacklevel=2,
            )
            value = float(value)
        self._now().timeout = seconds("timeout", value)

    @property
    def blocking(self) -> bool:
        """False if an acquire makes a single attempt."""
        return self._now().blocking

    @blocking.setter
    def blocking(self, value: bool) -> None:
        self._now().blocking = blocking_of(value)

    @property
    def poll_interval(self) -> float:
        """How often ``cancel_check`` is called, in seconds."""
        return self._now().poll_interval

    @poll_interval.setter
    def poll_interval(self, value: float) -> None:
        self._now().poll_interval = poll_interval_of(value)

    @property
    def lifetime(self) -> Optional[float]:
        """The age in seconds at which a live holder's lock may be stolen. None means never."""
        return self._now().lifetime

    @lifetime.setter
    def lifetime(self, value: Optional[float]) -> None:
        self._now().lifetime = lifetime_of(value, type(self), stacklevel=2)

    @property
    def mode(self) -> int:
        """The permission bits that were passed, or 0o644."""
        return 0o644 if self._mode == UNSET_MODE else self._mode

    @property
    def has_explicit_mode(self) -> bool:
        """True if a mode was passed."""
        return self._mode != UNSET_MODE

    @property
    def context_error_policy(self) -> ContextErrorPolicy:
        """What is raised when a block and the release at its end both fail."""
        return self._context_error_policy

    @property
    def close_error_policy(self) -> CloseErrorPolicy:
        """The value that was passed. It is not used."""
        return self._close_error_policy

    @property
    def fallback_to_soft(self) -> bool:
        """The value that was passed. It is not used."""
        return self._fallback_to_soft

    @property
    def preserve_lock_file(self) -> bool:
        """The value that was passed. A FileLock's file always remains."""
        return self._preserve_lock_file

    @property
    def on_acquired(self) -> Optional[Callable[[int], None]]:
        """The function that is called with a descriptor of the lock's file after each acquire."""
        return self._on_acquired


def _is_on_this_stack(frame: Optional[FrameType]) -> bool:
    caller: Optional[FrameType] = sys._getframe() if frame is not None else None
    while caller is not None and caller is not frame:
        caller = caller.f_back
    return caller is not None


def _caller(frame: FrameType) -> int:
    """Returns the address of the caller's frame, for comparison only, or 0 without one."""
    return 0 if frame.f_back is None else id(frame.f_back)
