// Loads the addon in worker threads only, one after the other. The threads of the library outlive them.
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { Worker } from "node:worker_threads";

const [path] = process.argv.slice(2);
for (let round = 0; round < 3; round++) {
  const holder = new Worker(new URL("worker.mjs", import.meta.url), { workerData: { path, how: "lost" } });
  await once(holder, "message");
  const waiter = new Worker(new URL("worker.mjs", import.meta.url), { workerData: { path, how: "wait" } });
  await once(waiter, "message");
  await waiter.terminate();
  await holder.terminate();
}
// The library's helper threads end a second after their last work, in code that must still be loaded.
const names = () => readdirSync("/proc/self/task").map((task) => {
  try {
    return readFileSync(`/proc/self/task/${task}/comm`, "utf8").trim();
  } catch {
    return "";
  }
});
while (names().includes("tenure-wait")) await turn();
