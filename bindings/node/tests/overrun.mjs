// A thread whose first lock with `maxHold` is that of a task. The listener of another lock's overrun acquires what the task holds.
import { parentPort, workerData } from "node:worker_threads";

import { Lock, lock, task } from "tenure";

const { path } = workerData;
const awake = setInterval(() => {}, 1000);
await task(async () => {
  const opened = new Lock(path, { maxHold: 3_600_000 });
  const held = await opened.acquire();
  const other = await task(() => lock(`${path}2`, { maxHold: 20 }));
  const code = await new Promise((resolve) => {
    other.on("overrun", () => opened.acquire({ timeout: 50 }).catch((error) => resolve(error.code)));
  });
  parentPort.postMessage(code);
  await other.release();
  await held.release();
});
clearInterval(awake);
