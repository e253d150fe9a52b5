// Locks on real etcd clusters and PostgreSQL servers.
import { strict as assert } from "node:assert";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import { acquireAll, breakLock, list, Lock, lock, status, statusSync, TenureError, withLock } from "tenure";

import { Actor, awake, folder, until } from "./helpers.mjs";
import { address, command, Etcd, Postgres, skips } from "./servers.mjs";

const waiters = (target, count) => until(async () => (await status(target)).waiters === count);
let count = 0;

/** Returns the holder that the error of an acquire names. On a slow machine the server may take longer than such an acquire. */
async function holderOf(acquire) {
  for (;;) {
    const error = await acquire().then(() => assert.fail("it was granted"), (error) => error);
    if (error.code === "TENURE_BUSY") return error.holder;
    assert.equal(error.code, "TENURE_UNREACHABLE", error.stack);
  }
}

for (const [kind, Kind] of [["etcd", Etcd], ["postgres", Postgres]]) {
  describe(`on ${kind}`, { skip: skips[kind] }, () => {
    let starting;
    const started = () => (starting ??= Kind.start());
    after(async () => (await starting)?.end());

    /** A test with the server, and a name that no other test uses. */
    const on = (what, run, skip = false) =>
      test(what, { skip }, async (t) => {
        awake(t);
        await run({ t, server: await started(), name: `n${count++}/main` });
      });

    on("a lock behaves like that of a file", async ({ t, server, name }) => {
      const target = server.target(name);
      const opened = new Lock(target, { label: "the first" });
      assert.equal((await opened.status()).state, "free");
      const first = await opened.acquire();
      first.check();
      assert.deepEqual([first.path, first.shared, first.previous.crashed], [target, false, false]);
      assert(0 < first.lease.lostIn && first.lease.lostIn < first.lease.freeIn && first.lease.freeIn <= 20_000);
      const found = await status(target);
      assert.deepEqual([found.state, found.server, found.holder.label], ["held", kind, "the first"]);
      first.setLabel("renamed");
      await until(() => statusSync(target).holder.label === "renamed");
      const holder = new Actor(t);
      const granted = holder.must("acquire", { path: target, options: { label: "the holder" } });
      await waiters(target, 1);
      await first.release();
      await first.release();
      assert.equal(first.lease, null);
      assert.throws(() => first.check(), { code: "TENURE_LOST" });
      const { fence } = await granted;
      assert(fence > first.fence);
      for (const timeout of [0, 50]) {
        const { pid, label } = await holderOf(() => opened.acquire({ timeout }));
        assert.deepEqual([pid, label], [holder.pid, "the holder"]);
      }
      assert.equal((await holderOf(async () => opened.acquireSync())).pid, holder.pid);
      await holder.must("release");
      const second = opened.acquireSync();
      assert(second.fence > fence && second.previous.crashed === false);
      second.releaseSync();
      second.releaseSync();
      assert.equal(opened.statusSync().state, "free");
    });

    on("a URL object is a target too, and withLock releases", async ({ server, name }) => {
      const target = new URL(server.target(name));
      assert.equal(await withLock(target, async (guard) => (await status(guard.path)).state), "held");
      assert.equal((await status(target)).state, "free");
      await assert.rejects(withLock(target, () => { throw new Error("on purpose"); }), /on purpose/);
      assert.equal((await status(target)).state, "free");
    });

    on("the command and Node exclude each other", async ({ server, name }) => {
      const target = server.target(name);
      const attempt = () => {
        const { status } = spawnSync(command, ["run", "--no-wait", target, "--", "true"]);
        // On a slow machine the server may take longer than an attempt.
        return status === 69 ? attempt() : status;
      };
      const held = await lock(target);
      assert.equal(attempt(), 75);
      await held.release();
      assert.equal(attempt(), 0);
      const holder = spawn(command, ["run", target, "--", "sh", "-c", "echo held; read line"], { stdio: ["pipe", "pipe", 2] });
      await once(holder.stdout, "data");
      assert.equal((await holderOf(() => lock(target, { timeout: 0 }))).pid, holder.pid);
      holder.stdin.end("go on\n");
      await once(holder, "close");
      await (await lock(target)).release();
    }, skips.command);

    on("several are acquired all or none", async ({ t, server, name }) => {
      // The leases outlast the test, so that only a release frees a lock.
      const targets = [join(folder(t), "a"), server.target(`${name}/b`, 600), server.target(`${name}/a`, 600)];
      const locks = targets.map((target) => new Lock(target));
      const guards = await acquireAll(locks, { timeout: 60_000 });
      assert.deepEqual(guards.map((guard) => guard.path), targets);
      for (const guard of guards) await guard.release();
      for (const busy of targets) {
        const held = await lock(busy);
        const code = (error) => ["TENURE_BUSY", "TENURE_UNREACHABLE"].includes(error.code);
        await assert.rejects(acquireAll(locks, { timeout: 0 }), code);
        await assert.rejects(acquireAll(new Set(locks), { timeout: 50 }), code);
        const aborted = new AbortController();
        const waiting = acquireAll(locks, { signal: aborted.signal });
        aborted.abort(new Error("on purpose"));
        await assert.rejects(waiting, /on purpose/);
        for (const free of targets.filter((target) => target !== busy)) {
          await until(async () => (await status(free)).state === "free");
        }
        held.check();
        await held.release();
      }
      const twice = [new Lock(server.target(name)), new Lock(server.target(name, 30))];
      await assert.rejects(acquireAll(twice), { code: "TENURE_INVALID_TARGET", message: /twice/ });
      assert.deepEqual(await acquireAll([]), []);
      await assert.rejects(acquireAll([], { timout: 5 }), TypeError);
    });

    on("a killed holder is reported", async ({ t, server, name }) => {
      const victim = new Actor(t);
      // The victim's lease is short. The others keep theirs on a slow machine.
      await victim.must("acquire", { path: server.target(name, 9), options: { label: "victim" } });
      await victim.kill();
      const held = await lock(server.target(name));
      assert.equal(held.previous.crashed, true);
      assert.deepEqual([held.previous.holder.pid, held.previous.holder.label], [victim.pid, "victim"]);
      await held.release();
    });

    on("a hold that an operator ends is lost", async ({ server, name }) => {
      const held = await lock(server.target(name));
      const event = once(held, "lost");
      assert(server.endHold(name));
      const [error] = await event;
      assert(error instanceof TenureError && error.code === "TENURE_LOST");
      assert.equal(await held.lost, error);
      assert.equal(held.lease.lostIn, 0);
      assert.throws(() => held.check(), { code: "TENURE_LOST" });
      await assert.rejects(held.release(), { code: "TENURE_LOST" });
      await (await lock(server.target(name))).release();
    });

    on("a break needs force, and the holder is told", async ({ server, name }) => {
      const target = server.target(name);
      assert.equal(await breakLock(target), false);
      const held = await lock(target);
      const next = lock(target);
      await waiters(target, 1);
      await assert.rejects(breakLock(target), (error) => {
        assert.match(error.hint, /force: true/);
        return error.code === "TENURE_BUSY" && error.holder.fence === held.fence;
      });
      assert.equal(await breakLock(target, { force: true }), true);
      assert.equal((await held.lost).code, "TENURE_LOST");
      await (await next).release();
      await assert.rejects(held.release(), { code: "TENURE_LOST" });
    });

    on("a list has what is below a name", async ({ server, name }) => {
      const top = name.split("/")[0];
      const names = ["a/deep", "b"];
      const held = await Promise.all(names.map((below) => lock(server.target(`${top}/${below}`), { label: below })));
      const found = await list(server.target(top));
      assert.deepEqual(found.map(({ holder }) => holder.label), names);
      assert.deepEqual(found.map((one) => one.server), [kind, kind]);
      for (const guard of held) await guard.release();
      assert.deepEqual(await list(server.target(top)), []);
    });

    on("an aborted wait leaves nothing", async ({ server, name }) => {
      // The lease outlasts the test, so that only a returned place frees the queue.
      const target = server.target(name, 600);
      const held = await lock(target);
      const abort = new AbortController();
      const waiting = lock(target, { signal: abort.signal });
      await waiters(target, 1);
      abort.abort(new Error("no longer"));
      await assert.rejects(waiting, /no longer/);
      await waiters(target, 0);
      await held.release();
      await (await lock(target)).release();
    });

    on("process.exit() returns the places of the waits", async ({ t, server, name }) => {
      const target = server.target(name, 600);
      const held = await lock(target);
      const actor = new Actor(t);
      actor.tell("acquire", { path: target });
      await waiters(target, 1);
      actor.tell("exit");
      assert.equal((await actor.ended).code, 7);
      await waiters(target, 0);
      await held.release();
    });

    on("worker threads exclude each other, and a worker's end releases", async ({ server, name }) => {
      const target = server.target(name, 600);
      const worker = new Worker(fileURLToPath(new URL("worker.mjs", import.meta.url)), { workerData: { path: target } });
      await once(worker, "message");
      assert.equal((await holderOf(() => lock(target, { timeout: 0 }))).pid, process.pid);
      const waiting = lock(target);
      await waiters(target, 1);
      worker.postMessage("exit");
      await once(worker, "exit");
      const held = await waiting;
      const waiter = new Worker(fileURLToPath(new URL("worker.mjs", import.meta.url)), { workerData: { path: target, how: "wait" } });
      await once(waiter, "message");
      await waiters(target, 1);
      await waiter.terminate();
      await waiters(target, 0);
      await held.release();
    });

    on("tasks exclude each other", async ({ server, name }) => {
      const opened = new Lock(server.target(name));
      let inside = 0;
      const fences = await Promise.all(Array.from({ length: 5 }, async () => {
        const guard = await opened.acquire();
        assert.equal(++inside, 1);
        await new Promise(setImmediate);
        inside--;
        await guard.release();
        return guard.fence;
      }));
      assert.equal(new Set(fences).size, 5);
    });
  });
}

for (const [kind, Kind] of [["etcd", Etcd], ["postgres", Postgres]]) {
  test(`readers share a lock on ${kind}`, { skip: skips[kind] }, async (t) => {
    awake(t);
    const server = await Kind.start();
    t.after(() => server.end());
    const target = server.target("read");
    const first = await lock(target, { shared: true });
    const second = await lock(target, { shared: true });
    assert.deepEqual([first.shared, first.fence, second.shared, second.fence], [true, null, true, null]);
    const found = await status(target);
    assert.deepEqual([found.state, found.holder, found.openBy], ["held", undefined, [process.pid]]);
    const writing = lock(target);
    await waiters(target, 1);
    const reading = lock(target, { shared: true });
    await waiters(target, 2);
    await first.release();
    await second.release();
    const writer = await writing;
    assert(writer.fence > 0);
    await waiters(target, 1);
    await writer.release();
    const third = await reading;
    await breakLock(target, { force: true });
    await assert.rejects(third.release(), { code: "TENURE_LOST" });
  });
}

test("a release lets the event loop run", { skip: skips.etcd }, async (t) => {
  awake(t);
  const etcd = await Etcd.start();
  t.after(() => etcd.end());
  const held = await lock(etcd.target("main"));
  etcd.child.kill("SIGSTOP");
  let outcome = "none";
  const releasing = held.release().then(() => (outcome = "released"), (error) => (outcome = error.code));
  // A release that blocked would have ended by the server's silence before these callbacks run.
  await new Promise(setImmediate);
  await new Promise(setImmediate);
  const before = outcome;
  etcd.child.kill("SIGCONT");
  assert.equal(before, "none");
  await releasing;
  // On a slow machine the server may have answered too late.
  assert(["released", "TENURE_UNREACHABLE"].includes(outcome), outcome);
  await (await lock(etcd.target("main"))).release();
});

test("a silent server outlasts no deadline", async (t) => {
  awake(t);
  const host = await address();
  for (const [port, target] of [
    [2379, `etcd://${host}/x?ttl=2s`],
    [5432, `postgres://postgres@${host}/postgres?lock=x&ttl=2s`],
  ]) {
    const sockets = new Set();
    const silent = createServer((socket) => void sockets.add(socket.on("error", () => {})));
    await new Promise((resolve) => silent.listen(port, host, resolve));
    const opened = new Lock(target);
    for (const call of [
      () => opened.acquire({ timeout: 0 }),
      () => opened.acquire({ timeout: 50 }),
      () => opened.status(),
      () => list(target),
      () => breakLock(target),
    ]) {
      await assert.rejects(call(), (error) => error.code === "TENURE_UNREACHABLE" && error.message.includes(host));
    }
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => silent.close(resolve));
  }
});

/** Servers that accept connections and never answer, with the sockets that they accepted. */
async function silentServers(t, count) {
  const sockets = new Set();
  const servers = Array.from({ length: count }, () => createServer((socket) => void sockets.add(socket.on("error", () => {}))));
  await Promise.all(servers.map(async (server) => once(server.listen(0, "127.0.0.1"), "listening")));
  t.after(() => {
    for (const server of servers) server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { servers, sockets, locks: servers.map((server) => new Lock(`etcd://127.0.0.1:${server.address().port}/x?ttl=60s`)) };
}

test("the event loop runs while servers are asked for the order", async (t) => {
  // The locks of one name on several servers are ordered by what these say of themselves.
  const { sockets, locks } = await silentServers(t, 2);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  t.after(() => clearInterval(timer));
  await assert.rejects(acquireAll(locks, { timeout: 60_000 }), { code: "TENURE_UNREACHABLE" });
  // An order that was asked for on this thread would have been rejected before any of these callbacks.
  const [heard, ticked] = [sockets.size, ticks];
  assert(heard > 0 && ticked > 1, `${heard} connections, ${ticked} ticks`);
});

test("a deadline ends the question for the order", async (t) => {
  awake(t);
  const { locks } = await silentServers(t, 2);
  const ended = [];
  const refused = (timeout) =>
    assert.rejects(acquireAll(locks, { timeout }), { code: "TENURE_UNREACHABLE" }).then(() => ended.push(timeout));
  // The first of the silent servers has five seconds, or one.
  await Promise.all([refused(60_000), refused(1)]);
  assert.deepEqual(ended, [1, 60_000]);
});

test("an abort ends the question for the order", async (t) => {
  awake(t);
  const { servers, locks } = await silentServers(t, 2);
  const abort = new AbortController();
  const heard = Promise.race(servers.map((server) => once(server, "connection")));
  let isOver = false;
  const acquiring = acquireAll(locks, { signal: abort.signal }).finally(() => (isOver = true));
  acquiring.catch(() => {});
  await heard;
  assert.equal(isOver, false);
  abort.abort(new Error("on purpose"));
  await assert.rejects(acquiring, /on purpose/);
  await assert.rejects(acquireAll(locks, { signal: abort.signal }), /on purpose/);
});

test("one name on two clusters is acquired in one order", { skip: skips.etcd }, async (t) => {
  awake(t);
  const clusters = await Promise.all([Etcd.start(), Etcd.start()]);
  for (const cluster of clusters) t.after(() => cluster.end());
  const [one, other] = clusters.map((cluster) => new Lock(cluster.target("main", 600)));
  let inside = 0;
  await Promise.all(Array.from({ length: 6 }, async (_, n) => {
    const locks = n % 2 ? [one, other] : [other, one];
    const guards = await acquireAll(locks, { timeout: 60_000 });
    assert.deepEqual(guards.map((guard) => guard.path), clusters.map((cluster) => cluster.target("main", 600))[n % 2 ? "slice" : "reverse"]());
    assert.equal(++inside, 1);
    await new Promise(setImmediate);
    inside--;
    for (const guard of guards) await guard.release();
  }));
});

test("options of files are refused for servers", async () => {
  for (const target of ["etcd://127.0.0.1/x", "postgres://127.0.0.1/db?lock=x"]) {
    for (const [option, value, words] of [
      ["style", "flock", /flock style is for files/],
      ["record", false, /without a record is for files/],
      ["stealAfter", 5000, /cannot be stolen for its age/],
      ["refreshInterval", 5000, /refreshInterval is for files/],
      ["createParents", false, /createParents is for files/],
    ]) {
      assert.throws(() => new Lock(target, { [option]: value }), (error) => {
        assert.match(error.message, words);
        return error.code === "TENURE_UNSUPPORTED";
      });
    }
  }
  await assert.rejects(lock("etcd://127.0.0.1/x", { ttl: 5 }), /no option 'ttl'/);
  await assert.rejects(lock("redis://127.0.0.1/x"), /no kind of server `redis`/);
  await assert.rejects(lock("postgres://app:secret@127.0.0.1/db?lock=x"), /password/);
});

test("the interfaces of other packages refuse servers", async () => {
  const session = await import("tenure/session-write-lock");
  const session6 = await import("tenure/session-write-lock/2026.6");
  const files = await import("tenure/file-lock");
  const files8 = await import("tenure/file-lock/2026.8");
  const { default: proper } = await import("tenure/proper-lockfile");
  for (const target of ["etcd://127.0.0.1/x", "postgresql://127.0.0.1/db?lock=x"]) {
    for (const call of [
      () => session.acquireSessionWriteLock({ sessionFile: target }),
      () => session6.acquireSessionWriteLock({ sessionFile: target }),
      () => session.cleanStaleLockFiles({ sessionsDir: target }),
      () => files.acquireFileLock(target),
      () => files.acquireFileLock("x", { lockPath: `${target}.lock` }),
      () => files8.acquireFileLock(target),
      () => proper.lock(target, { realpath: false }),
      () => proper.lock("x", { realpath: false, lockfilePath: `${target}.lock` }),
      async () => proper.lockSync(target),
      () => proper.unlock(target),
      () => proper.check(target),
    ]) {
      await assert.rejects(call(), (error) => {
        assert.match(error.message, /locks files; lock\(\) of the package tenure locks a name on a server$/);
        return error.code === "TENURE_UNSUPPORTED";
      });
    }
  }
});
