#!/usr/bin/env python3
"""A worker of the torture that holds by the package for Python repeatedly: a native, as the workers in Rust are.

    torture.py FOLDER PHASE SEED

It waits as a thread and as a task, times out, and is cancelled. `src/` describes the folder, the witness and the lines.
"""

import asyncio
import fcntl
import os
import random
import struct
import sys
import threading
import time

import tenure

folder, phase, number = sys.argv[1:4]
target = os.path.join(folder, "transcript.jsonl")
witness = os.open(os.path.join(os.environ["TORTURE_WITNESS"], "bytes"), os.O_RDWR)
mark = os.path.join(os.environ["TORTURE_WITNESS"], "mark")
member = os.environ["TORTURE_MEMBER"]
chance = random.Random(f"{number}-{os.getpid()}")
last = threading.Event()

HOLDERS, FOREIGN, SEEN_NATIVES = 0, 1, 2


def say(text):
    os.write(1, (text + "\n").encode())


def listen():
    for line in sys.stdin:
        if line.strip() == "last":
            last.set()
    os._exit(1)


def take(byte):
    try:
        fcntl.lockf(witness, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError:
        return False
    return True


def leave(byte):
    fcntl.lockf(witness, fcntl.LOCK_UN, 1, byte)


def taken(byte):
    asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    return struct.unpack("hhqqi", fcntl.fcntl(witness, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK


def marked():
    try:
        with open(mark, encoding="ascii") as file:
            pid = file.read()
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        # An exiting process (PF_EXITING of the flags) has released its kernel locks before it is a zombie.
        return fields[0] not in "ZX" and int(fields[6]) & 4 == 0
    except OSError:
        return False


def append(held, count):
    file = os.open(target, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    length = os.fstat(file).st_size
    end = os.pread(file, 256, max(0, length - 256))
    if end and not end.endswith(b"\n"):
        if held.previous is None:
            say(f"fault fence {held.fence} found a torn line, but without a crash report")
        os.ftruncate(file, length - len(end) + end.rfind(b"\n") + 1)
    line = f"N {held.fence} {os.getpid()} {count} .\n".encode()
    cut = chance.randrange(len(line))
    os.write(file, line[:cut])
    time.sleep(chance.choice([0, 0, 0.0002]))
    os.write(file, line[cut:])
    os.close(file)


def work(held, visible, count):
    me = f"pid {os.getpid()} fence {held.fence}"
    mine = take(HOLDERS)
    if mine:
        os.pwrite(witness, f"{member} {me}".ljust(60).encode(), 64)
    else:
        other = os.pread(witness, 60, 64).decode().strip()
        pair = "native-foreign" if other.endswith("fence 0") else "native-native"
        say(f"double {pair} {me} came in while {other} held")
    if visible:
        take(SEEN_NATIVES)
        if taken(FOREIGN):
            say(f"double native-foreign {me} came in while {os.pread(witness, 60, 128).decode().strip()} held")
        if marked():
            say(f"double native-foreign {me} entered while node held")
    append(held, count)
    time.sleep(chance.choice([0, 0, 0, 0.0005, 0.003]))
    say(f"grant N {held.fence} {os.getpid()} {count} {int(held.previous is not None)}")
    if visible:
        leave(SEEN_NATIVES)
    if mine:
        leave(HOLDERS)


async def as_a_task(lock, timeout):
    """Acquires as a task. A third of the waits are cancelled at about the time of their grant."""
    acquiring = asyncio.ensure_future(lock.acquire_async(timeout))
    if timeout is None and not last.is_set() and chance.random() < 1 / 3:
        await asyncio.wait([acquiring], timeout=chance.uniform(0, 0.01))
        acquiring.cancel()
        try:
            return await acquiring
        except asyncio.CancelledError:
            return None
    return await acquiring


threading.Thread(target=listen, daemon=True).start()
label = "torture from python"
locks = [(tenure.Lock(target, label=label, malformed_grace=0.1), True)]
if not phase.startswith("careful"):
    locks.append((tenure.Lock(target, label=label, malformed_grace=0.1, style="flock"), False))
say(f"ready {os.getpid()}")
count = 0
while True:
    final = last.is_set()
    lock, visible = chance.choice(locks)
    timeout = None if final else chance.choice([None] * 7 + [0, chance.uniform(0, 0.02)])
    try:
        if chance.random() < 1 / 3:
            held = asyncio.run(as_a_task(lock, timeout))
        else:
            held = lock.acquire(timeout)
    except tenure.Busy:
        say("busy")
        continue
    except tenure.Error as error:
        say(f"fault pid {os.getpid()} could not acquire: {error}")
        continue
    if held is None:
        continue
    count += 1
    work(held, visible, count)
    try:
        if chance.random() < 1 / 8:
            held.set_label(label + "x" * chance.randrange(40))
        held.check()
        held.release()
    except tenure.Error as error:
        say(f"fault pid {os.getpid()} fence {held.fence} lost the lock: {error}")
    if final:
        say("last")
        os._exit(0)
    time.sleep(chance.uniform(0, 0.003))
