// A thread that holds or waits, and ends as its data says.
import { parentPort, workerData } from "node:worker_threads";

import { lock } from "tenure";

const { path, how } = workerData;
if (how === "wait") {
  const waiting = lock(path);
  parentPort.postMessage({ held: false });
  await waiting;
} else {
  const held = await lock(path);
  if (how === "lost") held.on("lost", () => {});
  parentPort.on("message", async (message) => {
    if (message === "exit") process.exit(3);
    if (message === "throw") throw new Error("on purpose");
    await held.release();
  });
  parentPort.postMessage({ held: true });
}
