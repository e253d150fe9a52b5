"""With blocks that are left on another thread or task, and the exceptions of blocks that fail."""

import asyncio
import contextlib
import gc
import threading
from pathlib import Path
from typing import Any, AsyncIterator, Callable, Iterator, List, Type

import pytest
import tenure
from conftest import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x"


def in_a_thread(work: Callable[[], Any]) -> Any:
    """Returns the result of `work`, or raises its exception, from a thread of its own."""
    answers: List[Any] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]


def is_free(path: Path) -> bool:
    return tenure.status(path).state == "free"


# Left on another thread or task.


def test_a_generator_that_another_thread_ends(path: Path) -> None:
    """As a framework runs a synchronous dependency with `yield`: each step on a thread of a pool."""
    lock = tenure.Lock(path)

    def dependency() -> Iterator[tenure.Guard]:
        with lock as held:
            yield held

    generator = dependency()
    held = in_a_thread(lambda: next(generator))
    held.check()
    in_a_thread(generator.close)
    assert held.lost and is_free(path)


def test_a_generator_that_is_collected_on_another_thread(path: Path) -> None:
    lock = tenure.Lock(path)

    def dependency() -> Iterator[tenure.Guard]:
        with lock as held:
            yield held

    generators = [dependency()]
    held = next(generators[0])
    in_a_thread(lambda: generators.clear() or gc.collect())
    assert held.lost and is_free(path)


def test_a_stack_that_another_thread_closes(path: Path) -> None:
    stack = contextlib.ExitStack()
    held = stack.enter_context(tenure.Lock(path))
    held.check()
    in_a_thread(stack.close)
    assert held.lost and is_free(path)


def test_an_async_generator_that_another_task_ends(path: Path) -> None:
    """As pytest-asyncio runs a fixture: set up in one task, torn down in another."""

    async def fixture() -> AsyncIterator[tenure.Guard]:
        async with tenure.Lock(path) as held:
            yield held

    async def main() -> None:
        generator = fixture()
        held = await asyncio.ensure_future(generator.__anext__())
        held.check()
        with pytest.raises(StopAsyncIteration):
            await asyncio.ensure_future(generator.__anext__())
        assert held.lost and is_free(path)

    asyncio.run(main())


def test_a_block_that_wait_for_entered(path: Path) -> None:
    async def main() -> None:
        lock = tenure.Lock(path)
        held = await asyncio.wait_for(lock.__aenter__(), 60)
        held.check()
        await lock.__aexit__(None, None, None)
        assert held.lost and is_free(path)
        stack = contextlib.AsyncExitStack()
        held = await asyncio.ensure_future(stack.enter_async_context(lock))
        held.check()
        await stack.aclose()
        assert held.lost and is_free(path)

    asyncio.run(main())


def test_leaving_a_block_that_was_not_entered_raises(path: Path) -> None:
    lock = tenure.Lock(path)
    with pytest.raises(RuntimeError, match="no with block has entered"):
        lock.__exit__(None, None, None)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="no with block has entered"):
            await lock.__aexit__(None, None, None)

    asyncio.run(main())
    with lock:
        pass
    with pytest.raises(RuntimeError):
        lock.__exit__(None, None, None)


def test_a_block_that_released_early_leaves_the_next_holder_alone(path: Path) -> None:
    """The block ends on another thread, when another block holds the lock."""
    lock = tenure.Lock(path)
    stack = contextlib.ExitStack()
    early = stack.enter_context(lock)
    early.release()

    def next_holder() -> None:
        with lock as held:
            in_a_thread(stack.close)
            held.check()

    in_a_thread(next_holder)
    assert is_free(path)


@pytest.mark.parametrize("options", [{"style": "flock", "shared": True}, {"reentrant": True}], ids=["shared", "reentrant"])
def test_interleaved_blocks_each_release_their_own(path: Path, options: Any) -> None:
    lock = tenure.Lock(path, **options)

    def block() -> Iterator[tenure.Guard]:
        with lock as held:
            yield held

    one, two = block(), block()
    first, second = next(one), next(two)
    one.close()
    assert first.lost and not second.lost
    two.close()
    assert second.lost and is_free(path)

    async def task(inside: "asyncio.Event", leave: "asyncio.Event") -> None:
        async with lock as held:
            inside.set()
            await leave.wait()
            held.check()
        assert held.lost

    async def main() -> None:
        tasks, leaves = [], []
        for _ in range(3):
            inside, leave = asyncio.Event(), asyncio.Event()
            tasks.append(asyncio.ensure_future(task(inside, leave)))
            leaves.append(leave)
            await inside.wait()
        for which in (0, 2, 1):
            leaves[which].set()
            await tasks[which]
        assert is_free(path)

    asyncio.run(main())


# The block's exception propagates.


def revoked(path: Path) -> tenure.Lock:
    return tenure.Lock(path, max_hold=0.01, overrun="revoke")


def contexts_of(error: BaseException) -> List[BaseException]:
    chain, context = [], error.__context__
    while context is not None:
        assert context not in chain
        chain.append(context)
        context = context.__context__
    return chain


def assert_reports_the_loss(error: BaseException) -> None:
    assert any(isinstance(context, tenure.Lost) for context in contexts_of(error))
    if hasattr(error, "add_note"):
        assert any("revoked" in note for note in error.__notes__)


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("by", ["lock", "held"])
def test_the_exception_of_a_block_that_lost_its_lock_propagates(path: Path, kind: Type[BaseException], by: str) -> None:
    lock = revoked(path)
    with pytest.raises(kind) as caught:
        with lock if by == "lock" else lock.acquire() as held:
            until("it is revoked", lambda: held.lost)
            try:
                raise OSError("before")
            except OSError:
                raise kind("the block's")
    assert str(caught.value) == str(kind("the block's"))
    assert "before" in [str(error) for error in contexts_of(caught.value)]
    assert_reports_the_loss(caught.value)


@pytest.mark.parametrize("kind", [KeyError, asyncio.CancelledError])
def test_the_same_in_a_task(path: Path, kind: Type[BaseException]) -> None:
    async def main() -> None:
        async with revoked(path) as held:
            until("it is revoked", lambda: held.lost)
            raise kind("the block's")

    with pytest.raises(kind) as caught:
        # Without an event loop, which would replace the exception of a cancelled task.
        main().send(None)
    assert_reports_the_loss(caught.value)


def test_a_task_that_is_cancelled_after_the_loss_is_cancelled(path: Path) -> None:
    async def hold(inside: "asyncio.Event") -> None:
        async with revoked(path) as held:
            until("it is revoked", lambda: held.lost)
            inside.set()
            await asyncio.Event().wait()

    async def main() -> None:
        inside = asyncio.Event()
        task = asyncio.ensure_future(hold(inside))
        await inside.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())


def test_a_block_that_ends_well_raises_the_loss(path: Path) -> None:
    with pytest.raises(tenure.Lost):
        with revoked(path) as held:
            until("it is revoked", lambda: held.lost)
