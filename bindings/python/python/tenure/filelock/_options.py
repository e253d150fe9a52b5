"""The options of filelock's locks, and their checks."""

from __future__ import annotations

import math
import warnings
from decimal import Decimal
from numbers import Real
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, Callable, Literal, Optional, TypedDict, Union

import tenure
from tenure._tenure import _server_of

if TYPE_CHECKING:
    from ._base import BaseFileLock

UNSET_MODE = -1

ContextErrorPolicy = Literal["chain", "group"]
"""What is raised when a block and the release at its end both fail: the block's exception with the other as its context,
or a group of both."""

CloseErrorPolicy = Literal["default", "raise", "suppress"]
"""What happens when the file cannot be closed. Accepted for compatibility, and not used."""


class LockOptions(TypedDict, total=False):
    """All options of a lock, for subclasses that pass them on."""

    timeout: float
    mode: int
    thread_local: bool
    blocking: bool
    is_singleton: bool
    poll_interval: float
    lifetime: Optional[float]
    context_error_policy: ContextErrorPolicy
    close_error_policy: CloseErrorPolicy
    fallback_to_soft: bool
    preserve_lock_file: bool
    on_acquired: Optional[Callable[[int], None]]


class SoftFileLockLifetimeWarning(FutureWarning):
    """A warning that a ``lifetime`` steals the lock of a live holder, which may still be working."""


def seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if isinstance(value, Decimal) and value.is_nan():
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large to be a number of seconds: {value!r}") from None
    # A value that rounds to zero keeps its sign, as a negative timeout means no limit.
    return -5e-324 if number == 0 and value < 0 else number


def poll_interval_of(value: Any) -> float:
    interval = seconds("poll_interval", value)
    if not 0 <= interval < math.inf:
        raise ValueError(f"poll_interval must be finite and non-negative, not {interval!r}")
    if interval > TIMEOUT_MAX:
        raise ValueError(f"poll_interval must not exceed threading.TIMEOUT_MAX ({TIMEOUT_MAX}), got {interval!r}")
    return interval


def blocking_of(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"blocking must be a bool, not {type(value).__name__}")
    return value


def mode_of(value: Any, kind: str) -> int:
    if value == UNSET_MODE and isinstance(value, int):
        return UNSET_MODE
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"mode must be an int, not {type(value).__name__}")
    if not 0 <= value <= 0o777:
        raise ValueError(f"mode={value:#o} must be within 0o000-0o777 for {kind}")
    if ~value & 0o600:
        raise ValueError(f"mode={value:#o} must grant the owner read and write for {kind}")
    return int(value)


def lifetime_of(value: Any, kind: "type[BaseFileLock]", stacklevel: int) -> Union[int, float, None]:
    """Returns the effective lifetime. Warns about any, for the code `stacklevel` frames above the caller."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        value = seconds("lifetime", value)
    if value < 0 or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"lifetime must be finite and non-negative, not {value!r}")
    if not kind._lifetime_counts:
        warnings.warn(
            f"lifetime is ignored for {kind.__name__}: a kernel lock cannot be broken by its file's age; only "
            "SoftFileLock supports it",
            stacklevel=stacklevel + 1,
        )
        return None
    warnings.warn(
        f"{kind.__name__}(lifetime=...) steals the lock of a live holder, which may still be working; use "
        "tenure.Lock(path, max_hold=.., overrun='revoke') in the holder instead, which ends after a maximum time",
        SoftFileLockLifetimeWarning,
        stacklevel=stacklevel + 1,
    )
    return float(value) if isinstance(value, float) else value


def one_of(name: str, value: Any, words: "tuple[str, ...]") -> Any:
    if value not in words:
        choice = ", ".join(map(repr, words[:-1])) + f"{',' if len(words) > 2 else ''} or {words[-1]!r}"
        raise ValueError(f"{name} must be {choice}, got {value!r}")
    return value


def native_only(name: str, asked: bool, kind: "type[BaseFileLock]") -> None:
    if asked and not kind._native:
        raise ValueError(f"{name} is not supported by {kind.__name__}, whose release removes its file")


def refuse_server(path: str) -> None:
    """Raises for a target on a server, which would otherwise be the path of a file."""
    server = _server_of(path)
    if server is not None:
        hint = "tenure.Lock locks a name on a server"
        raise tenure.Unsupported(f"{path}: the classes of filelock lock files; {hint}", path, None, hint)


def behavior(timeout: float) -> Union[float, str]:
    """Returns equal values for two timeouts that mean the same wait."""
    if math.isnan(timeout):
        return "nan"
    return -1.0 if timeout < 0 or timeout == math.inf else timeout
