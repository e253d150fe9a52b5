"""The public behaviour of the package filelock, tested for it and for tenure.filelock.

Where they differ, ``docs/from-filelock.md`` has a row.
"""

import asyncio
import os
import pickle
import threading
import time
from pathlib import Path
from typing import Any, List

import filelock as real
import pytest
import tenure
import tenure.filelock as ours
from conftest import until

VERSION = tuple(int(part) for part in real.__version__.split(".")[:2])


@pytest.fixture(params=[real, ours], ids=["real", "ours"])
def filelock(request: Any) -> Any:
    if request.param is real and VERSION < (4, 1):
        pytest.skip(f"ours has the interface of filelock 4.1; here is {real.__version__}")
    return request.param


@pytest.fixture(params=["FileLock", "SoftFileLock"])
def kind(request: Any, filelock: Any) -> Any:
    return getattr(filelock, request.param)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "x.lock")


def test_the_names(filelock: Any) -> None:
    for name in ("FileLock", "SoftFileLock", "UnixFileLock"):
        assert issubclass(getattr(filelock, name), filelock.BaseFileLock)
    for name in ("AsyncFileLock", "AsyncSoftFileLock", "AsyncUnixFileLock"):
        assert issubclass(getattr(filelock, name), filelock.BaseAsyncFileLock)
    assert filelock.FileLock is filelock.UnixFileLock
    assert issubclass(filelock.Timeout, TimeoutError)
    assert filelock.has_fcntl


def test_a_with_block(kind: Any, path: str) -> None:
    lock = kind(path)
    assert not lock.is_locked and lock.lock_counter == 0 and lock.lock_file == path
    with lock as entered:
        assert entered is lock and lock.is_locked and lock.lock_counter == 1
        assert os.path.exists(path)
    assert not lock.is_locked and lock.lock_counter == 0


def test_it_counts(kind: Any, path: str) -> None:
    lock = kind(path)
    with lock:
        with lock.acquire() as entered:
            assert entered is lock and lock.lock_counter == 2
            with lock:
                assert lock.lock_counter == 3
        assert lock.is_locked and lock.lock_counter == 1
    assert not lock.is_locked
    lock.release()  # Does nothing.
    for _ in range(3):
        lock.acquire()
    lock.release(force=True)
    assert not lock.is_locked and lock.lock_counter == 0


def test_an_exception_releases(kind: Any, path: str) -> None:
    lock = kind(path)
    with pytest.raises(KeyError):
        with lock:
            raise KeyError
    assert not lock.is_locked


def test_a_decorator(kind: Any, path: str) -> None:
    lock = kind(path)

    @lock
    def locked() -> bool:
        return bool(lock.is_locked)

    assert locked() and not lock.is_locked


def test_another_instance_is_kept_out(filelock: Any, kind: Any, path: str) -> None:
    one, two = kind(path), kind(path)
    with one:
        for more in ({"timeout": 0}, {"timeout": 0.05}, {"blocking": False}):
            with pytest.raises(filelock.Timeout) as caught:
                two.acquire(**more)
            assert caught.value.lock_file == path
            assert str(caught.value).startswith(f"The file lock '{path}' could not be acquired.")
            assert f"pid {os.getpid()}" in str(caught.value) or filelock is real
            again = pickle.loads(pickle.dumps(caught.value))
            assert again.lock_file == path and str(again) == str(caught.value)
            assert not two.is_locked and two.lock_counter == 0
    two.acquire(timeout=0)
    two.release()


def test_the_default_timeouts(filelock: Any, kind: Any, path: str) -> None:
    with kind(path):
        for more in ({"timeout": 0}, {"blocking": False}, {"timeout": 0.01, "poll_interval": 0.001}):
            lock = kind(path, **more)
            with pytest.raises(filelock.Timeout):
                lock.acquire()
            with pytest.raises(filelock.Timeout):
                with lock:
                    raise AssertionError("it is held")
    lock = kind(path, 3.5, 0o600, False, poll_interval=0.25)
    assert (lock.timeout, lock.mode, lock.poll_interval, lock.blocking) == (3.5, 0o600, 0.25, True)
    assert not lock.is_thread_local() and not lock.is_singleton and lock.has_explicit_mode and lock.lifetime is None
    lock.timeout = 1
    lock.blocking = False
    lock.poll_interval = 0.5
    assert (lock.timeout, lock.blocking, lock.poll_interval) == (1.0, False, 0.5)
    assert kind(path).mode == 0o644 and not kind(path).has_explicit_mode


def test_the_mode_of_the_file(kind: Any, path: str) -> None:
    with kind(path, mode=0o640):
        assert os.stat(path).st_mode & 0o777 == 0o640


def test_folders_are_made(kind: Any, tmp_path: Path) -> None:
    with kind(tmp_path / "a" / "b" / "x.lock") as lock:
        assert isinstance(lock.lock_file, str) and os.path.exists(lock.lock_file)


def test_a_folder_that_is_removed_and_created_again(kind: Any, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    lock = kind(folder / "x.lock")
    for _ in range(2):
        with lock:
            assert folder.exists()
        for below in sorted(folder.rglob("*"), reverse=True):
            below.rmdir() if below.is_dir() else below.unlink()
        folder.rmdir()


def test_the_files_after_a_release(filelock: Any, path: str) -> None:
    with filelock.FileLock(path):
        pass
    assert os.path.exists(path)
    os.remove(path)
    with filelock.SoftFileLock(path):
        assert os.path.exists(path)
    assert not os.path.exists(path)


def test_a_file_keeps_its_bytes(filelock: Any, path: str) -> None:
    Path(path).write_text("mine")
    with filelock.FileLock(path):
        pass
    assert Path(path).read_text() == "mine"


def test_the_same_thread_waiting_for_itself(filelock: Any, kind: Any, path: str) -> None:
    with kind(path):
        with pytest.raises(RuntimeError, match="Deadlock.*is_singleton=True"):
            kind(path).acquire()


def test_threads_count_for_themselves(filelock: Any, kind: Any, path: str) -> None:
    lock = kind(path)
    seen: List[Any] = []

    def work() -> None:
        seen.append(lock.is_locked)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            seen.append("busy")

    with lock:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [False, "busy"]


def test_threads_share_a_hold_that_is_not_thread_local(kind: Any, path: str) -> None:
    lock = kind(path, thread_local=False)
    seen: List[Any] = []

    def work() -> None:
        with lock:
            seen.append((lock.is_locked, lock.lock_counter))

    with lock:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert lock.lock_counter == 1
    assert seen == [(True, 2)] and not lock.is_locked


def test_threads_exclude_each_other(kind: Any, path: str) -> None:
    lock = kind(path, poll_interval=0.001)
    inside = 0

    def work() -> None:
        nonlocal inside
        for _ in range(25):
            with lock:
                inside += 1
                assert inside == 1
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == 0


def test_singletons(kind: Any, path: str) -> None:
    one = kind(path, is_singleton=True)
    assert kind(path, is_singleton=True) is one and one.is_singleton
    assert kind(os.path.join(os.path.dirname(path), ".", "x.lock"), is_singleton=True) is one
    assert kind(path) is not one
    assert kind(path + "2.lock", is_singleton=True) is not one
    with one, kind(path, is_singleton=True) as two:
        assert two.lock_counter == 2
    with pytest.raises(ValueError, match="differing arguments") as caught:
        kind(path, timeout=3, is_singleton=True)
    assert "timeout" in str(caught.value)
    before = id(one)
    del one, two
    assert kind(path, is_singleton=True) is not None and before


def test_a_subclass(filelock: Any, path: str) -> None:
    class Mine(filelock.FileLock):  # type: ignore[misc,name-defined]
        def __init__(self, lock_file: str, timeout: float = -1, mine: int = 0, **more: Any) -> None:
            super().__init__(lock_file, timeout, **more)
            self.mine = mine

    lock = Mine(path, timeout=2, mine=7)
    assert (lock.timeout, lock.mine) == (2, 7)
    with lock:
        assert lock.is_locked


def test_a_dropped_lock_is_free(kind: Any, path: str) -> None:
    lock = kind(path)
    lock.acquire()
    del lock
    kind(path).acquire(timeout=0)


def test_it_is_not_pickled(kind: Any, path: str) -> None:
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(kind(path))


def test_invalid_arguments(kind: Any, path: str) -> None:
    for more in ({"mode": 1.5}, {"blocking": 1}, {"timeout": "1"}, {"poll_interval": "1"}, {"unknown": 1}):
        with pytest.raises(TypeError):
            kind(path, **more)
    for wrong in ({"poll_interval": -1}, {"mode": 0o1777}, {"mode": 0o077}):
        with pytest.raises(ValueError):
            kind(path, **wrong)
    with pytest.raises(ValueError, match="nan"):
        kind(path).acquire(timeout=float("nan"))
    with pytest.raises(TypeError):
        kind(path).acquire(blocking="no")


def test_the_old_spelling(kind: Any, path: str) -> None:
    with pytest.deprecated_call(match="poll_interval instead"):
        kind(path).acquire(poll_intervall=0.05)


def test_a_cancel_check(filelock: Any, kind: Any, path: str) -> None:
    asked = 0

    def enough() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    with kind(path):
        with pytest.raises(filelock.Timeout):
            kind(path).acquire(timeout=1000, poll_interval=0.001, cancel_check=enough)
    assert asked == 3
    kind(path).acquire(cancel_check=lambda: True)


def test_a_lifetime(filelock: Any, path: str) -> None:
    with pytest.warns(UserWarning, match="lifetime is ignored for"):
        assert filelock.FileLock(path, lifetime=1).lifetime is None
    with pytest.warns(FutureWarning):
        assert filelock.SoftFileLock(path, lifetime=1).lifetime == 1
    with pytest.raises(ValueError):
        filelock.SoftFileLock(path, lifetime=-1)


def test_the_holder_of_a_soft_lock(filelock: Any, path: str) -> None:
    lock = filelock.SoftFileLock(path)
    assert lock.pid is None and not lock.is_lock_held_by_us
    with lock:
        assert lock.pid == os.getpid() and lock.is_lock_held_by_us


# asyncio


@pytest.fixture(params=["AsyncFileLock", "AsyncSoftFileLock"])
def async_kind(request: Any, filelock: Any) -> Any:
    return getattr(filelock, request.param)


def test_async_with(async_kind: Any, path: str) -> None:
    async def main() -> None:
        lock = async_kind(path)
        async with lock as entered:
            assert entered is lock and lock.is_locked and lock.lock_counter == 1
            async with await lock.acquire() as again:
                assert again is lock and lock.lock_counter == 2
            assert lock.lock_counter == 1
        assert not lock.is_locked
        await lock.acquire()
        await lock.acquire()
        await lock.release(force=True)
        assert not lock.is_locked
        with pytest.raises(NotImplementedError, match="async with"):
            with lock:
                raise AssertionError
        assert not lock.is_thread_local()

    asyncio.run(main())


def test_async_times(filelock: Any, async_kind: Any, path: str) -> None:
    async def main() -> None:
        async with async_kind(path):
            for more in ({"timeout": 0}, {"timeout": 0.05}, {"blocking": False}):
                with pytest.raises(filelock.Timeout):
                    await async_kind(path).acquire(**more)
        with pytest.raises(ValueError):
            async_kind(path, thread_local=True)
        lock = async_kind(path, thread_local=True, run_in_executor=False)
        async with lock:
            assert lock.is_locked

    asyncio.run(main())


def test_async_tasks_exclude_each_other(async_kind: Any, path: str) -> None:
    inside = 0

    async def work() -> None:
        nonlocal inside
        for _ in range(5):
            async with async_kind(path, timeout=60, poll_interval=0.001):
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(5)))

    asyncio.run(main())


def test_async_tasks_share_one_instance(async_kind: Any, path: str) -> None:
    async def main() -> None:
        lock = async_kind(path)
        async with lock:
            await asyncio.ensure_future(lock.acquire())
            assert lock.lock_counter == 2
            await lock.release()
        assert not lock.is_locked

    asyncio.run(main())


def test_async_cancelled(async_kind: Any, path: str) -> None:
    async def main() -> None:
        async with async_kind(path):
            waiting = async_kind(path)
            task = asyncio.ensure_future(waiting.acquire(timeout=1000))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not waiting.is_locked and waiting.lock_counter == 0
        await waiting.acquire(timeout=60)
        await waiting.release()

    asyncio.run(main())


# Features that only ours has, and errors where it lacks one.


def test_ours_reports_more(path: str) -> None:
    with ours.FileLock(path) as lock:
        assert lock.held is not None and lock.held.fence > 0
        with pytest.raises(ours.Timeout) as caught:
            ours.FileLock(path).acquire(timeout=0)
        assert caught.value.holder.pid == os.getpid() and "tenure.status" in caught.value.hint
    assert lock.held is None


def test_ours_excludes_others_after_its_file_is_removed(path: str) -> None:
    with ours.FileLock(path):
        os.remove(path)
        with pytest.raises(ours.Timeout):
            ours.FileLock(path).acquire(timeout=0.05)


def test_ours_refuses_unsupported_names(path: str) -> None:
    with pytest.raises(tenure.Unsupported, match=r"\.lock"):
        ours.SoftFileLock(path + "x")
    for name in ("ReadWriteLock", "StrictSoftFileLock", "unheard_of"):
        with pytest.raises(AttributeError, match=name):
            getattr(ours, name)


def test_waiters_are_not_passed_over(path: str) -> None:
    """Our waiters are served in the order of their arrival, theirs by chance."""
    lock, order = ours.FileLock(path), []
    lock.acquire()
    threads = []
    for number in range(5):

        def work(number: int = number) -> None:
            with ours.FileLock(path):
                order.append(number)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        # Each waiter is in the queue before the next one starts.
        until("it waits", lambda: _asleep(threads[-1]))
    lock.release()
    for thread in threads:
        thread.join()
    assert order == sorted(order)


def _asleep(thread: threading.Thread) -> bool:
    """Returns whether a thread is parked: in futex(2) without a timeout. A thread that waits for the GIL has a timeout."""
    number, *words = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()
    return number in ("202", "98") and words[3] == "0x0"
