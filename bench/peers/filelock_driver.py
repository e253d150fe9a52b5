"""Drives locks from Python for the benchmark: `batch N` in, the nanoseconds of N pairs out.

usage: filelock_driver.py CLASS TARGET            CLASS: FileLock, SoftFileLock, .. of filelock; tenure.filelock:FileLock,
                                                  ..; tenure:lock-file or tenure:flock; fcntl
       filelock_driver.py CLASS TARGET holder     one byte in: a acquires, r releases; eight bytes out: when
       filelock_driver.py CLASS TARGET crowd HELD_NS PAUSE_NS     as the benchmark's processes (crowd.rs)
"""
import fcntl
import struct
import sys
import time

name, target = sys.argv[1:3]
role = sys.argv[3] if len(sys.argv) > 3 else "batch"
now = time.monotonic_ns


class Flock:
    """Locks an open file by flock(2)."""

    def __init__(self, path):
        self.file = open(path, "a")

    def acquire(self):
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def release(self):
        fcntl.flock(self.file, fcntl.LOCK_UN)


class Tenure:
    """tenure.Lock as a program uses it."""

    def __init__(self, path, style):
        import tenure

        self.lock = tenure.Lock(path, style=style)

    def acquire(self):
        self.held = self.lock.acquire()

    def release(self):
        self.held.release()


if name == "fcntl":
    lock = Flock(target)
elif name.startswith("tenure:"):
    lock = Tenure(target, name.split(":")[1])
elif name.startswith("tenure.filelock:"):
    import tenure.filelock

    lock = getattr(tenure.filelock, name.split(":")[1])(target + ".lock")
elif name == "ReadWriteLock":
    import filelock

    lock = filelock.ReadWriteLock(target + ".db")
    lock.acquire = lock.acquire_write
else:
    import filelock

    lock = getattr(filelock, name)(target + ".lock")

if role == "batch":
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = now()
            lock.acquire()
            lock.release()
            times.append(now() - start)
        print(*times, flush=True)
elif role == "holder":
    pipe = open(0, "rb", 0)
    while word := pipe.read(1):
        if word == b"a":
            lock.acquire()
            at = now()
        else:
            at = now()
            lock.release()
        sys.stdout.buffer.write(struct.pack("=Q", at))
        sys.stdout.buffer.flush()
else:
    held, pause = int(sys.argv[4]), int(sys.argv[5])
    pipe = open(0, "rb", 0)
    sys.stdout.buffer.write(b"r")
    sys.stdout.buffer.flush()
    start, end = struct.unpack("=QQ", pipe.read(16))
    while now() < start:
        time.sleep(0.001)
    grants = longest = 0
    while (before := now()) < end:
        lock.acquire()
        at = now()
        longest = max(longest, at - before)
        grants += 1
        while now() < at + held:
            pass
        lock.release()
        if pause:
            time.sleep(pause / 1e9)
    sys.stdout.buffer.write(struct.pack("=QQ", grants, longest))
    sys.stdout.buffer.flush()
