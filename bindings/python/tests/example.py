"""A user's program that uses all of the package. mypy --strict checks it."""

import asyncio
import datetime
from pathlib import Path
from typing import Optional

import tenure
import tenure.filelock as filelock


def append(path: Path, line: str) -> Optional[int]:
    lock = tenure.Lock(path, timeout=10, label="gateway", max_hold=60, overrun="revoke", mode=0o600)
    with lock as held:
        if held.previous is not None:
            since: Optional[datetime.datetime] = held.previous.since
            print("repairing what", held.previous.pid, "left that began", since)
        with open(path, "a") as file:
            file.write(line)
        held.check()
        return held.fence


def try_it(path: str) -> Optional[tenure.Guard]:
    try:
        return tenure.Lock(path, style="flock").acquire(timeout=0)
    except tenure.Busy as busy:
        holder: Optional[tenure.Holder] = busy.holder
        print(busy, holder.liveness if holder else "", busy.hint, busy.waited)
    except tenure.Error as error:
        print(error.path, error.errno)
    return None


async def tasks(path: Path) -> None:
    async with tenure.Lock(path) as held:
        print(held.target, held.lost)
    held = await tenure.Lock(path).acquire_async(timeout=None)
    left: Optional[tenure.LeaseLeft] = held.lease
    print("no lease" if left is None else left.lost_in)
    await held.release_async()
    async with filelock.AsyncFileLock(path, timeout=1) as lock:
        print(lock.is_locked)
    async with await filelock.AsyncSoftFileLock(f"{path}.lock").acquire(timeout=1):
        pass


def as_before(path: str) -> None:
    lock = filelock.FileLock(path, timeout=5, is_singleton=True)
    with lock, lock.acquire(timeout=1) as again:
        print(again.lock_counter, lock.held)
    try:
        with filelock.SoftFileLock(f"{path}.soft.lock", blocking=False) as soft:
            print(soft.pid)
    except filelock.Timeout as timeout:
        print(timeout.lock_file, timeout.hint)
    with filelock.FileLock(path, on_acquired=lambda descriptor: None, context_error_policy="chain") as kernel:
        print(kernel.context_error_policy, kernel.close_error_policy, kernel.preserve_lock_file)
    filelock.SoftFileLock(f"{path}.soft.lock").break_lock()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "x"
        append(target, "a line\n")
        try_it(str(target))
        asyncio.run(tasks(target))
        as_before(f"{target}.lock")
        print([lock.server or lock.lock_file for lock in tenure.list(folder, recursive=True)])
        try:
            tenure.Lock("etcd://127.0.0.1:1/x").acquire(timeout=0.01)
        except tenure.Unreachable as unreachable:
            print(unreachable)
        print(tenure.status(target).state, tenure.break_lock(f"{target}2"), tenure.__version__)
