// Acquires and releases many times, as the first argument says. Prints the memory and handles before and
// after.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { Lock, lock, task } from "tenure";
import { acquireFileLock } from "tenure/file-lock";
import { lock as properLock } from "tenure/proper-lockfile";
import { acquireSessionWriteLock } from "tenure/session-write-lock";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

const [how, path, times] = process.argv.slice(2);
const opened = new Lock(path, { maxHold: 60_000 });
const ways = {
  session: () => acquireSessionWriteLock({ sessionFile: path }),
  lock: () => lock(path, { maxHold: 60_000 }),
  opened: () => opened.acquire(),
  contended: async () => {
    const held = await opened.acquire();
    const waiting = lock(path, { timeout: 60_000, signal: control.signal });
    await held.release();
    return waiting;
  },
  lost: async () => {
    const held = await lock(path);
    held.on("lost", () => {});
    return held;
  },
  task: () => task(() => opened.acquire(), { name: "round" }),
  file: () => acquireFileLock(path, { retries: { retries: 1 }, stale: 30_000 }),
  proper: async () => ({ release: await properLock(path, { realpath: false }) }),
};
const control = new AbortController();

async function rounds(count) {
  for (let round = 0; round < count; round++) {
    const held = await ways[how]();
    await held.release();
    if (round % 1000 === 0) await new Promise(setImmediate);
  }
  // Finalized objects close their handles in a later turn of the event loop.
  for (let turn = 0; turn < 5; turn++) {
    collect();
    await new Promise(setImmediate);
  }
  process.report.excludeNetwork = true;
  return { memory: process.memoryUsage().rss, handles: process.report.getReport().libuv.length };
}

// The heap grows for a while before its size settles.
const before = await rounds(20_000);
const after = await rounds(Number(times));
console.log(JSON.stringify({ before, after }));
