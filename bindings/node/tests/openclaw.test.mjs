// The public behaviour of OpenClaw's session write lock, of March 2026 and since 2026.4.24, tested for ours. OpenClaw is too
// large to be installed for a test: OPENCLAW_LOCKS names a folder with a march.mjs and a later.mjs that export OpenClaw's own,
// which are then tested as well. docs/from-openclaw.md lists each difference that a test names.
import { strict as assert } from "node:assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";

import { folder, until } from "./helpers.mjs";

const locks = [
  { name: "tenure/session-write-lock", isOurs: true, isMarch: true },
  { name: "tenure/session-write-lock/2026.6", isOurs: true, isMarch: false },
];
if (process.env.OPENCLAW_LOCKS) {
  // The later version takes the lock of a live process whose command line is not OpenClaw's.
  process.title = "openclaw";
  for (const name of ["march", "later"]) {
    const url = pathToFileURL(`${process.env.OPENCLAW_LOCKS}/${name}.mjs`).href;
    locks.push({ name: url, isOurs: false, isMarch: name === "march" });
  }
}

/** A live process with OpenClaw's command line. The later version calls the lock of any other process stale. */
async function living(t) {
  const child = spawn("bash", ["-c", "exec -a openclaw sleep 1000"], { stdio: "ignore" });
  t.after(() => child.kill("SIGKILL"));
  await until(() => readFileSync(`/proc/${child.pid}/cmdline`, "utf8").startsWith("openclaw"));
  return child.pid;
}

async function ended() {
  const child = spawn("true");
  await once(child, "close");
  return child.pid;
}

const iso = (ago) => new Date(Date.now() - ago).toISOString();
const MINUTE = 60_000;

for (const { name, isOurs, isMarch } of locks) {
  const all = await import(name);
  const { acquireSessionWriteLock: acquire, cleanStaleLockFiles: clean } = all;
  const is = (what, run) => test(`${name}: ${what}`, run);
  const isTimeout = (timeout, pid, path) =>
    isMarch
      ? { message: `session file locked (timeout ${timeout}ms): pid=${pid} ${path}.lock` }
      : { name: "SessionWriteLockTimeoutError", code: "OPENCLAW_SESSION_WRITE_LOCK_TIMEOUT", timeoutMs: timeout, lockPath: `${path}.lock` };

  is("whether it is reentrant by default", async (t) => {
    const sessionFile = `${folder(t)}/s.jsonl`;
    const one = await acquire({ sessionFile });
    const again = acquire({ sessionFile, timeoutMs: 60 });
    if (isMarch) await (await again).release();
    else await assert.rejects(again, isTimeout(60, process.pid, sessionFile));
    const joined = await acquire({ sessionFile, timeoutMs: 60, allowReentrant: true });
    await assert.rejects(acquire({ sessionFile, timeoutMs: 60, allowReentrant: false }), isTimeout(60, process.pid, sessionFile));
    await one.release();
    assert(existsSync(`${sessionFile}.lock`), "the last handle releases");
    await one.release();
    // A difference: OpenClaw counts each release of one handle.
    assert.equal(existsSync(`${sessionFile}.lock`), isOurs);
    await joined.release();
    assert(!existsSync(`${sessionFile}.lock`));
  });

  is("worker threads of one process exclude each other", async (t) => {
    const sessionFile = `${folder(t)}/s.jsonl`;
    const thread = new Worker(new URL("session-worker.mjs", import.meta.url), {
      workerData: { module: name, words: [{ sessionFile, allowReentrant: true }] },
    });
    const over = once(thread, "exit");
    await once(thread, "message");
    const asked = acquire({ sessionFile, timeoutMs: 60, allowReentrant: true });
    // A difference: the later OpenClaw considers the lock of another thread an orphan of its process.
    if (isOurs || isMarch) await assert.rejects(asked, isTimeout(60, process.pid, sessionFile));
    else await (await asked).release();
    thread.postMessage("release");
    await (await acquire({ sessionFile, timeoutMs: 10_000, allowReentrant: true })).release();
    await over;
  });

  is("the error's path has its folder resolved", async (t) => {
    const dir = folder(t);
    mkdirSync(`${dir}/real`);
    symlinkSync(`${dir}/real`, `${dir}/link`);
    const held = await acquire({ sessionFile: `${dir}/real/s.jsonl` });
    const other = { sessionFile: `${dir}/link/s.jsonl`, timeoutMs: 30, allowReentrant: false };
    await assert.rejects(acquire(other), isTimeout(30, process.pid, `${dir}/real/s.jsonl`));
    await held.release();
  });

  is("a lock file with this process's own pid", async (t) => {
    const dir = folder(t);
    const path = `${dir}/s.jsonl`;
    const left = JSON.stringify({ pid: process.pid, createdAt: iso(1000) });
    writeFileSync(`${path}.lock`, left);
    if (clean) {
      // A process in another container may have that pid.
      const { locks, cleaned } = await clean({ sessionsDir: dir });
      assert.deepEqual([locks.length, locks[0].stale, locks[0].staleReasons, cleaned], [1, false, [], []]);
      assert.equal(readFileSync(`${path}.lock`, "utf8"), left);
    }
    await (await acquire({ sessionFile: path, timeoutMs: 5000 })).release();
  });

  is("a lock that is lost is released without an error, and can be taken again", async (t) => {
    const sessionFile = `${folder(t)}/s.jsonl`;
    const warned = t.mock.method(console, "warn", () => {});
    const one = await acquire({ sessionFile });
    rmSync(`${sessionFile}.lock`);
    await one.release();
    if (isOurs) assert.match(warned.mock.calls[0].arguments[0], /lost before its release: .*s\.jsonl/);
    const two = await acquire({ sessionFile, timeoutMs: 5000 });
    assert(existsSync(`${sessionFile}.lock`));
    await two.release();
    await one.release();
    const lost = await acquire({ sessionFile, allowReentrant: true });
    rmSync(`${sessionFile}.lock`);
    // A difference: OpenClaw's thread enters the lost lock.
    const again = await acquire({ sessionFile, timeoutMs: 5000, allowReentrant: true });
    assert.equal(existsSync(`${sessionFile}.lock`), isOurs);
    await lost.release();
    assert.equal(existsSync(`${sessionFile}.lock`), isOurs);
    await again.release();
    assert(!existsSync(`${sessionFile}.lock`));
  });

  is("two concurrent acquires", async (t) => {
    const sessionFile = `${folder(t)}/s.jsonl`;
    const asked = [1, 2].map(() => acquire({ sessionFile, allowReentrant: true, timeoutMs: 5000 }));
    const first = await Promise.race(asked);
    // A difference: the second acquire of OpenClaw waits, and would time out.
    if (!isOurs) await first.release();
    const held = await Promise.all(asked);
    for (const each of held) await each.release();
    assert(!existsSync(`${sessionFile}.lock`));
  });

  if (clean) is("a sweep", async (t) => {
    const sessionsDir = folder(t);
    const at = (name) => `${sessionsDir}/${name}.jsonl.lock`;
    const [lives, dead] = [await living(t), await ended()];
    const put = (name, text, ago = 0) => {
      writeFileSync(at(name), text);
      utimesSync(at(name), new Date(Date.now() - ago), new Date(Date.now() - ago));
    };
    put("dead", JSON.stringify({ pid: dead, createdAt: iso(1000) }));
    put("live", JSON.stringify({ pid: lives, createdAt: iso(1000) }));
    put("old", JSON.stringify({ pid: lives, createdAt: iso(40 * MINUTE), maxHoldMs: 5 }));
    put("other", "# no lock\n", 40 * MINUTE);
    symlinkSync(`${sessionsDir}/nowhere`, at("link"));
    writeFileSync(`${sessionsDir}/yarn.lock`, "");
    const { locks, cleaned } = await clean({ sessionsDir });
    const seen = Object.fromEntries(locks.map((each) => [each.lockPath.slice(sessionsDir.length + 1, -".jsonl.lock".length), each]));
    assert.deepEqual(Object.keys(seen), ["dead", "link", "live", "old", "other"]);
    assert.deepEqual([seen.link.pid, seen.link.stale], [null, true]);
    assert.deepEqual(seen.dead.staleReasons, ["dead-pid"]);
    assert.deepEqual([seen.live.stale, seen.live.pidAlive, seen.live.removed], [false, true, false]);
    // A difference: ours reports `maxHoldMs`, which March does not know.
    assert.deepEqual(seen.old.staleReasons, isOurs && isMarch ? ["too-old", "hold-exceeded"] : ["too-old"]);
    assert.deepEqual([seen.other.pid, seen.other.createdAt, seen.other.ageMs, seen.other.stale], [null, null, null, true]);
    assert.deepEqual(seen.other.staleReasons, ["missing-pid", "invalid-createdAt"]);
    // A difference: OpenClaw removes the lock of an old live holder (March), and files that are not locks (both).
    const removed = isOurs ? ["dead"] : isMarch ? ["dead", "old", "other"] : ["dead", "other"];
    assert.deepEqual(cleaned.map((each) => each.lockPath).filter((each) => each !== at("link")), removed.map(at));
    assert.deepEqual(Object.keys(seen).filter((each) => each !== "link" && !existsSync(at(each))), removed);
  });

  if (isMarch) continue;

  is("a live holder that is too old is an immediate error, and keeps the lock", async (t) => {
    const dir = folder(t);
    const pid = await living(t);
    for (const [name, record, params, reasons] of [
      ["old", { createdAt: iso(31 * MINUTE) }, {}, ["too-old"]],
      ["limit", { createdAt: iso(2000) }, { staleMs: 1000 }, ["too-old"]],
      ["exceeded", { createdAt: iso(2000), maxHoldMs: 1000 }, {}, ["hold-exceeded"]],
      ["both", { createdAt: iso(31 * MINUTE), maxHoldMs: 1000 }, {}, ["too-old", "hold-exceeded"]],
    ]) {
      const path = `${dir}/${name}.jsonl`;
      writeFileSync(`${path}.lock`, JSON.stringify({ pid, ...record }));
      const error = await acquire({ sessionFile: path, ...params }).catch((error) => error);
      assert.deepEqual([error.name, error.code], ["SessionWriteLockStaleError", "OPENCLAW_SESSION_WRITE_LOCK_STALE"], name);
      assert.deepEqual([error.lockPath, error.staleReasons], [`${path}.lock`, reasons]);
      assert.match(error.owner, new RegExp(`^pid=${pid} alive=true ageMs=\\d+$`));
      assert.equal(error.message, `session file lock stale (${reasons.join(", ")}): ${error.owner} ${path}.lock`);
      assert(error instanceof all.SessionWriteLockStaleError && all.isSessionWriteLockAcquireError(error));
      assert(existsSync(`${path}.lock`));
    }
  });

  is("a holder that becomes too old during the wait", async (t) => {
    const path = `${folder(t)}/s.jsonl`;
    const pid = await living(t);
    writeFileSync(`${path}.lock`, JSON.stringify({ pid, createdAt: iso(0), maxHoldMs: 300 }));
    const wait = { sessionFile: path, timeoutMs: 30_000 };
    await assert.rejects(acquire(wait), { code: "OPENCLAW_SESSION_WRITE_LOCK_STALE", staleReasons: ["hold-exceeded"] });
  });

  is("an acquire waits for a holder of this process, whatever its age", async (t) => {
    const path = `${folder(t)}/s.jsonl`;
    const held = await acquire({ sessionFile: path, maxHoldMs: 1 });
    await until(() => Date.now() - Date.parse(JSON.parse(readFileSync(`${path}.lock`, "utf8")).createdAt) > 10);
    const error = await acquire({ sessionFile: path, timeoutMs: 30, staleMs: 1 }).catch((error) => error);
    assert(error instanceof all.SessionWriteLockTimeoutError, String(error));
    assert.match(error.owner, new RegExp(`^pid=${process.pid} alive=true ageMs=\\d+$`));
    assert.equal(error.message, `session file locked (timeout 30ms): ${error.owner} ${path}.lock`);
    await held.release();
  });

  is("an unknown owner", async (t) => {
    const path = `${folder(t)}/s.jsonl`;
    writeFileSync(`${path}.lock`, "");
    await assert.rejects(acquire({ sessionFile: path, timeoutMs: 30 }), { owner: "owner=unknown", timeoutMs: 30 });
  });

  is("the environment, then the configuration, then the defaults", () => {
    const options = all.resolveSessionWriteLockOptions;
    assert.deepEqual(options(undefined, { env: {} }), { timeoutMs: 60_000, staleMs: 1_800_000, maxHoldMs: 300_000 });
    assert.deepEqual(options(undefined, { env: {}, maxHoldMsFallback: 7 }).maxHoldMs, 7);
    const config = { session: { writeLock: { acquireTimeoutMs: 1, staleMs: 2, maxHoldMs: 3 } } };
    assert.deepEqual(options(config, { env: {} }), { timeoutMs: 1, staleMs: 2, maxHoldMs: 3 });
    const env = {
      OPENCLAW_SESSION_WRITE_LOCK_ACQUIRE_TIMEOUT_MS: " 10 ",
      OPENCLAW_SESSION_WRITE_LOCK_STALE_MS: "20",
      OPENCLAW_SESSION_WRITE_LOCK_MAX_HOLD_MS: "30",
    };
    assert.deepEqual(options(config, { env }), { timeoutMs: 10, staleMs: 20, maxHoldMs: 30 });
    for (const wrong of ["", "0", "-1", "1.5", "1e3", "abc", "99999999999999999999"]) {
      assert.equal(all.resolveSessionWriteLockStaleMs(config, { OPENCLAW_SESSION_WRITE_LOCK_STALE_MS: wrong }), 2, wrong);
    }
    const key = "OPENCLAW_SESSION_WRITE_LOCK_ACQUIRE_TIMEOUT_MS";
    assert.equal(all.resolveSessionWriteLockAcquireTimeoutMs(config, { [key]: "Infinity" }), Infinity);
    assert.equal(all.resolveSessionWriteLockStaleMs(config, { OPENCLAW_SESSION_WRITE_LOCK_STALE_MS: "Infinity" }), 2);
    for (const wrong of [0, -1, NaN, 1.5, "5", null]) {
      const one = { session: { writeLock: { acquireTimeoutMs: wrong, staleMs: wrong } } };
      assert.equal(all.resolveSessionWriteLockAcquireTimeoutMs(one, {}), 60_000, String(wrong));
      assert.equal(all.resolveSessionWriteLockStaleMs(one, {}), 1_800_000, String(wrong));
    }
  });

  is("the environment is read at each acquire", async (t) => {
    const path = `${folder(t)}/s.jsonl`;
    const held = await acquire({ sessionFile: path });
    process.env.OPENCLAW_SESSION_WRITE_LOCK_ACQUIRE_TIMEOUT_MS = "40";
    t.after(() => delete process.env.OPENCLAW_SESSION_WRITE_LOCK_ACQUIRE_TIMEOUT_MS);
    await assert.rejects(acquire({ sessionFile: path }), { code: "OPENCLAW_SESSION_WRITE_LOCK_TIMEOUT", timeoutMs: 40 });
    await held.release();
  });

  is("a pid that is definitely dead", async () => {
    assert.equal(all.isPidDefinitelyDead(process.pid), false);
    for (const none of [0, -1, 1.5, NaN, "1", await ended()]) assert.equal(all.isPidDefinitelyDead(none), true, String(none));
    // Permission denied does not mean dead.
    assert.equal(all.isPidDefinitelyDead(1), false);
  });
}
