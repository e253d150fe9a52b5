"""The package in Python for Windows, beside the package filelock. `scripts/python-for-windows` runs this under wine. The other
tests use signals, forks and pytest."""

import _thread
import asyncio
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
from pathlib import Path
from typing import Any, Callable, List, Optional

import filelock as real
import tenure

assert sys.platform == "win32"

PRELUDE = """
import os, sys, tenure
path = sys.argv[1]
def say(*words):
    print(*words, flush=True)
def hear():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return line.strip()
"""
HOLDER = """
with tenure.Lock(path, style="{style}") as held:
    say("held")
    hear()
say("released")
hear()
"""
WAITER = """
lock = tenure.Lock(path, style="{style}")
try:
    lock.acquire(timeout=0)
    say("granted at once")
except tenure.Busy as busy:
    say("busy", busy.holder.pid if busy.holder else None)
with lock as held:
    say("held after", held.previous.pid if held.previous else None)
    hear()
"""
BROKEN = """
held = tenure.Lock(path).acquire()
say("held")
hear()
try:
    held.check()
    say("still held")
except tenure.Lost:
    say("lost")
hear()
"""
A_MINUTE = 60.0


class Other:
    """A process that runs `code` after PRELUDE, with the path as its argument."""

    def __init__(self, code: str, path: object) -> None:
        words = [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(path)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Tests(unittest.TestCase):
    def setUp(self) -> None:
        # Wine keeps the names of open files that were removed, and the folder with them.
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.path = Path(folder) / "x"
        self.lock_file = Path(f"{self.path}.lock")

    def other(self, code: str, style: str = "lock-file") -> Other:
        other = Other(code.format(style=style), self.path)
        self.addCleanup(other.end)
        return other

    def holder(self, style: str = "lock-file") -> Other:
        holder = self.other(HOLDER, style)
        self.assertEqual(holder.hear(), "held")
        return holder

    def waiter(self, holder: Other, style: str = "lock-file") -> Other:
        waiter = self.other(WAITER, style)
        self.assertEqual(waiter.hear(), f"busy {holder.pid}")
        return waiter

    def is_busy(self, **options: Any) -> bool:
        try:
            tenure.Lock(self.path, timeout=0, **options).acquire().release()
        except tenure.Busy:
            return True
        return False

    def test_a_held_lock_is_visible(self) -> None:
        with tenure.Lock(self.path, label="the writer") as held:
            record = json.loads(self.lock_file.read_text())
            self.assertEqual((record["pid"], record["tenure"]["label"]), (os.getpid(), "the writer"))
            held.check()
            status = tenure.status(self.path)
            assert status.holder is not None
            self.assertEqual((status.state, status.holder.pid), ("held", os.getpid()))
            self.assertEqual([lock.state for lock in tenure.list(self.path.parent)], ["held"])
        self.assertFalse(self.lock_file.exists())

    def test_processes_exclude_each_other(self) -> None:
        for style in ("lock-file", "flock"):
            with self.subTest(style):
                holder = self.holder(style)
                waiter = self.waiter(holder, style)
                holder.tell()
                self.assertEqual(holder.hear(), "released")
                self.assertEqual(waiter.hear(), "held after None")
                waiter.end()

    def test_the_lock_of_a_killed_holder_is_free_and_its_end_is_told(self) -> None:
        for style in ("lock-file", "flock"):
            with self.subTest(style):
                holder = self.holder(style)
                waiter = self.waiter(holder, style)
                holder.kill()
                self.assertEqual(waiter.hear(), f"held after {holder.pid}")
                waiter.end()

    def test_a_live_holders_lock_file_cannot_be_removed(self) -> None:
        holder = self.holder()
        for remove in (os.remove, os.unlink, lambda path: os.rename(path, f"{path}.old")):
            with self.assertRaises(PermissionError) as refused:
                remove(self.lock_file)
            self.assertEqual(refused.exception.winerror, 32)
        self.assertEqual(json.loads(self.lock_file.read_text())["pid"], holder.pid)
        self.assertTrue(self.is_busy())

    def test_a_dead_programs_lock_file_is_taken_over(self) -> None:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        self.lock_file.write_text(json.dumps({"pid": dead.pid}))
        with tenure.Lock(self.path, timeout=A_MINUTE) as held:
            assert held.previous is not None
            self.assertEqual(held.previous.pid, dead.pid)
        self.lock_file.write_text(json.dumps({"pid": self.other("hear()").pid}))
        self.assertTrue(self.is_busy())

    def test_a_wait_ends_at_its_timeout(self) -> None:
        holder = self.holder()
        began = time.monotonic()
        with self.assertRaises(tenure.Busy) as busy:
            tenure.Lock(self.path).acquire(timeout=0.2)
        self.assertGreaterEqual(time.monotonic() - began, 0.19)
        assert busy.exception.holder is not None
        self.assertEqual(busy.exception.holder.pid, holder.pid)

    def test_a_thread_waits_and_others_run(self) -> None:
        holder = self.holder()
        seen: List[str] = []

        def wait() -> None:
            with tenure.Lock(self.path, timeout=A_MINUTE):
                seen.append("held")

        thread = threading.Thread(target=wait)
        thread.start()
        seen.append("running")
        holder.tell()
        thread.join(A_MINUTE)
        self.assertEqual(seen, ["running", "held"])

    def test_the_main_thread_waits_until_a_release(self) -> None:
        holder = self.holder()
        timer = threading.Timer(0.2, holder.tell)
        timer.start()
        tenure.Lock(self.path).acquire(timeout=A_MINUTE).release()
        timer.join()

    def test_an_interrupt_ends_a_wait(self) -> None:
        self.holder()
        # As Ctrl-C does, which arrives on a thread of its own.
        timer = threading.Timer(0.2, _thread.interrupt_main)
        with self.assertRaises(KeyboardInterrupt):
            timer.start()
            tenure.Lock(self.path).acquire()
        timer.join()

    def test_tasks_wait_in_both_kinds_of_loop(self) -> None:
        async def both() -> List[str]:
            lock, seen = tenure.Lock(self.path), []
            first = await lock.acquire_async(timeout=A_MINUTE)

            async def second() -> None:
                async with lock:
                    seen.append("second")

            waiting = asyncio.ensure_future(second())
            cancelled = asyncio.ensure_future(lock.acquire_async())
            await asyncio.sleep(0.1)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            seen.append("first")
            first.release()
            await waiting
            with self.assertRaises(tenure.Busy):
                async with lock:
                    await lock.acquire_async(timeout=0.1)
            return seen

        loops: List[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.ProactorEventLoop, asyncio.SelectorEventLoop]
        for make in loops:
            with self.subTest(make.__name__):
                loop = make()
                try:
                    self.assertEqual(loop.run_until_complete(both()), ["first", "second"])
                finally:
                    loop.close()

    def test_a_task_waits_for_another_process(self) -> None:
        holder = self.holder()

        async def wait() -> Optional[int]:
            asyncio.get_running_loop().call_later(0.2, holder.tell)
            guard = await tenure.Lock(self.path).acquire_async(timeout=A_MINUTE)
            guard.release()
            return guard.fence

        self.assertIsNotNone(asyncio.run(wait()))

    def test_flock_style_and_filelock_exclude_each_other(self) -> None:
        self.path.touch()
        theirs = real.FileLock(self.path)
        with theirs:
            self.assertTrue(self.is_busy(style="flock"))
        with tenure.Lock(self.path, style="flock"):
            with self.assertRaises(OSError) as refused:
                theirs.acquire(timeout=0)
            # Timeout on Windows. Wine's _locking() refuses without an errno, which filelock does not expect.
            if not isinstance(refused.exception, real.Timeout):
                self.assertEqual(refused.exception.errno, 0)
        with theirs:
            pass

    def test_a_break_takes_the_lock_from_its_holder(self) -> None:
        holder = self.other(BROKEN)
        self.assertEqual(holder.hear(), "held")
        with self.assertRaises(tenure.Busy):
            tenure.break_lock(self.path)
        self.assertTrue(tenure.break_lock(self.path, force=True))
        with tenure.Lock(self.path, timeout=A_MINUTE) as held:
            holder.tell()
            self.assertEqual(holder.hear(), "lost")
            held.check()

    def test_what_windows_lacks_is_unsupported(self) -> None:
        with self.assertRaises(tenure.Unsupported):
            tenure.Lock(self.path, mode=0o600).acquire()
        with self.assertRaises(tenure.InvalidTarget):
            tenure.Lock(self.path.with_name("aux.txt"))
        with self.assertRaisesRegex(ImportError, "Windows"):
            importlib.import_module("tenure.filelock")


if __name__ == "__main__":
    # Under wine a program can neither read nor write a pipe of Linux: the caller reads this file.
    unittest.main(verbosity=2)
