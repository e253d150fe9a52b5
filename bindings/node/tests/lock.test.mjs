// `lock`, `withLock` and the guard, in one process.
import { strict as assert } from "node:assert";
import { once, setMaxListeners } from "node:events";
import { closeSync, existsSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { Guard, history, Lock, lock, slots, statusSync, TenureError, withLock } from "tenure";

import { Actor, awake, folder, until } from "./helpers.mjs";

const busy = { code: "TENURE_BUSY" };

test("a held lock is visible until its release", async (t) => {
  const path = `${folder(t)}/t`;
  const held = await lock(path, { label: "a label" });
  assert(held instanceof Guard);
  assert.equal(held.path, path);
  assert.equal(held.lockFile, `${path}.lock`);
  const record = JSON.parse(readFileSync(held.lockFile, "utf8"));
  assert.equal(record.pid, process.pid);
  assert.equal(record.tenure.label, "a label");
  assert.equal(record.tenure.fence, held.fence);
  assert.deepEqual(held.previous, { crashed: false, holder: undefined });
  held.setLabel("another");
  assert.equal(statusSync(path).holder.label, "another");
  held.check();
  await held.release();
  assert(!existsSync(held.lockFile));
  assert.equal(statusSync(path).state, "free");
  await held.release();
  assert.throws(() => held.check(), { code: "TENURE_LOST", path });
  const next = await lock(path);
  assert(next.fence > held.fence);
  next.releaseSync();
});

test("an error names the holder, the path and a remedy", async (t) => {
  const path = `${folder(t)}/t`;
  const before = Date.now();
  const held = await lock(path, { label: "run 7" });
  const error = await lock(path, { timeout: 30 }).catch((error) => error);
  assert(error instanceof TenureError && error instanceof Error);
  assert.equal(error.code, "TENURE_BUSY");
  assert.equal(error.path, path);
  assert(error.waited >= 30);
  assert.match(error.hint, /status\(path\)/);
  assert.match(error.message, /^.*\/t: the lock is held by pid \d+ ".*" \(run 7\) for .*waited .*; /);
  const { holder } = error;
  assert.equal(holder.pid, process.pid);
  assert.match(holder.command, /node/);
  assert.equal(holder.label, "run 7");
  assert.equal(holder.liveness, "alive");
  assert(holder.since >= before - 1 && holder.since <= Date.now());
  await held.release();
});

test("a path may be a URL or bytes, and must be a target", async (t) => {
  const dir = folder(t);
  const held = await lock(pathToFileURL(`${dir}/a b`));
  await assert.rejects(lock(Buffer.from(`${dir}/a b`), { timeout: 0 }), busy);
  await held.release();
  await assert.rejects(lock(`${dir}/`), { code: "TENURE_INVALID_TARGET" });
  await assert.rejects(lock(`${dir}/none/t`, { createParents: false }), { code: "TENURE_CANNOT_CREATE", errno: 2 });
  await assert.rejects(lock(`${dir}/t`, { style: "other" }), /'lock-file' or 'flock'/);
  await assert.rejects(lock(`${dir}/t`, { timeout: NaN }), TypeError);
  writeFileSync(`${dir}/yarn.lock`, "# yarn\n");
  await assert.rejects(lock(`${dir}/yarn`), { code: "TENURE_OBSTRUCTED" });
  assert.equal(readFileSync(`${dir}/yarn.lock`, "utf8"), "# yarn\n");
});

test("two tasks exclude each other, in the order of their arrival", async (t) => {
  const path = `${folder(t)}/t`;
  const opened = new Lock(path);
  const held = await opened.acquire();
  assert.throws(() => opened.acquireSync(), busy);
  const order = [];
  let inside = 0;
  const tasks = Array.from({ length: 50 }, async (_, n) => {
    await withLock(path, async () => {
      assert.equal(++inside, 1);
      order.push(n);
      await new Promise(setImmediate);
      inside--;
    });
  });
  await held.release();
  await Promise.all(tasks);
  assert.deepEqual(order, [...order].sort((a, b) => a - b));
  assert.equal(order.length, 50);
});

test("reentrant: shared within the process until the last release", async (t) => {
  const path = `${folder(t)}/t`;
  const options = { reentrant: true, timeout: 0 };
  const one = await lock(path, options);
  const two = await lock(path, options);
  assert.equal(one.fence, two.fence);
  await assert.rejects(lock(path, { timeout: 0 }), busy, "without the option an acquire waits");
  await one.release();
  two.check();
  assert(existsSync(`${path}.lock`));
  await two.release();
  assert(!existsSync(`${path}.lock`));
});

test("withLock releases after a result and after an error", async (t) => {
  const path = `${folder(t)}/t`;
  assert.equal(await withLock(path, { timeout: 0 }, (held) => held.fence > 0 && "done"), "done");
  await assert.rejects(withLock(path, async () => { throw new Error("mine"); }), /^Error: mine$/);
  const removed = withLock(path, async (held) => { rmSync(held.lockFile); throw new Error("mine"); });
  await assert.rejects(removed, /^Error: mine$/, "the error of the function takes precedence");
  assert.equal(statusSync(path).state, "free");
  await assert.rejects(withLock(path, {}), TypeError);
});

test("an abort ends a wait immediately, and nothing stays held", async (t) => {
  const path = `${folder(t)}/t`;
  const reason = new Error("not any more");
  await assert.rejects(lock(path, { signal: AbortSignal.abort(reason) }), (error) => error === reason);
  assert(!existsSync(`${path}.lock`));
  const held = await lock(path);
  const control = new AbortController();
  const waiting = lock(path, { signal: control.signal });
  const behind = lock(path);
  control.abort(reason);
  await assert.rejects(waiting, (error) => error === reason);
  await held.release();
  // If the aborted acquire were still queued, this would never end.
  await (await behind).release();
  assert.equal(statusSync(path).state, "free");
  await assert.rejects(lock(path, { signal: AbortSignal.timeout(5) }).then((held) => {
    const other = lock(path, { signal: AbortSignal.timeout(20) });
    return other.finally(() => held.release());
  }), { name: "TimeoutError" });
});

test("an abort and a grant at one time: one of the two, and nothing stays held", async (t) => {
  const path = `${folder(t)}/t`;
  const outcomes = { granted: 0, aborted: 0 };
  for (let round = 0; round < 300; round++) {
    const held = await lock(path);
    const control = new AbortController();
    const waiting = lock(path, { signal: control.signal });
    const settled = waiting.then(
      (granted) => { outcomes.granted++; return granted.release(); },
      (error) => { outcomes.aborted++; assert.equal(error.name, "AbortError"); },
    );
    const first = [() => held.release(), () => control.abort()];
    if (round % 2) first.reverse();
    void first[0]();
    // In the same turn of the event loop, or up to four turns later.
    for (let turn = round % 5; turn > 0; turn--) await new Promise(setImmediate);
    void first[1]();
    await settled;
    assert.equal(statusSync(path).state, "free");
  }
  assert(outcomes.aborted >= 150, "an abort that comes first wins");
});

test("a signal that is used for many acquires keeps no listeners", async (t) => {
  const path = `${folder(t)}/t`;
  const { signal } = new AbortController();
  let listening = 0;
  const [add, remove] = [signal.addEventListener, signal.removeEventListener];
  signal.addEventListener = (...words) => { listening++; add.apply(signal, words); };
  signal.removeEventListener = (...words) => { listening--; remove.apply(signal, words); };
  for (let n = 0; n < 5; n++) {
    const held = await lock(path, { signal });
    const waiting = lock(path, { signal });
    assert.equal(listening, 1);
    await held.release();
    await (await waiting).release();
    assert.equal(listening, 0);
  }
});

test("a loss is reported by the promise and by the event", async (t) => {
  awake(t);
  const path = `${folder(t)}/t`;
  const held = await lock(path);
  const event = once(held, "lost");
  const { lost } = held;
  rmSync(held.lockFile);
  const [error] = await event;
  assert.equal(error.code, "TENURE_LOST");
  assert.equal((await lost).message, error.message);
  assert.throws(() => held.check(), { code: "TENURE_LOST", hint: /stop/ });
  await assert.rejects(held.release(), { code: "TENURE_LOST" });
  const whole = await lock(path);
  let reportedLoss = false;
  whole.lost.then(() => (reportedLoss = true));
  await whole.release();
  await new Promise(setImmediate);
  assert(!reportedLoss, "a release is no loss");
});

test("maxHold reports, and with revoke releases", async (t) => {
  awake(t);
  const path = `${folder(t)}/t`;
  const reported = await lock(path, { maxHold: 30 });
  const [overrun] = await once(reported, "overrun");
  assert.equal(overrun.target, path);
  assert(overrun.heldFor >= 30 && overrun.maxHold === 30 && overrun.revoked === false);
  reported.check();
  await reported.release();
  const revoked = await lock(path, { maxHold: 30, overrun: "revoke" });
  const both = Promise.all([revoked.lost, once(revoked, "overrun")]);
  const [error, [overrunAgain]] = await both;
  assert.match(error.message, /revoked/);
  assert.equal(overrunAgain.revoked, true);
  const next = await lock(path, { timeout: 0 });
  await assert.rejects(revoked.release(), { code: "TENURE_LOST" });
  next.check();
  await next.release();
});

test("flock style excludes flock(1), and creates no lock file", async (t) => {
  const path = `${folder(t)}/t`;
  const held = await lock(path, { style: "flock" });
  assert(existsSync(path) && !existsSync(`${path}.lock`));
  const { spawnSync } = await import("node:child_process");
  assert.equal(spawnSync("flock", ["--nonblock", path, "true"]).status, 1);
  await held.release();
  assert.equal(spawnSync("flock", ["--nonblock", path, "true"]).status, 0);
});

test("waits take no thread of libuv's pool", async (t) => {
  const path = `${folder(t)}/t`;
  const held = await lock(path);
  // Many more than the four threads of the pool.
  const control = new AbortController();
  setMaxListeners(0, control.signal);
  const waits = Array.from({ length: 64 }, () => lock(path, { signal: control.signal, timeout: 60_000 }));
  assert.match(await readFile(held.lockFile, "utf8"), /pid/);
  const threads = readFileSync("/proc/self/status", "utf8").match(/Threads:\s*(\d+)/)[1];
  assert(Number(threads) < 40, `${threads} threads`);
  control.abort();
  assert((await Promise.allSettled(waits)).every(({ status }) => status === "rejected"));
  await held.release();
});

test("shared locks exclude exclusive ones, and have no fence", async (t) => {
  const path = `${folder(t)}/t`;
  const share = new Lock(path, { style: "flock", shared: true });
  const [one, two] = [await share.acquire({ timeout: 0 }), share.acquireSync()];
  assert.deepEqual([one.shared, one.fence, two.fence], [true, null, null]);
  assert.deepEqual([share.statusSync().holder, share.statusSync().openBy], [undefined, [process.pid]]);
  await assert.rejects(lock(path, { style: "flock", timeout: 0 }), busy);
  one.releaseSync();
  const waiting = lock(path, { style: "flock" });
  two.releaseSync();
  const alone = await waiting;
  assert(!alone.shared && alone.fence > 0);
  assert.throws(() => share.acquireSync(), busy);
  await alone.release();
  await withLock(path, { record: false }, (guard) => assert.equal(guard.fence, null));
});

test("stealAfter steals the lock of a live holder", async (t) => {
  const path = `${folder(t)}/t`;
  const holder = new Actor(t);
  const { fence } = await holder.must("acquire", { path });
  await assert.rejects(lock(path, { stealAfter: 3_600_000, timeout: 0 }), busy);
  const guard = await lock(path, { stealAfter: 1 });
  assert(guard.fence > fence);
  guard.check();
  await guard.release();
});

test("the status of a lock has the command that its holder runs", async (t) => {
  const path = `${folder(t)}/t`;
  const opened = new Lock(path);
  const holder = new Actor(t);
  await holder.must("acquire", { path });
  await holder.kill();
  const record = JSON.parse(readFileSync(`${path}.lock`, "utf8"));
  record.tenure.commandPid = 4243;
  writeFileSync(`${path}.lock`, JSON.stringify(record));
  for (const found of [statusSync(path), opened.statusSync()]) {
    assert.deepEqual([found.state, found.holder.pid, found.holder.commandPid], ["stale", holder.pid, 4243]);
  }
});

test("links are followed in the folder, and never in the last component", async (t) => {
  const dir = folder(t);
  const held = await lock(`${dir}/real/t`);
  symlinkSync(`${dir}/real`, `${dir}/link`);
  await assert.rejects(lock(`${dir}/link/t`, { timeout: 0 }), busy);
  symlinkSync(`${dir}/real/t`, `${dir}/other`);
  await (await lock(`${dir}/other`, { timeout: 0 })).release();
  await held.release();
});

test("an unreachable guard stays held", async (t) => {
  const path = `${folder(t)}/t`;
  const actor = new Actor(t, path, { script: "forgetful.mjs" });
  assert.deepEqual(await actor.hear(), { collected: true });
  await assert.rejects(lock(path, { timeout: 0 }), (error) => error.holder.pid === actor.pid);
  await actor.kill();
  await until(() => statusSync(path).state === "stale");
});

test("slots are held at once, each with its number", async (t) => {
  const path = `${folder(t)}/t`;
  const sessions = new Lock(path, { slots: 2 });
  const [zero, one] = [await sessions.acquire(), await sessions.acquire()];
  assert.deepEqual([zero.slot, one.slot], [0, 1]);
  const found = await slots(path);
  const expected = [0, 1].map((number) => [`${path}.slot-${number}`, "held"]);
  assert.deepEqual(found.map(({ target, state }) => [target, state]), expected);
  assert.deepEqual(found.map(({ holder }) => holder.fence), [zero.fence, one.fence]);
  assert.throws(() => sessions.acquireSync(), busy);
  const waiting = sessions.acquire();
  await zero.release();
  assert.equal(zero.slot, undefined);
  const next = await waiting;
  assert.equal(next.slot, 0);
  await next.release();
  assert.deepEqual((await slots(path)).map(({ target }) => target), [`${path}.slot-1`]);
  await one.release();
  assert.deepEqual(await slots(path), []);
});

test("one acquire waits, and the next is skipped", async (t) => {
  const path = `${folder(t)}/t`;
  const options = { ifBusy: "queue-one" };
  const held = await lock(path, options);
  const waiting = lock(path, options);
  await until(() => statusSync(`${path}.next`).state === "held");
  await assert.rejects(lock(path, options), { code: "TENURE_SKIPPED", message: /waits already/ });
  await held.release();
  await (await waiting).release();
  const other = await lock(path);
  await assert.rejects(lock(path, { ifBusy: "skip" }), busy);
  await other.release();
});

test("a recent success makes a further hold needless", async (t) => {
  const path = `${folder(t)}/t`;
  const options = { notMoreOftenThan: 3_600_000 };
  await (await lock(path, options)).release();
  const held = await lock(path, options);
  held.markSuccessful();
  await held.release();
  assert.throws(() => held.markSuccessful(), { code: "TENURE_LOST" });
  await assert.rejects(lock(path, options), { code: "TENURE_SKIPPED" });
  const plain = await lock(path);
  assert.throws(() => plain.markSuccessful(), { code: "TENURE_UNSUPPORTED" });
  await plain.release();
});

test("a history is read by another thread", async (t) => {
  const dir = folder(t);
  const path = `${dir}/t`;
  const { spawnSync } = await import("node:child_process");
  const kept = new Lock(path, { history: 2 });
  const held = kept.acquireSync();
  // Each opens a pipe for reading, and so keeps a thread of libuv's pool until there is a writer.
  const pipes = Array.from({ length: Number(process.env.UV_THREADPOOL_SIZE ?? 4) }, (_, n) => `${dir}/pipe${n}`);
  assert.equal(spawnSync("mkfifo", pipes).status, 0);
  const opened = pipes.map((pipe) => open(pipe, "r"));
  const past = history(path);
  held.releaseSync();
  const writers = pipes.map((pipe) => openSync(pipe, "w"));
  // The tenure had not ended when history() was called.
  assert.deepEqual((await past).map(({ ended }) => ended), ["released"]);
  writers.forEach(closeSync);
  for (const reader of await Promise.all(opened)) await reader.close();
});

test("a history has the last tenures and failed waits", async (t) => {
  const path = `${folder(t)}/t`;
  const kept = new Lock(path, { history: 2, label: "nightly" });
  for (const code of [1, 2, 3]) {
    const guard = await kept.acquire();
    guard.setExitCode(code);
    await assert.rejects(kept.acquire({ timeout: 10 }), busy);
    await guard.release();
  }
  const past = await history(path);
  const held = past.filter(({ ended }) => ended === "released");
  assert.deepEqual(held.map(({ exitCode }) => exitCode), [2, 3]);
  assert(held.every(({ label, pid, since, until }) => label === "nightly" && pid === process.pid && since <= until));
  const failed = past.filter(({ ended }) => ended === "busy");
  assert.deepEqual(failed.map(({ blockedByPid, blockedBy }) => [blockedByPid, blockedBy]), Array(2).fill([process.pid, "nightly"]));
  assert.deepEqual(await history(`${path}-other`), []);
  assert.throws(() => new Lock(path, { history: 0 }), /history must be a whole number from 1 to 10000/);
});
