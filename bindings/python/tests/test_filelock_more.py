"""More of filelock's public behaviour, tested for both: options, warnings, logging, singletons, forks, threads, errors."""

import asyncio
import decimal
import fractions
import gc
import inspect
import logging
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, List

import filelock as real
import pytest
import tenure
import tenure.filelock as ours
from conftest import until

VERSION = tuple(int(part) for part in real.__version__.split(".")[:2])

GROUPS = sys.version_info >= (3, 11)


@pytest.fixture(params=[real, ours], ids=["real", "ours"])
def filelock(request: Any) -> Any:
    if request.param is real and VERSION < (4, 3):
        pytest.skip(f"ours has the interface of filelock 4.3; here is {real.__version__}")
    return request.param


@pytest.fixture(params=["FileLock", "SoftFileLock"])
def kind(request: Any, filelock: Any) -> Any:
    return getattr(filelock, request.param)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "x.lock")


# Names and options.


def test_every_name_exists_or_names_its_replacement(filelock: Any) -> None:
    if VERSION < (4, 3):
        pytest.skip(f"here is filelock {real.__version__}")
    for name in real.__all__:
        try:
            getattr(filelock, name)
        except AttributeError as error:
            assert filelock is ours and name in str(error) and ": " in str(error).split("attribute", 1)[1], error
    assert set(ours.__all__) <= set(real.__all__)
    assert filelock.__version__ == real.__version__ and set(filelock.__all__) <= set(dir(filelock))


#: Members that only one of the packages has. Those of FileLock are for file systems without flock.
MEMBERS = {
    "UnixFileLock": {"pid", "is_lock_held_by_us", "break_lock"},
    "AsyncUnixFileLock": {"pid", "is_lock_held_by_us", "break_lock"},
}


def members(kind: Any) -> Any:
    return {name for name in dir(kind) if not name.startswith("_")}


def parameters(function: Any) -> Any:
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


def test_every_member_of_every_class_exists() -> None:
    if VERSION < (4, 3):
        pytest.skip(f"here is filelock {real.__version__}")
    for name in ours.__all__:
        theirs, mine = getattr(real, name), getattr(ours, name)
        if inspect.isfunction(theirs):
            assert parameters(theirs) == parameters(mine), name
        if not inspect.isclass(theirs) or name == "LockOptions":
            continue
        assert members(theirs) - members(mine) == MEMBERS.get(mine.__name__, set()), name
        assert members(mine) - members(theirs) == ({"held"} if hasattr(mine, "is_locked") else set()), name
        if name != "Timeout":
            assert parameters(theirs.__init__) == parameters(mine.__init__), name
        for member in members(theirs) & members(mine):
            one, other = inspect.getattr_static(theirs, member), inspect.getattr_static(mine, member)
            assert isinstance(one, property) == isinstance(other, property), (name, member)
            if isinstance(one, property):
                assert (one.fset is None) == (other.fset is None), (name, member)
            elif inspect.isfunction(one):
                assert parameters(one) == parameters(other), (name, member)
    assert set(ours.LockOptions.__annotations__) == set(real.LockOptions.__annotations__)


def test_the_file_of_a_kernel_lock_does_not_name_the_holder(filelock: Any, path: str) -> None:
    lock = filelock.FileLock(path)
    for name in ("pid", "is_lock_held_by_us"):
        assert not hasattr(lock, name)


def test_the_module_of_the_asynchronous_locks(filelock: Any) -> None:
    assert filelock.asyncio.AsyncUnixFileLock is filelock.AsyncUnixFileLock is filelock.AsyncFileLock


def test_every_option_is_an_attribute(kind: Any, path: str) -> None:
    lock = kind(path)
    assert (lock.context_error_policy, lock.close_error_policy) == ("chain", "default")
    assert (lock.fallback_to_soft, lock.preserve_lock_file, lock.on_acquired) == (True, False, None)
    assert (lock.timeout, lock.blocking, lock.poll_interval, lock.lifetime) == (-1, True, 0.05, None)
    assert (lock.is_singleton, lock.is_thread_local(), lock.mode, lock.has_explicit_mode) == (False, True, 0o644, False)
    lock = kind(path, close_error_policy="raise", fallback_to_soft=False)
    assert (lock.close_error_policy, lock.fallback_to_soft) == ("raise", False)
    for fixed in ("context_error_policy", "fallback_to_soft", "on_acquired", "mode", "lock_file", "is_locked"):
        with pytest.raises(AttributeError):
            setattr(lock, fixed, None)


def test_options_for_kernel_locks_only(filelock: Any, path: str) -> None:
    lock = filelock.FileLock(path, preserve_lock_file=True)
    with lock:
        pass
    assert lock.preserve_lock_file and os.path.exists(path)
    for more in ({"preserve_lock_file": True}, {"on_acquired": print}):
        with pytest.raises(ValueError, match="not supported by SoftFileLock"):
            filelock.SoftFileLock(path, **more)


def test_modes(kind: Any, path: str) -> None:
    for mode in (0o400, 0o200, 0o066, 0o2660, 0o1666, 0o4600, -2):
        with pytest.raises(ValueError, match="mode="):
            kind(path, mode=mode)
    for mode in (True, 6.0, "600"):
        with pytest.raises(TypeError, match="mode must be an int"):
            kind(path, mode=mode)
    for mode in (0o600, 0o640, 0o744):
        with kind(f"{path}.{mode}.lock", mode=mode) as lock:
            assert lock.mode == mode and os.stat(lock.lock_file).st_mode & 0o777 == mode


def test_numbers(kind: Any, path: str) -> None:
    for number in (decimal.Decimal("1.5"), fractions.Fraction(3, 2)):
        lock = kind(path, timeout=number, poll_interval=number)
        assert (lock.timeout, lock.poll_interval) == (1.5, 1.5)
    for name in ("timeout", "poll_interval"):
        for odd in (True, "1", None, b"1", 1j):
            with pytest.raises(TypeError, match=f"{name} must be a number of seconds"):
                kind(path, **{name: odd})
        with pytest.raises(ValueError, match="too large"):
            kind(path, **{name: 10**400})
    for wrong in (-1, float("inf"), float("nan"), threading.TIMEOUT_MAX * 2):
        with pytest.raises(ValueError, match="poll_interval must"):
            kind(path, poll_interval=wrong)
        with pytest.raises(ValueError, match="poll_interval must"):
            kind(path).poll_interval = wrong
        with pytest.raises(ValueError, match="poll_interval must"):
            kind(path).acquire(poll_interval=wrong)
    with kind(path, timeout=float("inf")), pytest.raises(RuntimeError, match="Deadlock"):
        kind(path).acquire(timeout=float("inf"))
    # The timeout matters only if the acquire waits.
    kind(path, timeout=float("nan")).acquire(blocking=False).lock.release()
    with pytest.raises(ValueError, match="nan"):
        kind(path, timeout=float("nan")).acquire()
    lock = kind(path)
    with pytest.deprecated_call(match="from a string"):
        lock.timeout = "2.5"
    assert lock.timeout == 2.5
    for name, odd in (("timeout", True), ("blocking", 1), ("poll_interval", "1")):
        with pytest.raises(TypeError):
            setattr(lock, name, odd)


def test_policies(kind: Any, path: str) -> None:
    for wrong in ({"context_error_policy": "both"}, {"close_error_policy": "ignore"}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            kind(path, **wrong)


def test_lifetimes(filelock: Any, path: str) -> None:
    for name in ("FileLock", "SoftFileLock"):
        kind = getattr(filelock, name)
        for wrong in (-1, float("nan"), float("inf"), -0.5):
            with pytest.raises(ValueError, match="lifetime must be finite and non-negative"):
                kind(path, lifetime=wrong)
            with pytest.raises(ValueError, match="lifetime must be finite and non-negative"):
                kind(path).lifetime = wrong
        for odd in (True, "1", b"1"):
            with pytest.raises(TypeError, match="lifetime must be a number of seconds"):
                kind(path, lifetime=odd)
    lock = filelock.SoftFileLock(path)
    with pytest.warns(filelock.SoftFileLockLifetimeWarning):
        lock.lifetime = 5
    assert lock.lifetime == 5
    lock.lifetime = None
    assert lock.lifetime is None
    lock = filelock.FileLock(path)
    with pytest.warns(UserWarning, match="lifetime is ignored for UnixFileLock"):
        lock.lifetime = 5
    assert lock.lifetime is None
    assert issubclass(filelock.SoftFileLockLifetimeWarning, FutureWarning)


def test_warnings_point_at_the_line_that_caused_them(filelock: Any, path: str) -> None:
    def line() -> int:
        return sys._getframe(1).f_lineno

    lines = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        soft = filelock.SoftFileLock(path, lifetime=1); lines.append(line())  # noqa: E702
        soft.lifetime = 2; lines.append(line())  # noqa: E702
        kernel = filelock.FileLock(path, lifetime=1); lines.append(line())  # noqa: E702
        kernel.lifetime = 2; lines.append(line())  # noqa: E702
        kernel.timeout = "1"; lines.append(line())  # noqa: E702
        kernel.acquire(poll_intervall=0.1); lines.append(line())  # noqa: E702
        filelock.AsyncSoftFileLock(path, lifetime=1); lines.append(line())  # noqa: E702
        filelock.SoftFileLock(path, lifetime=1, is_singleton=True); lines.append(line())  # noqa: E702
    assert [(one.filename, one.lineno) for one in caught] == [(__file__, number) for number in lines]


def test_a_narrow_subclass(filelock: Any, kind: Any, path: str) -> None:
    class Narrow(kind):  # type: ignore[misc]
        def __init__(self, lock_file: str, timeout: float = -1, mine: int = 0) -> None:
            super().__init__(lock_file, timeout)
            self.mine = mine

    lock = Narrow(path, timeout=3, mine=7)
    assert (lock.timeout, lock.mine, lock.blocking) == (3, 7, True)
    with lock:
        assert lock.is_locked
    with pytest.raises(TypeError, match="does not support non-default lock options: blocking"):
        Narrow(path, blocking=False)
    with pytest.raises(TypeError, match="other"):
        Narrow(path, other=1)
    with pytest.raises(TypeError):
        filelock.BaseFileLock(path)


# Singletons.


def test_a_singleton_is_made_once(kind: Any, path: str) -> None:
    made: List[Any] = []

    class Counted(kind):  # type: ignore[misc]
        def __init__(self, *words: Any, **more: Any) -> None:
            super().__init__(*words, **more)
            made.append(self)

    locks = [Counted(path, is_singleton=True) for _ in range(3)]
    assert len(made) == 1 and locks[0] is locks[1] is locks[2]
    assert kind(path, is_singleton=True) is not locks[0]
    with pytest.raises(TypeError):
        Counted(path, is_singleton=True, mode="x")
    for more in ({"timeout": 1}, {"mode": 0o600}, {"thread_local": False}, {"blocking": False}, {"poll_interval": 1},
                 {"context_error_policy": "group"}, {"close_error_policy": "raise"}, {"fallback_to_soft": False}):
        if more.get("context_error_policy") and not GROUPS:
            continue
        with pytest.raises(ValueError, match="differing arguments") as caught:
            Counted(path, is_singleton=True, **more)
        assert next(iter(more)) in str(caught.value)
    # Two values with the same meaning.
    assert Counted(path, timeout=-5, is_singleton=True) is Counted(path, float("inf"), is_singleton=True)
    assert len(made) == 1


def test_a_singleton_after_a_chdir(kind: Any, tmp_path: Path, monkeypatch: Any) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "a")
    one = kind("x.lock", is_singleton=True)
    assert kind("./x.lock", is_singleton=True) is one and kind(tmp_path / "a" / "x.lock", is_singleton=True) is one
    monkeypatch.chdir(tmp_path / "b")
    assert kind("x.lock", is_singleton=True) is not one


def test_a_fork_while_a_singleton_is_made_does_not_hang(filelock: Any, path: str, other: Any) -> None:
    forking = other(
        f"""
        import os, threading, {filelock.__name__} as filelock
        inside, go_on = threading.Event(), threading.Event()
        class Slow(filelock.FileLock):
            def __init__(self, *words, **more):
                super().__init__(*words, **more)
                if threading.current_thread() is not threading.main_thread():
                    inside.set()
                    go_on.wait()
        thread = threading.Thread(target=lambda: Slow(path, is_singleton=True), daemon=True)
        thread.start()
        inside.wait()
        child = os.fork()
        if child == 0:
            with Slow(path, is_singleton=True) as lock:
                os.write(1, b"child True\\n" if lock.is_locked else b"child False\\n")
            os._exit(0)
        say(os.waitpid(child, 0)[1])
        go_on.set()
        """,
        path,
    )
    forking.hear("child True")
    forking.hear("0")


# Logging.


def test_logging(kind: Any, path: str, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG, logger="filelock")
    lock = kind(path)
    with lock:
        with pytest.raises(TimeoutError):
            kind(path).acquire(blocking=False)
        with pytest.raises(TimeoutError):
            kind(path).acquire(timeout=0.01)
    assert {record.name for record in caplog.records} == {"filelock"}
    assert all(path in record.getMessage() for record in caplog.records)
    said = [(record.levelname, record.msg) for record in caplog.records]
    for text in (
        "Attempting to acquire lock %s on %s",
        "Lock %s acquired on %s",
        "Failed to immediately acquire lock %s on %s",
        "Timeout on acquiring lock %s on %s",
        "Attempting to release lock %s on %s",
        "Lock %s released on %s",
    ):
        assert ("DEBUG", text) in said
    acquired = next(record for record in caplog.records if "acquired" in record.msg)
    assert acquired.args == (id(lock), path)


# Errors at the end of a block.


def test_a_block_and_its_release_that_both_fail(filelock: Any, path: str, monkeypatch: Any) -> None:
    if not GROUPS:
        pytest.skip("ExceptionGroup is Python 3.11's")
    failed = OSError("the release")

    class Failing(filelock.FileLock):  # type: ignore[misc,name-defined]
        def release(self, force: bool = False) -> None:
            super().release(force)
            raise failed

    with pytest.raises(BaseExceptionGroup, match="both failed") as group:  # noqa: F821
        with Failing(path, context_error_policy="group"):
            raise KeyError("the block")
    first, second = group.value.exceptions
    assert isinstance(first, KeyError) and second is failed
    with pytest.raises(OSError, match="the release"):
        with Failing(path, context_error_policy="group"):
            pass
    # By default one exception becomes the other's context. Ours propagates the block's.
    with pytest.raises(OSError if filelock is real else KeyError) as chained:
        with Failing(path):
            raise KeyError("the block")
    context = chained.value.__context__
    assert isinstance(context, KeyError) if filelock is real else context is failed


@pytest.mark.parametrize("how", ["with", "acquire", "async"])
def test_the_exception_of_a_block_whose_lock_was_broken_propagates(path: str, how: str) -> None:
    def block() -> None:
        lock = ours.SoftFileLock(path)
        with lock if how == "with" else lock.acquire():
            lock.break_lock()
            raise KeyError("the block's")

    async def block_of_a_task() -> None:
        lock = ours.AsyncSoftFileLock(path)
        async with lock:
            lock.break_lock()
            raise KeyError("the block's")

    with pytest.raises(KeyError) as caught:
        asyncio.run(block_of_a_task()) if how == "async" else block()
    assert isinstance(caught.value.__context__, tenure.Lost)
    with ours.SoftFileLock(path, timeout=0):
        pass


# on_acquired.


def test_on_acquired_gets_a_descriptor(filelock: Any, path: str) -> None:
    seen: List[Any] = []

    def write(descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"mine", 0)
        seen.append((descriptor, lock.is_locked, lock.lock_counter))

    lock = filelock.FileLock(path, on_acquired=write)
    with lock:
        assert Path(path).read_text() == "mine"
        with lock:
            os.pwrite(seen[0][0], b"still", 0)
        assert Path(path).read_text() == "still"
    assert [one[1:] for one in seen] == [(True, 1)]
    with lock:
        pass
    assert len(seen) == 2


def test_an_exception_of_on_acquired_releases(filelock: Any, path: str) -> None:
    def refuse(descriptor: int) -> None:
        raise KeyError(descriptor)

    lock = filelock.FileLock(path, on_acquired=refuse)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(KeyError):
            lock.acquire()
        assert not lock.is_locked and lock.lock_counter == 0
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    filelock.FileLock(path).acquire(timeout=0)


def test_on_acquired_gets_no_descriptor_of_a_linked_file(filelock: Any, tmp_path: Path) -> None:
    """Other users who may write in the folder may have linked it."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    os.link(precious, shared / "x.lock")
    lock = filelock.FileLock(shared / "x.lock", on_acquired=lambda descriptor: os.ftruncate(descriptor, 0))
    with pytest.raises(PermissionError):
        lock.acquire()
    assert precious.read_text() == "mine" and not lock.is_locked
    filelock.FileLock(shared / "x.lock").acquire(timeout=0)


# Threads.


def in_a_thread(work: Any) -> Any:
    answers: List[Any] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    thread.join()
    return answers[0]


def test_a_thread_that_ended_without_a_release(filelock: Any, kind: Any, path: str) -> None:
    """The hold remains until a forced release or the end of the lock."""
    lock = kind(path)
    in_a_thread(lock.acquire)
    with pytest.raises(filelock.Timeout):
        kind(path).acquire(timeout=0)
    lock.release()
    with pytest.raises(filelock.Timeout):
        kind(path).acquire(timeout=0)
    lock.release(force=True)
    kind(path).acquire(timeout=0).lock.release()
    in_a_thread(lock.acquire)
    del lock
    gc.collect()
    kind(path).acquire(timeout=0).lock.release()


def test_a_release_by_force_leaves_a_living_thread_alone(filelock: Any, kind: Any, path: str) -> None:
    lock = kind(path)
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            inside.set()
            go_on.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    lock.release(force=True)
    with pytest.raises(filelock.Timeout):
        kind(path).acquire(timeout=0)
    go_on.set()
    thread.join()


def test_each_thread_has_its_own_settings(kind: Any, path: str) -> None:
    lock = kind(path, timeout=1)
    lock.timeout = 2
    assert in_a_thread(lambda: lock.timeout) == 1 and lock.timeout == 2
    lock = kind(path, timeout=1, thread_local=False)
    lock.timeout = 2
    assert in_a_thread(lambda: lock.timeout) == 2


def test_a_block_of_ours_that_another_thread_leaves_is_released(path: str) -> None:
    """Theirs stays held, without an error."""

    def block(how: str) -> Any:
        lock = ours.FileLock(path)
        with lock if how == "with" else lock.acquire():
            yield lock

    for how in ("with", "acquire"):
        generator = block(how)
        in_a_thread(lambda: next(generator))
        with pytest.raises(ours.Timeout):
            ours.FileLock(path).acquire(timeout=0)
        generator.close()
        ours.FileLock(path).acquire(timeout=0).lock.release()


def test_a_lock_that_is_entered_and_never_left_remembers_nothing(filelock: Any, path: str) -> None:
    lock = filelock.FileLock(path)
    for _ in range(100):
        lock.__enter__()
        lock.release()
    assert not lock.is_locked
    if filelock is ours:
        assert len(lock._blocks) <= 1


def test_a_block_of_ours_that_released_early_leaves_the_next_holder_alone(path: str) -> None:
    lock = ours.FileLock(path)

    def early() -> Any:
        with lock:
            lock.release()
            yield

    def hold() -> bool:
        with lock:
            generator.close()
            return bool(lock.is_locked)

    generator = early()
    next(generator)
    assert in_a_thread(hold)
    assert not lock.is_locked


def test_a_signal_handler_does_not_wait_for_the_wait_that_it_interrupts(filelock: Any, path: str, other: Any) -> None:
    holder = other("import filelock\nwith filelock.FileLock(path):\n    say('held')\n    hear()", path)
    holder.hear("held")
    waiter = other(
        f"""
        import signal, {filelock.__name__} as filelock
        lock = filelock.FileLock(path)
        def handle(*_):
            try:
                lock.acquire()
            except RuntimeError as error:
                say("Deadlock" in str(error))
        signal.signal(signal.SIGUSR1, handle)
        say("waits")
        with lock:
            say("held")
        """,
        path,
    )
    waiter.hear("waits")
    until("it waits", lambda: _is_asleep(waiter.pid))
    waiter.signal(signal.SIGUSR1)
    waiter.hear("True")
    holder.tell()
    waiter.hear("held")


def _is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"


# Soft locks.


#: Older versions write nothing to the file, and remove any file with its name.
HOLDERS = ["filelock", "tenure.filelock"] if VERSION >= (4, 3) else ["tenure.filelock"]

SOFT_HOLDER = """
import {module} as filelock
lock = filelock.SoftFileLock(path)
lock.acquire()
say("held")
hear()
try:
    lock.release()
    say("released")
except OSError as error:
    say(type(error).__name__)
"""


def test_break_lock(filelock: Any, path: str, other: Any) -> None:
    lock = filelock.SoftFileLock(path)
    lock.break_lock()  # Nothing to break.
    for module in HOLDERS:
        holder = other(SOFT_HOLDER.format(module=module), path)
        holder.hear("held")
        if filelock is ours:
            with pytest.raises(tenure.Busy, match="force=True"):
                tenure.break_lock(path[:-5])
        with pytest.raises(filelock.Timeout):
            lock.acquire(timeout=0)
        lock.break_lock()
        with lock:
            holder.tell()
            holder.hear("released" if module == "filelock" else "Lost")
            assert lock.is_locked and lock.is_lock_held_by_us


def test_a_lifetime_steals_the_lock(filelock: Any, path: str, other: Any) -> None:
    for module in HOLDERS:
        holder = other(SOFT_HOLDER.format(module=module), path)
        holder.hear("held")
        with pytest.warns(filelock.SoftFileLockLifetimeWarning):
            thief = filelock.SoftFileLock(path, lifetime=0.1, timeout=60)
        with thief:
            holder.tell()
            holder.hear("released" if module == "filelock" else "Lost")
            assert thief.is_lock_held_by_us


def test_the_holder_of_a_file_that_is_not_a_lock(filelock: Any, path: str) -> None:
    Path(path).write_text("# yarn lockfile v1\n")
    lock = filelock.SoftFileLock(path)
    assert lock.pid is None and not lock.is_lock_held_by_us


# Descriptors.


def test_a_descriptor_of_the_caller(filelock: Any, path: str) -> None:
    with open(path, "w") as file, open(path) as another:
        assert filelock.lock_descriptor(file.fileno()) is True
        assert filelock.lock_descriptor(another.fileno(), blocking=False) is False
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(path).acquire(timeout=0)
        filelock.unlock_descriptor(file.fileno())
        with filelock.FileLock(path):
            assert filelock.lock_descriptor(another.fileno(), blocking=False) is False
        assert filelock.lock_descriptor(another.fileno(), blocking=False) is True
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError):
            filelock.lock_descriptor(0, poll_interval=wrong)
    with pytest.raises(OSError):
        filelock.lock_descriptor(10**6)


# asyncio.


@pytest.mark.parametrize("name", ["AsyncFileLock", "AsyncSoftFileLock"])
def test_a_task_that_waits_for_itself(filelock: Any, name: str, path: str) -> None:
    kind = getattr(filelock, name)

    async def main() -> None:
        async with kind(path):
            with pytest.raises(RuntimeError, match="Deadlock.*in this task"):
                await kind(path).acquire()
            # Another task may wait for this one.
            waiting = asyncio.ensure_future(kind(path).acquire(timeout=60))
            await asyncio.sleep(0.05)
            assert not waiting.done()
        await (await waiting).lock.release()
        async with kind(path):
            pass

    asyncio.run(main())


def test_options_for_the_event_loop(filelock: Any, path: str) -> None:
    lock = filelock.AsyncFileLock(path)
    assert (lock.loop, lock.run_in_executor, lock.executor) == (None, True, None)
    lock.executor = None
    with pytest.raises(AttributeError):
        lock.loop = None
    one = filelock.AsyncFileLock(path, is_singleton=True)
    assert filelock.AsyncFileLock(path, is_singleton=True) is one
    with pytest.raises(ValueError, match="run_in_executor"):
        filelock.AsyncFileLock(path, is_singleton=True, run_in_executor=False)


def test_an_asynchronous_lock_whose_folder_is_created_again(filelock: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with filelock.AsyncFileLock(tmp_path / "a" / "x.lock"):
            assert (tmp_path / "a" / "x.lock").exists()

    asyncio.run(main())
