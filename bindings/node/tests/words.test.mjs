// Arguments and texts of the package: options, errors, hints, warnings, guards.
import { strict as assert } from "node:assert";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

import { breakLock, list, Lock, lock, slots, status, statusSync, withLock } from "tenure";
import { acquireSessionWriteLock } from "tenure/session-write-lock";
import * as later from "tenure/session-write-lock/2026.6";

import { Actor, awake, folder, until } from "./helpers.mjs";

const script = (name) => fileURLToPath(new URL(name, import.meta.url));

test("a wrong option is a TypeError that names the option, its value and the accepted ones", async (t) => {
  const path = `${folder(t)}/t`;
  for (const [options, said] of [
    [{ timeout: "5s" }, /timeout must be a number of milliseconds, or Infinity, not '5s'/],
    [{ timeout: "300" }, /timeout .*not '300'/],
    [{ timeout: null }, /timeout .*not null/],
    [{ timeout: NaN }, /timeout .*not NaN/],
    [{ signal: "now" }, /signal must be an AbortSignal, not 'now'/],
    [{ signal: new AbortController() }, /signal must be an AbortSignal/],
    [{ overrun: "Revoke" }, /overrun must be 'report' or 'revoke', not 'Revoke'/],
    [{ style: "flocks" }, /style must be 'lock-file' or 'flock', not 'flocks'/],
    [{ maxHold: 0 }, /maxHold must be a number of milliseconds above 0, not 0/],
    [{ refreshInterval: -1 }, /refreshInterval/],
    [{ slots: 0 }, /slots must be a whole number from 1 to 1000, not 0/],
    [{ slots: 1.5 }, /slots/],
    [{ ifBusy: "queue" }, /ifBusy must be 'wait' or 'skip' or 'queue-one' or 'replace', not 'queue'/],
    [{ grace: "5s" }, /grace/],
    [{ notMoreOftenThan: 0 }, /notMoreOftenThan/],
    [{ reentrant: 1 }, /reentrant must be true or false, not 1/],
    [{ stealAfter: 0 }, /stealAfter must be a number of milliseconds above 0, not 0/],
    [{ shared: "yes" }, /shared must be true or false, not 'yes'/],
    [{ record: 0 }, /record must be true or false, not 0/],
    [{ createParents: "no" }, /createParents/],
    [{ label: 7 }, /label must be a string, not 7/],
    [{ timeOut: 5 }, /no option 'timeOut'; it has .*timeout/],
    [300, /the options must be an object, not 300/],
    [null, /the options must be an object, not null/],
  ]) {
    const wrong = { name: "TypeError", message: said };
    await assert.rejects(lock(path, options), wrong);
    await assert.rejects(withLock(path, options, () => {}), wrong);
  }
  assert(!existsSync(`${path}.lock`) && !existsSync(`${path}/../.tenure`), "nothing was locked");
  assert.throws(() => new Lock(path, { timeout: 5 }), /Lock has no option 'timeout'/);
  const opened = new Lock(path);
  await assert.rejects(opened.acquire(300), /acquire: the options must be an object, not 300/);
  await assert.rejects(opened.acquire({ label: "x" }), /acquire has no option 'label'; it has timeout, signal/);
  await assert.rejects(withLock(path, () => {}, { timeout: 5 }), /the function comes last/);
  await assert.rejects(withLock(path, {}), /the function comes last/);
  for (const wrong of [undefined, null, 7, {}, [path]]) {
    await assert.rejects(lock(wrong), { name: "TypeError", message: /the path must be a string, a Buffer or a file: URL, not/ });
    assert.throws(() => statusSync(wrong), { name: "TypeError", message: /the path must be/ });
    for (const call of [status, list, slots, breakLock]) await assert.rejects(call(wrong), { name: "TypeError", message: /the path must be/ });
  }
  const held = await lock(path, { timeout: undefined, signal: undefined, label: undefined });
  assert.throws(() => held.setLabel(7), { name: "TypeError", message: /label must be a string, not 7/ });
  await held.release();
});

test("locks in files are listed and broken", async (t) => {
  const dir = folder(t);
  const held = await lock(`${dir}/below/t`, { label: "holder" });
  assert.deepEqual(await list(dir), []);
  const [found, ...others] = await list(dir, { recursive: true });
  assert.deepEqual([found.target, found.holder.label, found.server, others], [`${dir}/below/t`, "holder", undefined, []]);
  await assert.rejects(breakLock(held.path), (error) => error.code === "TENURE_BUSY" && error.holder.pid === process.pid);
  assert.equal(await breakLock(held.path, { force: true }), true);
  assert.throws(() => held.check(), { code: "TENURE_LOST" });
  await assert.rejects(held.release(), { code: "TENURE_LOST" });
  assert.equal(await breakLock(held.path), false);
  assert.equal(held.lease, null);
  await assert.rejects(list(dir, { recursve: true }), /list has no option 'recursve'; it has recursive/);
  await assert.rejects(breakLock(held.path, { force: 1 }), /force must be true or false, not 1/);
});

test("status accepts the same paths as lock", async (t) => {
  const path = `${folder(t)}/a b`;
  const held = await lock(path);
  for (const same of [path, Buffer.from(path), pathToFileURL(path)]) {
    assert.equal(statusSync(same).state, "held");
    assert.equal((await status(same)).state, "held");
  }
  await held.release();
});

test("a deadline in the near future ends the wait, and the process", async (t) => {
  const path = `${folder(t)}/t`;
  const held = await lock(path);
  for (const timeout of ["0.0001", "0.5", "1", "20"]) {
    const words = [script("late.mjs"), path, timeout];
    const { stdout, status } = spawnSync(process.execPath, words, { encoding: "utf8", timeout: 60_000 });
    assert.deepEqual([stdout, status], ["TENURE_BUSY\n", 0], `${timeout} ms`);
  }
  await held.release();
});

test("an error of a wait has the stack of the call", async (t) => {
  const path = `${folder(t)}/t`;
  const holder = new Actor(t);
  await holder.must("acquire", { path });
  const opened = new Lock(path);
  const calls = {
    ofLock: function ofLock() { return lock(path, { timeout: 10 }); },
    ofAcquire: function ofAcquire() { return opened.acquire({ timeout: 10 }); },
    ofTry: function ofTry() { return lock(path, { timeout: 0 }); },
    ofWithLock: function ofWithLock() { return withLock(path, { timeout: 10 }, () => {}); },
    ofSession: async function ofSession() { return await acquireSessionWriteLock({ sessionFile: path, timeoutMs: 10 }); },
    ofLater: async function ofLater() { return await later.acquireSessionWriteLock({ sessionFile: path, timeoutMs: 10 }); },
  };
  for (const [name, call] of Object.entries(calls)) {
    const error = await call().catch((error) => error);
    assert(error.stack.startsWith(`${error.name}: ${error.message}\n    at `), error.stack);
    assert(error.stack.includes(`${name} (`), `${name}: ${error.stack}`);
  }
  await holder.kill();
});

test("many waits with one signal: no warning, and each ends", async (t) => {
  const path = `${folder(t)}/t`;
  const warnings = [];
  const listener = (warning) => warnings.push(warning);
  process.on("warning", listener);
  t.after(() => process.off("warning", listener));
  const held = await lock(path);
  const control = new AbortController();
  const waits = Array.from({ length: 40 }, () => lock(path, { signal: control.signal }));
  // A wait that times out does not end the others.
  await assert.rejects(lock(path, { signal: control.signal, timeout: 5 }), { code: "TENURE_BUSY" });
  await held.release();
  await (await waits.shift()).release();
  const second = await waits.shift();
  control.abort();
  await second.release();
  const outcomes = await Promise.allSettled(waits);
  for (const outcome of outcomes) if (outcome.status === "fulfilled") await outcome.value.release();
  assert(outcomes.some(({ reason }) => reason?.name === "AbortError"));
  await (await lock(path)).release();
  await new Promise(setImmediate);
  assert.deepEqual(warnings, []);
});

test("overrun is emitted on the guards that hold, not on the newest", async (t) => {
  awake(t);
  const path = `${folder(t)}/t`;
  const opened = new Lock(path, { maxHold: 60, reentrant: true });
  const one = await opened.acquire();
  const two = await opened.acquire();
  const reported = { one: [], two: [] };
  one.on("overrun", (overrun) => reported.one.push(overrun));
  two.on("overrun", (overrun) => reported.two.push(overrun));
  await two.release();
  await once(one, "overrun");
  assert.equal(reported.one[0].fence, one.fence);
  assert.deepEqual(reported.two, []);
  await one.release();
});

test("after a revoke the next guard reports it, with its live holder", async (t) => {
  awake(t);
  const path = `${folder(t)}/t`;
  const revoked = await lock(path, { maxHold: 30, overrun: "revoke" });
  await revoked.lost;
  const next = await lock(path, { timeout: 10_000 });
  assert.equal(next.previous.crashed, true);
  assert.deepEqual([next.previous.holder.pid, next.previous.holder.liveness], [process.pid, "alive"]);
  await next.release();
  await revoked.release().catch(() => {});
});

test("an end by process.exit() is not reported as one by a signal", async (t) => {
  const path = `${folder(t)}/t`;
  const holder = new Actor(t);
  await holder.must("acquire", { path });
  holder.tell("exit");
  await holder.ended;
  const { previous, release } = await lock(path).then((held) => ({ previous: held.previous, release: () => held.release() }));
  assert.equal(previous.holder.why, "it was cut off while it held");
  await release();
});

test("hints are in terms of this package", async (t) => {
  const path = `${folder(t)}/t`;
  const held = await lock(path);
  const hints = {};
  for (const [what, call] of Object.entries({
    busy: () => lock(path, { timeout: 0 }),
    parents: () => lock(`${path}-none/t`, { createParents: false }),
    etcd: () => lock("etcd://127.0.0.1:1/t", { timeout: 1 }),
    option: () => lock("etcd://127.0.0.1:1/t", { refreshInterval: 5000 }),
    way: () => { writeFileSync(`${path}-yarn.lock`, "# yarn\n"); return lock(`${path}-yarn`); },
  })) {
    const error = await call().catch((error) => error);
    hints[what] = error.hint;
    assert(error.message.endsWith(`; ${error.hint}`), error.message);
  }
  assert.match(hints.busy, /^status\(path\) shows details; breakLock\(path, \{ force: true \}\) takes the lock by force$/);
  assert.match(hints.parents, /\{ createParents: true \}/);
  assert.match(hints.etcd, /^is it running/);
  assert.match(hints.option, /^leave refreshInterval out/);
  assert.match(hints.way, /\{ style: "flock" \}/);
  for (const hint of Object.values(hints)) assert.doesNotMatch(hint, /create_parents|Style::|\(true\)|--\w|crate/);
  await held.release();
});

test("every import works on a system without a binary, and a lock names what is missing", () => {
  const { stdout, stderr } = spawnSync(process.execPath, [script("elsewhere.mjs"), "sunos"], { encoding: "utf8" });
  const [imported, said] = stdout.split("\n");
  assert.equal(imported, "imported", stderr);
  const { name, code, message, hint } = JSON.parse(said);
  assert.deepEqual([name, code], ["TenureError", "TENURE_UNSUPPORTED"]);
  assert.match(message, new RegExp(`no binary for sunos-${process.arch}, only for linux-`));
  assert.match(hint, /build it there/);
});

test("a binary that is missing or cannot be loaded is reported", (t) => {
  const dir = folder(t);
  cpSync(dirname(createRequire(import.meta.url).resolve("tenure/package.json")), dir, { recursive: true });
  const said = () => {
    const words = [script("elsewhere.mjs"), process.platform, `${dir}/dist/index.mjs`];
    const { stdout, stderr } = spawnSync(process.execPath, words, { encoding: "utf8" });
    assert.equal(stdout.split("\n")[0], "imported", stderr);
    return JSON.parse(stdout.split("\n")[1]);
  };
  const binary = readdirSync(`${dir}/dist`).find((name) => name.endsWith(".node"));
  writeFileSync(`${dir}/dist/${binary}`, "for another machine");
  assert.equal(said().code, "TENURE_UNSUPPORTED");
  assert.match(said().message, new RegExp(`${binary} cannot be loaded: .*glibc`));
  rmSync(`${dir}/dist/${binary}`);
  assert.match(said().message, /not beside the package's code.*bundled.*external/);
});

test("a published package loads the binary's package, and names the one that is not installed", (t) => {
  const dir = folder(t);
  cpSync(dirname(createRequire(import.meta.url).resolve("tenure/package.json")), dir, { recursive: true });
  const said = () => {
    // A target below a file: with a binary, that is the error.
    const words = [script("elsewhere.mjs"), process.platform, `${dir}/dist/index.mjs`, `${dir}/package.json/t`];
    const { stdout, stderr } = spawnSync(process.execPath, words, { encoding: "utf8" });
    assert.equal(stdout.split("\n")[0], "imported", stderr);
    return JSON.parse(stdout.split("\n")[1]);
  };
  const binary = readdirSync(`${dir}/dist`).find((name) => name.endsWith(".node"));
  const system = binary.slice("tenure.".length, -".node".length);
  const content = readFileSync(`${dir}/dist/${binary}`);
  rmSync(`${dir}/dist/${binary}`);
  const about = JSON.parse(readFileSync(`${dir}/package.json`, "utf8"));
  const publish = (name) =>
    writeFileSync(`${dir}/package.json`, JSON.stringify({ ...about, optionalDependencies: { [`@tenure/node-${name}`]: about.version } }));
  publish("sunos-sparc");
  assert.match(said().message, new RegExp(`no binary for ${process.platform}-${process.arch}, only for sunos-sparc;`));
  publish(system);
  assert.match(said().message, new RegExp(`is not installed: @tenure/node-${system}; install without --omit=optional`));
  const installed = `${dir}/node_modules/@tenure/node-${system}`;
  mkdirSync(installed, { recursive: true });
  writeFileSync(`${installed}/package.json`, JSON.stringify({ name: `@tenure/node-${system}`, main: binary }));
  writeFileSync(`${installed}/${binary}`, "for another machine");
  assert.match(said().message, new RegExp(`@tenure/node-${system} cannot be loaded: `));
  writeFileSync(`${installed}/${binary}`, content);
  assert.equal(said().code, "TENURE_CANNOT_CREATE");
});

test("package.json names the systems of the binaries", () => {
  const read = createRequire(import.meta.url);
  const { os, cpu, libc } = read("tenure/package.json");
  assert.deepEqual([os, cpu], [[process.platform], [process.arch]]);
  assert.equal(libc.length, 1);
});

for (const [holder, listens, signals] of [
  ["main", "signal-exit", ["SIGTERM", "SIGINT", "SIGHUP"]],
  ["main", "signal-exit before", ["SIGTERM", "SIGINT", "SIGHUP"]],
  ["main", "no longer", ["SIGTERM", "SIGINT", "SIGHUP"]],
  ["worker", "never", ["SIGTERM", "SIGINT", "SIGHUP"]],
]) {
  for (const signal of signals) {
    test(`${signal} leaves no lock file: ${holder} holds, ${listens}`, async (t) => {
      const path = `${folder(t)}/t`;
      const words = { script: "ending.mjs", more: [listens, path] };
      const actor = new Actor(t, holder, words);
      assert.deepEqual(await actor.hear(), { held: true });
      assert(existsSync(`${path}.lock`));
      assert.deepEqual(await actor.kill(signal), { code: null, signal });
      assert(!existsSync(`${path}.lock`));
      await (await lock(path, { timeout: 0 })).release();
    });
  }
}
