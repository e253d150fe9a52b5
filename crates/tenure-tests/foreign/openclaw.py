#!/usr/bin/env python3
"""A foreign program: it holds and judges a lock file by OpenClaw's protocol, with its flaws, and does not know Tenure.

    openclaw.py judge LOCKFILE [--now-ms N] [--stale-ms N]
    openclaw.py judge-loop [--now-ms N] [--stale-ms N]      judges each path that it reads, a line each
    openclaw.py hold TARGET [--timeout-ms N] [--stale-ms N] [--max-hold-ms N]
    openclaw.py append TARGET COUNT TAG [--timeout-ms N] [--stale-ms N]
    openclaw.py parse-loop LOCKFILE SECONDS

openclaw.mjs has the same command line. Exit codes: 0 done, 64 usage error, 75 timed out. Python 3.8, standard library.
"""

import json
import math
import os
import re
import signal
import sys
import threading
import time
from datetime import datetime, timezone

STALE_MS = 30 * 60 * 1000
TIMEOUT_MS = 10 * 1000

# The lock files that this process holds: path to descriptor.
held = {}


def say(**event):
    print(json.dumps(event), flush=True)


def now_ms():
    return time.time() * 1000


def integer(value):
    """Number.isInteger, to the largest integer that JavaScript holds exactly."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not math.isfinite(value) or value != int(value) or abs(value) > 2**53 - 1:
        return None
    return int(value)


ISO = re.compile(
    r"^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?$"
)


def date_ms(value):
    """Date.parse for ISO texts: a date alone is UTC, a date and time without an offset is local."""
    match = ISO.match(value) if isinstance(value, str) else None
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
        if zone is None and hour is not None:
            base = moment.timestamp()
        else:
            base = moment.replace(tzinfo=timezone.utc).timestamp()
    except (ValueError, OverflowError):
        return None
    if zone not in (None, "Z"):
        offset = int(zone[1:3]) * 60 + int(zone[4:6])
        base -= offset * 60 * (1 if zone[0] == "+" else -1)
    return round(base * 1000) + int((fraction or "0").ljust(3, "0")[:3])


def no_constant(name):
    raise ValueError(name)


def parse(data):
    """Returns a lock file's fields, each None where it is missing or malformed; None if the bytes cannot be parsed."""
    try:
        value = json.loads(data.decode("utf-8", "replace"), parse_constant=no_constant)
    except (ValueError, RecursionError):
        return None
    fields = value if isinstance(value, dict) else {}
    pid = integer(fields.get("pid"))
    start_time = integer(fields.get("starttime"))
    max_hold = integer(fields.get("maxHoldMs"))
    created_at = fields.get("createdAt")
    return {
        "pid": pid if pid is not None and pid > 0 else None,
        "createdAt": created_at if date_ms(created_at) is not None else None,
        "starttime": start_time if start_time is not None and start_time >= 0 else None,
        "maxHoldMs": max_hold if max_hold is not None and max_hold > 0 else None,
    }


def read_lock(path):
    """Reads a lock file; a file that cannot be read or parsed has no fields at all."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        data = b""
    return parse(data) or {"pid": None, "createdAt": None, "starttime": None, "maxHoldMs": None}


def stat_fields(path):
    """Returns the fields of a stat line from the third on, which follows the last parenthesis."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            line = file.read()
    except OSError:
        return None
    end = line.rfind(")")
    return line[end + 1 :].split() if end >= 0 else None


def start_time_of(pid):
    fields = stat_fields(f"/proc/{pid}/stat")
    if not fields or len(fields) < 20 or not re.match(r"^\d+$", fields[19]):
        return None
    return int(fields[19])


def is_zombie(pid):
    """Reports whether a process is a zombie: a leader that ended is one only when its other threads have ended too."""
    leader = stat_fields(f"/proc/{pid}/stat")
    if not leader or leader[0] != "Z":
        return False
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    states = [stat_fields(f"/proc/{pid}/task/{thread}/stat") for thread in threads]
    return all(state is None or state[0] in "ZX" for state in states)


def is_alive(pid):
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        # OpenClaw's flaw, kept: "permission denied" means that the process lives, and is taken for dead here.
        return False
    return not is_zombie(pid)


def reasons(lock, path, now, stale_ms):
    found = []
    pid = lock["pid"]
    if pid is None:
        found.append("missing-pid")
    elif not is_alive(pid):
        found.append("dead-pid")
    elif lock["starttime"] is not None and start_time_of(pid) not in (None, lock["starttime"]):
        found.append("recycled-pid")
    created = date_ms(lock["createdAt"])
    if created is None:
        found.append("invalid-createdAt")
    else:
        age = max(0, now - created)
        if age > stale_ms:
            found.append("too-old")
        if lock["maxHoldMs"] is not None and age > lock["maxHoldMs"]:
            found.append("hold-exceeded")
    if pid == os.getpid() and path not in held and lock["starttime"] in (None, start_time_of(pid)):
        found.append("orphan-self-pid")
    return found


def may_remove(path, why, stale_ms):
    if not why:
        return False
    if set(why) <= {"missing-pid", "invalid-createdAt"}:
        # # The holder may be between create and write.
        try:
            return now_ms() - os.stat(path).st_mtime * 1000 > stale_ms
        except FileNotFoundError:
            return True
    return True


def remove(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def lock_path(target):
    parent, name = os.path.split(os.path.abspath(target))
    os.makedirs(parent, exist_ok=True)
    return os.path.join(os.path.realpath(parent), name + ".lock")


def iso_now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def acquire(target, options):
    """Returns the lock file's path; reports the holder and exits 75 on a timeout."""
    path = lock_path(target)
    stale_ms = options["stale-ms"]
    started = time.monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            lock = read_lock(path)
            # Between this look and the removal another contender may have created a new file: OpenClaw's flaw, kept.
            if may_remove(path, reasons(lock, path, now_ms(), stale_ms), stale_ms):
                remove(path)
                continue
            if (time.monotonic() - started) * 1000 >= options["timeout-ms"]:
                owner = "unknown" if lock["pid"] is None else f"pid={lock['pid']}"
                say(event="timeout", owner=owner)
                sys.exit(75)
            time.sleep(min(1.0, 0.05 * attempt))
            continue
        payload = {"pid": os.getpid(), "createdAt": iso_now()}
        start_time = start_time_of(os.getpid())
        if start_time is not None:
            payload["starttime"] = start_time
        if options["max-hold-ms"] is not None:
            payload["maxHoldMs"] = options["max-hold-ms"]
        os.write(fd, json.dumps(payload, indent=2).encode())
        held[path] = fd
        return path


def release(path):
    os.close(held.pop(path))
    # The file may belong to another program by now: OpenClaw's flaw, kept.
    remove(path)


def release_all_and_die(signum, _frame):
    for path in list(held):
        release(path)
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def judge(path, options):
    lock = read_lock(path)
    now = now_ms() if options["now-ms"] is None else options["now-ms"]
    why = reasons(lock, path, now, options["stale-ms"])
    say(stale=bool(why), reasons=why, pid=lock["pid"], createdAt=lock["createdAt"], alive=is_alive(lock["pid"]))


def hold(target, options):
    path = acquire(target, options)
    say(event="held", lockFile=path)
    for line in sys.stdin:
        if line.strip() == "release":
            break
    release(path)
    say(event="released")


def append(target, count, tag, options):
    for i in range(count):
        path = acquire(target, options)
        try:
            with open(target, "rb") as file:
                lines = file.read().count(b"\n")
        except FileNotFoundError:
            lines = 0
        with open(target, "ab") as file:
            file.write((json.dumps({"by": tag, "n": lines, "i": i}) + "\n").encode())
        release(path)


def parse_loop(path, seconds):
    stop = threading.Event()

    def watch_stdin():
        while os.read(0, 4096):
            pass
        stop.set()

    threading.Thread(target=watch_stdin, daemon=True).start()
    until = time.monotonic() + seconds
    counts = {"reads": 0, "missing": 0, "unparsable": 0, "withoutPid": 0}
    seen = {}
    while not stop.is_set() and time.monotonic() < until:
        counts["reads"] += 1
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            counts["missing"] += 1
            continue
        data = b""
        while True:
            part = os.read(fd, 65536)
            if not part:
                break
            data += part
        os.close(fd)
        lock = parse(data)
        if lock is None:
            counts["unparsable"] += 1
            continue
        if lock["pid"] is None:
            counts["withoutPid"] += 1
        key = (lock["pid"], lock["starttime"], lock["createdAt"])
        seen[key] = seen.get(key, 0) + 1
    say(
        **counts,
        seen=[
            {"pid": pid, "starttime": start_time, "createdAt": created_at, "count": count}
            for (pid, start_time, created_at), count in seen.items()
        ],
    )


def usage():
    print(__doc__, file=sys.stderr)
    sys.exit(64)


def main(argv):
    options = {"now-ms": None, "stale-ms": STALE_MS, "timeout-ms": TIMEOUT_MS, "max-hold-ms": None}
    words = []
    rest = iter(argv)
    for word in rest:
        if word.startswith("--"):
            value = next(rest, "")
            if word[2:] not in options or not value.isdigit():
                usage()
            options[word[2:]] = int(value)
        else:
            words.append(word)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT):
        signal.signal(signum, release_all_and_die)
    if len(words) == 2 and words[0] == "judge":
        judge(words[1], options)
    elif words == ["judge-loop"]:
        for line in sys.stdin:
            judge(line.rstrip("\n"), options)
    elif len(words) == 2 and words[0] == "hold":
        hold(words[1], options)
    elif len(words) == 4 and words[0] == "append":
        append(words[1], int(words[2]), words[3], options)
    elif len(words) == 3 and words[0] == "parse-loop":
        parse_loop(words[1], float(words[2]))
    else:
        usage()


if __name__ == "__main__":
    main(sys.argv[1:])
