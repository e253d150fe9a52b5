#!/usr/bin/env python3
"""A worker of the torture: it holds by OpenClaw's protocol repeatedly, and keeps a witness of the holders inside.

    torture.py FOLDER careful|careful-apart|commands|openclaw SEED

A careful one never removes another program's lock file. See `src/` for the folder, the witness and the printed lines.
"""

import fcntl
import os
import random
import struct
import sys
import threading
import time
import types

sys.path.insert(0, os.environ["TORTURE_OPENCLAW"])
import openclaw

folder, phase, number = sys.argv[1:4]
target = os.path.join(folder, "transcript.jsonl")
witness = os.open(os.path.join(os.environ["TORTURE_WITNESS"], "bytes"), os.O_RDWR)
mark = os.path.join(os.environ["TORTURE_WITNESS"], "mark")
member = os.environ["TORTURE_MEMBER"]
careful = phase.startswith("careful")
chance = random.Random(f"{number}-{os.getpid()}")
last = threading.Event()
# `tenure run` stays for 100 ms after the release of a lock file that was read, so that its reader finds it alive. A worker
# that was kept waiting for longer, as on a busy machine, reads again instead of judging what it read.
JUDGED_WITHIN = 0.05
read_at = 0.0
read_lock = openclaw.read_lock


def read_and_note(path):
    """Reads a lock file as OpenClaw does, and notes when the read began."""
    global read_at
    read_at = time.monotonic()
    return read_lock(path)


def release_carefully(path):
    """Removes the file before it closes it: a program that cannot see the pid takes a closed file's holder for dead."""
    os.unlink(path)
    os.close(openclaw.held.pop(path))


if careful:
    openclaw.may_remove = lambda *_: False
    openclaw.release = release_carefully
if phase == "commands":
    # No member dies in this round, so it tests removals on a proof of death. A file without fields may have been
    # removed before it was read: OpenClaw then removes the next file, also one of its own kind.
    openclaw.read_lock = read_and_note
    openclaw.may_remove = lambda _path, why, _stale_ms: (
        not set(why).isdisjoint({"dead-pid", "recycled-pid"}) and time.monotonic() - read_at <= JUDGED_WITHIN
    )
# OpenClaw's waits, but shorter, so that it contends more often.
openclaw.time = types.SimpleNamespace(
    time=time.time, monotonic=time.monotonic, sleep=lambda _: time.sleep(chance.uniform(0, 0.005))
)


def say(text):
    os.write(1, (text + "\n").encode())


def listen():
    for line in sys.stdin:
        if line.strip() == "last":
            last.set()
    os._exit(1)


def native_inside():
    asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 2, 1, 0)
    return struct.unpack("hhqqi", fcntl.fcntl(witness, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK


def marked():
    try:
        with open(mark, encoding="ascii") as file:
            pid = int(file.read())
    except OSError:
        return False
    stat = openclaw.stat_fields(f"/proc/{pid}/stat")
    return bool(stat) and stat[0] not in "ZX"


def append(count):
    file = os.open(target, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    text = b""
    while part := os.pread(file, 65536, len(text)):
        text += part
    if not text.endswith(b"\n"):
        os.ftruncate(file, text.rfind(b"\n") + 1)
    line = f"F {os.getpid()} {count} .\n".encode()
    cut = chance.randrange(len(line))
    os.write(file, line[:cut])
    time.sleep(chance.choice([0, 0, 0.0001]))
    os.write(file, line[cut:])
    os.close(file)


threading.Thread(target=listen, daemon=True).start()
options = {"stale-ms": openclaw.STALE_MS, "timeout-ms": 10**9, "max-hold-ms": None}
say("ready")
count = 0
while True:
    final = last.is_set()
    path = openclaw.acquire(target, options)
    count += 1
    mine = True
    try:
        fcntl.lockf(witness, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1)
    except OSError:
        mine = False
        say(f"double foreign-foreign python {os.getpid()} entered while another held")
    os.pwrite(witness, f"{member} python {os.getpid()}".ljust(60).encode(), 128)
    if native_inside():
        say(f"double native-foreign python {os.getpid()} entered while a native held")
    if marked():
        say(f"double foreign-foreign python {os.getpid()} entered while node held")
    if careful:
        append(count)
    time.sleep(chance.choice([0, 0, 0.0005, 0.002, 0.01]))
    say(f"grant F 0 {os.getpid()} {count} 0")
    if mine:
        fcntl.lockf(witness, fcntl.LOCK_UN, 1, 1)
    openclaw.release(path)
    if final:
        say("last")
        if phase == "commands":
            # Another program that has read this one's lock file may not have judged it yet: OpenClaw's flaw at the end
            # of a process.
            time.sleep(1)
        os._exit(0)
    time.sleep(chance.uniform(0, 0.01))
