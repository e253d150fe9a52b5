// A thread that holds the lock of a session, by the module in its data.
import { parentPort, workerData } from "node:worker_threads";

const { module, words } = workerData;
const { acquireSessionWriteLock, acquireFileLock } = await import(module);
const held = await (acquireFileLock ? acquireFileLock(...words) : acquireSessionWriteLock(...words));
parentPort.postMessage({ held: true });
parentPort.once("message", async () => {
  await held.release();
  parentPort.close();
});
