"""The lock from Python: its guards, its errors, and other threads that run while one waits."""

import copy
import datetime
import errno
import gc
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, List

import pytest
import tenure
from conftest import HOLDER, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.jsonl"


def test_a_held_lock_is_visible(path: Path) -> None:
    lock = tenure.Lock(path, label="the writer")
    assert not os.path.exists(f"{path}.lock")
    with lock as held:
        record = json.loads(Path(f"{path}.lock").read_text())
        assert record["pid"] == os.getpid() and record["tenure"]["label"] == "the writer"
        assert json.loads(held.record_json) == record
        assert record["tenure"]["fence"] == held.fence > 0
        held.check()
        assert not held.lost and held.previous is None and held.target == str(path) and not held.shared
        status = tenure.status(path)
        assert (status.state, status.style, status.waiters) == ("held", "lock-file", 0)
        assert status.holder is not None and status.holder.pid == os.getpid()
        held.set_label("another")
        label = held.holder.label
        assert label == "another"
    assert not os.path.exists(f"{path}.lock")
    assert held.lost
    with pytest.raises(tenure.Lost, match="released"):
        held.check()
    held.release()  # Does nothing.
    assert lock.status().state == "free"


def test_fences_grow(path: Path) -> None:
    fences = []
    for _ in range(3):
        with tenure.Lock(path) as held:
            fences.append(held.fence)
    assert sorted(set(fences)) == fences


def test_a_guard_is_a_with_block(path: Path) -> None:
    lock = tenure.Lock(path)
    with lock.acquire() as held:
        held.check()
    assert held.lost
    held = lock.acquire()
    del held
    gc.collect()
    assert tenure.status(path).state == "free"


def test_an_exception_releases_and_propagates(path: Path) -> None:
    with pytest.raises(KeyError, match="mine"):
        with tenure.Lock(path):
            raise KeyError("mine")
    assert tenure.status(path).state == "free"


def test_busy_names_the_holder(path: Path, other: Any) -> None:
    holder = other(HOLDER, path)
    holder.hear()
    for timeout in (0, 0.05):
        before = datetime.datetime.now(datetime.timezone.utc)
        with pytest.raises(tenure.Busy) as caught:
            tenure.Lock(path).acquire(timeout)
        error = caught.value
        assert isinstance(error, tenure.Error) and isinstance(error, TimeoutError) and isinstance(error, OSError)
        assert error.path == error.filename == str(path)
        assert error.holder is not None and error.holder.pid == holder.pid
        assert (error.holder.liveness, error.holder.label, error.holder.native) == ("alive", "the holder", True)
        assert error.holder.command is not None and "python" in error.holder.command
        assert error.holder.since is not None and error.holder.since <= before
        assert error.hint is not None and "tenure.status(" in error.hint
        for words in (str(path), f"pid {holder.pid}", "the holder", error.hint):
            assert words in str(error)
        assert (error.waited is None) == (timeout == 0)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.path, again.hint) == (tenure.Busy, str(error), error.path, error.hint)
    with pytest.raises(tenure.Busy):
        with tenure.Lock(path, timeout=0):
            raise AssertionError("it is held")
    with pytest.raises(tenure.Busy):
        with tenure.Lock(path, 0.01):
            raise AssertionError("it is held")


def test_a_circle_of_waits_is_named(tmp_path: Path) -> None:
    x, y = tmp_path / "x", tmp_path / "y"
    # A child that holds y, and waits for x once it is told to.
    program = (
        "import sys, tenure; held = tenure.Lock(sys.argv[2]).acquire(); print(flush=True); input(); "
        "tenure.Lock(sys.argv[1]).acquire()"
    )
    with tenure.Lock(x, label="ours"):
        assert tenure.deadlocks(tmp_path) == []
        child = subprocess.Popen([sys.executable, "-c", program, x, y], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        child.stdin.write(b"\n")
        child.stdin.close()
        note = tmp_path / ".tenure" / "y.lock.0.waits"
        until("the child says that it waits", lambda: note.exists() and note.stat().st_size > 0)
        with pytest.raises(tenure.WouldDeadlock) as caught:
            tenure.Lock(y).acquire()
        circle = caught.value.circle
        assert circle is not None and [step.pid for step in circle] == [child.pid, os.getpid()]
        assert [(step.holds, step.waits_for) for step in circle] == [(str(y), str(x)), (str(x), str(y))]
        assert circle[1].label == "ours" and circle[0].holder_pid is None and circle[0].since is not None
        assert str(circle[0]) in str(caught.value) and "CircleWait" in repr(circle[0])
        assert pickle.loads(pickle.dumps(caught.value)).circle is None
    assert child.wait(60) == 0
    child.stdout.close()


def test_each_error_has_its_class(path: Path, tmp_path: Path) -> None:
    with tenure.Lock(path):
        with pytest.raises(tenure.WouldDeadlock) as caught:
            tenure.Lock(path).acquire()
        assert caught.value.holder is not None and caught.value.holder.pid == os.getpid()
        # Without the check, the thread waits: another thread might release.
        with pytest.raises(tenure.Busy):
            tenure.Lock(path, deadlock_check=False).acquire(0.01)
    with pytest.raises(tenure.Unsupported, match="shared"):
        tenure.Lock(path, shared=True).acquire()
    with pytest.raises(tenure.InvalidTarget):
        tenure.Lock("")
    (tmp_path / "yarn.lock").write_text("# yarn lockfile v1\n")
    with pytest.raises(tenure.Obstructed):
        tenure.Lock(tmp_path / "yarn").acquire(1)
    assert (tmp_path / "yarn.lock").read_text() == "# yarn lockfile v1\n"
    with pytest.raises(tenure.CannotCreate) as refused:
        tenure.Lock(tmp_path / "none" / "x", create_parents=False)
    assert refused.value.errno == errno.ENOENT
    with pytest.raises(tenure.Unreachable):
        tenure.Lock("etcd://127.0.0.1:1/x").acquire(1)
    for wrong in ({"timeout": -1}, {"timeout": float("nan")}, {"style": "soft"}, {"overrun": "kill"}, {"max_hold": -1}):
        with pytest.raises(ValueError):
            tenure.Lock(path, **wrong)
    for odd in ({"timeout": "1"}, {"unknown": 1}, {"path": 7}):
        with pytest.raises(TypeError):
            tenure.Lock(**{"path": path, **odd})
    with pytest.raises(TypeError):
        pickle.dumps(tenure.Lock(path))
    with pytest.raises(TypeError):
        copy.copy(tenure.Lock(path))


def test_reentrant_counts(path: Path) -> None:
    lock = tenure.Lock(path, reentrant=True)
    with lock as outer:
        with lock as inner:
            assert outer.fence == inner.fence
        outer.check()
        assert tenure.status(path).state == "held"
    assert tenure.status(path).state == "free"


def test_shared_locks_exclude_exclusive_ones(path: Path) -> None:
    share = tenure.Lock(path, style="flock", shared=True, timeout=0)
    with share as one, tenure.Lock(path, style="flock", shared=True, timeout=0) as two:
        assert one.shared and two.shared and one.fence is None and "no fence" in repr(one)
        with pytest.raises(tenure.Busy):
            tenure.Lock(path, style="flock").acquire(0)
    with tenure.Lock(path, style="flock", timeout=0):
        with pytest.raises(tenure.Busy):
            share.acquire()


def test_a_revoked_lock_is_lost(path: Path) -> None:
    held = tenure.Lock(path, max_hold=0.05, overrun="revoke").acquire()
    until("it is revoked", lambda: held.lost)
    with pytest.raises(tenure.Lost):
        held.check()
    with pytest.raises(tenure.Lost):
        held.release()
    with tenure.Lock(path) as following:
        # The protected data may be half-written.
        assert following.previous is not None and following.previous.pid == os.getpid()
    with pytest.raises(tenure.Lost):
        with tenure.Lock(path, max_hold=0.05, overrun="revoke") as held:
            until("it is revoked", lambda: held.lost)


def test_a_killed_holder_is_reported(path: Path, other: Any) -> None:
    holder = other(HOLDER, path)
    fence = int(holder.hear().split()[1])
    granted: List[tenure.Guard] = []
    waiter = threading.Thread(target=lambda: granted.append(tenure.Lock(path).acquire()))
    waiter.start()
    until("it waits", lambda: tenure.status(path).waiters == 1)
    holder.kill()
    waiter.join()
    (held,) = granted
    assert held.previous is not None and held.previous.pid == holder.pid and held.fence is not None and held.fence > fence
    held.release()
    assert tenure.Lock(path).acquire(0).previous is None


def test_status_shows_the_command_of_a_holder(path: Path, other: Any) -> None:
    holder = other(HOLDER, path)
    holder.hear()
    holder.kill()
    file = Path(f"{path}.lock")
    record = json.loads(file.read_text())
    for command_pid in (None, 4243):
        if command_pid is not None:
            record["tenure"]["commandPid"] = command_pid
            file.write_text(json.dumps(record))
        for status in (tenure.status(path), tenure.Lock(path).status()):
            assert status.state == "stale" and status.holder is not None
            assert (status.holder.pid, status.holder.command_pid) == (holder.pid, command_pid)


def test_a_lock_without_a_record_has_no_fence(path: Path) -> None:
    with tenure.Lock(path, record=False) as guard:
        assert guard.fence is None


def test_steal_after_steals_from_a_live_holder(path: Path, other: Any) -> None:
    holder = other(HOLDER, path)
    fence = int(holder.hear().split()[1])
    with pytest.raises(tenure.Busy):
        tenure.Lock(path, steal_after=3600).acquire(0)
    with tenure.Lock(path, steal_after=0.001, timeout=60) as guard:
        assert guard.fence is not None and guard.fence > fence
        guard.check()


def test_other_threads_run_while_one_waits(path: Path, other: Any) -> None:
    holder = other(HOLDER, path)
    holder.hear()
    granted: List[tenure.Guard] = []
    threads = [threading.Thread(target=lambda: granted.append(tenure.Lock(path).acquire())) for _ in range(3)]
    for thread in threads:
        thread.start()
    # The loop in until() is another running thread.
    until("they wait", lambda: tenure.status(path).waiters == 1)
    holder.tell()
    holder.hear("released")
    for count in range(3):
        until("the next one's turn", lambda: len(granted) == count + 1)
        granted[count].release()
    for thread in threads:
        thread.join()


def test_threads_exclude_each_other(path: Path) -> None:
    lock = tenure.Lock(path)
    inside = 0

    def work() -> None:
        nonlocal inside
        for _ in range(100):
            with lock as held:
                inside += 1
                assert inside == 1
                held.check()
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == 0 and tenure.status(path).state == "free"


def test_one_held_lock_may_be_used_by_many_threads(path: Path) -> None:
    held = tenure.Lock(path).acquire()
    failed: List[BaseException] = []
    begun = threading.Barrier(5)

    def work() -> None:
        begun.wait()
        try:
            while True:
                held.check()
                held.set_label("x")
        except tenure.Lost:
            pass
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    held.release()
    # The release waited for calls of other threads.
    assert tenure.status(path).state == "free"
    for thread in threads:
        thread.join()
    assert not failed


def test_a_history_has_the_last_tenures_and_failed_waits(path: Path) -> None:
    lock = tenure.Lock(path, history=2, label="nightly", deadlock_check=False)
    for code in (1, 2, 3):
        with lock as guard:
            guard.set_exit_code(code)
            with pytest.raises(tenure.Busy):
                lock.acquire(0)
    past = tenure.history(path)
    held = [one for one in past if one.ended == "released"]
    assert [one.exit_code for one in held] == [2, 3]
    assert all(one.label == "nightly" and one.pid == os.getpid() and one.fence and one.since <= one.until for one in held)
    busy = [one for one in past if one.ended == "busy"]
    assert [(one.blocked_by_pid, one.blocked_by) for one in busy] == [(os.getpid(), "nightly")] * 2
    assert repr(held[0]) == f"<tenure.PastTenure released: pid {os.getpid()}, nightly>"
    assert tenure.history(f"{path}-other") == []
    with pytest.raises(tenure.Unsupported):
        tenure.Lock(path, history=2, record=False)
    with pytest.raises(OverflowError):
        tenure.Lock(path, history=-1)


def test_a_closing_interpreter_releases(path: Path, other: Any) -> None:
    ending = other("import tenure\nheld = tenure.Lock(path).acquire()\nsay('held')\nhear()", path)
    ending.hear("held")
    assert ending.end() == 0
    assert not os.path.exists(f"{path}.lock")
    assert tenure.Lock(path).acquire(0).previous is None


def test_slots(path: Path) -> None:
    lock = tenure.Lock(path, slots=2)
    with lock as zero, lock.acquire() as one:
        assert (zero.slot, one.slot) == (0, 1)
        with pytest.raises(tenure.Busy, match="no slot of 2 is free"):
            lock.acquire(timeout=0)
        with pytest.raises(tenure.WouldDeadlock):
            lock.acquire()
        found = tenure.slots(path)
        assert [(slot.target, slot.state) for slot in found] == [(f"{path}.slot-{number}", "held") for number in (0, 1)]
        assert [slot.holder.fence for slot in found if slot.holder] == [zero.fence, one.fence]
        zero.release()
        assert [slot.target for slot in tenure.slots(path)] == [f"{path}.slot-1"]
    assert tenure.slots(path) == []
    assert tenure.Lock(path).acquire().slot is None
    for wrong in (0, 1001):
        with pytest.raises(tenure.Unsupported):
            tenure.Lock(path, slots=wrong)


def test_one_acquire_waits(path: Path) -> None:
    lock = tenure.Lock(path, if_busy="queue-one", deadlock_check=False)
    held = lock.acquire()
    waiter = threading.Thread(target=lambda: lock.acquire().release())
    waiter.start()
    until("the first one waits", lambda: tenure.status(f"{path}.next").state == "held")
    with pytest.raises(tenure.Skipped, match="waits already"):
        lock.acquire()
    held.release()
    waiter.join()
    skip = tenure.Lock(path, if_busy="skip", deadlock_check=False)
    with skip, pytest.raises(tenure.Busy):
        skip.acquire()
    with pytest.raises(ValueError, match="if_busy"):
        tenure.Lock(path, if_busy="queue")  # type: ignore[arg-type]


def test_a_recent_success_is_enough(path: Path) -> None:
    lock = tenure.Lock(path, not_more_often_than=3600)
    lock.acquire().release()
    with lock as held:
        held.mark_successful()
    with pytest.raises(tenure.Skipped, match="the last successful run began"):
        lock.acquire()
    with tenure.Lock(path) as held, pytest.raises(tenure.Unsupported):
        held.mark_successful()
