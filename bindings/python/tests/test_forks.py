"""Forks: a child holds nothing, releases nothing, and may lock for itself. The forks are in other processes, as pytest has
threads."""

from pathlib import Path
from typing import Any

import pytest
import tenure
from conftest import HOLDER, until

FORKED = """
import os, tenure, warnings
warnings.simplefilter("ignore", DeprecationWarning)
lock = tenure.Lock(path, style=sys.argv[2])
"""


@pytest.mark.parametrize("style", ["lock-file", "flock"])
def test_a_child_holds_nothing_and_releases_nothing(tmp_path: Path, other: Any, style: str) -> None:
    parent = other(
        FORKED
        + """
held = lock.acquire()
with lock.__class__(path + "2", style=sys.argv[2]) as also:
    child = os.fork()
    if child == 0:
        assert held.lost and also.lost
        for call in (held.check, held.release, lambda: held.set_label("x"), lambda: held.holder):
            try:
                call()
                os._exit(1)
            except tenure.Lost as error:
                assert "forked child" in str(error)
        try:
            lock.acquire(0)
            os._exit(2)
        except tenure.Busy as error:
            assert error.holder.pid == os.getppid()
        del held
# The child reaches this line too, and leaves its with block without an error.
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, "the child failed"
held.check()
say("held")
hear()
held.release()
say("released")
hear()
""",
        tmp_path / "x",
        style,
    )
    parent.hear("held")
    with pytest.raises(tenure.Busy):
        tenure.Lock(tmp_path / "x", style=style).acquire(0)
    parent.tell()
    parent.hear("released")
    tenure.Lock(tmp_path / "x", style=style).acquire(0).release()


def test_a_killed_parents_lock_is_free_while_its_child_lives(tmp_path: Path, other: Any) -> None:
    parent = other(
        FORKED
        + """
held = lock.acquire()
alive, gone = os.pipe()
if os.fork() == 0:
    os.close(gone)
    say("forked")
    os.read(alive, 1)  # Until the parent ends.
    hear()             # And until the test ends it.
    os._exit(0)
hear()
""",
        tmp_path / "x",
        "lock-file",
    )
    parent.hear("forked")
    parent.process.kill()
    parent.process.wait()
    held = tenure.Lock(tmp_path / "x").acquire(60)
    assert held.previous is not None and held.previous.pid == parent.pid
    held.release()


def test_a_child_locks_for_itself_while_a_thread_of_its_parent_waits(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "x"
    holder = other(HOLDER, path)
    holder.hear()
    parent = other(
        FORKED
        + """
import threading
waiting = lock._start()
thread = threading.Thread(target=lambda: lock.acquire().release())
thread.start()
hear()
child = os.fork()
if child == 0:
    # The child does not wait for the parent's tasks.
    try:
        waiting.poll()
        os._exit(1)
    except tenure.Lost:
        pass
    del waiting
    try:
        lock.acquire(0)
        os._exit(2)
    except tenure.Busy:
        pass
    say("child", os.getpid())
    held = lock.acquire()
    held.check()
    say("held")
    hear()
    os._exit(0)
waiting.close()
thread.join()
os.waitpid(child, 0)
""",
        path,
        "lock-file",
    )
    until("it waits", lambda: tenure.status(path).waiters == 1)
    parent.tell()
    pid = int(parent.hear().split()[1])
    until("both wait", lambda: tenure.status(path).waiters == 2)
    holder.tell()
    parent.hear("held")
    status = tenure.status(path)
    assert status.holder is not None and status.holder.pid == pid
    parent.tell()


USES = {
    "a wait": "lock.acquire(0.05)",
    "a refusal": "lock.acquire(0)",
    "a date": "holder.since; raise busy",
}


@pytest.mark.parametrize("first", USES)
def test_a_fork_in_the_middle_of_another_threads_first_use(tmp_path: Path, other: Any, first: str) -> None:
    """A thread is stopped while it imports a module for the package. Neither the module nor the thread is in the child."""
    holder = other(HOLDER, tmp_path / "x")
    holder.hear()
    parent = other(
        FORKED
        + """
import builtins, signal, threading
if sys.argv[3] == "a date":
    try:
        lock.acquire(0)
    except tenure.Busy as error:
        busy, holder = error, error.holder
use = compile(sys.argv[4], "use", "exec")
there, on = threading.Event(), threading.Event()
imports = builtins.__import__

def held_up(*args, **words):
    if threading.current_thread() is thread:
        there.set()
        on.wait()
    return imports(*args, **words)

def first():
    try:
        exec(use)
    except tenure.Busy:
        there.set()

thread = threading.Thread(target=first)
builtins.__import__ = held_up
thread.start()
there.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    try:
        exec(use)
    except tenure.Busy:
        os._exit(0)
on.set()
thread.join()
say("child", os.waitpid(child, 0)[1])
""",
        tmp_path / "x",
        "lock-file",
        first,
        USES[first],
    )
    parent.hear("child 0")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path: Path, other: Any, method: str) -> None:
    """Each step of the counter is read and written under the lock."""
    script = tmp_path / "work.py"
    script.write_text(
        """
import multiprocessing, sys, tenure, warnings
warnings.simplefilter("ignore", DeprecationWarning)

def work(path):
    lock = tenure.Lock(path)
    for _ in range(50):
        with lock:
            with open(path) as file:
                number = int(file.read())
            with open(path, "w") as file:
                file.write(str(number + 1))

if __name__ == "__main__":
    method, path = sys.argv[1:]
    multiprocessing.set_start_method(method)
    held = tenure.Lock(path).acquire()
    workers = [multiprocessing.Process(target=work, args=(path,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    held.check()
    held.release()
    work(path)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
"""
    )
    path = tmp_path / "x"
    path.write_text("0")
    runner = other(
        """
        import subprocess
        say(subprocess.run([sys.executable, *sys.argv[2:], path], stdin=subprocess.DEVNULL).returncode)
        """,
        path,
        script,
        method,
    )
    runner.hear("0")
    assert path.read_text() == str(5 * 50)
