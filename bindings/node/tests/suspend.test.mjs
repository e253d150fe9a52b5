// Suspended locks, in one process.
import { strict as assert } from "node:assert";
import { chmodSync, chownSync } from "node:fs";
import { test } from "node:test";

import { breakLock, lock, Lock, statusSync, Suspended } from "tenure";

import { awake, folder } from "./helpers.mjs";

test("a suspended lock lets others in, and says whether they held", async (t) => {
  const path = `${folder(t)}/t`;
  const guard = await lock(path, { label: "mine" });
  const { fence } = guard;
  let suspended = await guard.suspend();
  assert(suspended instanceof Suspended);
  assert.throws(() => guard.check(), { code: "TENURE_LOST", message: /suspended/ });
  assert.equal(guard.fence, null);
  const found = statusSync(path);
  assert.equal(found.state, "free");
  assert.deepEqual(found.suspended, [{ pid: process.pid, fence }]);
  let resumed = await suspended.resume();
  assert.deepEqual([resumed.guard, resumed.changed, resumed.meanwhile], [guard, false, "nobody"]);
  guard.check();
  assert(guard.fence > fence);
  assert.equal(guard.holder.label, "mine");
  assert.deepEqual(statusSync(path).suspended, []);

  suspended = await guard.suspend();
  await (await lock(path)).release();
  resumed = await suspended.resume({ timeout: 60_000 });
  assert.deepEqual([resumed.changed, resumed.meanwhile], [true, "others"]);
  await guard.release();
  assert.equal(statusSync(path).state, "free");
});

test("a resumed lock goes before those that wait", async (t) => {
  const sessions = new Lock(`${folder(t)}/t`);
  const guard = await sessions.acquire();
  const suspended = await guard.suspend();
  const other = await sessions.acquire();
  const order = [];
  const waiting = sessions.acquire().then(async (next) => {
    order.push("waiter");
    await next.release();
  });
  const resuming = suspended.resume().then(async () => {
    order.push("resumed");
    await guard.release();
  });
  await assert.rejects(suspended.resume(), /being resumed already/);
  await other.release();
  await Promise.all([waiting, resuming]);
  assert.deepEqual(order, ["resumed", "waiter"]);
});

test("a resume that fails gives the lock up", async (t) => {
  const path = `${folder(t)}/t`;
  for (const options of [{ timeout: 0 }, { timeout: 20 }, { signal: AbortSignal.abort(new Error("mine")) }]) {
    const guard = await lock(path);
    const suspended = await guard.suspend();
    const other = await lock(path);
    await assert.rejects(suspended.resume(options), options.signal ? /mine/ : { code: "TENURE_BUSY" });
    await assert.rejects(suspended.resume(), /was given up/);
    assert.throws(() => guard.check(), { code: "TENURE_LOST" });
    assert.equal(guard.fence, null);
    assert.deepEqual(statusSync(path).suspended, []);
    // The release says so, once.
    if (options.signal) assert.throws(() => guard.releaseSync(), { code: "TENURE_LOST", message: /given up/ });
    else await assert.rejects(guard.release(), { code: "TENURE_LOST", message: /given up/ });
    await guard.release();
    guard.releaseSync();
    await other.release();
  }
});

test("calls in the wrong order", async (t) => {
  const path = `${folder(t)}/t`;
  const guard = await lock(path);
  let suspended = await guard.suspend();
  await assert.rejects(guard.suspend(), { code: "TENURE_LOST", message: /suspended/ });
  await assert.rejects(suspended.resume({ timeuot: 5 }), TypeError);
  await suspended.resume();
  await assert.rejects(suspended.resume(), /not suspended/);
  suspended = await guard.suspend();
  await guard.release();
  assert.deepEqual(statusSync(path).suspended, []);
  await assert.rejects(suspended.resume(), /was released/);
  await assert.rejects(guard.suspend(), { code: "TENURE_LOST" });
});

test("what cannot be suspended stays held", async (t) => {
  const dir = folder(t);
  for (const options of [{ style: "flock", shared: true }, { record: false }, { slots: 2 }]) {
    const guard = await lock(`${dir}/${Object.keys(options)[0]}`, options);
    await assert.rejects(guard.suspend(), { code: "TENURE_UNSUPPORTED" });
    guard.check();
    await guard.release();
  }
});

test("a suspension that fails at its release gives the lock up", async (t) => {
  const dir = folder(t);
  const root = process.getuid() === 0;
  // A folder that accepts no removal. It binds no superuser.
  if (root) {
    chownSync(dir, 65534, 65534);
    process.seteuid(65534);
  }
  try {
    const guard = await lock(`${dir}/t`);
    chmodSync(dir, 0o555);
    await assert.rejects(guard.suspend(), { code: /^TENURE_/ });
    chmodSync(dir, 0o755);
    assert.throws(() => guard.check(), { code: "TENURE_LOST", message: /was given up/ });
    await assert.rejects(guard.suspend(), { code: "TENURE_LOST", message: /was given up/ });
    await assert.rejects(guard.release(), { code: "TENURE_LOST", message: /was given up/ });
    await guard.release();
    await (await lock(`${dir}/t`)).release();
  } finally {
    if (root) process.seteuid(0);
    chmodSync(dir, 0o755);
  }
});

test("a lock that is lost after its resume is noticed", async (t) => {
  const path = `${folder(t)}/t`;
  const guard = await lock(path);
  const { lost } = guard;
  await (await guard.suspend()).resume();
  await breakLock(path, { force: true });
  awake(t);
  assert.equal((await lost).code, "TENURE_LOST");
  await guard.release().catch(() => {});
});
