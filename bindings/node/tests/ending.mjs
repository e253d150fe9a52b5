// Holds a lock in the thread that the first argument names, and handles signals as the second says.
import { once } from "node:events";
import { Worker } from "node:worker_threads";

import { peers } from "./helpers.mjs";

const [holder, listens, path] = process.argv.slice(2);
if (listens === "signal-exit before") peers("signal-exit")(() => {});
if (holder === "worker") {
  const thread = new Worker(new URL("worker.mjs", import.meta.url), { workerData: { path, how: "hold" } });
  await once(thread, "message");
} else {
  const { lock } = await import("tenure");
  await lock(path);
}
if (listens === "signal-exit") peers("signal-exit")(() => {});
if (listens === "no longer") {
  const listener = () => {};
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, listener);
  process.off("SIGTERM", listener);
  process.removeAllListeners("SIGINT");
  process.once("SIGHUP", () => {}).removeAllListeners();
}
process.stdout.write("{\"held\":true}\n");
process.stdin.resume();
