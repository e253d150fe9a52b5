"""Tasks: they exclude each other, wait without blocking the loop, and a cancelled wait leaves nothing."""

import asyncio
import os
from pathlib import Path
from typing import Any, List

import pytest
import tenure
from conftest import HOLDER


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x"


async def until_it_waits(path: Path) -> None:
    while tenure.status(path).waiters != 1:
        await asyncio.sleep(0.002)


def test_the_loop_runs_while_a_task_waits(path: Path, other: Any) -> None:
    holder = other(HOLDER, path)
    holder.hear()

    async def main() -> None:
        task = asyncio.ensure_future(tenure.Lock(path).acquire_async())
        await until_it_waits(path)
        assert not task.done()
        holder.tell()
        held = await task
        held.check()
        held.release()

    asyncio.run(main())


def test_tasks_exclude_each_other(path: Path) -> None:
    lock = tenure.Lock(path)
    inside = 0

    async def work() -> None:
        nonlocal inside
        for _ in range(20):
            async with lock as held:
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                held.check()
                inside -= 1

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(10)))

    asyncio.run(main())
    assert tenure.status(path).state == "free"


def test_timeouts(path: Path, other: Any) -> None:
    holder = other(HOLDER, path)
    holder.hear()

    async def main() -> None:
        for timeout in (0, 0.05):
            with pytest.raises(tenure.Busy) as caught:
                await tenure.Lock(path).acquire_async(timeout)
            assert caught.value.holder is not None and caught.value.holder.pid == holder.pid
        with pytest.raises(tenure.Busy):
            async with tenure.Lock(path, timeout=0.01):
                raise AssertionError("it is held")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(tenure.Lock(path).acquire_async(), 0.05)

    asyncio.run(main())
    holder.tell()
    holder.hear("released")
    tenure.Lock(path).acquire(60).release()


def pipes() -> int:
    """Counts the open pipe ends of this process."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            pass  # The descriptor of the listing.
    return sum(link.startswith("pipe:") for link in links)


def test_a_cancelled_wait_leaves_nothing(path: Path, other: Any) -> None:
    holder = other(HOLDER, path)
    holder.hear()
    open_before = pipes()
    # The exceptions keep their frames, so that nothing in them is dropped by chance.
    kept: List[BaseException] = []

    async def main() -> None:
        lock = tenure.Lock(path)
        for _ in range(20):
            task = asyncio.ensure_future(lock.acquire_async())
            await until_it_waits(path)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            kept.append(caught.value)

    asyncio.run(main())
    holder.tell()
    holder.hear("released")
    tenure.Lock(path).acquire(60).release()
    assert pipes() == open_before


def test_a_grant_that_meets_a_cancellation_is_released(path: Path) -> None:
    async def main() -> None:
        lock = tenure.Lock(path)
        taken: List[str] = []
        for yields in range(40):
            held = await lock.acquire_async()
            task = asyncio.ensure_future(lock.acquire_async())
            await asyncio.sleep(0)
            held.release()
            # Cancelled before, at and after the grant.
            for _ in range(yields % 8):
                await asyncio.sleep(0)
            task.cancel()
            try:
                (await task).release()
                taken.append("granted")
            except asyncio.CancelledError:
                taken.append("cancelled")
            (await lock.acquire_async(60)).release()
        assert "cancelled" in taken

    asyncio.run(main())
    assert tenure.status(path).state == "free"


def test_an_exception_in_the_block_releases(path: Path) -> None:
    async def main() -> None:
        with pytest.raises(KeyError):
            async with tenure.Lock(path):
                raise KeyError
        assert tenure.status(path).state == "free"
        # Two locks at once, left in the other order.
        one, two = tenure.Lock(path), tenure.Lock(f"{path}2")
        async with one as held, two as also:
            assert held.target != also.target

    asyncio.run(main())
    assert tenure.status(f"{path}2").state == "free"


def test_a_circle_of_tasks_in_scopes_is_named(tmp_path: Path) -> None:
    x, y = (tenure.Lock(tmp_path / name) for name in ("x", "y"))

    async def main() -> None:
        held = [asyncio.Event(), asyncio.Event()]

        async def transfer(source: tenure.Lock, target: tenure.Lock, own: int) -> None:
            async with source:
                held[own].set()
                await held[1 - own].wait()
                async with target:
                    pass

        outcomes = await asyncio.gather(
            tenure.task(transfer(x, y, 0), name="there"),
            tenure.task(transfer(y, x, 1), name="back"),
            return_exceptions=True,
        )
        (error,) = [outcome for outcome in outcomes if outcome is not None]
        assert isinstance(error, tenure.WouldDeadlock) and error.circle is not None
        assert {step.task_name for step in error.circle} == {"there", "back"}
        assert len({step.task for step in error.circle}) == 2 and error.circle[0].slots is None

    asyncio.run(main())


def test_a_scope_is_that_of_its_own_task(path: Path) -> None:
    lock = tenure.Lock(path)

    async def again(timeout: float) -> BaseException:
        try:
            return AssertionError(await lock.acquire_async(timeout=timeout))
        except tenure.Error as error:
            return error

    async def work() -> str:
        async with lock:
            assert isinstance(await again(60), tenure.WouldDeadlock)
            # A task that is started here is another one.
            assert isinstance(await asyncio.ensure_future(again(0.05)), tenure.Busy)
            # So is a scope within this one.
            assert isinstance(await tenure.task(again(0.05)), tenure.Busy)
            assert isinstance(await again(60), tenure.WouldDeadlock)
        return "done"

    async def main() -> None:
        assert await tenure.task(work()) == "done"
        async with lock:
            assert isinstance(await again(0.05), tenure.Busy)

    asyncio.run(main())
