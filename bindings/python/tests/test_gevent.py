"""Greenlets, in a process where gevent has patched blocking calls. They wait like tasks, and the hub runs."""

from pathlib import Path
from typing import Any

import pytest
from conftest import HOLDER

pytest.importorskip("gevent", reason="gevent is not there")

PATCHED = """
from gevent import monkey
monkey.patch_all()
import gevent, gevent.event
"""

# The locks under test: tenure.Lock and the FileLock of both packages.
KINDS = {
    "Lock": "import tenure as module; Busy = module.Busy; make = module.Lock",
    "ours": "import tenure.filelock as module; Busy = module.Timeout; make = module.FileLock",
    "real": "import filelock as module; Busy = module.Timeout; make = module.FileLock",
}


@pytest.mark.parametrize("kind", KINDS)
def test_greenlets_exclude_each_other_and_the_hub_runs(tmp_path: Path, other: Any, kind: str) -> None:
    running = other(
        PATCHED
        + KINDS[kind]
        + """
turns = []
inside = 0
def work(number):
    global inside
    for _ in range(5):
        with make(path, timeout=60):
            inside += 1
            assert inside == 1
            gevent.sleep(0.001)
            inside -= 1
            turns.append(number)
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0)
ticking = gevent.spawn(tick)
gevent.joinall([gevent.spawn(work, number) for number in range(4)], raise_error=True)
say(len(turns), ticks > 5)
""",
        tmp_path / "x",
    )
    running.hear("20 True")


@pytest.mark.parametrize("kind", KINDS)
def test_a_greenlet_waits_for_another_process(tmp_path: Path, other: Any, kind: str) -> None:
    path = tmp_path / "x"
    holder = other(KINDS[kind] + "\nwith make(path):\n    say('held')\n    hear()\nsay('released')\nhear()", path)
    holder.hear("held")
    running = other(
        PATCHED
        + KINDS[kind]
        + """
def hold():
    with make(path):
        return "held"
def give_up():
    try:
        make(path).acquire(timeout=0.01)
    except Busy:
        return "busy"
waiting = gevent.spawn(hold)
say(gevent.spawn(give_up).get())
killed = gevent.spawn(hold)
gevent.sleep(0.01)
killed.kill()
say(type(killed.value).__name__)
say(waiting.get())
with make(path):
    say("held again")
""",
        path,
    )
    running.hear("busy")
    running.hear("GreenletExit")
    holder.tell()
    holder.hear("released")
    running.hear("held")
    running.hear("held again")


def test_many_greenlets_wait_with_few_files(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "x"
    holder = other(HOLDER, path)
    holder.hear()
    running = other(
        PATCHED
        + """
import resource, tenure
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
lock = tenure.Lock(path)
count = 0
def work():
    global count
    with lock:
        count += 1
greenlets = [gevent.spawn(work) for _ in range(300)]
gevent.sleep(0)
say("wait")
gevent.joinall(greenlets, raise_error=True)
say(count)
""",
        path,
    )
    running.hear("wait")
    holder.tell()
    running.hear("300")


def test_hubs_of_several_threads(tmp_path: Path, other: Any) -> None:
    running = other(
        PATCHED
        + """
import tenure
lock = tenure.Lock(path)
inside, count = 0, 0
def work():
    global inside, count
    for _ in range(20):
        with lock as held:
            inside += 1
            assert inside == 1
            held.check()
            gevent.sleep(0)
            inside -= 1
            count += 1
def hub():
    gevent.joinall([gevent.spawn(work) for _ in range(3)], raise_error=True)
pool = gevent.get_hub().threadpool
tasks = [pool.spawn(hub) for _ in range(3)]
for task in tasks:
    task.get()
say(count)
""",
        tmp_path / "x",
    )
    running.hear("180")
