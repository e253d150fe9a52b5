"""Processes that lock one path by this package and by the package filelock exclude each other."""

import os
import signal
from pathlib import Path
from typing import Any

import filelock as real
import pytest
import tenure
import tenure.filelock as ours
from conftest import until

VERSION = tuple(int(part) for part in real.__version__.split(".")[:2])

HOLDER = """
import {module} as filelock
lock = filelock.{kind}(path)
with lock:
    say("held")
    hear()
say("released")
hear()
"""

WAITER = """
import {module} as filelock
lock = filelock.{kind}(path)
try:
    lock.acquire(timeout=0)
    say("granted at once")
    lock.release()
except filelock.Timeout:
    say("busy")
with lock:
    say("held")
hear()
"""

COUNTER = """
import {module} as filelock
lock = filelock.{kind}(path, poll_interval=0.001)
for _ in range(100):
    with lock:
        number = int(open(sys.argv[2]).read())
        with open(sys.argv[2], "w") as file:
            file.write(str(number + 1))
say("done")
"""


def of(code: str, module: str, kind: str) -> str:
    return code.format(module=module, kind=kind)


PAIRS = [("filelock", "tenure.filelock"), ("tenure.filelock", "filelock"), ("tenure.filelock", "tenure.filelock")]


@pytest.mark.parametrize("holds, waits", PAIRS)
def test_file_locks_exclude_each_other(tmp_path: Path, other: Any, holds: str, waits: str) -> None:
    path = tmp_path / "x.lock"
    holder = other(of(HOLDER, holds, "FileLock"), path)
    holder.hear("held")
    waiter = other(of(WAITER, waits, "FileLock"), path)
    waiter.hear("busy")
    holder.tell()
    holder.hear("released")
    waiter.hear("held")


@pytest.mark.parametrize("holds, waits", PAIRS)
def test_the_file_lock_of_a_killed_holder_is_free(tmp_path: Path, other: Any, holds: str, waits: str) -> None:
    path = tmp_path / "x.lock"
    holder = other(of(HOLDER, holds, "FileLock"), path)
    holder.hear("held")
    waiter = other(of(WAITER, waits, "FileLock"), path)
    waiter.hear("busy")
    holder.process.kill()
    waiter.hear("held")


def test_file_locks_of_both_lose_no_update(tmp_path: Path, other: Any) -> None:
    path, number = tmp_path / "x.lock", tmp_path / "number"
    number.write_text("0")
    modules = ["filelock", "tenure.filelock"] * 2
    counters = [other(of(COUNTER, module, "FileLock"), path, number) for module in modules]
    for counter in counters:
        counter.hear("done")
    assert number.read_text() == "400"


def test_soft_locks_of_ours_exclude_each_other_and_natives(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "x.lock"
    holder = other(of(HOLDER, "tenure.filelock", "SoftFileLock"), path)
    holder.hear("held")
    waiter = other(of(WAITER, "tenure.filelock", "SoftFileLock"), path)
    waiter.hear("busy")
    with pytest.raises(tenure.Busy):
        tenure.Lock(tmp_path / "x").acquire(0)
    holder.process.kill()
    waiter.hear("held")


def test_their_soft_lock_waits_for_ours(tmp_path: Path, other: Any) -> None:
    """For longer than two seconds, after which theirs considers an unreadable lock file stale."""
    path = tmp_path / "x.lock"
    lock = ours.SoftFileLock(path)
    lock.acquire()
    theirs = other(
        """
        import filelock
        try:
            filelock.SoftFileLock(path).acquire(timeout=4)
            say("granted")
        except filelock.Timeout:
            say("busy")
        hear()
        with filelock.SoftFileLock(path):
            say("held")
        """,
        path,
    )
    theirs.hear("busy")
    assert lock.held is not None and not lock.held.lost
    lock.release()
    theirs.tell()
    theirs.hear("held")


@pytest.mark.skipif(VERSION < (3, 22), reason=f"filelock {real.__version__} never steals")
def test_their_soft_lock_steals_ours_from_a_stopped_holder(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "x.lock"
    holder = other(
        """
        import tenure.filelock
        lock = tenure.filelock.SoftFileLock(path)
        lock.acquire()
        say("held")
        hear()
        say(lock.held.lost)
        """,
        path,
    )
    holder.hear("held")
    holder.signal(signal.SIGSTOP)
    theirs = real.SoftFileLock(path)
    theirs.acquire(timeout=60)
    holder.signal(signal.SIGCONT)
    holder.tell()
    holder.hear("True")
    assert os.path.exists(path)
    theirs.release()


def test_our_soft_lock_waits_for_theirs(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "x.lock"
    holder = other(of(HOLDER, "filelock", "SoftFileLock"), path)
    holder.hear("held")
    waiter = other(of(WAITER, "tenure.filelock", "SoftFileLock"), path)
    waiter.hear("busy")
    if VERSION >= (3, 22):
        status = tenure.status(tmp_path / "x")
        assert status.state == "held" and status.holder is not None and not status.holder.native
        assert status.holder.pid == holder.pid and status.holder.host is not None
    holder.tell()
    holder.hear("released")
    waiter.hear("held")


@pytest.mark.skipif(VERSION < (3, 22), reason=f"filelock {real.__version__} says nothing in the file")
@pytest.mark.parametrize("holds, waits", PAIRS)
def test_the_soft_lock_of_a_killed_holder_is_free(tmp_path: Path, other: Any, holds: str, waits: str) -> None:
    path = tmp_path / "x.lock"
    holder = other(of(HOLDER, holds, "SoftFileLock"), path)
    holder.hear("held")
    waiter = other(of(WAITER, waits, "SoftFileLock"), path)
    waiter.hear("busy")
    holder.process.kill()
    waiter.hear("held")


@pytest.mark.skipif(VERSION < (3, 22), reason=f"filelock {real.__version__} says nothing in the file")
def test_the_file_of_a_killed_soft_lock_is_judged_by_its_text_alone(tmp_path: Path, other: Any) -> None:
    """Both packages keep files of other hosts, of live processes, and of any age."""
    path = tmp_path / "x.lock"
    holder = other(of(HOLDER, "filelock", "SoftFileLock"), path)
    holder.hear("held")
    pid, host, token = path.read_text().split()
    holder.kill()
    assert tenure.status(tmp_path / "x").state == "stale"
    mine = [real.SoftFileLock(tmp_path / "mine.lock")]
    with mine[0]:
        alive = (tmp_path / "mine.lock").read_text()
    for text, state in [
        (f"{pid}\nanother-{host}\n{token}\n", "unknown"),
        (f"{pid}\n{host}?pidns-f00dcafe\n{token}\n", "unknown"),
        (alive, "held"),
        (f"{os.getpid()}\n{host}\n", "held"),
    ]:
        path.write_text(text)
        # Whatever its age.
        os.utime(path, (1, 1))
        assert tenure.status(tmp_path / "x").state == state, text
        for lock in (real.SoftFileLock(path), ours.SoftFileLock(path)):
            with pytest.raises(TimeoutError):
                lock.acquire(timeout=0.1)
        assert path.read_text() == text
    for text in (f"{os.getpid()}\n{host}\n{int(token) + 1}\n", f"{pid}\n{host}\n"):
        for module in (real, ours):
            path.write_text(text)
            with module.SoftFileLock(path, timeout=60):
                pass
            assert not path.exists()


def test_a_mode_lets_other_users_in(tmp_path: Path, other: Any) -> None:
    """The file of a FileLock has the given mode, whatever the umask, so that their FileLock can open it."""
    for module in (real, ours) if VERSION >= (4, 3) else (ours,):
        path = tmp_path / f"{module.__name__}.lock"
        before = os.umask(0o077)
        try:
            with module.FileLock(path, mode=0o666):
                assert os.stat(path).st_mode & 0o777 == 0o666
            os.umask(0o002)
            with module.FileLock(f"{path}2"):
                assert os.stat(f"{path}2").st_mode & 0o777 == 0o664
        finally:
            os.umask(before)
