// Holders in processes and threads: how they end, and the files that they leave.
import { strict as assert } from "node:assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import { lock, statusSync } from "tenure";

import { Actor, folder, until } from "./helpers.mjs";

async function holding(t, path, options) {
  const actor = new Actor(t);
  await actor.must("acquire", { path, options });
  return actor;
}

test("a killed holder holds nothing, and the next guard reports it", async (t) => {
  const path = `${folder(t)}/t`;
  const actor = await holding(t, path, { label: "victim" });
  const waiting = lock(path);
  await actor.kill();
  const held = await waiting;
  assert.equal(held.previous.crashed, true);
  assert.equal(held.previous.holder.pid, actor.pid);
  assert.equal(held.previous.holder.label, "victim");
  assert.equal(held.previous.holder.liveness, "dead");
  await held.release();
  const next = await lock(path);
  assert.equal(next.previous.crashed, false);
  await next.release();
});

test("a busy event loop keeps a lock, and a waiter's error names the holder", async (t) => {
  const path = `${folder(t)}/t`;
  const actor = await holding(t, path);
  actor.tell("block", { for: 300 });
  await assert.rejects(lock(path, { timeout: 20 }), (error) => error.holder.pid === actor.pid);
  await actor.hear();
  await actor.must("check");
  await actor.must("release");
  await (await lock(path)).release();
});

for (const [how, verb, expected] of [
  ["process.exit()", "exit", { code: 7, signal: null }],
  ["an uncaught exception", "throw", { code: 1, signal: null }],
  ["the end of its work", "end", { code: 0, signal: null }],
]) {
  test(`${how} releases, and removes the lock file`, async (t) => {
    const path = `${folder(t)}/t`;
    const actor = await holding(t, path);
    actor.tell(verb);
    assert.deepEqual(await actor.ended, expected);
    assert(!existsSync(`${path}.lock`));
    await (await lock(path, { timeout: 0 })).release();
  });
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGABRT"]) {
  test(`${signal} ends a process as before, and leaves no lock file`, async (t) => {
    const path = `${folder(t)}/t`;
    const actor = await holding(t, path);
    assert.deepEqual(await actor.kill(signal), { code: null, signal });
    assert(!existsSync(`${path}.lock`));
    const held = await lock(path, { timeout: 0 });
    assert.equal(held.previous.holder.pid, actor.pid, "the next guard reports the interrupted holder");
    await held.release();
  });
}

test("a program that listens to a signal decides itself", async (t) => {
  const path = `${folder(t)}/t`;
  for (const when of ["before", "after"]) {
    const actor = new Actor(t, path, { script: "listener.mjs", wrapped: ["env", `WHEN=${when}`] });
    assert.deepEqual(await actor.hear(), { held: true });
    actor.child.kill("SIGINT");
    assert.deepEqual(await actor.hear(), { heard: "SIGINT" });
    assert.equal(statusSync(path).state, "held", when);
    assert(existsSync(`${path}.lock`));
    await actor.kill("SIGTERM");
    assert(!existsSync(`${path}.lock`));
  }
});

const program = (script, ...words) =>
  spawn(process.execPath, [fileURLToPath(new URL(script, import.meta.url)), ...words], { stdio: "pipe" });

test("a held lock does not keep a process alive, and a wait does", async (t) => {
  const path = `${folder(t)}/t`;
  // Without its own end, this test would not end.
  const idle = program("idle.mjs", path, "hold");
  assert.deepEqual(await once(idle, "close"), [0, null]);
  assert(!existsSync(`${path}.lock`));
  const held = await lock(path);
  const waiting = program("idle.mjs", path, "wait");
  let said = "";
  waiting.stdout.on("data", (data) => (said += data));
  await until(() => statusSync(path).waiters === 1);
  assert.equal(waiting.exitCode, null);
  await held.release();
  assert.deepEqual(await once(waiting, "close"), [0, null]);
  assert.equal(said, "granted\n");
});

function worker(path, how) {
  const thread = new Worker(new URL("worker.mjs", import.meta.url), { workerData: { path, how } });
  thread.on("error", () => {});
  return thread;
}

test("threads of one process exclude each other", async (t) => {
  const path = `${folder(t)}/t`;
  const one = worker(path, "hold");
  assert.deepEqual(await once(one, "message"), [{ held: true }]);
  await assert.rejects(lock(path, { timeout: 0 }), (error) => error.holder.pid === process.pid);
  const two = worker(path, "hold");
  const waiting = lock(path);
  one.postMessage("release");
  const [message] = await Promise.race([once(two, "message"), waiting.then((held) => [{ main: held }])]);
  if (message.main) {
    await message.main.release();
    await once(two, "message");
    two.postMessage("release");
  } else {
    two.postMessage("release");
    await (await waiting).release();
  }
  await Promise.all([one.terminate(), two.terminate()]);
  assert.equal(statusSync(path).state, "free");
});

for (const how of ["hold", "wait", "lost", "throw", "exit"]) {
  test(`a worker that ends releases: ${how}`, async (t) => {
    const path = `${folder(t)}/t`;
    const held = how === "wait" ? await lock(path) : undefined;
    const thread = worker(path, how);
    const ended = new Promise((resolve) => thread.on("exit", resolve));
    assert.deepEqual(await once(thread, "message"), [{ held: how !== "wait" }]);
    if (how === "throw" || how === "exit") thread.postMessage(how);
    else await thread.terminate();
    await ended;
    await held?.release();
    const next = await lock(path);
    assert.equal(next.previous.crashed, false);
    await next.release();
  });
}

test("a process in which only a worker locks outlives the worker", async (t) => {
  const path = `${folder(t)}/t`;
  const only = program("only-worker.mjs", path);
  let said = "";
  only.stderr.on("data", (data) => (said += data));
  assert.deepEqual(await once(only, "close"), [0, null], said);
});

test("a cluster's workers and its primary exclude each other", async (t) => {
  const path = `${folder(t)}/counter`;
  const cluster = program("cluster.mjs", path);
  let said = "";
  cluster.stdout.on("data", (data) => (said += data));
  cluster.stderr.on("data", (data) => (said += data));
  assert.deepEqual(await once(cluster, "close"), [0, null], said);
  assert.equal(said, "400\n");
});

test("many processes exclude each other, and killed ones are reported", async (t) => {
  const path = `${folder(t)}/t`;
  const actors = Array.from({ length: 4 }, () => new Actor(t));
  const fences = [];
  let crashes = 0;
  await Promise.all(
    actors.map(async (actor, n) => {
      for (let round = 0; round < 25; round++) {
        const { fence, previous } = await actor.must("acquire", { path });
        fences.push(fence);
        if (previous.crashed) crashes++;
        if (n === 3 && round % 5 === 4) {
          await actor.kill();
          actor = new Actor(t);
        } else {
          await actor.must("release");
        }
      }
    }),
  );
  assert.deepEqual(fences, [...fences].sort((a, b) => a - b), "each grant follows the one before");
  assert.equal(new Set(fences).size, 100);
  assert(crashes >= 4, "all kills but perhaps the last are reported");
  await (await lock(path)).release();
});
