"""Node and Python exclude each other by the same target: on etcd, on PostgreSQL, and by a file."""

import itertools
import json
import os
import select
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import pytest
import tenure
from conftest import HOLDER, PATIENCE, other, until
from servers import etcd, postgres

__all__ = ["etcd", "other", "postgres"]

_count = itertools.count()


class Node:
    """A process of Node: see actor.mjs."""

    def __init__(self) -> None:
        words = ["node", str(Path(__file__).with_name("actor.mjs")), os.environ["TENURE_NODE_PACKAGE"]]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, what: str, **words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": what, **words}) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Dict[str, Any]:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], f"no line within {PATIENCE} s"
        answer: Dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def ask(self, what: str, **words: object) -> Dict[str, Any]:
        self.tell(what, **words)
        return self.hear()

    def refused(self, target: str) -> Dict[str, Any]:
        """Returns the answer to an acquire of a held lock. On a slow machine the server may not answer in time."""
        while True:
            answer = self.ask("acquire", target=target, timeout=0)
            if answer.get("code") != "TENURE_UNREACHABLE":
                assert answer.get("code") == "TENURE_BUSY", answer
                return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def node() -> Iterator[Node]:
    one = Node()
    yield one
    one.kill()


@pytest.fixture(params=["etcd", "postgres", "file"])
def target(request: Any, tmp_path: Path) -> Any:
    """Returns a function from a length of a lease to the target."""
    name = f"n{next(_count)}/main"
    if request.param == "file":
        return lambda ttl=20: str(tmp_path / "main")
    server = request.getfixturevalue(request.param)
    return lambda ttl=20: server.target(name, ttl)


def refused(target: str) -> Optional[tenure.Holder]:
    while True:
        try:
            tenure.Lock(target).acquire(0)
        except tenure.Busy as busy:
            return busy.holder
        except tenure.Unreachable:
            continue
        pytest.fail("it was granted")


def test_each_is_refused_while_the_other_holds_and_fences_grow(target: Any, node: Node) -> None:
    fences = []
    for _ in range(3):
        with tenure.Lock(target(), label="from Python") as held:
            busy = node.refused(target())
            assert (busy["pid"], busy["label"]) == (os.getpid(), "from Python")
            held.check()
            fences.append(held.fence)
        granted = node.ask("acquire", target=target(), label="from Node")
        fences.append(granted["fence"])
        assert granted["crashed"] is None
        holder = refused(target())
        assert holder is not None and (holder.pid, holder.label) == (node.pid, "from Node")
        node.ask("release")
    assert None not in fences and fences == sorted(set(fences)), fences


def test_each_waits_for_the_other(target: Any, node: Node, other: Any) -> None:
    def await_waiter() -> None:
        until("a waiter", lambda: tenure.status(target()).waiters == 1)

    held = tenure.Lock(target()).acquire()
    node.tell("acquire", target=target())
    await_waiter()
    held.release()
    granted = node.hear()
    assert held.fence is not None and granted["fence"] > held.fence
    waiter = other(HOLDER, target())
    await_waiter()
    node.ask("release")
    assert int(waiter.hear().split()[1]) > granted["fence"]


def test_each_hears_of_the_other_s_crash(target: Any, node: Node, other: Any) -> None:
    # The victims' leases are short. The others keep theirs on a slow machine.
    victim = node.ask("acquire", target=target(9))
    node.kill()
    with tenure.Lock(target()) as guard:
        assert guard.fence is not None and guard.fence > victim["fence"]
        assert guard.previous is not None and guard.previous.pid == node.pid
    python = other(HOLDER, target(9))
    fence = int(python.hear().split()[1])
    python.kill()
    survivor = Node()
    try:
        granted = survivor.ask("acquire", target=target())
        assert granted["fence"] > fence and granted["crashed"] == python.pid
        survivor.ask("release")
    finally:
        survivor.kill()
