"""Suspended locks: with blocks, tasks, what they say of the time in between, and calls in the wrong order."""

import asyncio
import os
from pathlib import Path

import pytest
import tenure


def test_a_block_lets_others_in_and_says_whether_they_held(tmp_path: Path) -> None:
    lock = tenure.Lock(tmp_path / "t", label="mine")
    with lock as guard:
        fence = guard.fence
        with guard.suspended() as suspended:
            assert (suspended.changed, suspended.meanwhile) == (None, None)
            assert guard.lost and "suspended" in repr(guard) and "suspended" in repr(suspended)
            found = tenure.status(tmp_path / "t")
            assert found.state == "free" and [one.pid for one in found.suspended] == [os.getpid()]
            assert found.suspended[0].fence == fence
            assert guard.fence is None and "no fence" in repr(guard)
            with pytest.raises(tenure.Lost, match="suspended"):
                guard.check()
        assert (suspended.changed, suspended.meanwhile) == (False, "nobody")
        guard.check()
        assert guard.fence is not None and fence is not None and guard.fence > fence
        assert guard.holder.label == "mine" and guard.previous is None
        with guard.suspended() as suspended:
            tenure.Lock(tmp_path / "t").acquire(timeout=0).release()
        assert (suspended.changed, suspended.meanwhile) == (True, "others")
        assert "others" in repr(suspended)
    assert tenure.status(tmp_path / "t").state == "free"


def test_resume_takes_the_lock_before_those_that_wait(tmp_path: Path) -> None:
    async def run() -> None:
        lock = tenure.Lock(tmp_path / "t")
        guard = await lock.acquire_async()
        suspended = guard.suspend()
        other = await lock.acquire_async()
        order = []

        async def wait() -> None:
            async with lock:
                order.append("waiter")

        async def resume() -> None:
            assert await suspended.resume_async(timeout=60) is True
            order.append("resumed")
            guard.release()

        tasks = [asyncio.ensure_future(wait())]
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(resume()))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="being resumed already"):
            suspended.resume(timeout=0)
        other.release()
        await asyncio.gather(*tasks)
        assert order == ["resumed", "waiter"]

    asyncio.run(run())


def test_tasks_suspend_and_resume(tmp_path: Path) -> None:
    async def run() -> None:
        lock = tenure.Lock(tmp_path / "t")
        async with lock as guard:
            async with guard.suspended() as suspended:
                other = await lock.acquire_async(timeout=0)
                asyncio.get_running_loop().call_later(0.01, other.release)
            assert suspended.changed is True
            guard.check()
            suspended = guard.suspend()
            assert await suspended.resume_async() is False
            guard.check()

            # A cancelled resume gives the lock up.
            suspended = guard.suspend()
            other = await lock.acquire_async(timeout=0)
            resuming = asyncio.ensure_future(suspended.resume_async())
            await asyncio.sleep(0)
            resuming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await resuming
            other.release()
            assert guard.lost and tenure.status(tmp_path / "t").state == "free"
            assert tenure.status(tmp_path / "t").suspended == []
            assert guard.fence is None
            with pytest.raises(tenure.Lost, match="given up"):
                await guard.release_async()

    asyncio.run(run())


def test_a_resume_that_finds_the_lock_busy_gives_it_up(tmp_path: Path) -> None:
    lock = tenure.Lock(tmp_path / "t")
    guard = lock.acquire()
    suspended = guard.suspend()
    other = lock.acquire()
    with pytest.raises(tenure.Busy):
        suspended.resume(timeout=0)
    with pytest.raises(RuntimeError, match="given up"):
        suspended.resume()
    with pytest.raises(tenure.Lost, match="given up"):
        guard.check()
    assert guard.fence is None and guard.lost and "given up" in repr(guard)
    # The release says so, once.
    with pytest.raises(tenure.Lost, match="given up"):
        guard.release()
    guard.release()
    other.release()

    # So does the end of a block in which the failure was passed over.
    with pytest.raises(tenure.Lost, match="given up"):
        with lock as guard:
            suspended = guard.suspend()
            other = lock.acquire()
            with pytest.raises(tenure.Busy):
                suspended.resume(timeout=0)
    other.release()

    with pytest.raises(ValueError, match="mine") as raised:
        with lock as guard:
            with guard.suspended(timeout=0):
                other = lock.acquire()
                raise ValueError("mine")
    assert guard.lost and not isinstance(raised.value, tenure.Error)
    other.release()


def test_calls_in_the_wrong_order(tmp_path: Path) -> None:
    lock = tenure.Lock(tmp_path / "t")
    guard = lock.acquire()
    suspended = guard.suspend()
    with pytest.raises(tenure.Lost, match="suspended"):
        guard.suspend()
    suspended.resume()
    with pytest.raises(RuntimeError, match="not suspended"):
        suspended.resume()
    # A release gives a suspended lock up.
    suspended = guard.suspend()
    guard.release()
    assert tenure.status(tmp_path / "t").suspended == []
    with pytest.raises(RuntimeError, match="released"):
        suspended.resume()
    with pytest.raises(tenure.Lost):
        guard.suspend()
    # And so does the end of the last reference.
    guard = lock.acquire()
    guard.suspend()
    del guard
    assert tenure.status(tmp_path / "t").suspended == []


def test_what_cannot_be_suspended_stays_held(tmp_path: Path) -> None:
    for number, options in enumerate(
        [{"style": "flock", "shared": True}, {"record": False}, {"slots": 2}]
    ):
        guard = tenure.Lock(tmp_path / str(number), **options).acquire()  # type: ignore[arg-type]
        with pytest.raises(tenure.Unsupported):
            guard.suspend()
        with pytest.raises(tenure.Unsupported):
            with guard.suspended():
                pass
        guard.check()
        guard.release()


def test_a_forked_child_resumes_nothing(tmp_path: Path) -> None:
    guard = tenure.Lock(tmp_path / "t").acquire()
    suspended = guard.suspend()
    child = os.fork()
    if child == 0:
        try:
            suspended.resume(timeout=0)
        except tenure.Lost:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert suspended.resume(timeout=0) is False
    guard.release()
