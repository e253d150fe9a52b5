"""The files that an ending program leaves, and the memory that a lock leaves after many rounds."""

import gc
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import tenure
from conftest import HOLDER

ROUNDS = 200_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGABRT, signal.SIGINT])
def test_a_program_that_a_signal_ends_leaves_no_lock_file(tmp_path: Path, other: Any, number: int) -> None:
    path = tmp_path / "x"
    holder = other("import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n" + HOLDER, path)
    holder.hear()
    assert (tmp_path / "x.lock").exists()
    holder.signal(number)
    assert holder.process.wait() == -number
    assert not (tmp_path / "x.lock").exists()
    held = tenure.Lock(path).acquire(0)
    # Python's own Ctrl-C leaves the block. The others end it midway, which the next holder's guard reports.
    assert (held.previous is None) == (number == signal.SIGINT)


@pytest.mark.parametrize("soft", ["tenure.filelock.SoftFileLock(path + '.lock').acquire()", "tenure.Lock(path).acquire()"])
def test_a_forked_child_that_a_signal_ends_leaves_no_lock_file(tmp_path: Path, other: Any, soft: str) -> None:
    path = tmp_path / "x"
    parent = other(
        f"""
        import os, tenure, tenure.filelock
        lock = tenure.Lock(path + "2")
        child = os.fork()
        if child == 0:
            kept = {soft}
            say("child", os.getpid())
            hear()
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        path,
    )
    said = parent.hear()
    assert said.startswith("child ") and (tmp_path / "x.lock").exists()
    os.kill(int(said.split()[1]), signal.SIGTERM)
    parent.hear(str(-signal.SIGTERM))
    assert not (tmp_path / "x.lock").exists()


def test_a_handler_of_the_program_decides(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "x"
    holder = other(
        """
        import signal, tenure
        signal.signal(signal.SIGTERM, lambda *_: say("reloads"))
        held = tenure.Lock(path).acquire()
        say("held")
        while hear() == "go on":
            held.check()
            say("still held")
        """,
        path,
    )
    holder.hear("held")
    holder.signal(signal.SIGTERM)
    holder.hear("reloads")
    assert (tmp_path / "x.lock").exists()
    holder.tell()
    holder.hear("still held")


@pytest.mark.parametrize(
    "end",
    [
        "",
        "sys.exit(3)",
        "raise KeyError",
        "sys.modules['kept'] = held; held.itself = None",
        "import builtins; builtins.kept = held",
        # A thread that holds the lock when the interpreter ends.
        "import threading\n"
        "inside = threading.Event()\n"
        "def work():\n"
        "    with tenure.Lock(path + '2'):\n"
        "        inside.set()\n"
        "        threading.Event().wait()\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "inside.wait()",
        # A guard in a reference cycle.
        "circle = [held]; circle.append(circle); del held, circle",
    ],
)
def test_a_program_that_ends_by_itself_leaves_no_lock_file(tmp_path: Path, other: Any, end: str) -> None:
    ending = other(f"import tenure\nheld = tenure.Lock(path).acquire()\nsay('held')\nhear()\n{end}\n", tmp_path / "x")
    ending.hear("held")
    assert (tmp_path / "x.lock").exists()
    ending.tell()
    ending.process.stderr = None
    ending.process.wait()
    assert sorted(name for name in os.listdir(tmp_path) if name.endswith(".lock")) == []
    tenure.Lock(tmp_path / "x").acquire(0)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_of_multiprocessing_leaves_no_lock_file(tmp_path: Path, other: Any, method: str) -> None:
    """Such a process ends by _exit(2), without atexit and exit(3)."""
    path = tmp_path / "x"
    parent = other(
        """
        import multiprocessing
        hold = "import builtins, tenure; builtins.kept = tenure.Lock(path).acquire()"
        child = multiprocessing.get_context(sys.argv[2]).Process(target=exec, args=(hold, {"path": path}))
        child.start()
        child.join()
        say(child.exitcode)
        hear()
        """,
        path,
        method,
    )
    parent.hear("0")
    assert (tmp_path / ".tenure" / "x.lock").exists() and not (tmp_path / "x.lock").exists()
    held = tenure.Lock(path).acquire(0)
    assert held.previous is not None


def memory() -> int:
    """Returns the memory of this process, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError


@pytest.mark.parametrize("how, count", [("lock", ROUNDS), *((how, ROUNDS // 8) for how in ("max_hold", "filelock", "soft"))])
def test_200_000_rounds_leave_nothing(tmp_path: Path, how: str, count: int) -> None:
    """No memory, descriptors or threads."""
    import tenure.filelock

    path = tmp_path / "x"
    lock: Any = {
        "lock": lambda: tenure.Lock(path),
        "max_hold": lambda: tenure.Lock(path, max_hold=3600, overrun="revoke", label="again"),
        "filelock": lambda: tenure.filelock.FileLock(f"{path}.flock"),
        "soft": lambda: tenure.filelock.SoftFileLock(f"{path}.lock"),
    }[how]()

    def rounds(count: int) -> None:
        for _ in range(count):
            with lock:
                pass

    rounds(5_000)
    gc.collect()
    files, threads, before = os.listdir("/proc/self/fd"), len(os.listdir("/proc/self/task")), memory()
    rounds(count)
    gc.collect()
    # 5 bytes a round for 200,000 rounds, 42 for fewer: less than the smallest leaked object.
    assert memory() - before < 1024
    # The library's watchdog thread may be running.
    assert len(os.listdir("/proc/self/fd")) <= len(files) + 4
    assert len(os.listdir("/proc/self/task")) <= threads + 2
