// The package in Node for Windows, beside Node's own file functions, OpenClaw's lock and proper-lockfile. `scripts/node-for-windows`
// runs this under wine. The tests of the other files use a shell, signals and /proc.
import { strict as assert } from "node:assert";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, promises, readdirSync, readFileSync, realpathSync, renameSync, rmdirSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import * as tenure from "tenure";
import { acquireSessionWriteLock, cleanStaleLockFiles } from "tenure/session-write-lock";
import properLockfile from "tenure/proper-lockfile";

import { Actor, awake, peers } from "./helpers.mjs";

assert.equal(process.platform, "win32");
const realProperLockfile = peers("proper-lockfile");

function target(t) {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), "tenure-node-")));
  // Wine keeps the names of open files that were removed, and the folder with them.
  t.after(() => {
    try {
      rmSync(dir, { recursive: true, force: true });
    } catch {}
  });
  return join(dir, "s.jsonl");
}

/** The pid of a process that has ended. */
function ended() {
  return spawnSync(process.execPath, ["-e", ""], { stdio: "ignore" }).pid;
}

async function isBusy(path) {
  await assert.rejects(tenure.lock(path, { timeout: 0 }), { code: "TENURE_BUSY" });
}

/** Tries every way by which OpenClaw, Node's packages and users remove a lock file. */
async function assertNotRemovable(path, of) {
  const ways = {
    unlinkSync: () => unlinkSync(path),
    rmSync: () => rmSync(path, { force: true }),
    renameSync: () => renameSync(path, `${path}.old`),
    unlink: () => promises.unlink(path),
    rm: () => promises.rm(path, { force: true }),
    "rm with retries": () => promises.rm(path, { force: true, maxRetries: 2, retryDelay: 10 }),
  };
  // `rmSync` of Node 24 and later has another code for a file that is in use.
  const isLater = Number(process.versions.node.split(".")[0]) >= 24;
  for (const [way, remove] of Object.entries(ways)) {
    const code = way === "rmSync" && isLater ? "EPERM" : "EBUSY";
    await assert.rejects(async () => remove(), { code }, `${of}: ${way}`);
    assert(existsSync(path), way);
  }
}

test("a live holder's lock file cannot be removed by Node", async (t) => {
  awake(t);
  for (const of of ["tenure", "tenure/session-write-lock", "tenure/proper-lockfile"]) {
    const path = target(t);
    const holder = new Actor(t, of);
    await holder.must("acquire", { path });
    await assertNotRemovable(`${path}.lock`, of);
    await isBusy(path);
    await holder.must("release");
    assert(!existsSync(`${path}.lock`), of);
    const guard = await tenure.lock(path, { timeout: 60_000 });
    // This process's own lock file as well.
    await assertNotRemovable(guard.lockFile, of);
    await guard.release();
  }
});

test("a killed holder's lock is taken over, with a report", async (t) => {
  awake(t);
  const path = target(t);
  const holder = new Actor(t);
  await holder.must("acquire", { path });
  const waiting = tenure.lock(path, { timeout: 60_000 });
  await holder.kill();
  const guard = await waiting;
  assert.equal(guard.previous.holder.pid, holder.pid);
  await guard.release();
});

test("the lock file of a dead Node or OpenClaw is taken over, and that of a live one is respected", async (t) => {
  awake(t);
  const path = target(t);
  const written = (pid) => writeFileSync(`${path}.lock`, JSON.stringify({ pid, createdAt: new Date().toISOString() }, null, 2), { flag: "wx" });
  const dead = ended();
  written(dead);
  let guard = await tenure.lock(path, { timeout: 60_000 });
  assert.equal(guard.previous.holder.pid, dead);
  await guard.release();
  assert(!existsSync(`${path}.lock`));

  written(ended());
  await (await acquireSessionWriteLock({ sessionFile: path, timeoutMs: 60_000 })).release();

  const live = new Actor(t);
  written(live.pid);
  await isBusy(path);
  await assert.rejects(acquireSessionWriteLock({ sessionFile: path, timeoutMs: 50 }), /session file locked \(timeout 50ms\)/);
  await live.kill();
  guard = await tenure.lock(path, { timeout: 60_000 });
  assert.equal(guard.previous.holder.pid, live.pid);
  await guard.release();
});

test("OpenClaw's file lock and ours exclude each other, and a killed one is taken over", async (t) => {
  awake(t);
  const path = target(t);
  const theirs = new Actor(t, "@openclaw/fs-safe");
  await theirs.must("acquire", { path });
  await isBusy(path);
  await theirs.must("release");
  const guard = await tenure.lock(path, { timeout: 60_000 });
  const refused = await theirs.ask("acquire", { path, options: { retry: { retries: 0 } } });
  assert.equal(refused.error?.code, "file_lock_timeout", JSON.stringify(refused));
  assert(existsSync(guard.lockFile));
  guard.check();
  await guard.release();
  await theirs.must("acquire", { path });
  await theirs.kill();
  const next = await tenure.lock(path, { timeout: 60_000 });
  assert.equal(next.previous.holder.pid, theirs.pid);
  await next.release();
});

test("the session write lock", async (t) => {
  awake(t);
  const path = target(t);
  const holder = new Actor(t, "tenure/session-write-lock");
  await holder.must("acquire", { path });
  const record = JSON.parse(readFileSync(`${path}.lock`, "utf8"));
  assert.equal(record.pid, holder.pid);
  assert(Number.isInteger(record.starttime) && Date.parse(record.createdAt) > 0, JSON.stringify(record));
  const error = await acquireSessionWriteLock({ sessionFile: path, timeoutMs: 50 }).catch((error) => error);
  assert.equal(error.message, `session file locked (timeout 50ms): pid=${holder.pid} ${path}.lock`);
  const waiting = acquireSessionWriteLock({ sessionFile: path, timeoutMs: 60_000 });
  await holder.must("release");
  const held = await waiting;
  const again = await acquireSessionWriteLock({ sessionFile: path });
  await held.release();
  assert(existsSync(`${path}.lock`), "it is reentrant");
  await again.release();
  assert(!existsSync(`${path}.lock`));

  writeFileSync(`${path}.lock`, JSON.stringify({ pid: ended(), createdAt: new Date().toISOString() }));
  const sessionsDir = join(path, "..");
  const { cleaned } = await cleanStaleLockFiles({ sessionsDir });
  assert.equal(cleaned.length, 1);
  assert(!readdirSync(sessionsDir).includes("s.jsonl.lock"));
});

test("proper-lockfile beside the real one", async (t) => {
  awake(t);
  const path = target(t);
  writeFileSync(path, "");
  const release = await properLockfile.lock(path);
  await assert.rejects(properLockfile.lock(path), { code: "ELOCKED", file: path });
  await assert.rejects(realProperLockfile.lock(path), { code: "ELOCKED" });
  assert.equal(await realProperLockfile.check(path), true);
  await release();
  assert.equal(await properLockfile.check(path), false);

  const theirs = new Actor(t, "proper-lockfile");
  await theirs.must("acquire", { path });
  await assert.rejects(properLockfile.lock(path), { code: "ELOCKED" });
  const waiting = properLockfile.lock(path, { retries: { forever: true, minTimeout: 5, maxTimeout: 5 } });
  await theirs.must("release");
  await (await waiting)();

  await theirs.must("acquire", { path });
  await theirs.kill();
  await assert.rejects(properLockfile.lock(path), { code: "ELOCKED" }, "a folder names no holder, so it stays");
  rmdirSync(`${path}.lock`);

  const ours = new Actor(t, "tenure/proper-lockfile");
  await ours.must("acquire", { path });
  assert.equal(await realProperLockfile.check(path), true);
  await ours.kill();
  await (await properLockfile.lock(path))();
});
