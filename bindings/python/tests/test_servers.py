"""Locks on real etcd clusters and PostgreSQL servers."""

import asyncio
import itertools
import os
import signal
import subprocess
import threading
from typing import Any, List, Optional, Tuple

import pytest
import tenure
import tenure.filelock
from conftest import HOLDER, until
from servers import command, etcd, postgres, silent_at

__all__ = ["etcd", "postgres"]

_count = itertools.count()


@pytest.fixture(params=["etcd", "postgres"])
def server(request: Any) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"n{next(_count)}/main"


def await_waiters(target: str, count: int) -> None:
    until(f"{count} waiters", lambda: tenure.status(target).waiters == count)


def refused(lock: tenure.Lock, timeout: float) -> tenure.Busy:
    """Returns the error of an acquire of a held lock. On a slow machine the server may take longer than such an acquire."""
    errors: List[tenure.Error] = []

    def is_busy() -> bool:
        try:
            lock.acquire(timeout)
        except (tenure.Busy, tenure.Unreachable) as error:
            errors.append(error)
        return isinstance(errors[-1], tenure.Busy)

    until("an answer", is_busy)
    busy = errors[-1]
    assert isinstance(busy, tenure.Busy)
    return busy


def test_a_lock_behaves_like_that_of_a_file(server: Any, name: str, other: Any) -> None:
    target = server.target(name)
    lock = tenure.Lock(target, label="the first")
    assert lock.status().state == "free"
    with lock as first:
        first.check()
        assert not first.lost and not first.shared and first.previous is None
        assert first.target == target == lock.target
        assert first.lease is not None and 0 < first.lease.lost_in < first.lease.free_in <= 20
        found = tenure.status(target)
        assert (found.state, found.server, found.holder and found.holder.label) == ("held", server.scheme, "the first")
        first.set_label("renamed")
        until("the new label", lambda: tenure.status(target).holder.label == "renamed")  # type: ignore[union-attr]
        with pytest.raises(tenure.WouldDeadlock):
            lock.acquire(timeout=10)
        holder = other(HOLDER, target)
        await_waiters(target, 1)
    assert first.fence is not None and int(holder.hear().split()[1]) > first.fence
    for timeout in (0, 0.05):
        found_holder = refused(lock, timeout).holder
        assert found_holder is not None
        assert (found_holder.pid, found_holder.label) == (holder.pid, "the holder")
    holder.tell()
    holder.hear("released")
    with lock as second:
        assert second.fence is not None and second.fence > first.fence and second.previous is None
    assert lock.status().state == "free" and second.lost
    with pytest.raises(tenure.Lost, match="released"):
        second.check()


def test_readers_share_a_lock(server: Any, name: str) -> None:
    target = server.target(name)
    reading = tenure.Lock(target, shared=True)
    with reading as first, reading as second:
        assert first.shared and second.shared and first.fence is None and second.fence is None
        found = tenure.status(target)
        assert (found.state, found.holder, found.open_by) == ("held", None, [os.getpid()])
        refused(tenure.Lock(target, deadlock_check=False), 0.05)
        with pytest.raises(tenure.WouldDeadlock, match="cannot be upgraded"):
            tenure.Lock(target).acquire()
    with tenure.Lock(target) as writer:
        assert writer.fence is not None
        refused(tenure.Lock(target, shared=True, deadlock_check=False), 0.05)


def test_the_command_and_python_exclude_each_other(server: Any, name: str) -> None:
    target = server.target(name)
    words = [command(), "run", "--no-wait", target, "--", "true"]

    def attempt() -> int:
        # On a slow machine the server may take longer than an attempt.
        codes = iter(lambda: subprocess.run(words, capture_output=True).returncode, None)
        return next(code for code in codes if code != 69)

    with tenure.Lock(target):
        assert attempt() == 75
    assert attempt() == 0
    holder = subprocess.Popen(
        [command(), "run", target, "--", "sh", "-c", "echo held; read line"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        found = refused(tenure.Lock(target), 0).holder
        assert found is not None and found.pid == holder.pid
        holder.communicate("go on\n")
    tenure.Lock(target).acquire().release()


def test_a_killed_holder_is_reported(server: Any, name: str, other: Any) -> None:
    # The victim's lease is short, and long enough for calls on a slow machine.
    victim = other(HOLDER, server.target(name, ttl=9))
    victim.hear()
    victim.kill()
    target = server.target(name)
    with tenure.Lock(target) as guard:
        assert guard.previous is not None
        assert (guard.previous.pid, guard.previous.label) == (victim.pid, "the holder")
    with tenure.Lock(target) as guard:
        assert guard.previous is None


def test_a_hold_that_an_operator_ends_is_lost(server: Any, name: str) -> None:
    target = server.target(name)
    guard = tenure.Lock(target).acquire()
    server.end_hold(name)
    until("the loss", lambda: guard.lost)
    assert guard.lease is not None and guard.lease.lost_in == 0
    with pytest.raises(tenure.Lost):
        guard.check()
    with pytest.raises(tenure.Lost):
        guard.release()
    tenure.Lock(target).acquire().release()


def test_a_break(server: Any, name: str, other: Any) -> None:
    target = server.target(name)
    assert tenure.break_lock(target) is False
    guard = tenure.Lock(target).acquire()
    with pytest.raises(tenure.Busy, match="force=True") as busy:
        tenure.break_lock(target)
    assert busy.value.holder is not None and busy.value.holder.fence == guard.fence
    waiter = other(HOLDER, target)
    await_waiters(target, 1)
    assert tenure.break_lock(target, force=True) is True
    waiter.hear()
    until("the loss", lambda: guard.lost)
    with pytest.raises(tenure.Lost):
        guard.release()


def test_several_are_acquired_all_or_none(etcd: Any, postgres: Any, name: str, tmp_path: Any, other: Any) -> None:
    # The leases outlast the test, so that only a release frees a lock.
    targets = [str(tmp_path / "a"), postgres.target(name, ttl=600), etcd.target(name, ttl=600), etcd.target("b/c", ttl=600)]
    locks = [tenure.Lock(target) for target in targets]

    def is_free(target: str) -> bool:
        found = tenure.status(target)
        return found.state == "free" and found.waiters in (0, None)

    guards = tenure.acquire_all(locks, timeout=60)
    assert [guard.target for guard in guards] == targets
    for guard in guards:
        guard.release()
    guards = asyncio.run(tenure.acquire_all_async(iter(locks), timeout=60))
    assert [guard.target for guard in guards] == targets
    for guard in guards:
        guard.release()
    for busy in targets:
        holder = other(HOLDER, busy)
        holder.hear()
        for timeout in (0, 0.05):
            with pytest.raises((tenure.Busy, tenure.Unreachable)):
                tenure.acquire_all(locks, timeout)
            with pytest.raises((tenure.Busy, tenure.Unreachable)):
                asyncio.run(tenure.acquire_all_async(locks, timeout))
        for free in targets:
            if free != busy:
                until("nothing is left", lambda: is_free(free))  # noqa: B023
        holder.tell()
        holder.hear("released")


def test_a_lock_that_is_named_twice_is_refused(etcd: Any, name: str) -> None:
    locks = [tenure.Lock(etcd.target(name)), tenure.Lock(etcd.target(name, ttl=30))]
    with pytest.raises(tenure.InvalidTarget, match="twice"):
        tenure.acquire_all(locks)
    with pytest.raises(TypeError):
        tenure.acquire_all([name])  # type: ignore[list-item]
    assert tenure.acquire_all([]) == []


def test_a_list(server: Any, name: str) -> None:
    top = name.split("/")[0]
    with tenure.Lock(server.target(f"{top}/b")), tenure.Lock(server.target(f"{top}/a/deep"), label="deep"):
        found = tenure.list(server.folder_of(top))
        names = [one.target.split(f"{top}/")[1].split("?")[0].split("&")[0] for one in found]
        assert names == ["a/deep", "b"]
        assert [one.state for one in found] == ["held", "held"]
        assert found[0].holder is not None and found[0].holder.label == "deep"
    assert tenure.list(server.folder_of(top)) == []


def test_a_cancelled_wait_leaves_nothing(server: Any, name: str, other: Any) -> None:
    # The lease outlasts the test, so that only a returned place frees the queue.
    target = server.target(name, ttl=600)
    lock = tenure.Lock(target)

    async def cancelled() -> None:
        async with tenure.Lock(target) as guard:
            waiting = asyncio.create_task(lock.acquire_async())
            await asyncio.to_thread(await_waiters, target, 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            for timeout in (0, 0.05):
                with pytest.raises((tenure.Busy, tenure.Unreachable)):
                    await lock.acquire_async(timeout)
            await asyncio.to_thread(await_waiters, target, 0)
            guard.check()
        async with lock as guard:
            await guard.release_async()
            assert guard.lost
            with pytest.raises(tenure.Lost):
                await asyncio.create_task(tenure.Guard.release_async(await broken()))

    async def broken() -> tenure.Guard:
        guard = await lock.acquire_async()
        await asyncio.to_thread(tenure.break_lock, target, force=True)
        return guard

    asyncio.run(cancelled())
    assert lock.status().state == "free"


def test_tasks_exclude_each_other(server: Any, name: str) -> None:
    inside: List[int] = []
    lock = tenure.Lock(server.target(name))

    async def work(fences: List[int]) -> None:
        async with lock as guard:
            inside.append(1)
            assert len(inside) == 1
            await asyncio.sleep(0)
            inside.pop()
            fences.append(guard.fence or 0)

    async def many() -> List[int]:
        fences: List[int] = []
        await asyncio.gather(*(work(fences) for _ in range(5)))
        return fences

    fences = asyncio.run(many())
    assert fences == sorted(set(fences)) and len(fences) == 5


def test_a_release_in_a_task_lets_the_event_loop_run(etcd: Any, name: str) -> None:
    async def release() -> None:
        guard = await tenure.Lock(etcd.target(name)).acquire_async()
        etcd.stop()
        try:
            releasing = asyncio.create_task(guard.release_async())
            # A release that blocked would have ended by the server's silence before this task runs again.
            await asyncio.sleep(0)
            assert not releasing.done()
        finally:
            etcd.go_on()
        await asyncio.wait([releasing])
        # On a slow machine the server may have answered too late.
        assert releasing.exception() is None or isinstance(releasing.exception(), tenure.Unreachable)

    asyncio.run(release())
    tenure.Lock(etcd.target(name)).acquire().release()


def test_an_error_of_a_block_wins_over_that_of_its_release(etcd: Any, name: str) -> None:
    async def block() -> None:
        async with tenure.Lock(etcd.target(name)):
            etcd.end_hold(name)
            raise KeyError("the block")

    with pytest.raises(KeyError) as raised:
        asyncio.run(block())
    # On a slow machine the server may have answered too late.
    assert isinstance(raised.value.__context__, (tenure.Lost, tenure.Unreachable))


def test_an_interrupted_wait_leaves_nothing(server: Any, name: str, other: Any) -> None:
    target = server.target(name, ttl=600)
    guard = tenure.Lock(target).acquire()
    waiter = other(
        """
import tenure
lock = tenure.Lock(path)
say("ready")
try:
    lock.acquire(timeout=float(sys.argv[2]) or None)
except KeyboardInterrupt:
    say("interrupted")
""",
        target,
        0,
    )
    waiter.hear("ready")
    await_waiters(target, 1)
    waiter.signal(signal.SIGINT)
    waiter.hear("interrupted")
    assert waiter.process.wait(60) == 0
    await_waiters(target, 0)
    guard.release()


def test_the_interpreters_end_returns_the_places_of_its_threads(server: Any, name: str, other: Any) -> None:
    target = server.target(name, ttl=600)
    guard = tenure.Lock(target).acquire()
    waiter = other(
        """
import tenure, threading
lock = tenure.Lock(path)
threading.Thread(target=lock.acquire, daemon=True).start()
hear()
""",
        target,
    )
    await_waiters(target, 1)
    assert waiter.end() == 0
    await_waiters(target, 0)
    guard.release()


# The lease of a hold that no release ends is short, and long enough for calls on a slow machine.
@pytest.mark.parametrize(
    "ending, ttl, crashed",
    [
        ("pass", 600, False),
        ("sys.exit(3)", 600, False),
        ("raise ValueError('on purpose')", 600, False),
        ("os._exit(3)", 10, True),
        ("os.kill(os.getpid(), 15)", 10, True),
    ],
)
@pytest.mark.parametrize("slots", [None, 1])
def test_the_end_of_a_process_that_holds(
    server: Any, name: str, other: Any, slots: Optional[int], ending: str, ttl: int, crashed: bool
) -> None:
    target = server.target(name, ttl)
    holder = other(
        f"""
import tenure
guard = tenure.Lock(path, slots={slots}).acquire()
say("held", guard.fence)
hear()
{ending}
""",
        target,
    )
    assert holder.hear().startswith("held")
    holder.tell()
    holder.process.wait(60)
    with tenure.Lock(target, slots=slots) as guard:
        assert (guard.previous is not None) == crashed
        assert guard.slot == (None if slots is None else 0)


@pytest.mark.parametrize("ending", ["pass", "sys.exit(3)", "raise ValueError('on purpose')"])
def test_the_end_of_a_process_that_waits_for_a_slot_leaves_nothing(
    server: Any, name: str, other: Any, ending: str
) -> None:
    target = server.target(name, ttl=600)
    held = tenure.Lock(target, slots=1).acquire()
    waiter = other(
        f"""
import tenure, threading
lock = tenure.Lock(path, slots=1)
threading.Thread(target=lock.acquire, daemon=True).start()
hear()
{ending}
""",
        target,
    )
    # It has the place of the first waiter, and one in the queue of the slot.
    first, slot = server.target(f"{name}.next", ttl=600), server.target(f"{name}.slot-0", ttl=600)
    until("the first waiter", lambda: tenure.status(first).state == "held")
    await_waiters(slot, 1)
    waiter.tell()
    waiter.process.wait(60)
    await_waiters(slot, 0)
    until("no first waiter", lambda: tenure.status(first).state == "free")
    held.release()
    tenure.Lock(target, slots=1).acquire(timeout=60).release()


@pytest.mark.parametrize("scheme, port", [("etcd", 2379), ("postgres", 5432)])
def test_a_silent_server_outlasts_no_deadline(scheme: str, port: int) -> None:
    with silent_at(port) as host:
        target = {
            "etcd": f"etcd://{host}/x?ttl=2s",
            "postgres": f"postgres://postgres@{host}/postgres?lock=x&ttl=2s",
        }[scheme]
        lock = tenure.Lock(target)
        for timeout in (0, 0.05):
            with pytest.raises(tenure.Unreachable) as unreachable:
                lock.acquire(timeout)
            assert isinstance(unreachable.value, ConnectionError) and host in str(unreachable.value)
            with pytest.raises(tenure.Unreachable):
                asyncio.run(lock.acquire_async(timeout))
        for call in (lock.status, lambda: tenure.list(target), lambda: tenure.break_lock(target)):
            with pytest.raises(tenure.Unreachable):
                call()


def test_the_event_loop_runs_while_servers_are_asked_for_the_order() -> None:
    asked: List[None] = []

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(None)
        writer.close()

    async def main() -> None:
        # The locks of one name on several servers are ordered by what these say of themselves.
        servers = [await asyncio.start_server(answer, "127.0.0.1", 0) for _ in range(2)]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        locks = [tenure.Lock(f"etcd://127.0.0.1:{port}/x") for port in ports]
        with pytest.raises(tenure.Unreachable):
            await tenure.acquire_all_async(locks, timeout=60)
        heard = len(asked)
        for server in servers:
            server.close()
            await server.wait_closed()
        assert heard > 0

    asyncio.run(main())


def test_a_deadline_ends_the_question_for_the_order() -> None:
    ended: List[float] = []
    with silent_at(2379) as one, silent_at(2379) as other:
        locks = [tenure.Lock(f"etcd://{host}/x?ttl=60s") for host in (one, other)]

        def refused(timeout: float) -> None:
            with pytest.raises(tenure.Unreachable):
                tenure.acquire_all(locks, timeout)
            ended.append(timeout)

        async def refused_async(timeout: float) -> None:
            with pytest.raises(tenure.Unreachable):
                await tenure.acquire_all_async(locks, timeout)
            ended.append(timeout)

        async def both() -> None:
            await asyncio.gather(refused_async(60), refused_async(0.001))

        # The first of the silent servers has five seconds, or one.
        asyncio.run(both())
        threads = [threading.Thread(target=refused, args=(timeout,)) for timeout in (60, 0.001)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ended == [0.001, 60, 0.001, 60]


def test_a_child_holds_nothing_and_locks_for_itself(server: Any, name: str, other: Any) -> None:
    parent = other(
        """
import os, tenure, warnings
warnings.simplefilter("ignore", DeprecationWarning)
lock = tenure.Lock(path)
with lock as guard:
    child = os.fork()
    if child == 0:
        assert guard.lost
        try:
            guard.release()
            os._exit(1)
        except tenure.Lost as error:
            assert "forked child" in str(error)
        while True:
            try:
                lock.acquire(0)
                os._exit(2)
            except tenure.Unreachable:
                continue  # A slow machine.
            except tenure.Busy as error:
                assert error.holder.pid == os.getppid()
                break
        with tenure.Lock(sys.argv[2]) as own:
            own.check()
    else:
        assert os.waitpid(child, 0)[1] == 0, "the child failed"
        guard.check()
# The child reaches this line too, and leaves its with block without an error.
if child == 0:
    os._exit(0)
with lock as guard:
    child = os.fork()
    if child == 0:
        del guard
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    guard.check()
    say("held")
    hear()
    guard.check()
say("released")
hear()
""",
        server.target(name),
        server.target(f"{name}-of-the-child"),
    )
    parent.hear("held")
    refused(tenure.Lock(server.target(name)), 0)
    parent.tell()
    parent.hear("released")
    tenure.Lock(server.target(name)).acquire().release()


def test_greenlets_exclude_each_other(server: Any, name: str, other: Any) -> None:
    pytest.importorskip("gevent", reason="gevent is not there")
    one = other(
        """
from gevent import monkey
monkey.patch_all()
import gevent, tenure
lock, inside = tenure.Lock(path), []
def work():
    with lock as guard:
        inside.append(guard.fence)
        assert len(inside) == 1
        gevent.sleep(0)
        inside.pop()
    return guard.fence
greenlets = [gevent.spawn(work) for _ in range(3)]
gevent.joinall(greenlets, raise_error=True)
fences = [greenlet.value for greenlet in greenlets]
assert sorted(set(fences)) == sorted(fences)
try:
    with lock:
        lock.acquire(0.05)
except (tenure.Busy, tenure.Unreachable):
    say("done")
""",
        server.target(name),
    )
    one.hear("done")
    assert one.process.wait(60) == 0


REFUSED: List[Tuple[str, Any]] = [
    ("style", "flock"),
    ("record", False),
    ("mode", 0o600),
    ("steal_after", 5),
    ("stale_after", 5),
    ("malformed_grace", 5),
    ("refresh_interval", 5),
    ("create_parents", False),
]


@pytest.mark.parametrize("target", ["etcd://127.0.0.1/x", "postgres://127.0.0.1/db?lock=x"])
@pytest.mark.parametrize("option, value", REFUSED)
def test_options_of_files_are_refused(target: str, option: str, value: Any) -> None:
    words = {"style": "flock style is for files", "record": "without a record is for files",
             "mode": "permission bits are for files", "steal_after": "cannot be stolen for its age"}  # fmt: skip
    with pytest.raises(tenure.Unsupported, match=words.get(option, f"{option} is for files")):
        tenure.Lock(target, **{option: value})


def test_targets_of_other_kinds_and_passwords_are_refused() -> None:
    with pytest.raises(tenure.Unsupported, match="no kind of server `redis`"):
        tenure.Lock("redis://127.0.0.1/x")
    with pytest.raises(tenure.Error, match="password"):
        tenure.Lock("postgres://app:secret@127.0.0.1/db?lock=x")
    with pytest.raises(TypeError, match="ttl"):
        tenure.Lock("etcd://127.0.0.1/x", ttl=5)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", ["FileLock", "SoftFileLock", "AsyncFileLock"])
def test_filelocks_classes_refuse_servers(kind: str) -> None:
    with pytest.raises(tenure.Unsupported, match="the classes of filelock lock files"):
        getattr(tenure.filelock, kind)("etcd://127.0.0.1/x")
    with pytest.raises(tenure.Unsupported, match="the classes of filelock lock files"):
        getattr(tenure.filelock, kind)("postgresql://127.0.0.1/db?lock=x", is_singleton=True)
