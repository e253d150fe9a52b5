"""Signals: a Ctrl-C ends a wait immediately, at any moment, and nothing is held afterwards."""

import signal
from pathlib import Path
from typing import Any

import pytest
import tenure
from conftest import HOLDER, until

WAITER = """
import signal, tenure
lock = tenure.Lock(path, timeout=eval(sys.argv[2]), style=sys.argv[3])
try:
    say("waits")
    lock.acquire()
except KeyboardInterrupt:
    say("interrupted")
hear()
with lock:
    say("held")
"""


@pytest.mark.parametrize("style", ["lock-file", "flock"])
@pytest.mark.parametrize("timeout", ["None", "1000"])
def test_a_ctrl_c_ends_a_wait(tmp_path: Path, other: Any, timeout: str, style: str) -> None:
    path = tmp_path / "x"
    holder = other(HOLDER, path)
    holder.hear()
    waiter = other(WAITER, path, timeout, style)
    waiter.hear("waits")
    until("it waits", lambda: tenure.status(path).waiters == 1)
    waiter.signal(signal.SIGINT)
    waiter.hear("interrupted")
    holder.tell()
    holder.hear("released")
    # The lock is neither held nor queued for.
    tenure.Lock(path, style="lock-file").acquire(60).release()
    waiter.tell()
    waiter.hear("held")
    assert waiter.end() == 0


def test_a_ctrl_c_is_handled_at_any_moment(tmp_path: Path, other: Any) -> None:
    """Before, while and after the thread falls asleep."""
    path = tmp_path / "x"
    holder = other(HOLDER, path)
    holder.hear()
    waiter = other(
        """
        import tenure
        lock = tenure.Lock(path)
        while True:
            try:
                say("go")
                lock.acquire()
            except KeyboardInterrupt:
                say("interrupted")
            hear()
        """,
        path,
    )
    for _ in range(200):
        waiter.hear("go")
        waiter.signal(signal.SIGINT)
        waiter.hear("interrupted")
        waiter.tell()
    holder.tell()
    holder.hear("released")


def test_a_signal_that_another_thread_got_is_handled(tmp_path: Path, other: Any) -> None:
    """Such a signal interrupts no system call of the main thread. Only the wakeup descriptor reports it."""
    path = tmp_path / "x"
    holder = other(HOLDER, path)
    holder.hear()
    waiter = other(
        """
        import signal, tenure, threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            say("waits")
            tenure.Lock(path).acquire()
        except KeyboardInterrupt:
            say("interrupted")
        """,
        path,
    )
    waiter.hear("waits")
    until("it waits", lambda: tenure.status(path).waiters == 1)
    waiter.signal(signal.SIGINT)
    waiter.hear("interrupted")


def test_the_wait_continues_after_a_handler_returns(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "x"
    holder = other(HOLDER, path)
    holder.hear()
    waiter = other(
        """
        import signal, tenure
        signal.signal(signal.SIGUSR1, lambda *_: say("handled"))
        say("ready")
        with tenure.Lock(path):
            say("held")
        """,
        path,
    )
    waiter.hear("ready")
    until("it waits", lambda: tenure.status(path).waiters == 1)
    for _ in range(3):
        waiter.signal(signal.SIGUSR1)
        waiter.hear("handled")
    holder.tell()
    waiter.hear("held")


def test_the_previous_wakeup_descriptor_gets_the_signals(tmp_path: Path, other: Any) -> None:
    """For example that of asyncio, whose signal handlers run by its bytes."""
    path = tmp_path / "x"
    holder = other(HOLDER, path)
    holder.hear()
    waiter = other(
        """
        import os, signal, tenure
        signal.signal(signal.SIGUSR1, lambda *_: say("handled"))
        read, write = os.pipe()
        os.set_blocking(write, False)
        os.set_blocking(read, False)
        signal.set_wakeup_fd(write)
        say("ready")
        with tenure.Lock(path):
            assert signal.set_wakeup_fd(write) == write
            say(list(os.read(read, 100)))
        """,
        path,
    )
    waiter.hear("ready")
    until("it waits", lambda: tenure.status(path).waiters == 1)
    waiter.signal(signal.SIGUSR1)
    waiter.hear("handled")
    holder.tell()
    waiter.hear(str([int(signal.SIGUSR1)]))


def test_a_wait_in_another_thread_is_not_disturbed(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "x"
    holder = other(HOLDER, path)
    holder.hear()
    waiter = other(
        """
        import threading, tenure
        def work():
            with tenure.Lock(path):
                say("held")
        thread = threading.Thread(target=work)
        try:
            thread.start()
            say("ready")
            hear()
        except KeyboardInterrupt:
            say("interrupted")
        thread.join()
        """,
        path,
    )
    waiter.hear("ready")
    until("it waits", lambda: tenure.status(path).waiters == 1)
    waiter.signal(signal.SIGINT)
    waiter.hear("interrupted")
    assert tenure.status(path).waiters == 1
    holder.tell()
    waiter.hear("held")


def test_a_handler_does_not_wait_for_the_wait_that_it_interrupts(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "x"
    holder = other(HOLDER, path)
    holder.hear()
    waiter = other(
        """
        import signal, tenure
        lock = tenure.Lock(path)
        def handle(*_):
            try:
                lock.acquire()
            except tenure.WouldDeadlock as error:
                say("interrupts" in str(error), error.hint is not None)
            try:
                lock.acquire(0.01)
            except tenure.Busy:
                say("busy")
            with tenure.Lock(path + "2"):
                say("another")
        signal.signal(signal.SIGUSR1, handle)
        say("ready")
        for _ in range(2):
            with lock:
                say("held")
        """,
        path,
    )
    waiter.hear("ready")
    until("it waits", lambda: tenure.status(path).waiters == 1)
    waiter.signal(signal.SIGUSR1)
    waiter.hear("True True")
    waiter.hear("busy")
    waiter.hear("another")
    holder.tell()
    waiter.hear("held")
    waiter.hear("held")
