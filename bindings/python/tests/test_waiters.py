"""Many waiters: their cost, and the errors where the system refuses more descriptors."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any, List

import pytest
import tenure
from conftest import HOLDER, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


FEW_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
"""


def test_many_tasks_wait_with_few_files(path: Path, other: Any) -> None:
    holder = other(HOLDER, path)
    holder.hear()
    waiting = other(
        FEW_FILES
        + """
import asyncio, tenure
async def main():
    lock = tenure.Lock(path, timeout=1000)
    count = 0
    async def work():
        nonlocal count
        async with lock:
            count += 1
    tasks = [asyncio.ensure_future(work()) for _ in range(600)]
    await asyncio.sleep(0)
    say("wait", len(os.listdir("/proc/self/fd")) < 32)
    await asyncio.gather(*tasks)
    say(count)
asyncio.run(main())
""",
        path,
    )
    waiting.hear("wait True")
    holder.tell()
    waiting.hear("600")


def test_many_threads_wait_with_few_files(path: Path, other: Any) -> None:
    holder = other(HOLDER, path)
    holder.hear()
    waiting = other(
        FEW_FILES
        + """
import threading, tenure
lock = tenure.Lock(path, timeout=1000)
count = 0
def work():
    global count
    with lock:
        count += 1
threads = [threading.Thread(target=work) for _ in range(100)]
for thread in threads: thread.start()
say("wait")
for thread in threads: thread.join()
say(count)
""",
        path,
    )
    waiting.hear("wait")
    until("they wait", lambda: tenure.status(path).waiters == 1)
    holder.tell()
    waiting.hear("100")


def test_waiters_leave_no_file_open(path: Path) -> None:
    lock = tenure.Lock(path)
    held = lock.acquire()

    async def main() -> None:
        for _ in range(3):
            for timeout in (0, 0.001):
                with pytest.raises(tenure.Busy):
                    await lock.acquire_async(timeout)
        tasks = [asyncio.ensure_future(lock.acquire_async()) for _ in range(10)]
        await asyncio.sleep(0)
        before = open_files()
        more = [asyncio.ensure_future(lock.acquire_async()) for _ in range(100)]
        await asyncio.sleep(0)
        # What the waits that timed out had open is closed meanwhile.
        assert open_files() < before + len(more)
        for task in tasks + more:
            task.cancel()
        await asyncio.wait(tasks + more)

    asyncio.run(main())
    before = open_files()
    asyncio.run(main())
    until("what the waits had open is closed", lambda: open_files() <= before)
    held.release()


def test_loops_of_several_threads_are_all_woken(path: Path) -> None:
    """They share one doorbell, and the loop that answers it wakes the waiters of the others."""
    lock = tenure.Lock(path)
    inside: List[int] = []

    async def work(number: int) -> None:
        async with lock as held:
            held.check()
            inside.append(number)
            await asyncio.sleep(0)

    async def main(number: int) -> None:
        for _ in range(20):
            await asyncio.gather(*(work(number) for _ in range(5)))

    held = lock.acquire()
    threads = [threading.Thread(target=lambda number=number: asyncio.run(main(number))) for number in range(4)]
    for thread in threads:
        thread.start()
    held.release()
    for thread in threads:
        thread.join()
    assert sorted(inside) == sorted(list(range(4)) * 100)


def test_a_blocked_loop_does_not_delay_the_grants_of_others(path: Path) -> None:
    lock = tenure.Lock(path)
    held = lock.acquire()
    still, go_on, waits = threading.Event(), threading.Event(), threading.Event()

    def blocks() -> None:
        async def main() -> None:
            other = asyncio.ensure_future(tenure.Lock(f"{path}2").acquire_async())
            await asyncio.sleep(0)
            still.set()
            go_on.wait()
            (await other).release()

        asyncio.run(main())

    def runs() -> None:
        async def main() -> None:
            task = asyncio.ensure_future(lock.acquire_async())
            await asyncio.sleep(0)
            waits.set()
            (await task).release()

        asyncio.run(main())

    second = tenure.Lock(f"{path}2").acquire()
    blocked, running = threading.Thread(target=blocks), threading.Thread(target=runs)
    blocked.start()
    still.wait()
    running.start()
    waits.wait()
    held.release()
    running.join()
    go_on.set()
    second.release()
    blocked.join()


def test_a_forked_child_has_a_doorbell_of_its_own(path: Path, other: Any) -> None:
    """A grant to the parent's task must not ring in the child, nor the reverse."""
    holder = other(HOLDER, path)
    holder.hear()
    forking = other(
        """
        import asyncio, os, tenure
        def whole(line):
            os.write(1, line.encode() + b"\\n")
        async def first():
            try:
                await tenure.Lock(path).acquire_async(0.01)
            except tenure.Busy:
                pass
        asyncio.run(first())
        child = os.fork()
        async def main():
            lock = tenure.Lock(path)
            async with lock:
                pass
            whole("parent held" if child else "child held")
        whole("waits")
        asyncio.run(main())
        if child:
            whole(str(os.waitpid(child, 0)[1]))
        else:
            os._exit(0)
        """,
        path,
    )
    forking.hear("waits")
    forking.hear("waits")
    until("both wait", lambda: tenure.status(path).waiters == 2)
    holder.tell()
    said = {forking.hear() for _ in range(3)}
    assert said == {"parent held", "child held", "0"}


@pytest.mark.parametrize("how", ["asyncio.run(lock.acquire_async(1000))", "lock.acquire()"])
def test_a_wait_without_a_free_descriptor_is_an_error(path: Path, other: Any, how: str) -> None:
    holder = other(HOLDER, path)
    holder.hear()
    waiter = other(
        f"""
        import asyncio, resource, tenure
        lock = tenure.Lock(path)
        # The descriptors of the library and of the loop are open.
        try:
            lock.acquire(0)
        except tenure.Busy:
            pass
        async def nothing(): pass
        asyncio.run(nothing())
        import errno, tenure._waits
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        files = []
        try:
            while True:
                files.append(open("/dev/null"))
        except OSError:
            pass
        if {how!r}.startswith("asyncio"):
            # The descriptors that the loop opens.
            for _ in range(4): files.pop().close()
            real = tenure._tenure.Doorbell
            def full():
                while True:
                    try:
                        files.append(open("/dev/null"))
                    except OSError:
                        return real()
            tenure._tenure.Doorbell = full
        try:
            {how}
        except tenure.Error as error:
            say(type(error).__name__, error.errno == errno.EMFILE, "ulimit -n" in str(error), error.hint is not None)
        for file in files: file.close()
        say("over")
        hear()
        with lock: say("held")
        """,
        path,
    )
    waiter.hear("Error True True True")
    waiter.hear("over")
    holder.tell()
    waiter.tell()
    waiter.hear("held")
