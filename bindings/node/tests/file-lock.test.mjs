// The public behaviour of @openclaw/fs-safe's file lock, by the package and by ours. Where the two differ, the test says
// so, and docs/from-openclaw.md has a row.
import { strict as assert } from "node:assert";
import { existsSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import * as ours from "tenure/file-lock";

import { Actor, awake, folder, peers } from "./helpers.mjs";

const theirs = await import(pathToFileURL(peers.resolve("@openclaw/fs-safe/file-lock")));
const payload = () => ({ pid: process.pid, createdAt: new Date().toISOString() });
const no = { retry: { retries: 0 } };

for (const [name, { acquireFileLock, withFileLock }] of [["@openclaw/fs-safe", theirs], ["tenure/file-lock", ours]]) {
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

  is("a busy one is file_lock_timeout", async (t) => {
    const path = `${folder(t)}/t`;
    const holder = new Actor(t, name);
    await holder.must("acquire", { path });
    const error = await acquire(path, no).catch((error) => error);
    assert.equal(error.code, "file_lock_timeout");
    assert.equal(error.message, `file lock timeout for ${path}`);
    assert.equal(error.lockPath, `${path}.lock`);
    assert.equal(error.normalizedTargetPath, path);
    // A difference: ours says who.
    assert.equal(error.cause?.holder.pid, isOurs ? holder.pid : undefined);
    await holder.must("release");
    await (await acquire(path, no)).release();
  });

  is("a holder that is older than the limit is file_lock_stale, and keeps it", async (t) => {
    const path = `${folder(t)}/t`;
    const old = new Date(Date.now() - 120_000).toISOString();
    writeFileSync(`${path}.lock`, JSON.stringify({ pid: process.ppid, createdAt: old }));
    const error = await acquire(path, no).catch((error) => error);
    assert.equal(error.code, "file_lock_stale");
    assert.equal(error.message, `file lock stale for ${path}`);
    assert.equal(error.lockPath, `${path}.lock`);
    assert(existsSync(`${path}.lock`));
  });

  is("a dead holder's", async (t) => {
    const path = `${folder(t)}/t`;
    const holder = new Actor(t, name);
    await holder.must("acquire", { path });
    await holder.kill();
    // A difference: ours knows that it is dead. The package waits until it is old, and then refuses.
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

  is("withFileLock releases whatever comes of it", async (t) => {
    const path = `${folder(t)}/t`;
    const run = (fn) => withFileLock(path, { payload, staleMs: 60_000, ...no }, fn);
    assert.equal(await run(async () => existsSync(`${path}.lock`)), true);
    await assert.rejects(run(async () => { throw new Error("mine"); }), /^Error: mine$/);
    assert(!existsSync(`${path}.lock`));
    await assert.rejects(run(() => run(async () => {})), { code: "file_lock_timeout" }, "it does not enter again");
  });

  if (Symbol.asyncDispose) is("await using", async (t) => {
    const path = `${folder(t)}/t`;
    const held = await acquire(path);
    await held[Symbol.asyncDispose]();
    assert(!existsSync(`${path}.lock`));
  });

  is("a lock whose file is gone is told", async (t) => {
    awake(t);
    const path = `${folder(t)}/t`;
    const told = new Promise((onCompromised) => {
      const options = { onCompromised, compromiseCheckIntervalMs: 10 };
      void acquire(path, options).then(() => rmSync(`${path}.lock`));
    });
    assert.deepEqual(await told, { lockPath: `${path}.lock`, normalizedTargetPath: path });
  });
}

test("the names that OpenClaw has for the options", async (t) => {
  const path = `${folder(t)}/t`;
  const retries = { retries: 1, factor: 2, minTimeout: 1, maxTimeout: 2, randomize: true };
  const held = await ours.acquireFileLock(path, { retries, stale: 60_000 });
  await assert.rejects(ours.acquireFileLock(path, { retries, stale: 60_000 }), { code: "file_lock_timeout" });
  await assert.rejects(ours.acquireFileLock(path, { retries, stale: -1 }), { code: "file_lock_stale" });
  await held.release();
});
