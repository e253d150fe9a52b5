#!/usr/bin/env node
// A foreign program: it holds and judges a lock file by OpenClaw's protocol, with its flaws, and does not know Tenure.
//
//     openclaw.mjs judge LOCKFILE [--now-ms N] [--stale-ms N]
//     openclaw.mjs judge-loop [--now-ms N] [--stale-ms N]      judges each path that it reads, a line each
//     openclaw.mjs hold TARGET [--timeout-ms N] [--stale-ms N] [--max-hold-ms N]
//     openclaw.mjs append TARGET COUNT TAG [--timeout-ms N] [--stale-ms N]
//     openclaw.mjs parse-loop LOCKFILE SECONDS
//
// openclaw.py has the same command line. Exit codes: 0 done, 64 usage error, 75 timed out. Node 18, no packages.

import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { setTimeout as sleep, setImmediate as breathe } from "node:timers/promises";

// The lock files that this process holds: path to descriptor.
const held = new Map();

const say = (event) => fs.writeSync(1, JSON.stringify(event) + "\n");

const integerFrom = (least) => (value) => (Number.isSafeInteger(value) && value >= least ? value : null);
const isDate = (value) => typeof value === "string" && Number.isFinite(Date.parse(value));

/** Returns a lock file's fields, each null where it is missing or malformed; null if the text cannot be parsed. */
function parse(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  const fields = value !== null && typeof value === "object" ? value : {};
  return {
    pid: integerFrom(1)(fields.pid),
    createdAt: isDate(fields.createdAt) ? fields.createdAt : null,
    starttime: integerFrom(0)(fields.starttime),
    maxHoldMs: integerFrom(1)(fields.maxHoldMs),
  };
}

/** Reads a lock file; a file that cannot be read or parsed has no fields at all. */
function readLock(file) {
  const nothing = { pid: null, createdAt: null, starttime: null, maxHoldMs: null };
  try {
    return parse(fs.readFileSync(file, "utf8")) ?? nothing;
  } catch {
    return nothing;
  }
}

/** Returns the fields of a stat line from the third on, which follows the last parenthesis. */
function statFields(file) {
  try {
    const line = fs.readFileSync(file, "utf8");
    const end = line.lastIndexOf(")");
    return end < 0 ? null : line.slice(end + 1).trim().split(/\s+/);
  } catch {
    return null;
  }
}

function startTimeOf(pid) {
  const field = statFields(`/proc/${pid}/stat`)?.[19];
  return field !== undefined && /^\d+$/.test(field) ? Number(field) : null;
}

/** Reports whether a process is a zombie: a leader that ended is one only when its other threads have ended too. */
function isZombie(pid) {
  if (statFields(`/proc/${pid}/stat`)?.[0] !== "Z") return false;
  try {
    return fs
      .readdirSync(`/proc/${pid}/task`)
      .map((thread) => statFields(`/proc/${pid}/task/${thread}/stat`)?.[0] ?? "X")
      .every((state) => state === "Z" || state === "X");
  } catch {
    return true;
  }
}

function isAlive(pid) {
  // Node truncates a larger number to 32 bits, and would signal another process.
  if (pid === null || pid > 0x7fffffff) return false;
  try {
    process.kill(pid, 0);
  } catch {
    // OpenClaw's flaw, kept: "permission denied" means that the process lives, and is taken for dead here.
    return false;
  }
  return !isZombie(pid);
}

function reasonsOf(lock, file, now, staleMs) {
  const reasons = [];
  const { pid, starttime } = lock;
  if (pid === null) {
    reasons.push("missing-pid");
  } else if (!isAlive(pid)) {
    reasons.push("dead-pid");
  } else if (starttime !== null && ![null, starttime].includes(startTimeOf(pid))) {
    reasons.push("recycled-pid");
  }
  if (lock.createdAt === null) {
    reasons.push("invalid-createdAt");
  } else {
    const age = Math.max(0, now - Date.parse(lock.createdAt));
    if (age > staleMs) reasons.push("too-old");
    if (lock.maxHoldMs !== null && age > lock.maxHoldMs) reasons.push("hold-exceeded");
  }
  if (pid === process.pid && !held.has(file) && [null, startTimeOf(pid)].includes(starttime)) {
    reasons.push("orphan-self-pid");
  }
  return reasons;
}

function mayRemove(file, reasons, staleMs) {
  if (reasons.length === 0) return false;
  if (reasons.some((reason) => reason !== "missing-pid" && reason !== "invalid-createdAt")) return true;
  // The holder may be between create and write.
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  return stat === undefined || Date.now() - stat.mtimeMs > staleMs;
}

function lockPath(target) {
  const { dir, base } = path.parse(path.resolve(target));
  fs.mkdirSync(dir, { recursive: true });
  return path.join(fs.realpathSync(dir), base + ".lock");
}

/** Returns the lock file's path; reports the holder and exits 75 on a timeout. */
async function acquire(target, options) {
  const file = lockPath(target);
  const staleMs = options["stale-ms"];
  const started = performance.now();
  for (let attempt = 1; ; attempt += 1) {
    let fd;
    try {
      fd = fs.openSync(file, "wx");
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
      const lock = readLock(file);
      // Between this look and the removal another contender may have created a new file: OpenClaw's flaw, kept.
      if (mayRemove(file, reasonsOf(lock, file, Date.now(), staleMs), staleMs)) {
        fs.rmSync(file, { force: true });
        continue;
      }
      if (performance.now() - started >= options["timeout-ms"]) {
        say({ event: "timeout", owner: lock.pid === null ? "unknown" : `pid=${lock.pid}` });
        process.exit(75);
      }
      await sleep(Math.min(1000, 50 * attempt));
      continue;
    }
    const payload = { pid: process.pid, createdAt: new Date().toISOString() };
    const starttime = startTimeOf(process.pid);
    if (starttime !== null) payload.starttime = starttime;
    if (options["max-hold-ms"] !== null) payload.maxHoldMs = options["max-hold-ms"];
    fs.writeSync(fd, JSON.stringify(payload, null, 2));
    held.set(file, fd);
    return file;
  }
}

function release(file) {
  fs.closeSync(held.get(file));
  held.delete(file);
  // The file may belong to another program by now: OpenClaw's flaw, kept.
  fs.rmSync(file, { force: true });
}

for (const signal of ["SIGINT", "SIGTERM", "SIGQUIT", "SIGABRT"]) {
  process.once(signal, () => {
    for (const file of [...held.keys()]) release(file);
    process.kill(process.pid, signal);
  });
}

function judge(file, options) {
  const lock = readLock(file);
  const reasons = reasonsOf(lock, file, options["now-ms"] ?? Date.now(), options["stale-ms"]);
  const { pid, createdAt } = lock;
  say({ stale: reasons.length > 0, reasons, pid, createdAt, alive: isAlive(pid) });
}

async function judgeLoop(options) {
  for await (const line of readline.createInterface({ input: process.stdin })) judge(line, options);
}

async function hold(target, options) {
  const file = await acquire(target, options);
  say({ event: "held", lockFile: file });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line.trim() === "release") break;
  }
  release(file);
  say({ event: "released" });
  process.exit(0);
}

async function append(target, count, tag, options) {
  for (let i = 0; i < count; i += 1) {
    const file = await acquire(target, options);
    const text = fs.existsSync(target) ? fs.readFileSync(target, "utf8") : "";
    const n = text.split("\n").length - 1;
    fs.appendFileSync(target, JSON.stringify({ by: tag, n, i }) + "\n");
    release(file);
  }
}

async function parseLoop(file, seconds) {
  let stopped = false;
  process.stdin.on("end", () => (stopped = true)).resume();
  const until = performance.now() + seconds * 1000;
  const counts = { reads: 0, missing: 0, unparsable: 0, withoutPid: 0 };
  const seen = new Map();
  while (!stopped && performance.now() < until) {
    // The end of standard input is noticed only between two rounds of the event loop.
    for (let round = 0; round < 500; round += 1) {
      counts.reads += 1;
      let text;
      try {
        text = fs.readFileSync(file, "utf8");
      } catch (error) {
        if (error.code !== "ENOENT") throw error;
        counts.missing += 1;
        continue;
      }
      const lock = parse(text);
      if (lock === null) {
        counts.unparsable += 1;
        continue;
      }
      const { pid, starttime, createdAt } = lock;
      if (pid === null) counts.withoutPid += 1;
      const key = JSON.stringify([pid, starttime, createdAt]);
      const entry = seen.get(key) ?? { pid, starttime, createdAt, count: 0 };
      entry.count += 1;
      seen.set(key, entry);
    }
    await breathe();
  }
  say({ ...counts, seen: [...seen.values()] });
  process.exit(0);
}

function usage() {
  process.stderr.write("usage: openclaw.mjs judge LOCKFILE | judge-loop | hold TARGET | append TARGET COUNT TAG | parse-loop LOCKFILE SECONDS\n");
  process.exit(64);
}

const options = { "now-ms": null, "stale-ms": 30 * 60 * 1000, "timeout-ms": 10 * 1000, "max-hold-ms": null };
const words = [];
const rest = process.argv.slice(2);
while (rest.length > 0) {
  const word = rest.shift();
  if (!word.startsWith("--")) {
    words.push(word);
    continue;
  }
  const value = Number(rest.shift());
  if (!Object.hasOwn(options, word.slice(2)) || !Number.isFinite(value)) usage();
  options[word.slice(2)] = value;
}
const [what, place, ...more] = words;
if (what === "judge" && place && more.length === 0) judge(place, options);
else if (what === "judge-loop" && place === undefined) await judgeLoop(options);
else if (what === "hold" && place && more.length === 0) await hold(place, options);
else if (what === "append" && place && more.length === 2) await append(place, Number(more[0]), more[1], options);
else if (what === "parse-loop" && place && more.length === 1) await parseLoop(place, Number(more[0]));
else usage();
