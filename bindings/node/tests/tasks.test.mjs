// Tasks in scopes: whose locks are whose, and the circles of waits that are found by that.
import { strict as assert } from "node:assert";
import { spawnSync } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { readFile } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import { acquireAll, deadlocks, Lock, lock, statusSync, task, TenureError, withLock } from "tenure";
import { acquireFileLock } from "tenure/file-lock";
import { lock as properLock } from "tenure/proper-lockfile";
import { acquireSessionWriteLock } from "tenure/session-write-lock";

import { Actor, awake, folder, until } from "./helpers.mjs";
import { command, skips } from "./servers.mjs";

const REFUSED = "TENURE_WOULD_DEADLOCK";
const BUSY = "TENURE_BUSY";
/** Of an acquire that is refused at once: the end of a test that fails. */
const SOON = { timeout: 10_000 };

/** Returns the error of an acquire. */
const failure = (acquiring) => acquiring.then(() => assert.fail("it was granted"), (error) => error);
const codeOf = async (acquiring) => (await failure(acquiring)).code;

/** Events of a test, each of which is awaited or happens once. */
function events(...names) {
  return Object.fromEntries(names.map((name) => {
    let happen;
    const event = new Promise((resolve) => (happen = resolve));
    return [name, { event, happen }];
  }));
}

test("of two tasks in a circle one is refused with the circle, and the other one gets its lock", async (t) => {
  awake(t);
  const [x, y] = ["x", "y"].map((name) => new Lock(`${folder(t)}/${name}`));
  const { there, back } = events("there", "back");
  const transfer = async (source, target, own, other) => {
    await using(await source.acquire(), async () => {
      own.happen();
      await other.event;
      await using(await target.acquire(SOON), async () => {});
    });
  };
  const outcomes = await Promise.allSettled([
    task(() => transfer(x, y, there, back), { name: "there" }),
    task(() => transfer(y, x, back, there), { name: "back" }),
  ]);
  const [refused, ...others] = outcomes.filter(({ status }) => status === "rejected").map(({ reason }) => reason);
  assert.deepEqual(others, []);
  assert(refused instanceof TenureError, String(refused));
  assert.equal(refused.code, REFUSED);
  assert.deepEqual(refused.circle.map((wait) => wait.taskName).sort(), ["back", "there"]);
  assert.equal(new Set(refused.circle.map((wait) => wait.task)).size, 2);
  for (const wait of refused.circle) assert.deepEqual([wait.pid, wait.slots], [process.pid, undefined]);
  assert.equal(refused.circle[0].waitsFor, refused.circle[1].holds);
  assert.match(refused.message, /pid \d+ .*pid \d+ /);
  assert.deepEqual([x.statusSync().state, y.statusSync().state], ["free", "free"]);
});

/** Calls `act`, and releases. */
async function using(guard, act) {
  try {
    return await act();
  } finally {
    await guard.release();
  }
}

test("tasks that wait for each other's locks, but in no circle, are not refused", async (t) => {
  awake(t);
  const [x, y] = ["x", "y"].map((name) => new Lock(`${folder(t)}/${name}`));
  const { held, waits } = events("held", "waits");
  const granted = [];
  await Promise.all([
    task(async () => {
      const first = await x.acquire();
      held.happen();
      await waits.event;
      await first.release();
      // Now it holds nothing that the other one waits for.
      await using(await y.acquire(), async () => granted.push("y"));
    }),
    task(async () => {
      const first = await y.acquire();
      await held.event;
      // The call has joined the queue when it returns.
      const waiting = x.acquire();
      waits.happen();
      await using(await waiting, async () => granted.push("x"));
      await first.release();
    }),
  ]);
  assert.deepEqual(granted, ["x", "y"]);
});

test("outside of scopes no task is known, and no circle is found", async (t) => {
  awake(t);
  const [x, y] = ["x", "y"].map((name) => new Lock(`${folder(t)}/${name}`));
  const [one, other] = await Promise.all([x.acquire(), y.acquire()]);
  const waiting = y.acquire();
  assert.equal(await codeOf(x.acquire({ timeout: 50 })), BUSY);
  await other.release();
  await (await waiting).release();
  // What was acquired outside is not the task's.
  assert.equal(await task(() => codeOf(x.acquire({ timeout: 50 }))), BUSY);
  await one.release();
});

test("what a task holds is its own in all that it awaits and starts", async (t) => {
  awake(t);
  const opened = new Lock(`${folder(t)}/t`);
  const again = () => codeOf(opened.acquire(SOON));
  const emitter = new EventEmitter();
  const by = (start) => new Promise((resolve, reject) => start(() => again().then(resolve, reject)));
  const ways = {
    "at once": again,
    "after an await": async () => { await null; await Promise.resolve(); return again(); },
    "after the await of another's promise": async () => { await elsewhere; return again(); },
    "in then": () => Promise.resolve().then(again),
    "in a timer": () => by((call) => setTimeout(call, 1)),
    "in an interval": () => by((call) => { const timer = setInterval(() => { clearInterval(timer); call(); }, 1); }),
    "in setImmediate": () => by(setImmediate),
    "in nextTick": () => by(process.nextTick),
    "in queueMicrotask": () => by(queueMicrotask),
    "in a callback of a file": () => by((call) => readFile(process.execPath, { flag: "r", length: 1 }, call)),
    "in a listener": () => by((call) => { emitter.once("event", call); emitter.emit("event"); }),
    "after a wait for another lock": async () => { await using(await lock(`${opened.statusSync().target}2`), () => {}); return again(); },
    "by lock": () => codeOf(lock(opened.statusSync().target, SOON)),
    "by withLock": () => codeOf(withLock(opened.statusSync().target, SOON, () => {})),
    "by acquireAll": () => codeOf(acquireAll([opened, new Lock(`${opened.statusSync().target}3`)], SOON)),
  };
  const elsewhere = new Promise((resolve) => setTimeout(resolve, 5));
  await task(() => withLock(opened.statusSync().target, async () => {
    for (const [way, call] of Object.entries(ways)) assert.equal(await call(), REFUSED, way);
    const refused = await failure(opened.acquire(SOON));
    assert.match(refused.message, /this task holds the lock already.*reentrant: true/);
    assert.deepEqual([refused.circle, refused.holder.pid], [undefined, process.pid]);
    // An attempt does not wait.
    assert.equal(await codeOf(opened.acquire({ timeout: 0 })), BUSY);
    assert.throws(() => opened.acquireSync(), { code: BUSY });
  }));
});

test("a synchronous acquire, and a lock that was resumed, belong to the task too", async (t) => {
  awake(t);
  const opened = new Lock(`${folder(t)}/t`);
  await task(async () => {
    const guard = opened.acquireSync();
    assert.equal(await codeOf(opened.acquire(SOON)), REFUSED);
    const suspended = await guard.suspend();
    await (await opened.acquire()).release();
    await suspended.resume();
    assert.equal(await codeOf(opened.acquire(SOON)), REFUSED);
    guard.releaseSync();
    await (await opened.acquire()).release();
  });
});

test("a task that holds all slots is refused, and one that leaves room is not", async (t) => {
  awake(t);
  const opened = new Lock(`${folder(t)}/t`, { slots: 2 });
  await task(async () => {
    const first = await opened.acquire();
    const second = await opened.acquire();
    assert.equal(await codeOf(opened.acquire(SOON)), REFUSED);
    await second.release();
    await (await opened.acquire()).release();
    await first.release();
  });
});

test("a scope within a scope is a task of its own, and returns to the outer one", async (t) => {
  awake(t);
  const [x, y] = ["x", "y"].map((name) => new Lock(`${folder(t)}/${name}`));
  await task(() => withLock(x.statusSync().target, async () => {
    await task(async () => {
      // The outer task goes on, so it may release.
      assert.equal(await codeOf(x.acquire({ timeout: 50 })), BUSY);
      const guard = await y.acquire();
      assert.equal(await codeOf(y.acquire(SOON)), REFUSED);
      await guard.release();
    });
    assert.equal(await codeOf(x.acquire(SOON)), REFUSED);
    const inner = await task(() => y.acquire());
    assert.equal(await codeOf(y.acquire({ timeout: 50 })), BUSY, "the inner task's lock is not the outer one's");
    await inner.release();
  }));
});

test("branches with scopes of their own exclude each other", async (t) => {
  awake(t);
  const opened = new Lock(`${folder(t)}/t`);
  let inside = 0;
  await task(() => Promise.all(Array.from({ length: 5 }, () => task(() => withLock(opened.statusSync().target, async () => {
    assert.equal(++inside, 1);
    await new Promise(setImmediate);
    inside--;
  })))));
});

test("a task that ended owns nothing that its leftovers acquire", async (t) => {
  awake(t);
  const opened = new Lock(`${folder(t)}/t`);
  const { ended } = events("ended");
  let left;
  const guard = await task(async () => {
    const guard = await opened.acquire();
    left = ended.event.then(() => codeOf(opened.acquire({ timeout: 50 })));
    assert.equal(await codeOf(opened.acquire(SOON)), REFUSED);
    return guard;
  }, { name: "ended" });
  ended.happen();
  assert.equal(await left, BUSY);
  assert.equal(await codeOf(opened.acquire({ timeout: 50 })), BUSY);
  await guard.release();
  // After an error as well.
  let leftover;
  const { again } = events("again");
  await assert.rejects(task(() => {
    leftover = again.event.then(async () => {
      const held = await opened.acquire();
      const code = await codeOf(opened.acquire({ timeout: 50 }));
      await held.release();
      return code;
    });
    throw new RangeError("on purpose");
  }), RangeError);
  again.happen();
  assert.equal(await leftover, BUSY);
});

test("a task's result, error and arguments", async () => {
  assert.equal(await task(() => 7), 7);
  assert.equal(await task(async () => 8, {}), 8);
  assert.equal(await task(() => ({ then: (resolve) => resolve(9) }), { name: undefined }), 9);
  await assert.rejects(task(() => Promise.reject(new RangeError("on purpose"))), RangeError);
  let called = false;
  for (const wrong of [undefined, null, 7, "x", {}, Promise.resolve()]) {
    await assert.rejects(task(wrong), { name: "TypeError", message: /^task: the work must be a function, not / });
  }
  const work = () => (called = true);
  await assert.rejects(task(work, { name: 7 }), { name: "TypeError", message: /task: name must be a string, not 7/ });
  await assert.rejects(task(work, { nam: "x" }), { name: "TypeError", message: /task has no option 'nam'; it has name/ });
  await assert.rejects(task(work, null), { name: "TypeError", message: /the options must be an object, not null/ });
  assert.equal(called, false);
  assert.throws(() => new Lock("t", { deadlockCheck: "no" }), { name: "TypeError", message: /deadlockCheck must be true or false/ });
});

test("without the check nothing is refused, and nothing is part of a circle", async (t) => {
  awake(t);
  const dir = folder(t);
  const [x, y] = ["x", "y"].map((name) => new Lock(`${dir}/${name}`, { deadlockCheck: false }));
  await task(async () => {
    const guard = await x.acquire();
    assert.equal(await codeOf(x.acquire({ timeout: 50 })), BUSY);
    await guard.release();
  });
  // Such a lock may be released by another task, so what it keeps waiting is part of no circle.
  const { one, other } = events("one", "other");
  const abort = new AbortController();
  const transfer = async (source, target, own, others) => {
    await using(await source.acquire(), async () => {
      own.happen();
      await others.event;
      await codeOf(target.acquire({ signal: abort.signal }));
    });
  };
  const both = Promise.all([task(() => transfer(x, y, one, other)), task(() => transfer(y, x, other, one))]);
  await Promise.all([one.event, other.event]);
  await new Promise(setImmediate);
  assert.deepEqual(await deadlocks(dir), []);
  abort.abort();
  await both;
});

test("the locks of other packages refuse no task", async (t) => {
  awake(t);
  const path = `${folder(t)}/t`;
  await task(async () => {
    const session = await acquireSessionWriteLock({ sessionFile: path });
    await (await acquireSessionWriteLock({ sessionFile: path })).release();
    assert.equal(await codeOf(acquireFileLock(path, { timeoutMs: 50 })), "file_lock_timeout");
    await session.release();
    const release = await properLock(path, { realpath: false });
    assert.equal(await codeOf(properLock(path, { realpath: false, retries: { retries: 1, minTimeout: 10 } })), "ELOCKED");
    await release();
    const file = await acquireFileLock(path, { reentrantOwner: "task" });
    await (await task(() => acquireFileLock(path, { reentrantOwner: "task" }))).release();
    await file.release();
  });
  assert.equal(statusSync(path).state, "free");
});

test("an overrun is reported outside of the task that first had such a lock", async (t) => {
  awake(t);
  const path = `${folder(t)}/t`;
  const thread = new Worker(fileURLToPath(new URL("overrun.mjs", import.meta.url)), { workerData: { path } });
  const [said] = await once(thread, "message");
  assert.equal(said, BUSY);
  await once(thread, "exit");
});

test("a circle through tasks of two processes is named, and ends with the death of one", async (t) => {
  const dir = folder(t);
  const tasked = async (name, first, second) => {
    const actor = new Actor(t, name, { script: "tasked.mjs", more: [`${dir}/${first}`, `${dir}/${second}`] });
    assert.deepEqual(await actor.hear(), { held: true });
    return actor;
  };
  const [there, back] = await Promise.all([tasked("there", "x", "y"), tasked("back", "y", "x")]);
  there.child.stdin.write("go on\n");
  back.child.stdin.write("go on\n");
  const outcomes = await Promise.all([there.hear(), back.hear()]);
  const refused = outcomes.filter((outcome) => outcome.code === REFUSED);
  assert.deepEqual([refused.length, outcomes.filter((outcome) => outcome.granted).length], [1, 1], JSON.stringify(outcomes));
  assert.deepEqual(refused[0].circle.map(({ pid, taskName }) => `${taskName} ${pid}`).sort(), [`back ${back.pid}`, `there ${there.pid}`]);
  assert.deepEqual((await Promise.all([there.ended, back.ended])).map(({ code }) => code), [0, 0]);

  const [one, other] = await Promise.all([tasked("one", "x", "y"), tasked("other", "y", "x")]);
  one.child.stdin.write("go on\n");
  await until(() => statusSync(`${dir}/y`).waiters === 1);
  await other.kill();
  assert.deepEqual(await one.hear(), { granted: true });
  assert.deepEqual(await one.ended, { code: 0, signal: null });
});

test("a wait for the holder that waits for this process is refused", { skip: skips.command }, async (t) => {
  const path = `${folder(t)}/t`;
  const code = (options) =>
    `import { lock } from "tenure"; await lock(${JSON.stringify(path)}, ${options}).catch(({ code }) => console.log(code));`;
  const said = (options) => {
    const cwd = fileURLToPath(new URL(".", import.meta.url));
    const words = ["run", path, "--", process.execPath, "--input-type=module", "--eval", code(options)];
    const { stdout, stderr } = spawnSync(command, words, { cwd, encoding: "utf8" });
    return `${stdout.trim()}${stderr}`;
  };
  assert.equal(said("{}"), REFUSED);
  assert.equal(said("{ deadlockCheck: false, timeout: 50 }"), BUSY);
});
