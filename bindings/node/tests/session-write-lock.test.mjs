// The session write lock, by OpenClaw's interface.
import { strict as assert } from "node:assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { test } from "node:test";

import {
  acquireSessionWriteLock,
  cleanStaleLockFiles,
  getProcessStartTime,
  isPidAlive,
  resolveSessionLockMaxHoldFromTimeout,
} from "tenure/session-write-lock";

import { Actor, awake, folder, until } from "./helpers.mjs";

const SEED = "tenure/session-write-lock";

async function ended() {
  const child = spawn("true");
  await once(child, "close");
  return child.pid;
}

test("the lock file exists while the lock is held, with the fields that other programs read", async (t) => {
  const sessionFile = `${folder(t)}/sessions/main.jsonl`;
  const { release } = await acquireSessionWriteLock({ sessionFile });
  const text = readFileSync(`${sessionFile}.lock`, "utf8");
  const record = JSON.parse(text);
  assert.equal(record.pid, process.pid);
  assert.equal(record.starttime, getProcessStartTime(process.pid));
  assert.equal(record.maxHoldMs, 300_000);
  assert.equal(new Date(record.createdAt).toISOString(), record.createdAt);
  await release();
  await release();
  assert(!existsSync(`${sessionFile}.lock`));
});

test("a timeout has OpenClaw's text, and more", async (t) => {
  const sessionFile = `${folder(t)}/main.jsonl`;
  const actor = new Actor(t, SEED);
  await actor.must("acquire", { path: sessionFile });
  const error = await acquireSessionWriteLock({ sessionFile, timeoutMs: 25 }).catch((error) => error);
  assert.equal(error.message, `session file locked (timeout 25ms): pid=${actor.pid} ${sessionFile}.lock`);
  assert.equal(error.holder.liveness, "alive");
  assert.match(error.hint, /status\(path\)/);
  await actor.kill();
  writeFileSync(`${sessionFile}2.lock`, "");
  const unknown = await acquireSessionWriteLock({ sessionFile: `${sessionFile}2`, timeoutMs: 25 }).catch((e) => e);
  assert.equal(unknown.message, `session file locked (timeout 25ms): unknown ${sessionFile}2.lock`);
});

test("it is reentrant by default, and the last release frees it", async (t) => {
  const sessionFile = `${folder(t)}/main.jsonl`;
  const one = await acquireSessionWriteLock({ sessionFile });
  const two = await acquireSessionWriteLock({ sessionFile });
  await assert.rejects(acquireSessionWriteLock({ sessionFile, timeoutMs: 20, allowReentrant: false }), /pid=/);
  await one.release();
  await one.release();
  assert(existsSync(`${sessionFile}.lock`), "a handle counts once");
  await two.release();
  assert(!existsSync(`${sessionFile}.lock`));
});

test("links in the folder lead to one lock", async (t) => {
  const dir = folder(t);
  mkdirSync(`${dir}/real`);
  symlinkSync(`${dir}/real`, `${dir}/link`);
  const { release } = await acquireSessionWriteLock({ sessionFile: `${dir}/real/s.jsonl` });
  const other = { sessionFile: `${dir}/link/s.jsonl`, timeoutMs: 20, allowReentrant: false };
  await assert.rejects(acquireSessionWriteLock(other), /session file locked/);
  await release();
});

test("the lock file of a dead holder is taken over immediately, whatever its content", async (t) => {
  const dir = folder(t);
  const pid = await ended();
  const now = new Date().toISOString();
  const start = getProcessStartTime(process.pid);
  const left = {
    dead: { pid, createdAt: now },
    recycled: { pid: process.ppid, createdAt: now, starttime: getProcessStartTime(process.ppid) + 1 },
    "own pid of an earlier life": { pid: process.pid, createdAt: now, starttime: start + 1 },
    "own pid, not held": { pid: process.pid, createdAt: now, starttime: start },
    "own pid, no start": { pid: process.pid, createdAt: now },
  };
  for (const [name, record] of Object.entries(left)) {
    const sessionFile = `${dir}/${name}.jsonl`;
    writeFileSync(`${sessionFile}.lock`, JSON.stringify(record, null, 2));
    const { release } = await acquireSessionWriteLock({ sessionFile, timeoutMs: 5000 });
    await release();
    assert(!existsSync(`${sessionFile}.lock`), name);
  }
});

test("the lock of a live holder is not stolen for its age", async (t) => {
  const sessionFile = `${folder(t)}/s.jsonl`;
  const old = new Date(Date.now() - 3_600_000).toISOString();
  writeFileSync(`${sessionFile}.lock`, JSON.stringify({ pid: process.ppid, createdAt: old, maxHoldMs: 1 }));
  await assert.rejects(acquireSessionWriteLock({ sessionFile, timeoutMs: 20, staleMs: 1 }), /session file locked/);
  assert(existsSync(`${sessionFile}.lock`));
});

test("a watchdog warns about a long hold, and the holder keeps the lock", async (t) => {
  awake(t);
  const sessionFile = `${folder(t)}/s.jsonl`;
  const said = new Promise((resolve) => t.mock.method(console, "warn", resolve));
  const held = await acquireSessionWriteLock({ sessionFile, maxHoldMs: 20 });
  assert.match(await said, /^\[session-write-lock\] held for \d+ms \(max=20ms\): .*s\.jsonl\.lock$/);
  held.check();
  await held.release();
});

test("a sweep reports every lock, and removes those of dead holders", async (t) => {
  const sessionsDir = folder(t);
  const at = (name) => `${sessionsDir}/${name}.lock`;
  const now = Date.now();
  const iso = (ago) => new Date(now - ago).toISOString();
  const dead = await ended();
  writeFileSync(at("dead.jsonl"), JSON.stringify({ pid: dead, createdAt: iso(1000) }));
  writeFileSync(at("old.jsonl"), JSON.stringify({ pid: process.ppid, createdAt: iso(40 * 60_000), maxHoldMs: 5 }));
  writeFileSync(at("live.jsonl"), JSON.stringify({ pid: process.ppid, createdAt: iso(2000) }));
  writeFileSync(at("fresh.jsonl"), "");
  writeFileSync(at("torn.jsonl"), '{"pid":');
  utimesSync(at("torn.jsonl"), new Date(now - 60_000), new Date(now - 60_000));
  writeFileSync(at("other.json"), JSON.stringify({ pid: dead, createdAt: iso(1000) }));
  writeFileSync(at("yarn"), "# yarn\n");
  const held = await acquireSessionWriteLock({ sessionFile: `${sessionsDir}/held.jsonl` });

  const looked = await cleanStaleLockFiles({ sessionsDir, removeStale: false, nowMs: now });
  assert.deepEqual(looked.cleaned, []);
  const { locks } = looked;
  assert.deepEqual(locks.map(({ lockPath }) => lockPath), ["dead", "fresh", "held", "live", "old", "torn"].map((n) => at(`${n}.jsonl`)));
  const [first, fresh, own, live, old, torn] = locks;
  assert.deepEqual(first, {
    lockPath: at("dead.jsonl"), pid: dead, pidAlive: false, createdAt: iso(1000), ageMs: 1000,
    stale: true, staleReasons: ["dead-pid"], removed: false,
  });
  assert.deepEqual(fresh.staleReasons, ["missing-pid", "invalid-createdAt"]);
  assert.deepEqual([own.pid, own.pidAlive, own.stale], [process.pid, true, false]);
  assert.deepEqual([live.stale, live.ageMs, live.pidAlive], [false, 2000, true]);
  assert.deepEqual([old.stale, old.staleReasons], [true, ["too-old", "hold-exceeded"]]);
  assert.equal(torn.pid, null);
  assert.equal(torn.ageMs, null);
  const younger = await cleanStaleLockFiles({ sessionsDir, removeStale: false, nowMs: now, staleMs: 1500 });
  assert.deepEqual(younger.locks[3].staleReasons, ["too-old"], "by the caller's limit");
  const later = await cleanStaleLockFiles({ sessionsDir, removeStale: false, nowMs: now + 3_600_000 });
  assert.equal(later.locks[0].ageMs, 3_601_000, "by the caller's clock");
  assert.deepEqual(later.locks[0].staleReasons, ["dead-pid", "too-old"]);

  const warned = [];
  const swept = await cleanStaleLockFiles({ sessionsDir, log: { warn: (text) => warned.push(text) } });
  assert.deepEqual(swept.cleaned.map(({ lockPath }) => lockPath), [at("dead.jsonl"), at("torn.jsonl")]);
  assert.deepEqual(warned, [
    `removed stale session lock: ${at("dead.jsonl")} (dead-pid)`,
    `removed stale session lock: ${at("torn.jsonl")} (missing-pid, invalid-createdAt)`,
  ]);
  for (const gone of ["dead.jsonl", "torn.jsonl"]) assert(!existsSync(at(gone)));
  for (const kept of ["fresh.jsonl", "live.jsonl", "old.jsonl", "held.jsonl", "other.json", "yarn"]) assert(existsSync(at(kept)), kept);
  held.check();
  await held.release();
});

test("a missing folder is an empty result", async (t) => {
  assert.deepEqual(await cleanStaleLockFiles({ sessionsDir: `${folder(t)}/none` }), { locks: [], cleaned: [] });
});

test("the maximum hold time is derived from the timeout of a run", () => {
  const hold = resolveSessionLockMaxHoldFromTimeout;
  assert.equal(hold({ timeoutMs: 600_000 }), 720_000);
  assert.equal(hold({ timeoutMs: 1000 }), 300_000);
  assert.equal(hold({ timeoutMs: 1000, minMs: 5000, graceMs: 2000 }), 5000);
  assert.equal(hold({ timeoutMs: 10_000, minMs: 5000, graceMs: 2000 }), 12_000);
  assert.equal(hold({ timeoutMs: Infinity }), 2_147_000_000);
  assert.equal(hold({ timeoutMs: 2_147_000_000 }), 2_147_000_000);
  for (const none of [0, -1, NaN, undefined]) assert.equal(hold({ timeoutMs: none }), 420_000, String(none));
});

test("pids of live processes, and others", async () => {
  assert(isPidAlive(process.pid));
  for (const pid of [0, -1, 1.5, NaN, Infinity, -Infinity, 2 ** 40, "1", undefined]) {
    assert.equal(isPidAlive(pid), false, String(pid));
    assert.equal(getProcessStartTime(pid), null, String(pid));
  }
  assert(Number.isInteger(getProcessStartTime(process.pid)));
  const pid = await ended();
  assert.equal(isPidAlive(pid), false);
  // Permission denied means alive: without root, process 1 belongs to another user.
  assert(isPidAlive(1));
  const zombie = spawn("sh", ["-c", "sleep 0.01 & exec sleep 1000"]);
  await until(() => readFileSync(`/proc/${zombie.pid}/cmdline`, "utf8").startsWith("sleep"));
  const child = () => readFileSync(`/proc/${zombie.pid}/task/${zombie.pid}/children`, "utf8").trim();
  await until(() => child() && /\) Z /.test(readFileSync(`/proc/${child()}/stat`, "utf8")));
  assert.equal(isPidAlive(Number(child())), false, "a zombie is dead");
  zombie.kill("SIGKILL");
});
