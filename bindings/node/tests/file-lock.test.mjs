// The public behaviour of @openclaw/fs-safe's file lock, tested for the package and for ours. docs/from-openclaw.md lists
// each difference that a test names.
import { strict as assert } from "node:assert";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";

import * as ours from "tenure/file-lock";
import * as later from "tenure/file-lock/2026.8";

import { Actor, awake, folder, peers } from "./helpers.mjs";

const theirs = await import(pathToFileURL(peers.resolve("@openclaw/fs-safe/file-lock")));
const payload = () => ({ pid: process.pid, createdAt: new Date().toISOString() });
const no = { retry: { retries: 0 } };

const packages = { "@openclaw/fs-safe": theirs, "tenure/file-lock": ours, "tenure/file-lock/2026.8": later };
for (const [name, { acquireFileLock, withFileLock }] of Object.entries(packages)) {
  const isOurs = name.startsWith("tenure");
  const is = (what, run) => test(`${name}: ${what}`, run);
  const acquire = (path, options) => acquireFileLock(path, { payload, staleMs: 60_000, ...options });

  is("a lock is held until its release", async (t) => {
    const path = `${folder(t)}/made/t`;
    const held = await acquire(path);
    assert.equal(held.lockPath, `${path}.lock`);
    assert.equal(held.normalizedTargetPath, path);
    assert.equal(JSON.parse(readFileSync(held.lockPath, "utf8")).pid, process.pid);
    assert.equal(await held.verifyStillHeld(), true);
    await held.release();
    await held.release();
    assert.equal(await held.verifyStillHeld(), false);
    assert(!existsSync(held.lockPath));
  });

  is("a busy lock is file_lock_timeout", async (t) => {
    const path = `${folder(t)}/t`;
    const holder = new Actor(t, name);
    await holder.must("acquire", { path });
    const error = await acquire(path, no).catch((error) => error);
    assert.equal(error.code, "file_lock_timeout");
    assert.equal(error.message, `file lock timeout for ${path}`);
    assert.equal(error.lockPath, `${path}.lock`);
    assert.equal(error.normalizedTargetPath, path);
    // A difference: ours names the holder.
    assert.equal(error.cause?.holder.pid, isOurs ? holder.pid : undefined);
    await holder.must("release");
    await (await acquire(path, no)).release();
  });

  is("a holder that is older than the limit is file_lock_stale, and keeps the lock", async (t) => {
    const path = `${folder(t)}/t`;
    const old = new Date(Date.now() - 120_000).toISOString();
    writeFileSync(`${path}.lock`, JSON.stringify({ pid: process.ppid, createdAt: old }));
    const error = await acquire(path, no).catch((error) => error);
    assert.equal(error.code, "file_lock_stale");
    assert.equal(error.message, `file lock stale for ${path}`);
    assert.equal(error.lockPath, `${path}.lock`);
    assert(existsSync(`${path}.lock`));
  });

  is("the lock of a dead holder", async (t) => {
    const path = `${folder(t)}/t`;
    const holder = new Actor(t, name);
    await holder.must("acquire", { path });
    await holder.kill();
    // A difference: ours knows that the holder is dead. The package waits until the file is old, and then fails.
    if (isOurs) await (await acquire(path, no)).release();
    else await assert.rejects(acquire(path, no), { code: "file_lock_timeout" });
  });

  is("a timeout", async (t) => {
    const path = `${folder(t)}/t`;
    const held = await acquire(path);
    const begun = performance.now();
    await assert.rejects(acquire(path, { timeoutMs: 60 }), { code: "file_lock_timeout" });
    assert(performance.now() - begun >= 59);
    await held.release();
  });

  is("retries wait for a release", async (t) => {
    const path = `${folder(t)}/t`;
    const held = await acquire(path);
    const waiting = acquire(path, { retry: { retries: 2000, minTimeout: 5, maxTimeout: 5 } });
    await held.release();
    await (await waiting).release();
  });

  is("another lock path", async (t) => {
    const path = `${folder(t)}/t`;
    const held = await acquire(path, { lockPath: `${path}-other.lock` });
    assert.equal(held.lockPath, `${path}-other.lock`);
    assert.equal(held.normalizedTargetPath, path);
    assert(existsSync(`${path}-other.lock`) && !existsSync(`${path}.lock`));
    await held.release();
    const odd = acquire(path, { lockPath: `${path}.held` });
    // A difference: ours ends in `.lock`.
    if (isOurs) await assert.rejects(odd, TypeError);
    else await (await odd).release();
  });

  is("links in the folder lead to one lock", async (t) => {
    const dir = folder(t);
    const held = await acquire(`${dir}/real/t`);
    symlinkSync(`${dir}/real`, `${dir}/link`);
    await assert.rejects(acquire(`${dir}/link/t`, no), { code: "file_lock_timeout", lockPath: `${dir}/real/t.lock` });
    await held.release();
  });

  is("withFileLock releases after a result and after an error", async (t) => {
    const path = `${folder(t)}/t`;
    const run = (fn) => withFileLock(path, { payload, staleMs: 60_000, ...no }, fn);
    assert.equal(await run(async () => existsSync(`${path}.lock`)), true);
    await assert.rejects(run(async () => { throw new Error("mine"); }), /^Error: mine$/);
    assert(!existsSync(`${path}.lock`));
    await assert.rejects(run(() => run(async () => {})), { code: "file_lock_timeout" }, "it is not reentrant");
  });

  is("only acquires of the same owner are reentrant", async (t) => {
    const path = `${folder(t)}/t`;
    const managerKey = path;
    const one = await acquire(path, { reentrantOwner: "one", managerKey });
    const again = await acquire(path, { reentrantOwner: "one", managerKey });
    await assert.rejects(acquire(path, { reentrantOwner: "two", managerKey, ...no }), { code: "file_lock_timeout" });
    await assert.rejects(acquire(path, { managerKey, ...no }), { code: "file_lock_timeout" });
    await one.release();
    await one.release();
    assert(existsSync(`${path}.lock`));
    await again.release();
    assert(!existsSync(`${path}.lock`));
  });

  is("a lock that is lost is released without an error", async (t) => {
    const path = `${folder(t)}/t`;
    const held = await acquire(path);
    rmSync(`${path}.lock`);
    assert.equal(await held.verifyStillHeld(), false);
    await held.release();
    const options = { payload, staleMs: 60_000, ...no };
    assert.equal(await withFileLock(path, options, async () => { rmSync(`${path}.lock`); return "done"; }), "done");
    await (await acquire(path, no)).release();
  });

  is("an option out of range is a RangeError, and nothing is locked", async (t) => {
    const path = `${folder(t)}/t`;
    for (const [options, message] of [
      [{ timeoutMs: NaN }, "lock timeoutMs must be a finite non-negative number"],
      [{ timeoutMs: -1 }, "lock timeoutMs must be a finite non-negative number"],
      [{ timeoutMs: "5s" }, "lock timeoutMs must be a finite non-negative number"],
      [{ staleMs: NaN }, "lock staleMs must be a finite non-negative number"],
      [{ staleMs: -1 }, "lock staleMs must be a finite non-negative number"],
      [{ retry: { retries: -1 } }, "lock retry.retries must be a non-negative safe integer"],
      [{ retry: { retries: 1.5 } }, "lock retry.retries must be a non-negative safe integer"],
      [{ retry: { retries: NaN } }, "lock retry.retries must be a non-negative safe integer"],
      [{ retry: { factor: -1 } }, "lock retry.factor must be a finite non-negative number"],
      [{ retry: { minTimeout: Infinity } }, "lock retry.minTimeout must be a finite non-negative number"],
      [{ retry: { maxTimeout: NaN } }, "lock retry.maxTimeout must be a finite non-negative number"],
      [{ retry: { minTimeout: 2, maxTimeout: 1 } }, "lock retry.minTimeout must not exceed retry.maxTimeout"],
      [{ compromiseCheckIntervalMs: 0.5 }, "lock compromiseCheckIntervalMs must be 0 or a finite number between 1 and 2147483647"],
    ]) {
      await assert.rejects(acquire(path, options), { name: "RangeError", message });
      await assert.rejects(withFileLock(path, { payload, staleMs: 60_000, ...options }, async () => {}), RangeError);
    }
    assert(!existsSync(`${path}.lock`));
    for (const right of [{ timeoutMs: Infinity }, { staleMs: Infinity }, { compromiseCheckIntervalMs: 0 }, { timeoutMs: 0 }]) {
      await (await acquire(path, right)).release();
    }
  });

  if (Symbol.asyncDispose) is("await using", async (t) => {
    const path = `${folder(t)}/t`;
    const held = await acquire(path);
    await held[Symbol.asyncDispose]();
    assert(!existsSync(`${path}.lock`));
  });

  is("a removed lock file is reported", async (t) => {
    awake(t);
    const path = `${folder(t)}/t`;
    const reported = new Promise((onCompromised) => {
      const options = { onCompromised, compromiseCheckIntervalMs: 10 };
      void acquire(path, options).then(() => rmSync(`${path}.lock`));
    });
    assert.deepEqual(await reported, { lockPath: `${path}.lock`, normalizedTargetPath: path });
  });
}

// OpenClaw's plugin SDK is too large to be installed here. The tests follow its declarations and source.
test("with the options of OpenClaw's plugin SDK a lock is reentrant within a thread", async (t) => {
  const path = `${folder(t)}/t`;
  const retries = { retries: 1, factor: 2, minTimeout: 1, maxTimeout: 2, randomize: true };
  const options = { retries, stale: 60_000 };
  const held = await ours.acquireFileLock(path, options);
  assert.equal(await ours.withFileLock(path, options, () => ours.withFileLock(path, options, async () => "done")), "done");
  const [one, two] = await Promise.all([ours.acquireFileLock(path, options), ours.acquireFileLock(path, options)]);
  await held.release();
  await one.release();
  assert(existsSync(`${path}.lock`));
  const elsewhere = worker(path, options);
  await assert.rejects(elsewhere.outcome, /file lock timeout/, "another thread waits");
  await two.release();
  assert(!existsSync(`${path}.lock`));
  const holder = worker(path, options);
  await holder.outcome;
  const busy = { code: ours.FILE_LOCK_TIMEOUT_ERROR_CODE, lockPath: `${path}.lock` };
  await assert.rejects(ours.acquireFileLock(path, options), busy);
  await assert.rejects(ours.acquireFileLock(path, { retries: { retries: 0 }, stale: 0 }), { code: ours.FILE_LOCK_STALE_ERROR_CODE });
  await assert.rejects(ours.acquireFileLock(path, { retries, stale: -1 }), RangeError);
  holder.thread.postMessage("release");
  await (await ours.acquireFileLock(path, { retries: { retries: 1000, minTimeout: 10 }, stale: 60_000 })).release();
});

function worker(path, options) {
  const workerData = { module: "tenure/file-lock", words: [path, options] };
  const thread = new Worker(new URL("session-worker.mjs", import.meta.url), { workerData });
  return { thread, outcome: once(thread, "message") };
}

test("since 2026.8 only acquires of the same owner are reentrant", async (t) => {
  const path = `${folder(t)}/t`;
  const options = { retries: { retries: 0 }, stale: 60_000 };
  const held = await later.acquireFileLock(path, options);
  await assert.rejects(later.acquireFileLock(path, options), { code: later.FILE_LOCK_TIMEOUT_ERROR_CODE });
  await held.release();
  const owned = { ...options, reentrantOwner: "one" };
  assert.equal(await later.withFileLock(path, owned, () => later.withFileLock(path, owned, async () => "done")), "done");
});

test("a borrowed resource is refused before and after the acquire, and not released", async (t) => {
  const path = `${folder(t)}/t`;
  const asked = [];
  let borrowed = false;
  const assertResourceUnborrowed = (target) => {
    asked.push(target);
    if (borrowed) throw new Error("borrowed");
  };
  const held = await later.acquireFileLock(path, { assertResourceUnborrowed });
  assert.deepEqual(asked, [path, path]);
  borrowed = true;
  await assert.rejects(held.release(), /borrowed/);
  assert(existsSync(`${path}.lock`));
  await assert.rejects(later.acquireFileLock(path, { assertResourceUnborrowed, timeoutMs: 0 }), /borrowed/);
  borrowed = false;
  await held.release();
  assert(!existsSync(`${path}.lock`));
});

test("an option whose promise would not be kept is refused", async (t) => {
  const path = `${folder(t)}/t`;
  for (const option of [{ retainOnExit: true }, { lockRoot: {} }]) {
    await assert.rejects(ours.acquireFileLock(path, option), { code: "ENOTSUP" });
  }
  assert(!existsSync(`${path}.lock`));
});

test("two concurrent acquires with the plugin SDK's options share the lock", async (t) => {
  const path = `${folder(t)}/t`;
  const options = { retries: { retries: 100, minTimeout: 100 }, stale: 60_000 };
  const held = await Promise.all(Array.from({ length: 5 }, () => ours.acquireFileLock(path, options)));
  for (const each of held) await each.release();
  assert(!existsSync(`${path}.lock`));
});
