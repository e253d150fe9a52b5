"""Shared by the tests: processes that are controlled by pipes, and a wait for a condition."""

import os
import select
import subprocess
import sys
import textwrap
import time
from typing import Any, Callable, List, NoReturn, Optional

import pytest

PATIENCE = 180.0

PRELUDE = """
import os, sys
path = sys.argv[1]
def say(*words):
    print(*words, flush=True)
def hear():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return line.strip()
"""


class Other:
    """A process that runs `code` after PRELUDE, with the path as its argument."""

    def __init__(self, code: str, path: object, *args: object) -> None:
        words = [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(path), *map(str, args)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.unread = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self, expected: Optional[str] = None) -> str:
        """Returns the next line of the process."""
        stdout = self.process.stdout
        assert stdout is not None
        end = time.monotonic() + PATIENCE
        while b"\n" not in self.unread:
            ready, _, _ = select.select([stdout], [], [], max(0, end - time.monotonic()))
            assert ready, f"no line within {PATIENCE} s; expected {expected!r}, there is {self.unread!r}"
            more = os.read(stdout.fileno(), 65536)
            assert more, f"it ended ({self.process.wait()}); expected {expected!r}, there is {self.unread!r}"
            self.unread += more
        line, self.unread = self.unread.split(b"\n", 1)
        text = line.decode()
        if expected is not None:
            assert text == expected
        return text

    def tell(self, word: str = "go on") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def missing(what: str) -> NoReturn:
    """Skips a test that needs what is not on this machine. In CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not there")
    pytest.skip(f"{what} is not there")


@pytest.fixture
def other() -> Any:
    """Starts other processes, which end with the test."""
    started: List[Other] = []

    def start(code: str, path: object, *args: object) -> Other:
        started.append(Other(code, path, *args))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def until(what: str, is_so: Callable[[], Any]) -> None:
    """Waits for a condition that no pipe reports."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        time.sleep(0.002)


HOLDER = """
import tenure
with tenure.Lock(path, label="the holder") as held:
    say("held", held.fence)
    hear()
say("released")
hear()
"""
